"""``/api/v1/groups/{g}/trash``: what was deleted, and still counts against the quota."""

from functools import partial

from aiohttp import web

from filestore.acts import browse, tree
from filestore.acts.browse import Located, Trashed
from filestore.errors import NotFound
from filestore.http.call import Answer, Call, no_content, reply
from filestore.http.groups import ONE
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.http.tree import TreeItem
from filestore.ids import is_id
from filestore.meta.database import Tx
from filestore.model import format_instant

TRASH = ONE + "/trash"


class TrashItem(Answer):
    """A file or folder in the trash. ``size``: what deleting it for good gives back."""

    id: str
    name: str
    path: str
    kind: str
    size: int
    deleted_at: str
    deleted_by: str | None

    @classmethod
    def of(cls, trashed: Trashed) -> "TrashItem":
        entry = trashed.entry
        return cls(
            id=entry.id,
            name=entry.name,
            path=entry.deleted_path or "",
            kind=entry.kind,
            size=trashed.size,
            deleted_at=format_instant(entry.deleted_at or 0),
            deleted_by=trashed.deleted_by,
        )


class TrashPage(Answer):
    """What was put into the trash; what lies inside of a folder there is not listed."""

    items: list[TrashItem]
    next: str | None


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    look = partial(
        browse.list_trash, group_id=call.group.id, after=paging.text_key(), limit=paging.wanted
    )
    rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda row: (row.entry.id,))
    return reply(TrashPage(items=[TrashItem.of(row) for row in shown], next=following))


async def _restore(call: Call) -> web.Response:
    entry_id = _entry_id(call)

    async def act(tx: Tx) -> Located:
        path = await tree.restore(tx, call.actor, call.group.id, entry_id)
        return await browse.locate(tx, call.group.id, path)

    return reply(TreeItem.of(await call.services.db.transact(act)))


async def _purge(call: Call) -> web.Response:
    await tree.purge_all(call.services.db, call.actor, call.group.id, _entry_id(call))
    return no_content()


def _entry_id(call: Call) -> str:
    entry_id = call.parameters["entry"]
    if not is_id("ent", entry_id):
        raise NotFound(what="entry in the trash")
    return entry_id


ROUTES = (
    Route(
        method="GET",
        path=TRASH,
        handler=_list,
        access=Access.VIEWER,
        summary="List the trash",
        query=Paging,
        responses={200: TrashPage},
    ),
    Route(
        method="POST",
        path=TRASH + "/{entry}/restore",
        handler=_restore,
        access=Access.MEMBER,
        summary="Bring something back from the trash",
        responses={200: TreeItem},
        refuses=(409,),
    ),
    Route(
        method="DELETE",
        path=TRASH + "/{entry}",
        handler=_purge,
        access=Access.MANAGER,
        summary="Delete something in the trash for good",
        responses={204: None},
        refuses=(409,),
    ),
)
