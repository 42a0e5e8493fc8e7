"""Groups: who owns files and a quota. A deleted group's row stays, for its journal."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypedDict

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.errors import BadName
from filestore.ids import is_id, new_id
from filestore.meta.database import Tx
from filestore.meta.tables import (
    entries,
    groups,
    memberships,
    now_us,
    token_groups,
    uploads,
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
    soft_limit: int | None
    files_limit: int | None
    overflows: bool
    files: int
    warned_percent: int

    @property
    def free(self) -> int:
        """Bytes that can still be reserved; 0 when the limit was lowered below what is used."""
        return max(0, self.quota_limit - self.used - self.reserved)


class Limits(TypedDict, total=False):
    """What a site admin says of a group's room; what is not in it stays as it is."""

    quota_limit: int
    soft_limit: int | None
    files_limit: int | None
    overflows: bool


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
    group = group_of(
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
    return None if row is None else group_of(row)


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
        (row.name_key, group_of(row), None if row.role is None else Role(row.role))
        for row in await tx.execute(query)
    ]


async def change_group(
    tx: Tx,
    group_id: str,
    *,
    name: Label | None = None,
    trash_retention_s: int | None = None,
    versions_keep: int | None = None,
    versions_keep_s: int | None = None,
    limits: Limits | None = None,
) -> Group:
    """Changes what is given. A limit below what is used is allowed: it stops new uploads.

    :raises IntegrityError: ``uq_groups_living_name``: the name is taken.
    """
    values: dict[str, object] = {"id": group_id, **(limits or {})}
    if name is not None:
        values |= {"name": name.given, "name_key": name.key}
    numbers = {
        "trash_retention_s": trash_retention_s,
        "versions_keep": versions_keep,
        "versions_keep_s": versions_keep_s,
    }
    values |= {column: number for column, number in numbers.items() if number is not None}
    row = await tx.execute(
        groups.update().where(groups.c.id == group_id).values(values).returning(groups)
    )
    return group_of(row.one())


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


def _group_is(ref: str) -> sa.ColumnElement[bool] | None:
    if is_id("grp", ref):
        return groups.c.id == ref
    try:
        return groups.c.name_key == check_label(ref, "group").key
    except BadName:
        return None


def group_of(row: Row[Any]) -> Group:
    """A row of the table as a group."""
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
        soft_limit=row.soft_limit,
        files_limit=row.files_limit,
        warned_percent=row.warned_percent,
        overflows=row.overflows,
        files=row.files,
    )
