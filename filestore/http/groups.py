"""``/api/v1/groups``: groups and where their bytes are."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts.groups import (
    Seen,
    alter_group,
    create_group,
    drop_group,
    page_of_groups,
    show_group,
    show_quota,
)
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.groups import GroupBytes
from filestore.model import MAX_INT, Role, format_instant

PATH = "/api/v1/groups"
ONE = PATH + "/{g}"

Bytes = Annotated[int, Field(ge=0, le=MAX_INT)]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Seconds = Annotated[int, Field(ge=0, le=MAX_INT // 1_000_000)]
"""Times are microseconds inside, so no duration may be longer than fits them."""


class GroupAnswer(Answer):
    """A group. ``role`` is the caller's; null for a site admin who is no member.

    Of each file the newest ``versions_keep`` versions are kept, and those that were replaced
    less than ``versions_keep_s`` seconds ago; 0: no such rule, and without one all are kept.
    """

    id: str
    name: str
    quota_bytes: int
    used_bytes: int
    reserved_bytes: int
    free_bytes: int
    trash_retention_s: int
    versions_keep: int
    versions_keep_s: int
    created_at: str
    role: Role | None

    @classmethod
    def of(cls, seen: Seen) -> "GroupAnswer":
        group = seen.group
        return cls(
            id=group.id,
            name=group.name,
            quota_bytes=group.quota_limit,
            used_bytes=group.used,
            reserved_bytes=group.reserved,
            free_bytes=group.free,
            trash_retention_s=group.trash_retention_s,
            versions_keep=group.versions_keep,
            versions_keep_s=group.versions_keep_s,
            created_at=format_instant(group.created_at),
            role=seen.role,
        )


class GroupPage(Answer):
    """Groups by name: one's own, or all for a site admin."""

    items: list[GroupAnswer]
    next: str | None


class NewGroup(Body):
    """A group to create. What is left out is what the service's settings say."""

    name: str
    quota_bytes: Bytes | None = None
    trash_retention_s: Seconds | None = None
    versions_keep: Count | None = None
    versions_keep_s: Seconds | None = None


class GroupChange(Body):
    """What to change of a group; what is left out stays. The quota is for site admins."""

    name: Annotated[str | None, Field(min_length=1)] = None
    quota_bytes: Bytes | None = None
    trash_retention_s: Seconds | None = None
    versions_keep: Count | None = None
    versions_keep_s: Seconds | None = None


class QuotaAnswer(Answer):
    """Where a group's bytes are; ``used_bytes`` is live, older versions and trash together.

    ``unique_bytes`` are the distinct blocks inside the group, counted from its own files only;
    ``shared_bytes`` is what deduplication inside the group saves.
    """

    limit_bytes: int
    used_bytes: int
    reserved_bytes: int
    free_bytes: int
    unique_bytes: int
    shared_bytes: int
    live_bytes: int
    versions_bytes: int
    trash_bytes: int

    @classmethod
    def of(cls, found: GroupBytes) -> "QuotaAnswer":
        group = found.group
        return cls(
            limit_bytes=group.quota_limit,
            used_bytes=group.used,
            reserved_bytes=group.reserved,
            free_bytes=group.free,
            unique_bytes=found.unique,
            shared_bytes=group.used - found.unique,
            live_bytes=found.live,
            versions_bytes=found.versions,
            trash_bytes=found.trash,
        )


async def _create(call: Call) -> web.Response:
    wish = await call.json(NewGroup)
    usual = call.services.settings.groups
    seen = await create_group(
        call.services.db,
        call.actor,
        wish.name,
        quota_limit=_first(wish.quota_bytes, usual.default_quota_bytes),
        trash_retention_s=_first(wish.trash_retention_s, usual.trash_retention_s),
        versions_keep=_first(wish.versions_keep, usual.versions_keep),
        versions_keep_s=_first(wish.versions_keep_s, usual.versions_keep_s),
    )
    return reply(GroupAnswer.of(seen), status=201, location=f"{PATH}/{seen.group.id}")


def _first(wished: int | None, usual: int) -> int:
    return usual if wished is None else wished


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    rows = await page_of_groups(
        call.services.db, call.principal, after=paging.text_key(), limit=paging.wanted
    )
    shown, following = paging.cut(rows, lambda row: (row[0],))
    return reply(GroupPage(items=[GroupAnswer.of(seen) for _, seen in shown], next=following))


async def _show(call: Call) -> web.Response:
    return reply(GroupAnswer.of(await show_group(call.services.db, call.group)))


async def _alter(call: Call) -> web.Response:
    change = await call.json(GroupChange)
    seen = await alter_group(
        call.services.db,
        call.principal,
        call.actor,
        call.group,
        name=change.name,
        quota_limit=change.quota_bytes,
        trash_retention_s=change.trash_retention_s,
        versions_keep=change.versions_keep,
        versions_keep_s=change.versions_keep_s,
    )
    return reply(GroupAnswer.of(seen))


async def _drop(call: Call) -> web.Response:
    await drop_group(call.services.db, call.actor, call.group)
    return no_content()


async def _quota(call: Call) -> web.Response:
    return reply(QuotaAnswer.of(await show_quota(call.services.db, call.group)))


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=_create,
        access=Access.ADMIN,
        summary="Create a group; who creates it becomes its manager",
        request=NewGroup,
        responses={201: GroupAnswer},
        refuses=(409,),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.TOKEN,
        summary="List the groups that the caller may see",
        query=Paging,
        responses={200: GroupPage},
    ),
    Route(
        method="GET",
        path=ONE,
        handler=_show,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show a group",
        responses={200: GroupAnswer},
    ),
    Route(
        method="PATCH",
        path=ONE,
        handler=_alter,
        access=Access.MANAGER,
        site_admin=True,
        summary="Rename a group, say what of its trash and versions is kept, or (admins) its quota",
        request=GroupChange,
        responses={200: GroupAnswer},
        refuses=(409,),
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=_drop,
        access=Access.ADMIN,
        summary="Delete a group that holds nothing",
        responses={204: None},
        refuses=(409,),
    ),
    Route(
        method="GET",
        path=ONE + "/quota",
        handler=_quota,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show where a group's bytes are",
        responses={200: QuotaAnswer},
    ),
)
