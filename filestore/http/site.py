"""``/api/v1/admin/sheet`` and ``/pool``: all groups together, for site admins alone."""

from aiohttp import web

from filestore.acts.pool import Promises, alter_pool, show_pool
from filestore.acts.sheets import show_site
from filestore.http.call import Answer, Body, Call, reply
from filestore.http.groups import Bytes, Count
from filestore.http.routing import Access, Route
from filestore.meta.pool import Pool
from filestore.meta.sheet import Line
from filestore.meta.site import Site
from filestore.model import BlockState

SHEET = "/api/v1/admin/sheet"
POOL = "/api/v1/admin/pool"


class StoredAnswer(Answer):
    """Blocks in one state. ``stored_bytes`` are those of finished objects."""

    state: BlockState
    blocks: int
    plain_bytes: int
    stored_bytes: int


class SitePoolAnswer(Answer):
    """What the site has for all groups (null: nobody said), and what their limits promise of it.

    ``allowed_bytes``: what the limits may be together; null: any. ``overcommit_ratio``: the
    limits against the pool.
    """

    pool_bytes: int | None
    overcommit_percent: int | None
    limit_bytes: int
    allowed_bytes: int | None
    overcommit_ratio: float | None

    @classmethod
    def of(cls, found: Promises) -> "SitePoolAnswer":
        pool = found.pool
        return cls(
            pool_bytes=pool.bytes,
            overcommit_percent=pool.overcommit_percent,
            limit_bytes=found.promised,
            allowed_bytes=pool.allowed,
            overcommit_ratio=pool.ratio(found.promised),
        )


class SitePoolChange(Body):
    """What the site has from now on. Null or left out: not said; then limits have no bound."""

    pool_bytes: Bytes | None = None
    overcommit_percent: Count | None = None


class SiteAnswer(Answer):
    """The lines of all groups' sheets together, and what the store holds of it, of one moment.

    ``unique_in_groups_bytes``: the distinct bytes of each group, summed; what of them groups
    share is ``shared_between_groups_bytes``. ``compression_ratio``: plain bytes of live blocks
    for each byte that is stored.
    """

    groups: int
    used_bytes: int
    reserved_bytes: int
    live_bytes: int
    versions_bytes: int
    trash_bytes: int
    temporary_bytes: int
    temporary_reserved_bytes: int
    files: int
    unique_in_groups_bytes: int
    unique_bytes: int
    shared_in_groups_bytes: int
    shared_between_groups_bytes: int
    plain_bytes: int
    stored_bytes: int
    compression_ratio: float | None
    blocks: list[StoredAnswer]
    pool: SitePoolAnswer

    @classmethod
    def of(cls, site: Site) -> "SiteAnswer":
        live = site.live
        return cls(
            groups=len(site.sheets),
            used_bytes=sum(sheet.used for sheet in site.sheets),
            reserved_bytes=sum(sheet.reserved for sheet in site.sheets),
            live_bytes=site.line(Line.LIVE),
            versions_bytes=site.line(Line.VERSIONS),
            trash_bytes=site.line(Line.TRASH),
            temporary_bytes=site.line(Line.TEMPORARY),
            temporary_reserved_bytes=site.line(Line.TEMPORARY_RESERVED),
            files=sum(sheet.files for sheet in site.sheets),
            unique_in_groups_bytes=site.unique_in_groups,
            unique_bytes=site.unique,
            shared_in_groups_bytes=sum(sheet.saved for sheet in site.sheets),
            shared_between_groups_bytes=site.shared_between_groups,
            plain_bytes=live.plain,
            stored_bytes=live.stored,
            compression_ratio=round(live.plain / live.stored, 4) if live.stored else None,
            blocks=[
                StoredAnswer(
                    state=one.state,
                    blocks=one.blocks,
                    plain_bytes=one.plain,
                    stored_bytes=one.stored,
                )
                for one in site.stored
            ],
            pool=SitePoolAnswer.of(Promises(site.pool, site.promised)),
        )


async def _sheet(call: Call) -> web.Response:
    return reply(SiteAnswer.of(await show_site(call.services.db)))


async def _pool(call: Call) -> web.Response:
    return reply(SitePoolAnswer.of(await show_pool(call.services.db)))


async def _alter_pool(call: Call) -> web.Response:
    wish = await call.json(SitePoolChange)
    pool = Pool(wish.pool_bytes, wish.overcommit_percent)
    return reply(SitePoolAnswer.of(await alter_pool(call.services.db, call.actor, pool)))


ROUTES = (
    Route(
        method="GET",
        path=SHEET,
        handler=_sheet,
        access=Access.ADMIN,
        summary="Show the balance sheet of all groups, and what the store holds",
        responses={200: SiteAnswer},
    ),
    Route(
        method="GET",
        path=POOL,
        handler=_pool,
        access=Access.ADMIN,
        summary="Show what the site has for all groups, and what is promised of it",
        responses={200: SitePoolAnswer},
    ),
    Route(
        method="PUT",
        path=POOL,
        handler=_alter_pool,
        access=Access.ADMIN,
        summary="Say what the site has for all groups, and how much of it may be promised",
        request=SitePoolChange,
        responses={200: SitePoolAnswer},
    ),
)
