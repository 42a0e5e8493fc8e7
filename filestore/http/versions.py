"""``/api/v1/groups/{g}/versions``: the versions of a file, the older ones of which can go."""

from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts import browse, versions
from filestore.acts.browse import Located
from filestore.errors import BadRequest
from filestore.http.call import Answer, Body, Call, Digits, Query, no_content, reply
from filestore.http.groups import ONE
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.http.tree import TreeItem, expiry, quoted
from filestore.meta.database import Tx
from filestore.meta.entries import Version
from filestore.model import MAX_INT, format_instant
from filestore.names import split_path

VERSIONS = ONE + "/versions/{path}"


class VersionAnswer(Answer):
    """One state of a file; ``?version=NUMBER`` downloads it."""

    id: str
    number: int
    size: int
    mime: str
    author: str | None
    created_at: str
    etag: str
    current: bool
    expires_at: str | None

    @classmethod
    def of(cls, version: Version, current: int | None) -> "VersionAnswer":
        return cls(
            id=version.id,
            number=version.number,
            size=version.size,
            mime=version.mime,
            author=version.author,
            created_at=format_instant(version.created_at),
            etag=quoted(version),
            current=version.number == current,
            expires_at=expiry(version),
        )


class VersionPage(Answer):
    """The versions of a file, newest first."""

    items: list[VersionAnswer]
    next: str | None


class OldVersions(Query):
    """Which versions go: the one with the number ``version``, or all with numbers below
    ``before``. The current one never does."""

    version: Annotated[Digits, Field(ge=1, le=MAX_INT)] | None = None
    before: Annotated[Digits, Field(ge=1, le=MAX_INT)] | None = None


class WantedVersion(Body):
    """The number of the version that becomes current again."""

    version: Annotated[int, Field(ge=1, le=MAX_INT)]


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    before = paging.key(int)
    look = partial(
        browse.list_versions,
        group_id=call.group.id,
        path=split_path(call.raw_tail()),
        before=None if before is None else int(before[0]),
        limit=paging.wanted,
    )
    top, rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda row: (row.number,))
    current = top.entry.current_number
    items = [VersionAnswer.of(row, current) for row in shown]
    return reply(VersionPage(items=items, next=following))


async def _remove(call: Call) -> web.Response:
    query = call.query(OldVersions)
    path = split_path(call.raw_tail())
    db, actor, group_id = call.services.db, call.actor, call.group.id
    if (query.version is None) == (query.before is None):
        raise BadRequest(field="version", reason="give either it or before")
    if query.version is not None:
        one = partial(versions.remove_version, actor=actor, group_id=group_id, path=path)
        await db.transact(partial(one, number=query.version))
    else:
        old = partial(versions.remove_older, actor=actor, group_id=group_id, path=path)
        while (await db.transact(partial(old, before=query.before))).count == versions.BATCH:
            pass
    return no_content()


async def _restore(call: Call) -> web.Response:
    wish = await call.json(WantedVersion)
    path = split_path(call.raw_tail())

    async def act(tx: Tx) -> Located:
        entry = await versions.restore_version(tx, call.actor, call.group.id, path, wish.version)
        return await browse.show(tx, entry)

    return reply(TreeItem.of(await call.services.db.transact(act)), status=201)


ROUTES = (
    Route(
        method="GET",
        path=VERSIONS,
        handler=_list,
        access=Access.VIEWER,
        summary="List the versions of a file",
        query=Paging,
        responses={200: VersionPage},
    ),
    Route(
        method="DELETE",
        path=VERSIONS,
        handler=_remove,
        access=Access.MEMBER,
        summary="Delete older versions of a file for good: one, or all before a number",
        query=OldVersions,
        responses={204: None},
        refuses=(409,),
    ),
    Route(
        method="POST",
        path=VERSIONS + "/restore",
        handler=_restore,
        access=Access.MEMBER,
        summary="Make an older version of a file the current one again, as a new version",
        request=WantedVersion,
        responses={201: TreeItem},
        refuses=(409,),
    ),
)
