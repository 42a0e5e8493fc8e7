"""``/api/v1/groups``: groups, and what each may hold."""

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
)
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.groups import Limits
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
    ``soft_limit``: bytes where warnings come to 100 % (null: at the limit). ``files_limit`` null:
    any number of files. ``overflows``: what goes beyond the soft limit is taken as temporary.
    ``warned_percent``: the highest threshold of the soft limit, else of the limit, that is crossed.
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
    soft_limit: int | None
    files_limit: int | None
    overflows: bool
    warned_percent: int
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
            soft_limit=group.soft_limit,
            files_limit=group.files_limit,
            overflows=group.overflows,
            warned_percent=group.warned_percent,
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
    """What to change of a group; what is left out stays. The quota, ``soft_limit``,
    ``files_limit`` (null: none) and ``overflows`` are for site admins."""

    name: Annotated[str | None, Field(min_length=1)] = None
    quota_bytes: Bytes | None = None
    trash_retention_s: Seconds | None = None
    versions_keep: Count | None = None
    versions_keep_s: Seconds | None = None
    soft_limit: Bytes | None = None
    files_limit: Count | None = None
    overflows: bool | None = None

    @property
    def limits(self) -> Limits:
        """What was said of the limits; null is something for those that may be none."""
        said: Limits = {}
        if self.quota_bytes is not None:
            said["quota_limit"] = self.quota_bytes
        if "soft_limit" in self.model_fields_set:
            said["soft_limit"] = self.soft_limit
        if "files_limit" in self.model_fields_set:
            said["files_limit"] = self.files_limit
        if self.overflows is not None:
            said["overflows"] = self.overflows
        return said


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
        limits=change.limits,
        trash_retention_s=change.trash_retention_s,
        versions_keep=change.versions_keep,
        versions_keep_s=change.versions_keep_s,
    )
    return reply(GroupAnswer.of(seen))


async def _drop(call: Call) -> web.Response:
    await drop_group(call.services.db, call.actor, call.group)
    return no_content()


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
        summary="Rename a group, say what of its trash and versions stays, or (admins) its limits",
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
)
