"""``GET /api/v1/groups/{g}/uploads``: which uploads are under way, and what they reserve."""

from functools import partial

from aiohttp import web

from filestore.acts import browse
from filestore.acts.browse import Running
from filestore.http.call import Answer, Call, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.http.tus import COLLECTION
from filestore.model import format_instant


class UploadAnswer(Answer):
    """A running upload. ``length`` is null while the client has not said it. ``part`` is
    ``partial`` or ``final`` for those of a concatenation, else null."""

    id: str
    user_id: str
    user: str
    path: str
    protocol: str
    part: str | None
    offset: int
    length: int | None
    reserved: int
    created_at: str
    expires_at: str

    @classmethod
    def of(cls, running: Running) -> "UploadAnswer":
        upload = running.upload
        return cls(
            id=upload.id,
            user_id=upload.user_id,
            user=running.user,
            path=running.path,
            protocol=upload.protocol,
            part=upload.part,
            offset=upload.offset,
            length=upload.length,
            reserved=upload.reserved,
            created_at=format_instant(upload.created_at),
            expires_at=format_instant(upload.expires_at),
        )


class UploadPage(Answer):
    """Running uploads of a group."""

    items: list[UploadAnswer]
    next: str | None


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    look = partial(
        browse.list_uploads, group_id=call.group.id, after=paging.text_key(), limit=paging.wanted
    )
    rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda row: (row.upload.id,))
    return reply(UploadPage(items=[UploadAnswer.of(row) for row in shown], next=following))


ROUTES = (
    Route(
        method="GET",
        path=COLLECTION,
        handler=_list,
        access=Access.VIEWER,
        summary="List the running uploads of a group",
        query=Paging,
        responses={200: UploadPage},
        tus=True,
    ),
)
