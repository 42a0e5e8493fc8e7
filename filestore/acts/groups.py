"""Acts on groups and their members."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from filestore.acts.access import GroupAccess, is_site_admin, require_site_admin
from filestore.acts.pool import hold_promises
from filestore.errors import Conflict, Exists, Json, NotFound
from filestore.meta.database import Database, Tx, violates
from filestore.meta.groups import (
    Group,
    Limits,
    change_group,
    delete_group,
    find_group,
    group_holdings,
    insert_group,
    list_groups,
)
from filestore.meta.log import audit, emit
from filestore.meta.members import (
    Member,
    find_member,
    has_other_manager,
    list_members,
    put_member,
    remove_member,
)
from filestore.meta.people import find_user
from filestore.model import Actor, Principal, Role
from filestore.names import check_label
from filestore.quota.thresholds import review_level

DEFAULT_DOMAIN = "default"
"""The dedup domain of groups that have none of their own; the first start makes it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A group with the caller's role in it; None: a site admin who is no member."""

    group: Group
    role: Role | None


async def create_group(
    db: Database,
    actor: Actor,
    name: str,
    *,
    quota_limit: int,
    trash_retention_s: int,
    versions_keep: int = 0,
    versions_keep_s: int = 0,
) -> Seen:
    """A new group, whose manager is who made it.

    :raises BadName: the name is not allowed.
    :raises Exists: a living group has the name.
    """
    label = check_label(name, "group")

    async def act(tx: Tx) -> Seen:
        promises = await hold_promises(tx)
        promises.check_growth(quota_limit)
        group = await insert_group(
            tx,
            label,
            quota_limit=quota_limit,
            trash_retention_s=trash_retention_s,
            domain_id=DEFAULT_DOMAIN,
            versions_keep=versions_keep,
            versions_keep_s=versions_keep_s,
        )
        role = None
        if actor.user_id is not None:
            role = (await put_member(tx, group.id, actor.user_id, Role.MANAGER)).role
        await audit(
            tx, actor, "group.create", group_id=group.id, target=group.id, after=state_of(group)
        )
        await emit(tx, "group.created", {"name": group.name}, group_id=group.id)
        return Seen(group, role)

    return await _transact(db, act, name)


async def show_group(db: Database, access: GroupAccess) -> Seen:
    """The group with its figures of now.

    :raises NotFound: it was deleted meanwhile.
    """
    group = await db.read(lambda tx: find_group(tx, access.id))
    if group is None:
        raise NotFound(what="group")
    return Seen(group, access.role)


async def page_of_groups(
    db: Database, principal: Principal, *, after: str | None, limit: int
) -> list[tuple[str, Seen]]:
    """The groups that the caller may see by name, with their keys: all for a site admin."""
    rows = await db.read(
        lambda tx: list_groups(
            tx,
            principal.user_id,
            everything=is_site_admin(principal),
            only=principal.groups,
            after=after,
            limit=limit,
        )
    )
    return [(key, Seen(group, role)) for key, group, role in rows]


async def alter_group(
    db: Database,
    principal: Principal,
    actor: Actor,
    access: GroupAccess,
    *,
    name: str | None = None,
    trash_retention_s: int | None = None,
    versions_keep: int | None = None,
    versions_keep_s: int | None = None,
    limits: Limits | None = None,
) -> Seen:
    """Changes what is given; the limits only for a site admin.

    :raises Forbidden: a limit, and the caller is no site admin.
    :raises OverCommitted: the site may not promise so much.
    :raises BadName: the name is not allowed.
    :raises Exists: another living group has the name.
    """
    label = None if name is None else check_label(name, "group")
    if limits:
        require_site_admin(principal)
    wished = (limits or {}).get("quota_limit")

    async def act(tx: Tx) -> Seen:
        promises = None if wished is None else await hold_promises(tx)
        before = await _locked(tx, access)
        if promises is not None and wished is not None:
            promises.check_growth(wished - before.quota_limit)
        group = await change_group(
            tx,
            access.id,
            name=label,
            limits=limits,
            trash_retention_s=trash_retention_s,
            versions_keep=versions_keep,
            versions_keep_s=versions_keep_s,
        )
        if limits:
            await review_level(tx, actor, group.id)
        if group != before:
            await audit(
                tx,
                actor,
                "group.change",
                group_id=group.id,
                target=group.id,
                before=state_of(before),
                after=state_of(group),
            )
            await emit(tx, "group.changed", state_of(group), group_id=group.id)
        return Seen(group, access.role)

    return await _transact(db, act, name or "")


