"""Statements: what a group's counters were, what moved them, and what they are now.

A period is a range of rows, from the first that was written at its beginning or later up to the
last before the first that was written at its end or later. So periods that adjoin share no row
and leave none out, also where the clock was set back; and as rows never change, a statement is
of one state of the journal without a transaction that lasts.
"""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from filestore.errors import BadRequest
from filestore.meta import journal
from filestore.meta.database import Database, Tx
from filestore.meta.journal import Balance, Row
from filestore.meta.people import user_names

PAGE: Final = 1000
MAX_LINES: Final = 10_000
"""Members, folders, types and days that are told apart; what more there are is one line."""

OTHERS: Final = "…"
"""The key of that line. No name of a user, folder or type is this; days have digits."""

_MAX_TEXT: Final = 40
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST: Final = (dt.datetime(9999, 1, 1, tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
"""Later times cannot be told in every zone."""


@dataclass(frozen=True, slots=True)
class Period:
    """Rows ``first`` to ``last`` of a journal (none: ``last`` is one less), and the balances
    before and behind them."""

    group_id: str
    first: int
    last: int
    opening: Balance
    closing: Balance


Sums = dict[str | None, list[int]]


@dataclass(slots=True)
class Totals:
    """What moved the counters, by whose bytes, by folder at the top, by type and by day.

    Each of the four tables sums up to ``moved``, exactly.
    """

    zone: dt.tzinfo
    moved: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    members: Sums = field(default_factory=dict)
    folders: Sums = field(default_factory=dict)
    types: Sums = field(default_factory=dict)
    days: Sums = field(default_factory=dict)

    def add(self, row: Row, member: str | None) -> None:
        figures = row[9:13]
        day = dt.datetime.fromtimestamp(row.at // 1_000_000, self.zone).date().isoformat()
        _sum(self.moved, figures)
        _sum(_line(self.members, member), figures)
        _sum(_line(self.folders, top_folder(row.path)), figures)
        _sum(_line(self.types, row.mime), figures)
        _sum(_line(self.days, day), figures)

    def unexplained(self, period: Period) -> Balance:
        """What the counters moved by without a row: zeros, unless somebody changed them by hand."""
        moved = zip(period.opening, period.closing, self.moved, strict=True)
        return Balance(*(closing - opening - moved_by for opening, closing, moved_by in moved))


async def find_period(db: Database, group_id: str, *, begin: int | None, end: int | None) -> Period:
    """The rows from ``begin`` up to, and not including, ``end``; None: from the first, to now.

    Times in microseconds. :raises BadRequest: it ends before it begins.
    """
    if begin is not None and end is not None and end < begin:
        raise BadRequest(field="to", reason="it lies before from")

    async def look(tx: Tx) -> Period:
        last = await journal.last_seq(tx, group_id)
        first = 1 if begin is None else await _first_from(tx, group_id, begin, last)
        if end is not None:
            last = await _first_from(tx, group_id, end, last) - 1
        balance = partial(journal.balance_after, tx, group_id)
        return Period(group_id, first, last, await balance(first - 1), await balance(last))

    return await db.read(look)


async def find_balance(db: Database, group_id: str, at: int | None) -> tuple[int, Balance]:
    """The last row before ``at`` (None: now; 0: there is none), and the balance behind it."""
    period = await find_period(db, group_id, begin=None, end=at)
    return period.last, period.closing


async def entries(db: Database, period: Period) -> AsyncIterator[tuple[list[Row], dict[str, str]]]:
    """The rows of a period page by page, each page with the names of its users by id.

    No transaction stays open between two pages.
    """
    after = period.first - 1
    while after < period.last:
        look = partial(_page, group_id=period.group_id, after=after, last=period.last)
        rows, names = await db.read(look)
        if not rows:
            return
        yield rows, names
        after = rows[-1].seq


async def _page(tx: Tx, group_id: str, after: int, last: int) -> tuple[list[Row], dict[str, str]]:
    rows = await journal.page(tx, group_id, after=after, last=last, limit=PAGE)
    users = {user for row in rows for user in (row.actor_id, row.member_id) if user is not None}
    return rows, await user_names(tx, users) if users else {}


async def _first_from(tx: Tx, group_id: str, at: int, last: int) -> int:
    """The first row of a period that begins at ``at``; behind ``last`` when there is none yet."""
    found = await journal.first_seq_from(tx, group_id, at)
    return last + 1 if found is None else min(found, last + 1)


def top_folder(path: str | None) -> str | None:
    """``/a`` of ``/a/b/c``, ``/`` of what lies in the root folder itself."""
    if path is None:
        return None
    top, slash, _ = path.lstrip("/").partition("/")
    return f"/{top}" if slash else "/"


def _line(table: Sums, key: str | None) -> list[int]:
    found = table.get(key)
    if found is None:
        is_full = len(table) >= MAX_LINES and key is not None
        found = table.setdefault(OTHERS if is_full else key, [0, 0, 0, 0])
    return found


def _sum(line: list[int], figures: tuple[int, ...]) -> None:
    line[0] += figures[0]
    line[1] += figures[1]
    line[2] += figures[2]
    line[3] += figures[3]


# ---- times as people say them ------------------------------------------------------------


def parse_zone(name: str) -> dt.tzinfo:
    """The time zone ``UTC`` or one of the IANA's, such as ``Europe/Berlin``.

    :raises BadRequest: there is none.
    """
    if name.upper() in ("UTC", "Z"):
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        reason = "it is no time zone; write UTC, or a name such as Europe/Berlin"
        raise BadRequest(field="tz", reason=reason) from err


def parse_moment(text: str, zone: dt.tzinfo, field: str) -> int:
    """Microseconds of ``2026-01-31T12:00:00Z``, or of ``2026-01-31``: the beginning of that day.

    Without an offset a time is one of ``zone``. :raises BadRequest: it is neither.
    """
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError(text)
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        found = (moment - _EPOCH) // dt.timedelta(microseconds=1)
        if not 0 <= found <= _LATEST:
            raise ValueError(text)
    except (ValueError, OverflowError) as err:
        reason = "it is no time; write 2026-01-31, or 2026-01-31T12:00:00Z"
        raise BadRequest(field=field, reason=reason) from err
    return found
