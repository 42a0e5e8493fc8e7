"""Groups: who owns files and a quota. A deleted group's row stays, for its journal."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.errors import BadName
from filestore.ids import is_id, new_id
from filestore.meta.database import Tx
from filestore.meta.tables import (
    content_blocks,
    entries,
    groups,
    memberships,
    now_us,
    token_groups,
    uploads,
    versions,
)
from filestore.model import AccountKind, EntryKind, Role, UploadState
from filestore.names import Label, check_label


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    domain_id: str
    quota_limit: int
    used: int
    reserved: int
    trash_retention_s: int
    created_at: int
    versions_keep: int
    versions_keep_s: int

    @property
    def free(self) -> int:
        """Bytes that can still be reserved; 0 when the limit was lowered below what is used."""
        return max(0, self.quota_limit - self.used - self.reserved)


@dataclass(frozen=True, slots=True)
class GroupBytes:
    """Where the bytes of a group are, from its own references only.

    ``live + versions + trash`` is what the quota counts as used: current versions of visible
    files, their older versions, and everything in the trash. ``unique`` is the size of the
    distinct blocks behind all of it.
    """

    group: Group
    live: int
    versions: int
    trash: int
    unique: int


def is_living_group() -> sa.ColumnElement[bool]:
    """That a row of ``groups`` is a group's, which is not deleted."""
    return sa.and_(groups.c.deleted_at.is_(None), groups.c.kind == AccountKind.GROUP)


async def insert_group(
    tx: Tx,
    name: Label,
    *,
    quota_limit: int,
    trash_retention_s: int,
    domain_id: str,
    versions_keep: int = 0,
    versions_keep_s: int = 0,
) -> Group:
    """A new group with its root folder.

    :raises IntegrityError: ``uq_groups_living_name``: the name is taken.
    """
    group = _group(
        (
            await tx.execute(
                groups.insert()
                .values(
                    id=new_id("grp"),
                    name=name.given,
                    name_key=name.key,
                    domain_id=domain_id,
                    quota_limit=quota_limit,
                    trash_retention_s=trash_retention_s,
                    versions_keep=versions_keep,
                    versions_keep_s=versions_keep_s,
                )
                .returning(groups)
            )
        ).one()
    )
    await tx.execute(
        entries.insert().values(
            id=new_id("ent"),
            group_id=group.id,
            kind=EntryKind.ROOT,
            name="",
            name_key="",
            name_fold="",
        )
    )
    return group


