"""Statements on the quota journal and its seals. Rows of one group are written under the lock of
the group's row, so they become visible in the order of ``seq`` and without gaps: what is behind
the highest that a statement sees comes later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filestore.meta.database import Tx
from filestore.meta.tables import groups, journal_seals, now_us, quota_journal


class Row(NamedTuple):
    """One row of the journal without its group, in the order in which seals take the columns."""

    seq: int
    at: int
    actor_id: str | None
    cause: str
    ref: str | None
    member_id: str | None
    entry_id: str | None
    path: str | None
    mime: str | None
    delta_used: int
    delta_reserved: int
    delta_files: int
    delta_reserved_files: int
    used_after: int
    reserved_after: int
    files_after: int
    reserved_files_after: int


class Balance(NamedTuple):
    """The four counters of a group, or what they moved by."""

    used: int = 0
    reserved: int = 0
    files: int = 0
    reserved_files: int = 0


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed range of one group's rows. ``marked_at``: when it was put outside."""

    group_id: str
    first_seq: int
    last_seq: int
    at: int
    previous: bytes
    head: bytes
    marked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Journaled:
    """A group with all that the database says of its journal, at one moment.

    ``seq`` and ``counters`` are those of the group's row; ``last_seq`` is the newest row's, and
    ``sealed_seq`` the newest seal's; 0: there is none. ``marked_seq``: of the newest marked seal.
    """

    id: str
    name: str
    seq: int
    counters: Balance
    last_seq: int
    sealed_seq: int
    marked_seq: int


@dataclass(frozen=True, slots=True)
class SealFigures:
    """Rows that no seal covers, the oldest of them, seals without a mark, and the newest seal."""

    unsealed: int
    oldest_at: int | None
    unmarked: int
    sealed_at: int | None


COLUMNS: Final = tuple(quota_journal.c[name] for name in Row._fields)


async def page(tx: Tx, group_id: str, *, after: int, last: int, limit: int) -> list[Row]:
    """Rows behind ``after`` up to ``last``, by ``seq``."""
    query = (
        sa.select(*COLUMNS)
        .where(quota_journal.c.group_id == group_id)
        .where(quota_journal.c.seq > after, quota_journal.c.seq <= last)
        .order_by(quota_journal.c.seq)
        .limit(limit)
    )
    return [Row._make(row) for row in await tx.execute(query)]


async def first_seq_from(tx: Tx, group_id: str, at: int) -> int | None:
    """The ``seq`` of the first row that was written at ``at`` or later; None: there is none.

    The first by ``seq``, for clocks may step back: so the rows before it and those from it on are
    two parts of the journal, whatever their times. Costs a look at the rows of one of the parts.
    """
    query = sa.select(sa.func.min(quota_journal.c.seq)).where(
        quota_journal.c.group_id == group_id, quota_journal.c.at >= at
    )
    found = await tx.scalar(query)
    return None if found is None else int(found)


async def last_seq(tx: Tx, group_id: str) -> int:
    """The newest row's; 0: there is none."""
    query = sa.select(sa.func.max(quota_journal.c.seq)).where(quota_journal.c.group_id == group_id)
    return int(await tx.scalar(query) or 0)


async def balance_after(tx: Tx, group_id: str, seq: int) -> Balance:
    """The counters as the row ``seq`` left them; before the first one they are 0."""
    query = sa.select(*(quota_journal.c[f"{name}_after"] for name in Balance._fields)).where(
        quota_journal.c.group_id == group_id, quota_journal.c.seq == seq
    )
    row = (await tx.execute(query)).one_or_none()
    return Balance() if row is None else Balance._make(row)


# ---- sealing -----------------------------------------------------------------------------


async def due(tx: Tx, *, rows: int, older_than_us: int, limit: int) -> list[str]:
    """Groups with so many unsealed rows, or one that waits for so long; also where the clock was
    set back since. Costs a look at each group."""
    waiting = groups.c.journal_seq - _sealed_seq()
    oldest = _at_of(_sealed_seq() + 1)
    is_old = sa.or_(oldest <= now_us() - older_than_us, oldest > now_us() + older_than_us)
    query = (
        sa.select(groups.c.id)
        .where(waiting > 0, sa.or_(waiting >= rows, is_old))
        .order_by(groups.c.id)
        .limit(limit)
    )
    return list(await tx.scalars(query))


