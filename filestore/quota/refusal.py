"""Why a group has no room: an error that says what is needed, what is free, who holds the rest."""

from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from filestore.errors import FilesExceeded, Json, NotFound, QuotaExceeded
from filestore.meta.database import LateRefusal, Tx
from filestore.meta.tables import entries, groups, uploads, users, versions
from filestore.model import MAX_INT, UploadState

_NAMED_HOLDERS: Final = 10
"""How many of the users who hold reservations a refusal names."""


async def explained(tx: Tx, account_id: str, needed: int, files: int) -> Exception:
    """The error for a move that found no row: the account's figures are those of this moment."""
    group = (
        await tx.execute(
            sa.select(groups).where(groups.c.id == account_id, groups.c.deleted_at.is_(None))
        )
    ).one_or_none()
    if group is None:
        return NotFound(what="group")
    free = group.quota_limit - group.used - group.reserved
    if needed <= max(free, 0) and group.files_limit is not None:
        counted = group.files + group.reserved_files
        return FilesExceeded(
            needed=files,
            free=max(group.files_limit - counted, 0),
            limit=group.files_limit,
            files=group.files,
            reserved=group.reserved_files,
        )
    refused = QuotaExceeded(
        needed=min(needed, MAX_INT),
        free=max(free, 0),
        limit=group.quota_limit,
        used=group.used,
        reserved=group.reserved,
        freeable=0,
        freeable_versions=0,
    )
    return LateRefusal(partial(_explain, group_id=account_id, refused=refused))


@dataclass(frozen=True, slots=True)
class Removable:
    """Bytes of quota that could be freed without touching what is current and visible."""

    trash: int
    versions: int


async def find_removable(tx: Tx, group_id: str) -> Removable:
    """What the trash holds, and what older versions of visible files do.

    Cost: a walk over the group's versions, so nothing for a transaction that holds locks.
    """
    gone = (
        sa.select(entries.c.id)
        .where(entries.c.group_id == group_id, entries.c.deleted_at.is_not(None))
        .cte("gone", recursive=True)
    )
    below = gone.union(sa.select(entries.c.id).where(entries.c.parent_id == gone.c.id))
    in_trash = entries.c.id.in_(sa.select(below.c.id))
    is_old = sa.and_(sa.not_(in_trash), versions.c.number != entries.c.current_number)
    row = (
        await tx.execute(
            sa.select(_sum_where(in_trash).label("trash"), _sum_where(is_old).label("versions"))
            .select_from(versions.join(entries, entries.c.id == versions.c.entry_id))
            .where(entries.c.group_id == group_id, versions.c.pool_id.is_(None))
        )
    ).one()
    return Removable(int(row.trash), int(row.versions))


def _sum_where(clause: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((clause, versions.c.size), else_=0)), 0)


async def _explain(tx: Tx, group_id: str, refused: QuotaExceeded) -> QuotaExceeded:
    """Adds who holds the reservations and what could be freed, a moment after the refusal."""
    removable = await find_removable(tx, group_id)
    refused.members |= {
        "reserved_by": await _holders(tx, group_id),
        "freeable": removable.trash,
        "freeable_versions": removable.versions,
    }
    return refused


async def _holders(tx: Tx, group_id: str) -> list[Json]:
    held = sa.func.sum(uploads.c.reserved)
    rows = await tx.execute(
        sa.select(users.c.name, held.label("bytes"), sa.func.count().label("uploads"))
        .join(users, users.c.id == uploads.c.user_id)
        .where(uploads.c.group_id == group_id, uploads.c.state == UploadState.OPEN)
        .where(uploads.c.reserved > 0, uploads.c.pool_id.is_(None))
        .group_by(users.c.name)
        .order_by(held.desc())
        .limit(_NAMED_HOLDERS)
    )
    return [
        {"user": row.name, "bytes": int(row.bytes), "uploads": int(row.uploads)} for row in rows
    ]
