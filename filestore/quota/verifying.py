"""Verifies journals from end to end: rows without gaps, balances, seals, and the heads outside.

Everything is recomputed from the rows, page by page, so memory is that of a page, whatever the
length. It may run at any time: what is written meanwhile is left for the next time.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from functools import partial
from operator import attrgetter
from typing import Final

import sqlalchemy as sa

from filestore.blocks.port import StoreMarks
from filestore.errors import NotFound
from filestore.meta import journal
from filestore.meta.columns import now_us
from filestore.meta.database import Database, Tx
from filestore.meta.groups import find_group
from filestore.meta.journal import Balance, Journaled, Row, Seal
from filestore.quota.findings import Finding, JournalReport, Kind
from filestore.quota.sealing import GENESIS, KIND, Chaining, Mark, Unreadable, marks_of

Tell = Callable[[dict[str, int]], None]

_PAGE: Final = 2000
_BATCH: Final = 200


def _quiet(_counts: dict[str, int]) -> None:
    pass


async def verify_journal(
    db: Database, store: StoreMarks, group_id: str | None = None, *, tell: Tell = _quiet
) -> JournalReport:
    """What is wrong with the journal of one group, or of all, the deleted ones too.

    :raises DatabaseUnavailable, StoreUnavailable: nothing may be concluded. Safe to repeat.
    """
    report = JournalReport(started_at=await db.read(_now))
    after = ""
    while found := await db.read(
        partial(journal.journaled, after=after, only=group_id, limit=_BATCH)
    ):
        for group in found:
            await _Group(db, store, group, report).verify(tell)
        after = found[-1].id
    if group_id is None:
        await _find_strangers(db, store, report)
    report.ended_at = await db.read(_now)
    return report


async def find_journal(tx: Tx, ref: str) -> str:
    """The id of a group by its name or id, or of a deleted one by its id.

    :raises NotFound: there is none.
    """
    group = await find_group(tx, ref)
    if group is not None:
        return group.id
    if not await journal.known_groups(tx, [ref]):
        raise NotFound(what="group")
    return ref


class _Group:
    """One group's journal as it stood when ``state`` was read."""

    def __init__(
        self, db: Database, store: StoreMarks, state: Journaled, report: JournalReport
    ) -> None:
        self._db = db
        self._store = store
        self._state = state
        self._report = report
        self._end = max(state.seq, state.last_seq, state.sealed_seq)
        self._rows = _Rows(db, state.id, self._end)
        self._checks = _Checks(self._add)

    async def verify(self, tell: Tell) -> None:
        self._report.groups += 1
        head, sealed = GENESIS, 0
        async for seal in self._seals():
            self._check_place(seal, head, sealed)
            await self._check_head(seal)
            head, sealed = seal.head, seal.last_seq
            tell({"groups": self._report.groups, "rows": self._report.rows})
        async for rows in self._rows.up_to(self._end):
            self._see(rows)
            tell({"groups": self._report.groups, "rows": self._report.rows})
        self._check_end()
        await self._check_marks()

    async def _seals(self) -> AsyncIterator[Seal]:
        after = 0
        look = partial(journal.seals, group_id=self._state.id, last=self._end, limit=_PAGE)
        while found := await self._db.read(partial(look, after=after)):
            for seal in found:
                yield seal
            after = found[-1].last_seq

    def _see(self, rows: list[Row]) -> None:
        self._checks.feed(rows)
        self._report.rows += len(rows)

    def _check_place(self, seal: Seal, head: bytes, sealed: int) -> None:
        self._report.seals += 1
        if seal.first_seq != sealed + 1:
            detail = f"the seal up to row {seal.last_seq} begins at row {seal.first_seq}"
            detail += f", the one before it ends at row {sealed}"
            self._add(Kind.SEAL_GAP, seal.last_seq, sealed + 1, seal.first_seq, detail)
        elif seal.previous != head:
            detail = f"the seal of rows {_span(seal)} follows another head than that of the seal"
            detail += " before it"
            self._add(Kind.SEAL_GAP, seal.last_seq, head.hex(), seal.previous.hex(), detail)

    async def _check_head(self, seal: Seal) -> None:
        """Computes the head from the rows as they are now."""
        async for rows in self._rows.up_to(seal.first_seq - 1):
            self._see(rows)
        chaining = Chaining(seal.previous, seal.group_id, seal.first_seq, seal.last_seq)
        got: str | None = None
        try:
            async for rows in self._rows.up_to(seal.last_seq):
                self._see(rows)
                self._report.sealed_rows += len(rows)
                chaining.feed(rows)
            got = chaining.head().hex()
        except Unreadable as err:
            detail = f"the seal of rows {_span(seal)} covers a row that the service cannot have"
            self._add(Kind.HEAD, seal.last_seq, seal.head.hex(), None, f"{detail} written: {err}")
            return
        if got != seal.head.hex():
            detail = f"rows {_span(seal)} are not those that were sealed"
            self._add(Kind.HEAD, seal.last_seq, seal.head.hex(), got, detail)

    def _check_end(self) -> None:
        """The journal ends where the group counts that it does, with the group's figures."""
        state, checks = self._state, self._checks
        if checks.next_seq <= self._end:
            detail = f"rows {checks.next_seq} to {self._end} are missing at the end"
            self._add(Kind.ROWS_MISSING, checks.next_seq, self._end, checks.next_seq - 1, detail)
        if state.seq < self._end:
            detail = f"the group counts {state.seq} changes, its journal {self._end}"
            self._add(Kind.COUNTER, self._end, self._end, state.seq, detail)
        elif checks.balance is not None and checks.next_seq == state.seq + 1:
            for name, expected, got in zip(
                Balance._fields, checks.balance, state.counters, strict=True
            ):
                if expected != got:
                    detail = f"the group's {name} is {got}, by its journal {expected}"
                    self._add(Kind.COUNTER, state.seq, expected, got, detail)

    async def _check_marks(self) -> None:
        """Every head outside is in the chain, and one stands for all that was put there."""
        marks, heads = await self._marks()
        for mark in marks:
            if (head := heads.get(mark.seq)) != mark.head:
                known = None if head is None else head.hex()
                found = "no seal" if head is None else "another head"
                detail = f"the block store has a head of row {mark.seq}, sealed on {mark.day};"
                detail += f" the database has {found} there"
                self._add(Kind.MARK_UNKNOWN, mark.seq, mark.head.hex(), known, detail)
        self._report.marks += len(marks)
        wanted = self._state.marked_seq
        for look in range(2):  # the first may fall between a new mark and the end of an older one
            if not wanted or any(mark.seq >= wanted for mark in marks):
                return
            if not look:
                marks, _ = await self._marks()
        detail = f"the head of row {wanted} was put into the block store, and is not there, nor"
        detail += " is a later one"
        self._add(Kind.MARK_MISSING, wanted, wanted, max((m.seq for m in marks), default=0), detail)

    async def _marks(self) -> tuple[list[Mark], dict[int, bytes]]:
        marks = await marks_of(self._store, self._state.id)
        heads: dict[int, bytes] = {}
        for begin in range(0, len(marks), _BATCH):
            seqs = [mark.seq for mark in marks[begin : begin + _BATCH]]
            heads |= await self._db.read(
                partial(journal.heads_of, group_id=self._state.id, seqs=seqs)
            )
        return marks, heads

    def _add(self, kind: Kind, seq: int, expected: object, got: object, detail: str) -> None:
        found = Finding(
            kind, self._state.id, seq, _json(expected), _json(got), detail, self._state.name
        )
        self._report.add(found)