async def last_seal(tx: Tx, group_id: str) -> Seal | None:
    """The newest seal of a group."""
    query = (
        sa.select(journal_seals)
        .where(journal_seals.c.group_id == group_id)
        .order_by(journal_seals.c.last_seq.desc())
        .limit(1)
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _seal(row)


async def insert_seal(tx: Tx, seal: Seal) -> Seal | None:
    """The seal as it is written; None: somebody else sealed from the same row on, nothing is done.

    A unique index on the first row of a range is the guard: ranges that follow one another and
    begin at different rows do not overlap.
    """
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(journal_seals).values(
        group_id=seal.group_id,
        first_seq=seal.first_seq,
        last_seq=seal.last_seq,
        previous=seal.previous,
        head=seal.head,
    )
    row = (
        await tx.execute(statement.on_conflict_do_nothing().returning(journal_seals))
    ).one_or_none()
    return None if row is None else _seal(row)


async def unmarked(tx: Tx, *, limit: int) -> list[Seal]:
    """The newest seal of each group that has one without a mark."""
    open_ = (
        sa.select(journal_seals.c.group_id, sa.func.max(journal_seals.c.last_seq).label("last_seq"))
        .where(journal_seals.c.marked_at.is_(None))
        .group_by(journal_seals.c.group_id)
        .limit(limit)
        .subquery()
    )
    query = sa.select(journal_seals).join(
        open_,
        sa.and_(
            journal_seals.c.group_id == open_.c.group_id,
            journal_seals.c.last_seq == open_.c.last_seq,
        ),
    )
    return [_seal(row) for row in await tx.execute(query.order_by(journal_seals.c.group_id))]


async def set_marked(tx: Tx, group_id: str, last_seq: int) -> None:
    """The head of this seal lies outside, and with it all that the chain has before it."""
    await tx.execute(
        journal_seals.update()
        .where(journal_seals.c.group_id == group_id, journal_seals.c.last_seq <= last_seq)
        .where(journal_seals.c.marked_at.is_(None))
        .values(marked_at=now_us())
    )


async def seal_figures(tx: Tx) -> SealFigures:
    """Costs a look at each group."""
    sealed = _sealed_seq()
    waiting = sa.case((groups.c.journal_seq > sealed, groups.c.journal_seq - sealed), else_=0)
    query = sa.select(
        sa.func.coalesce(sa.func.sum(waiting), 0).label("unsealed"),
        sa.func.min(_at_of(sealed + 1)).label("oldest_at"),
        _count_unmarked().label("unmarked"),
        sa.func.max(_sealed_at()).label("sealed_at"),
    ).select_from(groups)
    row = (await tx.execute(query)).one()
    return SealFigures(int(row.unsealed), row.oldest_at, row.unmarked or 0, row.sealed_at)


# ---- verifying ---------------------------------------------------------------------------


async def journaled(
    tx: Tx, *, after: str = "", only: str | None = None, limit: int
) -> list[Journaled]:
    """Groups by id, the deleted ones too, each with its journal's state in the same statement."""
    newest = (
        sa.select(sa.func.max(quota_journal.c.seq))
        .where(quota_journal.c.group_id == groups.c.id)
        .correlate(groups)
        .scalar_subquery()
    )
    counters = [groups.c[name] for name in Balance._fields]
    query = (
        sa.select(
            *(groups.c.id, groups.c.name, groups.c.journal_seq, *counters),
            sa.func.coalesce(newest, 0).label("last_seq"),
            _sealed_seq().label("sealed_seq"),
            _sealed_seq(only_marked=True).label("marked_seq"),
        )
        .where(groups.c.id > after)
        .order_by(groups.c.id)
        .limit(limit)
    )
    if only is not None:
        query = query.where(groups.c.id == only)
    return [
        Journaled(
            row.id,
            row.name,
            row.journal_seq,
            Balance(*(getattr(row, name) for name in Balance._fields)),
            row.last_seq,
            row.sealed_seq,
            row.marked_seq,
        )
        for row in await tx.execute(query)
    ]


async def seals(tx: Tx, group_id: str, *, after: int, last: int, limit: int) -> list[Seal]:
    """Seals behind ``after`` up to ``last``, by their last rows."""
    query = (
        sa.select(journal_seals)
        .where(journal_seals.c.group_id == group_id)
        .where(journal_seals.c.last_seq > after, journal_seals.c.last_seq <= last)
        .order_by(journal_seals.c.last_seq)
        .limit(limit)
    )
    return [_seal(row) for row in await tx.execute(query)]


async def heads_of(tx: Tx, group_id: str, seqs: Sequence[int]) -> dict[int, bytes]:
    """The heads of the seals that end at these rows; a page of them at most."""
    query = sa.select(journal_seals.c.last_seq, journal_seals.c.head).where(
        journal_seals.c.group_id == group_id, journal_seals.c.last_seq.in_(seqs)
    )
    return {row.last_seq: bytes(row.head) for row in await tx.execute(query)}


async def known_groups(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Which of these groups there are or were; a page of them at most."""
    return set(await tx.scalars(sa.select(groups.c.id).where(groups.c.id.in_(ids))))


def _sealed_seq(*, only_marked: bool = False) -> sa.ColumnElement[int]:
    """Of the group of the outermost statement: by itself SQLAlchemy correlates with the nearest."""
    newest = sa.select(sa.func.max(journal_seals.c.last_seq)).where(
        journal_seals.c.group_id == groups.c.id
    )
    if only_marked:
        newest = newest.where(journal_seals.c.marked_at.is_not(None))
    return sa.func.coalesce(newest.correlate(groups).scalar_subquery(), 0)


def _at_of(seq: sa.ColumnElement[int]) -> sa.ScalarSelect[int]:
    return (
        sa.select(quota_journal.c.at)
        .where(quota_journal.c.group_id == groups.c.id, quota_journal.c.seq == seq)
        .correlate(groups)
        .scalar_subquery()
    )


def _sealed_at() -> sa.ScalarSelect[int]:
    return (
        sa.select(journal_seals.c.at)
        .where(journal_seals.c.group_id == groups.c.id)
        .order_by(journal_seals.c.last_seq.desc())
        .limit(1)
        .correlate(groups)
        .scalar_subquery()
    )


def _count_unmarked() -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count())
        .select_from(journal_seals)
        .where(journal_seals.c.marked_at.is_(None))
        .scalar_subquery()
    )


def _seal(row: Any) -> Seal:
    return Seal(
        row.group_id,
        row.first_seq,
        row.last_seq,
        row.at,
        bytes(row.previous),
        bytes(row.head),
        row.marked_at,
    )
