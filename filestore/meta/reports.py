"""All groups in the order of what an admin looks for: who holds, grows or wastes most."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.groups import is_living_group
from filestore.meta.growth import DAY_US, growth
from filestore.meta.sheet import Line, Sheet, distinct_sizes, held_sizes, read_sheets
from filestore.meta.tables import audit_log, entries, groups, now_us, quota_journal, versions


class Sort(StrEnum):
    """What groups are ordered by; the largest first, but names from the beginning."""

    NAME = "name"
    USAGE = "usage"
    USAGE_PERCENT = "usage_percent"
    GROWTH = "growth"
    WASTE = "waste"


@dataclass(frozen=True, slots=True)
class Report:
    """One group. The parts of waste overlap: an old version may also be a duplicate, so ``waste``
    is their sum, and at most what is charged. ``never_read``: newest versions, older than asked,
    that nobody downloaded."""

    sheet: Sheet
    growth_7: int
    growth_30: int
    never_read: int
    active_at: int | None
    created_at: int
    key: int | str

    @property
    def waste(self) -> int:
        lines = self.sheet.lines
        parts = lines[Line.TRASH] + lines[Line.VERSIONS] + self.sheet.saved + self.never_read
        return min(parts, self.sheet.charged)


Key = tuple[int | str, str]
_MOST: Final = 1_000_000_000


async def list_reports(
    tx: Tx, sort: Sort, *, unread_days: int, after: Key | None, limit: int
) -> list[Report]:
    """Living groups behind the key ``after`` (what they are sorted by, and the id).

    Cost: one look-up or two for each group, and a walk over what the groups of the page hold;
    by waste, over what all groups hold.
    """
    rows = await _page(tx, sort, unread_days, after, limit)
    ids = [row.id for row in rows]
    sheets = {sheet.group_id: sheet for sheet in await read_sheets(tx, ids)}
    unread = await _never_read(tx, ids, unread_days)
    return [
        Report(
            sheet=sheets[row.id],
            growth_7=int(row.growth_7),
            growth_30=int(row.growth_30),
            never_read=unread.get(row.id, 0),
            active_at=max(filter(None, (row.moved_at, row.acted_at)), default=None),
            created_at=row.created_at,
            key=row.sort_key if sort is Sort.NAME else int(row.sort_key),
        )
        for row in rows
        if row.id in sheets
    ]


async def _page(
    tx: Tx, sort: Sort, unread_days: int, after: Key | None, limit: int
) -> list[sa.Row[Any]]:
    ranked = _ranked(sort, unread_days).subquery("ranked")
    key, group_id = ranked.c.sort_key, ranked.c.id
    query = sa.select(ranked).limit(limit)
    query = query.order_by(key if sort is Sort.NAME else key.desc(), group_id)
    if after is not None:
        is_behind = key > after[0] if sort is Sort.NAME else key < after[0]
        query = query.where(is_behind | ((key == after[0]) & (group_id > after[1])))
    return list((await tx.execute(query)).all())


def _ranked(sort: Sort, unread_days: int) -> sa.Select[Any]:
    moved = sa.select(sa.func.max(quota_journal.c.at)).where(
        quota_journal.c.group_id == groups.c.id
    )
    acted = sa.select(sa.func.max(audit_log.c.at)).where(audit_log.c.group_id == groups.c.id)
    source: Any = groups
    keys: dict[Sort, sa.ColumnElement[Any]] = {
        Sort.NAME: groups.c.name_key,
        Sort.USAGE: groups.c.used,
        Sort.USAGE_PERCENT: _share(),
        Sort.GROWTH: growth(30),
    }
    if sort is Sort.WASTE:
        held, distinct, unread = held_sizes(None), distinct_sizes(None), _unread(None, unread_days)
        for sums in (held, distinct, unread):
            source = source.outerjoin(sums, sums.c.group_id == groups.c.id)
        charged = held.c.live + held.c.versions + held.c.trash
        parts = held.c.trash + held.c.versions + charged - _or_0(distinct.c.unique_size)
        parts += _or_0(unread.c.bytes)
        whole = sa.case((parts > charged, charged), else_=parts)
        keys[Sort.WASTE] = sa.cast(_or_0(whole), sa.BigInteger)
    return (
        sa.select(
            groups.c.id,
            groups.c.created_at,
            growth(7).label("growth_7"),
            growth(30).label("growth_30"),
            moved.correlate(groups).scalar_subquery().label("moved_at"),
            acted.correlate(groups).scalar_subquery().label("acted_at"),
            keys[sort].label("sort_key"),
        )
        .select_from(source)
        .where(is_living_group())
    )


def _share() -> sa.ColumnElement[int]:
    """What is used in hundredths of a percent of the limit, as far as numbers go."""
    used, limit = sa.cast(groups.c.used, sa.Float), sa.cast(groups.c.quota_limit, sa.Float)
    return sa.case(
        (groups.c.used == 0, 0),
        (used * 10_000.0 >= limit * _MOST, _MOST),
        else_=sa.cast(used * 10_000.0 / limit, sa.BigInteger),
    )


def _or_0(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(column, 0)


async def _never_read(tx: Tx, ids: Collection[str], days: int) -> Mapping[str, int]:
    sums = _unread(ids, days)
    return {row.group_id: int(row.bytes) for row in await tx.execute(sa.select(sums))}


def _unread(only: Collection[str] | None, days: int) -> sa.Subquery:
    """Per group the newest versions that are older than ``days`` days and were never read."""
    before = now_us() - sa.literal(days * DAY_US, sa.BigInteger)
    query = (
        sa.select(entries.c.group_id, sa.func.sum(versions.c.size).label("bytes"))
        .join(versions, versions.c.entry_id == entries.c.id)
        .where(versions.c.number == entries.c.current_number, versions.c.pool_id.is_(None))
        .where(versions.c.downloaded_at.is_(None), versions.c.created_at < before)
        .where(entries.c.deleted_at.is_(None))
        .group_by(entries.c.group_id)
    )
    if only is not None:
        query = query.where(entries.c.group_id.in_(only))
    return query.subquery("unread")
