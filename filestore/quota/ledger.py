"""Every change of a group's counters, each with its journal row in the same statement's lock.

``used`` is the sum of the sizes of all versions, the trash included; ``reserved`` is what
running uploads have set aside. No lock on a group's row is held over store I/O: callers do
their transfers outside the transaction that calls these functions.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from filestore.errors import Json, NotFound, QuotaExceeded
from filestore.meta.database import LateRefusal, Tx
from filestore.meta.tables import entries, groups, quota_journal, uploads, users, versions
from filestore.model import MAX_INT, Actor, Cause, UploadState

_NAMED_HOLDERS: Final = 10
"""How many of the users who hold reservations a refusal names."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of a group's counters, in bytes. ``ref`` names the upload or version."""

    group_id: str
    used: int
    reserved: int
    cause: Cause
    ref: str


async def apply(tx: Tx, actor: Actor, move: Move, *, within_limit: bool = False) -> None:
    """Moves the counters and writes the journal row; does nothing when nothing moves.

    With ``within_limit`` the statement commits only if used + reserved stay within the
    limit in force; two that race for the last bytes are decided by the row's lock.

    :raises QuotaExceeded: the group has no room; nothing is changed. Inside of the transaction it
        is a :class:`~filestore.meta.database.LateRefusal`, for its members take a walk.
    :raises NotFound: there is no such group any more.
    """
    if not move.used and not move.reserved:
        return
    values = {
        groups.c.used: groups.c.used + move.used,
        groups.c.reserved: groups.c.reserved + move.reserved,
        groups.c.journal_seq: groups.c.journal_seq + 1,
    }
    change = sa.update(groups).where(groups.c.id == move.group_id, groups.c.deleted_at.is_(None))
    if within_limit:
        grows = move.used + move.reserved
        change = change.where(groups.c.used + groups.c.reserved <= groups.c.quota_limit - grows)
    row = (
        await tx.execute(
            change.values(values).returning(groups.c.used, groups.c.reserved, groups.c.journal_seq)
        )
    ).one_or_none()
    if row is None:
        raise await _refusal(tx, move)
    await tx.execute(
        quota_journal.insert().values(
            group_id=move.group_id,
            seq=row.journal_seq,
            actor_id=actor.user_id,
            cause=move.cause,
            ref=move.ref,
            delta_used=move.used,
            delta_reserved=move.reserved,
            used_after=row.used,
            reserved_after=row.reserved,
        )
    )


async def lock(tx: Tx, group_id: str) -> None:
    """Takes the group's row first, for an act that learns only later how much it moves.

    FOR NO KEY UPDATE: an entry's foreign key takes the group's row FOR KEY SHARE, after the
    root's lock; FOR UPDATE would make that a deadlock with whoever waits for the root here.

    :raises NotFound: there is no such group any more.
    """
    living = sa.select(groups.c.id).where(groups.c.id == group_id, groups.c.deleted_at.is_(None))
    if await tx.scalar(living.with_for_update(key_share=True)) is None:
        raise NotFound(what="group")


async def reserve(tx: Tx, actor: Actor, group_id: str, size: int, ref: str) -> None:
    """Sets ``size`` bytes aside for an upload.

    :raises QuotaExceeded: the group has no room for them; nothing is changed.
    """
    move = Move(group_id, 0, size, Cause.RESERVE, ref)
    await apply(tx, actor, move, within_limit=True)


async def release(tx: Tx, actor: Actor, group_id: str, size: int, ref: str) -> None:
    """Gives back what an upload had reserved and did not use."""
    await apply(tx, actor, Move(group_id, 0, -size, Cause.RELEASE, ref))


async def charge(
    tx: Tx, actor: Actor, group_id: str, size: int, *, reserved: int, ref: str
) -> None:
    """Turns a reservation of at least ``size`` bytes into a charge of exactly ``size``."""
    await apply(tx, actor, Move(group_id, size, -reserved, Cause.CHARGE, ref))


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
            .where(entries.c.group_id == group_id)
        )
    ).one()
    return Removable(int(row.trash), int(row.versions))


def _sum_where(clause: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((clause, versions.c.size), else_=0)), 0)


async def _refusal(tx: Tx, move: Move) -> Exception:
    """The error for a move that found no row: the group's figures are those of this moment."""
    group = (
        await tx.execute(
            sa.select(groups).where(groups.c.id == move.group_id, groups.c.deleted_at.is_(None))
        )
    ).one_or_none()
    if group is None:
        return NotFound(what="group")
    refused = QuotaExceeded(
        needed=min(move.used + move.reserved, MAX_INT),
        free=max(group.quota_limit - group.used - group.reserved, 0),
        limit=group.quota_limit,
        used=group.used,
        reserved=group.reserved,
        freeable=0,
        freeable_versions=0,
    )
    return LateRefusal(partial(_explain, group_id=move.group_id, refused=refused))


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
        .where(uploads.c.reserved > 0)
        .group_by(users.c.name)
        .order_by(held.desc())
        .limit(_NAMED_HOLDERS)
    )
    return [
        {"user": row.name, "bytes": int(row.bytes), "uploads": int(row.uploads)} for row in rows
    ]
