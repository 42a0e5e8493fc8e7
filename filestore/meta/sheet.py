"""The balance sheet of groups: what the bytes of each are, from its own references only.

``live + versions + trash`` is what is charged as used, ``reserved`` what running uploads have set
aside. What is temporary is charged to the account of the pool and stands beside. Each line opens
what is behind it (``meta.sheet_items``), and that sums to it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.groups import is_living_group
from filestore.meta.tables import content_blocks, entries, groups, uploads, versions
from filestore.model import EntryKind, UploadState


class Line(StrEnum):
    """One line of a sheet; every byte of a group is in exactly one."""

    LIVE = "live"
    VERSIONS = "versions"
    TRASH = "trash"
    RESERVED = "reserved"
    TEMPORARY = "temporary"
    TEMPORARY_RESERVED = "temporary-reserved"


@dataclass(frozen=True, slots=True)
class Sheet:
    """The sheet of one group. ``lines`` has all of them, ``unique`` the size of the distinct
    blocks behind what is charged; ``used`` and ``reserved`` are what the counters say."""

    group_id: str
    name: str
    limit: int
    soft_limit: int | None
    files_limit: int | None
    overflows: bool
    used: int
    reserved: int
    files: int
    unique: int
    lines: dict[Line, int]

    @property
    def charged(self) -> int:
        """Bytes of all versions that the quota counts."""
        return self.lines[Line.LIVE] + self.lines[Line.VERSIONS] + self.lines[Line.TRASH]

    @property
    def saved(self) -> int:
        """What is charged and lies in the store no second time, as far as the group can tell."""
        return self.charged - self.unique

    @property
    def free(self) -> int:
        """Bytes that can still be reserved; 0 when the limit was lowered below what is used."""
        return max(0, self.limit - self.used - self.reserved)


async def read_sheets(tx: Tx, only: Collection[str] | None = None) -> list[Sheet]:
    """The sheets of these living groups, or of all, by id: one statement, so of one moment.

    Costs a walk over the groups' versions and the references to their blocks.
    """
    held, distinct = held_sizes(only), distinct_sizes(only)
    running, counted = _running(only), _files(only)
    joined = groups
    for sums in (held, running, distinct, counted):
        joined = joined.outerjoin(sums, sums.c.group_id == groups.c.id)  # type: ignore[assignment]
    query = (
        sa.select(groups, held, running, distinct.c.unique_size, counted.c.file_count)
        .select_from(joined)
        .where(is_living_group())
        .order_by(groups.c.id)
    )
    if only is not None:
        query = query.where(groups.c.id.in_(only))
    return [_sheet(row) for row in await tx.execute(query)]


def hidden_entries(only: Collection[str] | None) -> sa.CTE:
    """Entries in the trash, and all that lies below them, which is marked on none of it."""
    top = sa.select(entries.c.id).where(entries.c.deleted_at.is_not(None))
    if only is not None:
        top = top.where(entries.c.group_id.in_(only))
    hidden = top.cte("hidden", recursive=True)
    return hidden.union(sa.select(entries.c.id).join(hidden, entries.c.parent_id == hidden.c.id))


def held_sizes(only: Collection[str] | None) -> sa.Subquery:
    """Per group the bytes of its versions, by line."""
    in_trash = entries.c.id.in_(sa.select(hidden_entries(only).c.id))
    is_temporary = versions.c.pool_id.is_not(None)
    is_current = versions.c.number == entries.c.current_number
    query = (
        sa.select(
            entries.c.group_id,
            _sum(versions.c.size, is_temporary).label("temporary"),
            _sum(versions.c.size, ~is_temporary & in_trash).label("trash"),
            _sum(versions.c.size, ~is_temporary & ~in_trash & is_current).label("live"),
            _sum(versions.c.size, ~is_temporary & ~in_trash & ~is_current).label("versions"),
        )
        .join(versions, versions.c.entry_id == entries.c.id)
        .group_by(entries.c.group_id)
    )
    return _of(query, entries.c.group_id, only).subquery("held")


def _running(only: Collection[str] | None) -> sa.Subquery:
    is_temporary = uploads.c.pool_id.is_not(None)
    query = (
        sa.select(
            uploads.c.group_id,
            _sum(uploads.c.reserved, ~is_temporary).label("running"),
            _sum(uploads.c.reserved, is_temporary).label("temporary_running"),
        )
        .where(uploads.c.state == UploadState.OPEN)
        .group_by(uploads.c.group_id)
    )
    return _of(query, uploads.c.group_id, only).subquery("running")


def _files(only: Collection[str] | None) -> sa.Subquery:
    query = (
        sa.select(entries.c.group_id, sa.func.count().label("file_count"))
        .where(entries.c.kind == EntryKind.FILE)
        .group_by(entries.c.group_id)
    )
    return _of(query, entries.c.group_id, only).subquery("counted")


def distinct_sizes(only: Collection[str] | None) -> sa.Subquery:
    """Per group the size of the blocks behind what it is charged for, each block once."""
    query = (
        sa.select(entries.c.group_id, content_blocks.c.block_id, content_blocks.c.size)
        .join(versions, versions.c.entry_id == entries.c.id)
        .join(content_blocks, content_blocks.c.content_id == versions.c.content_id)
        .where(versions.c.pool_id.is_(None))
        .distinct()
    )
    once = _of(query, entries.c.group_id, only).subquery("once")
    total = sa.func.sum(once.c.size).label("unique_size")
    return sa.select(once.c.group_id, total).group_by(once.c.group_id).subquery("distinct_blocks")


def _of(
    query: sa.Select[Any], group: sa.ColumnElement[str], only: Collection[str] | None
) -> sa.Select[Any]:
    return query if only is None else query.where(group.in_(only))


def _sum(column: sa.ColumnElement[int], clause: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((clause, column), else_=0))


def _sheet(row: Any) -> Sheet:
    lines = {
        Line.LIVE: row.live,
        Line.VERSIONS: row.versions,
        Line.TRASH: row.trash,
        Line.RESERVED: row.running,
        Line.TEMPORARY: row.temporary,
        Line.TEMPORARY_RESERVED: row.temporary_running,
    }
    return Sheet(
        group_id=row.id,
        name=row.name,
        limit=row.quota_limit,
        soft_limit=row.soft_limit,
        files_limit=row.files_limit,
        overflows=row.overflows,
        used=row.used,
        reserved=row.reserved,
        files=row.file_count or 0,
        unique=int(row.unique_size or 0),
        lines={line: int(size or 0) for line, size in lines.items()},
    )
