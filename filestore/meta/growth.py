"""What groups held on days gone by, from their journals: look-ups, whatever their length."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import groups, now_us, quota_journal

DAY_US: Final = 86_400_000_000


def used_before(at: Any) -> sa.ScalarSelect[int | None]:
    """What the group of the row of ``groups`` had used just before a moment; null: it had no
    journal yet. One look-up in the index of the journal's times."""
    return (
        sa.select(quota_journal.c.used_after)
        .where(quota_journal.c.group_id == groups.c.id, quota_journal.c.at < at)
        .order_by(quota_journal.c.at.desc(), quota_journal.c.seq.desc())
        .limit(1)
        .correlate(groups)
        .scalar_subquery()
    )


def growth(days: int) -> sa.ColumnElement[int]:
    """What a row of ``groups`` has used more than ``days`` days ago; negative: less."""
    then = used_before(now_us() - sa.literal(days * DAY_US, sa.BigInteger))
    return groups.c.used - sa.func.coalesce(then, 0)


async def closings(
    tx: Tx, group_ids: Collection[str], days: int
) -> Mapping[str, list[tuple[int, int]]]:
    """Per group (day, bytes used at its end in UTC) of the last ``days`` whole days.

    ``day`` counts from the epoch. Days before a group's first entry are left out; the last pair
    is today's, with what is used now. Cost: a look-up for each day and group.
    """
    today = int(await tx.scalar(sa.select(now_us())) or 0) // DAY_US
    past = range(today - days, today)
    columns = [used_before((day + 1) * DAY_US).label(f"day_{day}") for day in past]
    query = sa.select(groups.c.id, groups.c.used, *columns).where(groups.c.id.in_(group_ids))
    found: dict[str, list[tuple[int, int]]] = {}
    for group_id, used, *closed in await tx.execute(query):
        pairs = [(day, int(at)) for day, at in zip(past, closed, strict=True) if at is not None]
        found[group_id] = [*pairs, (today, used)]
    return found