async def find_group(tx: Tx, ref: str, *, lock: bool = False) -> Group | None:
    """The living group with this id or name; its row locked FOR NO KEY UPDATE on request."""
    clause = _group_is(ref)
    if clause is None:
        return None
    query = sa.select(groups).where(clause, is_living_group())
    row = (await tx.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else _group(row)


async def list_groups(
    tx: Tx,
    user_id: str,
    *,
    everything: bool,
    only: Collection[str] | None,
    after: str | None,
    limit: int,
) -> list[tuple[str, Group, Role | None]]:
    """Living groups in the order of their names' keys: (key, group, the user's role).

    Those that the user is a member of, or ``everything``; ``only`` limits by id.
    """
    query = (
        sa.select(groups, memberships.c.role)
        .select_from(
            groups.join(
                memberships,
                sa.and_(memberships.c.group_id == groups.c.id, memberships.c.user_id == user_id),
                isouter=everything,
            )
        )
        .where(is_living_group())
        .order_by(groups.c.name_key)
        .limit(limit)
    )
    if only is not None:
        query = query.where(groups.c.id.in_(only))
    if after is not None:
        query = query.where(groups.c.name_key > after)
    return [
        (row.name_key, _group(row), None if row.role is None else Role(row.role))
        for row in await tx.execute(query)
    ]


async def change_group(
    tx: Tx,
    group_id: str,
    *,
    name: Label | None = None,
    quota_limit: int | None = None,
    trash_retention_s: int | None = None,
    versions_keep: int | None = None,
    versions_keep_s: int | None = None,
) -> Group:
    """Changes what is given. A limit below what is used is allowed: it stops new uploads.

    :raises IntegrityError: ``uq_groups_living_name``: the name is taken.
    """
    values: dict[str, object] = {"id": group_id}
    if name is not None:
        values |= {"name": name.given, "name_key": name.key}
    numbers = {
        "quota_limit": quota_limit,
        "trash_retention_s": trash_retention_s,
        "versions_keep": versions_keep,
        "versions_keep_s": versions_keep_s,
    }
    values |= {column: number for column, number in numbers.items() if number is not None}
    row = await tx.execute(
        groups.update().where(groups.c.id == group_id).values(values).returning(groups)
    )
    return _group(row.one())


async def group_holdings(tx: Tx, group_id: str) -> tuple[int, int]:
    """How many files and folders (the trash too), and how many running uploads, a group has.

    Who is about to delete the group holds its row and its root folder FOR UPDATE, and asks
    then, so nothing can be added behind the answer.
    """
    root = sa.select(entries.c.id).where(
        entries.c.group_id == group_id, entries.c.kind == EntryKind.ROOT
    )
    await tx.execute(root.with_for_update())
    held = sa.select(sa.func.count()).where(
        entries.c.group_id == group_id, entries.c.kind != EntryKind.ROOT
    )
    running = sa.select(sa.func.count()).where(
        uploads.c.group_id == group_id, uploads.c.state == UploadState.OPEN
    )
    return await tx.scalar(held) or 0, await tx.scalar(running) or 0


async def delete_group(tx: Tx, group_id: str) -> None:
    """Marks an empty group deleted; memberships and tokens' limits to it go."""
    await tx.execute(groups.update().where(groups.c.id == group_id).values(deleted_at=now_us()))
    for table in (memberships, token_groups):
        await tx.execute(table.delete().where(table.c.group_id == group_id))


async def group_bytes(tx: Tx, group_id: str) -> GroupBytes:
    """What the group's bytes are, summed in one statement, so all figures are of one moment.

    Costs a walk over the group's versions and their blocks.
    """
    hidden = _hidden_entries(group_id)
    in_trash = entries.c.id.in_(sa.select(hidden.c.id))
    is_current = versions.c.number == entries.c.current_number
    sums = (
        sa.select(
            _sum_where(versions.c.size, in_trash).label("trash"),
            _sum_where(versions.c.size, sa.and_(~in_trash, is_current)).label("live"),
            sa.func.coalesce(sa.func.sum(versions.c.size), 0).label("whole"),
        )
        .select_from(versions.join(entries, entries.c.id == versions.c.entry_id))
        .where(entries.c.group_id == group_id, versions.c.pool_id.is_(None))
        .subquery("sums")
    )
    distinct = _distinct_blocks(group_id)
    unique = sa.select(sa.func.coalesce(sa.func.sum(distinct.c.size), 0)).scalar_subquery()
    query = sa.select(
        groups, sums.c.trash, sums.c.live, sums.c.whole, unique.label("unique_size")
    ).where(groups.c.id == group_id)
    row = (await tx.execute(query.select_from(groups.join(sums, sa.true())))).one()
    return GroupBytes(
        group=_group(row),
        live=int(row.live),
        versions=int(row.whole) - int(row.live) - int(row.trash),
        trash=int(row.trash),
        unique=int(row.unique_size),
    )


def _hidden_entries(group_id: str) -> sa.CTE:
    """Entries in the trash, and all that lies below them, which is marked on none of it."""
    top = sa.select(entries.c.id).where(
        entries.c.group_id == group_id, entries.c.deleted_at.is_not(None)
    )
    hidden = top.cte("hidden", recursive=True)
    below = sa.select(entries.c.id).join(hidden, entries.c.parent_id == hidden.c.id)
    return hidden.union(below)


def _distinct_blocks(group_id: str) -> sa.Subquery:
    """The blocks behind the group's versions, each once, whoever else refers to them."""
    return (
        sa.select(content_blocks.c.block_id, content_blocks.c.size)
        .join(versions, versions.c.content_id == content_blocks.c.content_id)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(entries.c.group_id == group_id)
        .distinct()
        .subquery("distinct_blocks")
    )


def _sum_where(
    column: sa.ColumnElement[int], clause: sa.ColumnElement[bool]
) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((clause, column), else_=0)), 0)


def _group_is(ref: str) -> sa.ColumnElement[bool] | None:
    if is_id("grp", ref):
        return groups.c.id == ref
    try:
        return groups.c.name_key == check_label(ref, "group").key
    except BadName:
        return None


def _group(row: Row[Any]) -> Group:
    return Group(
        id=row.id,
        name=row.name,
        domain_id=row.domain_id,
        quota_limit=row.quota_limit,
        used=row.used,
        reserved=row.reserved,
        trash_retention_s=row.trash_retention_s,
        created_at=row.created_at,
        versions_keep=row.versions_keep,
        versions_keep_s=row.versions_keep_s,
    )