class _Rows:
    """The rows of a group in order, handed out up to the row that is asked for."""

    def __init__(self, db: Database, group_id: str, end: int) -> None:
        self._db = db
        self._page_of = partial(journal.page, group_id=group_id, last=end, limit=_PAGE)
        self._page: list[Row] = []
        self._at = 0
        self._seen = 0
        self._is_over = False

    async def up_to(self, last: int) -> AsyncIterator[list[Row]]:
        """Pieces of the rows that were not handed out yet, up to the row ``last``."""
        while True:
            if self._at == len(self._page):
                if self._is_over or self._seen >= last:
                    return
                await self._turn()
            until = bisect_right(self._page, last, lo=self._at, key=attrgetter("seq"))
            if until == self._at:
                return
            piece, self._at = self._page[self._at : until], until
            yield piece

    async def _turn(self) -> None:
        self._page = await self._db.read(partial(self._page_of, after=self._seen))
        self._at = 0
        self._is_over = len(self._page) < _PAGE
        if self._page:
            self._seen = self._page[-1].seq


Add = Callable[[Kind, int, object, object, str], None]


class _Checks:
    """Rows follow one another, and each leaves the balance that its figures make of the last."""

    def __init__(self, add: Add) -> None:
        self._add = add
        self.next_seq = 1
        self.balance: Balance | None = Balance()

    def feed(self, rows: list[Row]) -> None:
        for row in rows:
            if row.seq != self.next_seq:
                until = row.seq - 1
                what = f"rows {self.next_seq} to {until} are missing"
                self._add(Kind.ROWS_MISSING, self.next_seq, self.next_seq, row.seq, what)
                self.balance = None
            self._check_balance(row)
            self.next_seq = row.seq + 1

    def _check_balance(self, row: Row) -> None:
        after = Balance._make(row[13:17])
        before, self.balance = self.balance, after
        if before is None:
            return
        moved = row[9:13]
        if tuple(map(int.__add__, before, moved)) == after:
            return
        if not all(isinstance(figure, int) for figure in row[9:17]):
            detail = f"row {row.seq} holds what the service never writes"
            self._add(Kind.ROW_UNREADABLE, row.seq, None, None, detail)
            self.balance = None
            return
        for name, old, delta, got in zip(Balance._fields, before, moved, after, strict=True):
            if old + delta != got:
                detail = f"row {row.seq} moves {name} from {old} by {delta} and says that this is"
                self._add(Kind.BALANCE, row.seq, old + delta, got, f"{detail} {got}")


async def _find_strangers(db: Database, store: StoreMarks, report: JournalReport) -> None:
    """Heads outside that are of no group that the database ever had."""
    batch: dict[str, Mark] = {}
    async for item in store.walk_marks(KIND):
        mark = Mark.parse(item.path)
        if mark is None:
            continue
        batch[mark.group_id] = mark
        if len(batch) > _BATCH:
            await _judge_strangers(db, batch, report)
            batch.clear()
    await _judge_strangers(db, batch, report)


async def _judge_strangers(db: Database, marks: dict[str, Mark], report: JournalReport) -> None:
    known = await db.read(partial(journal.known_groups, ids=list(marks)))
    for group_id, mark in marks.items():
        if group_id not in known:
            detail = f"the block store has a head of row {mark.seq} of {group_id}, and the"
            detail += " database no such group"
            report.add(
                Finding(Kind.GROUP_UNKNOWN, group_id, mark.seq, mark.head.hex(), None, detail)
            )


async def _now(tx: Tx) -> int:
    return int(await tx.scalar(sa.select(now_us())) or 0)


def _span(seal: Seal) -> str:
    return f"{seal.first_seq} to {seal.last_seq}"


def _json(value: object) -> str | int | None:
    return value if isinstance(value, int | str) else None
