"""``/api/v1/groups/{g}/temporary`` and the pool that holds all temporary files of the site."""

from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts import temporary as acts
from filestore.acts.groups import DEFAULT_DOMAIN
from filestore.errors import NotFound
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.groups import ONE, Bytes
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.ids import is_id
from filestore.meta import lineage, temporary
from filestore.meta.accounts import POOL_KEEP_S, Pool, find_pool
from filestore.meta.database import Tx
from filestore.meta.temporary import TemporaryVersion
from filestore.model import format_instant

PATH = ONE + "/temporary"
POOL = "/api/v1/admin/temporary-pool"


class TemporaryItem(Answer):
    """A version that is not charged to the group and goes at ``expires_at`` unless it finds room
    before. ``version``: its number; ``id`` is what it is kept by."""

    id: str
    path: str
    version: int
    size: int
    mime: str
    author: str | None
    created_at: str
    expires_at: str

    @classmethod
    def of(cls, row: TemporaryVersion, path: str) -> "TemporaryItem":
        return cls(
            id=row.id,
            path=path,
            version=row.number,
            size=row.size,
            mime=row.mime,
            author=row.author,
            created_at=format_instant(row.created_at),
            expires_at=format_instant(row.expires_at),
        )


class TemporaryPage(Answer):
    """A group's temporary versions."""

    items: list[TemporaryItem]
    next: str | None


class PoolAnswer(Answer):
    """What temporary files of all groups may take together, and take; how long one stays."""

    limit_bytes: int
    used_bytes: int
    reserved_bytes: int
    keep_s: int

    @classmethod
    def of(cls, pool: Pool | None) -> "PoolAnswer":
        pool = pool or Pool(0, 0, 0, POOL_KEEP_S)
        return cls(
            limit_bytes=pool.limit,
            used_bytes=pool.used,
            reserved_bytes=pool.reserved,
            keep_s=pool.keep_s,
        )


class PoolChange(Body):
    """The pool to be. What is in it already stays as long as was said when it came. ``keep_s``
    left out: as before; seven days for a new pool."""

    limit_bytes: Bytes
    keep_s: Annotated[int | None, Field(ge=3600, le=3650 * 86_400)] = None


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)

    async def look(tx: Tx) -> list[tuple[TemporaryVersion, str]]:
        rows = await temporary.of_group(
            tx, call.group.id, after=paging.text_key(), limit=paging.wanted
        )
        paths = await lineage.paths_of(tx, [row.entry_id for row in rows])
        return [(row, paths.get(row.entry_id, "")) for row in rows]

    rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda row: (row[0].id,))
    return reply(TemporaryPage(items=[TemporaryItem.of(*row) for row in shown], next=following))


async def _keep(call: Call) -> web.Response:
    version_id = call.parameters["version"]
    if not is_id("ver", version_id):
        raise NotFound(what="temporary version")
    act = partial(acts.keep, actor=call.actor, group_id=call.group.id, version_id=version_id)
    await call.services.db.transact(act)
    return no_content()


async def _show_pool(call: Call) -> web.Response:
    return reply(PoolAnswer.of(await call.services.db.read(find_pool)))


async def _set_pool(call: Call) -> web.Response:
    wish = await call.json(PoolChange)
    act = partial(
        acts.change_pool,
        actor=call.actor,
        domain_id=DEFAULT_DOMAIN,
        limit=wish.limit_bytes,
        keep_s=wish.keep_s,
    )
    return reply(PoolAnswer.of(await call.services.db.transact(act)))


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.VIEWER,
        summary="List files that came beyond the soft limit and stay for a time only",
        query=Paging,
        responses={200: TemporaryPage},
    ),
    Route(
        method="POST",
        path=PATH + "/{version}/keep",
        handler=_keep,
        access=Access.MEMBER,
        summary="Make a temporary file permanent, when the group has room below its limit",
        responses={204: None},
        refuses=(413,),
    ),
    Route(
        method="GET",
        path=POOL,
        handler=_show_pool,
        access=Access.ADMIN,
        summary="Show what temporary files of all groups may take, and take",
        responses={200: PoolAnswer},
    ),
    Route(
        method="PUT",
        path=POOL,
        handler=_set_pool,
        access=Access.ADMIN,
        summary="Say what temporary files of all groups may take, and how long one stays",
        request=PoolChange,
        responses={200: PoolAnswer},
    ),
)
