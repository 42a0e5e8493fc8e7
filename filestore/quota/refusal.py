"""Why a group has no room: an error that says what is needed, what is free, who holds the rest."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.errors import (
    FilesExceeded,
    FilestoreError,
    Json,
    NotFound,
    QuotaExceeded,
    ShareExceeded,
)
from filestore.meta.database import LateRefusal, Tx
from filestore.meta.tables import entries, groups, uploads, users, versions
from filestore.model import MAX_INT, UploadState
from filestore.quota.admission import Admission, Room, Verdict

_NAMED_HOLDERS: Final = 10
"""How many of the users who hold reservations a refusal names."""


async def explained(
    tx: Tx, account_id: str, needed: int, files: int, *, group_id: str | None = None
) -> Exception:
    """The error for a move that found no row: the account's figures are those of this moment.

    ``group_id``: who asked, also of a pool. It is told of its own figures, and not of what the
    pool holds of others.
    """
    room = await _living_room(tx, account_id)
    group = room if group_id in (None, account_id) else await _living_room(tx, group_id)
    if room is None or group is None:
        return NotFound(what="group")
    if group is not room:
        return quota_exceeded(group, needed, room)
    if needed <= room.free and room.files_limit is not None:
        return files_exceeded(room, files)
    return quota_exceeded(room, needed)


async def _living_room(tx: Tx, account_id: str) -> Room | None:
    living = sa.select(groups).where(groups.c.id == account_id, groups.c.deleted_at.is_(None))
    row = (await tx.execute(living)).one_or_none()
    return None if row is None else room_of(row)


def room_of(row: Row[Any]) -> Room:
    """The counters and limits of a row of ``groups``."""
    return Room(
        id=row.id,
        limit=row.quota_limit,
        used=row.used,
        reserved=row.reserved,
        files=row.files,
        reserved_files=row.reserved_files,
        files_limit=row.files_limit,
        soft_limit=row.soft_limit,
        overflows=row.overflows,
    )


def refusal_of(
    admission: Admission, verdict: Verdict, user_id: str, size: int
) -> FilestoreError | LateRefusal:
    """The error for an upload of ``size`` bytes that was not admitted just now."""
    if verdict is Verdict.NO_FILES:
        return files_exceeded(admission.group, 1)
    if verdict is Verdict.NO_SHARE:
        share = admission.share_of(user_id)
        return share_exceeded(size, share.limit, share.taken)
    pool = admission.pool if verdict is Verdict.NO_POOL else None
    return quota_exceeded(admission.group, size, pool)


def quota_exceeded(room: Room, needed: int, pool: Room | None = None) -> LateRefusal:
    """No room for bytes: who holds the reservations and what could be freed is looked up late.

    With ``pool``: the group is beyond its soft limit, and the pool has no room for more.
    """
    refused = QuotaExceeded(
        needed=min(needed, MAX_INT),
        free=room.free,
        limit=room.limit,
        used=room.used,
        reserved=room.reserved,
        freeable=0,
        freeable_versions=0,
    )
    if pool is not None:
        refused.members |= {"soft_limit": room.soft_limit, "temporary_free": pool.free}
    return LateRefusal(partial(_explain, group_id=room.id, refused=refused))


def files_exceeded(room: Room, needed: int) -> FilesExceeded:
    return FilesExceeded(
        needed=needed,
        free=room.free_files,
        limit=room.files_limit,
        files=room.files,
        reserved=room.reserved_files,
    )


def share_exceeded(needed: int, share: int | None, taken: int) -> ShareExceeded:
    return ShareExceeded(needed=needed, free=max((share or 0) - taken, 0), share=share, taken=taken)


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