async def drop_group(db: Database, actor: Actor, access: GroupAccess) -> None:
    """Deletes a group that holds nothing.

    :raises Conflict: it holds files, folders, trash, or running uploads; says how many.
    """

    async def act(tx: Tx) -> None:
        group = await _locked(tx, access)
        entries, running = await group_holdings(tx, group.id)
        if entries or running or group.used or group.reserved:
            raise Conflict(
                what="the deletion of the group",
                reason="it is not empty: files and folders (with the trash)"
                f" {entries}, running uploads {running}",
                entries=entries,
                uploads=running,
            )
        await delete_group(tx, group.id)
        await audit(
            tx, actor, "group.delete", group_id=group.id, target=group.id, before=state_of(group)
        )
        await emit(tx, "group.deleted", {"name": group.name}, group_id=group.id)

    await db.transact(act)


async def page_of_members(
    db: Database, access: GroupAccess, *, after: str | None, limit: int
) -> list[tuple[str, Member]]:
    """Members by name, with their keys."""
    return await db.read(lambda tx: list_members(tx, access.id, after=after, limit=limit))


async def show_member(db: Database, access: GroupAccess, ref: str) -> Member:
    """:raises NotFound: no such member."""
    member = await db.read(lambda tx: find_member(tx, access.id, ref))
    if member is None:
        raise NotFound(what="member")
    return member


async def seat_member(
    db: Database, principal: Principal, actor: Actor, access: GroupAccess, ref: str, role: Role
) -> tuple[Member, bool]:
    """Makes a user a member, or changes the role; with whether the membership is new.

    :raises NotFound: no such user.
    :raises Conflict: the user is disabled, or the group's last manager would be demoted.
    """

    async def act(tx: Tx) -> tuple[Member, bool]:
        await _locked(tx, access)
        user = await find_user(tx, ref)
        if user is None:
            raise NotFound(what="user")
        before = await find_member(tx, access.id, user.id)
        if before is None and user.disabled_at is not None:
            raise Conflict(what="the new membership", reason="the user is disabled")
        if role is not Role.MANAGER:
            await _keep_a_manager(tx, principal, access, before)
        member = await put_member(tx, access.id, user.id, role)
        if member != before:
            await audit(
                tx,
                actor,
                "member.put",
                group_id=access.id,
                target=user.id,
                before=None if before is None else before.role.value,
                after=role.value,
            )
            payload: Json = {"user": user.id, "name": user.name, "role": role.value}
            await emit(tx, "member.put", payload, group_id=access.id)
        return member, before is None

    return await db.transact(act)


async def unseat_member(
    db: Database, principal: Principal, actor: Actor, access: GroupAccess, ref: str
) -> None:
    """Ends a membership.

    :raises NotFound: no such member.
    :raises Conflict: it is the group's last manager.
    """

    async def act(tx: Tx) -> None:
        await _locked(tx, access)
        member = await find_member(tx, access.id, ref)
        if member is None:
            raise NotFound(what="member")
        await _keep_a_manager(tx, principal, access, member)
        await remove_member(tx, access.id, member.user_id)
        await audit(
            tx,
            actor,
            "member.remove",
            group_id=access.id,
            target=member.user_id,
            before=member.role.value,
        )
        payload: Json = {"user": member.user_id, "name": member.user_name}
        await emit(tx, "member.removed", payload, group_id=access.id)

    await db.transact(act)


async def _locked(tx: Tx, access: GroupAccess) -> Group:
    group = await find_group(tx, access.id, lock=True)
    if group is None:
        raise NotFound(what="group")
    return group


async def _keep_a_manager(
    tx: Tx, principal: Principal, access: GroupAccess, member: Member | None
) -> None:
    """Lets ``member`` lose the role of manager. The group's row is locked.

    :raises Conflict: nobody else manages the group, and the caller is no site admin.
    """
    if member is None or member.role is not Role.MANAGER or is_site_admin(principal):
        return
    if not await has_other_manager(tx, access.id, member.user_id):
        reason = "this is the group's last manager; make another member manager first"
        raise Conflict(what="the change of the member", reason=reason)


async def _transact(db: Database, act: Callable[[Tx], Awaitable[T]], name: str) -> T:
    try:
        return await db.transact(act)
    except IntegrityError as err:
        if violates(err, "uq_groups_living_name"):
            raise Exists(what="group", name=name) from err
        raise


def state_of(group: Group) -> dict[str, Json]:
    """What the audit log keeps of a group."""
    return {
        "name": group.name,
        "quota_bytes": group.quota_limit,
        "trash_retention_s": group.trash_retention_s,
        "versions_keep": group.versions_keep,
        "versions_keep_s": group.versions_keep_s,
        "soft_limit": group.soft_limit,
        "files_limit": group.files_limit,
        "overflows": group.overflows,
    }
