"""fsck: holds a database and its store against each other while the service runs.

    report = await Fsck(db, store).check()
    plan = plan_repair(report, Terms())          # shown; a dry run ends here
    await Repair(db, store).apply(plan)

:func:`repair` does all of it, again and again until nothing is left that a repair can do. It
may run at any time, in any process; two at once only do some work twice.
"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from filestore.blocks.backend import BlockFetcher
from filestore.blocks.port import (
    BlockQuarantine,
    BlockWalker,
    LeftoverKind,
    StoreIdentity,
    StoreSurveyor,
)
from filestore.errors import Json, StoreError
from filestore.meta import gc_figures
from filestore.meta.database import Database
from filestore.model import SYSTEM, Actor, BlockState
from filestore_gc.fsck_objects import PAGE as OBJECT_PAGE
from filestore_gc.fsck_objects import ObjectCheck
from filestore_gc.fsck_plan import Plan, Terms, plan_repair
from filestore_gc.fsck_repair import Repair, Repaired
from filestore_gc.fsck_report import (
    KEPT,
    Finding,
    Findings,
    FsckReport,
    FsckResult,
    Kind,
    Note,
    NoteKind,
)
from filestore_gc.fsck_rows import PAGE as ROW_PAGE
from filestore_gc.fsck_rows import RowCheck
from filestore_gc.heal import find_problem, is_usable
from filestore_gc.report import Problem

PASSES: Final = 1000
"""Checks of one repair: at 10,000 findings each, more than a store has."""

_STATES: Final = {
    BlockState.UPLOADING: NoteKind.UPLOADING,
    BlockState.CONDEMNED: NoteKind.CONDEMNED,
    BlockState.DELETING: NoteKind.DELETING,
    BlockState.LOST: NoteKind.LOST,
}
_LEFTOVERS: Final = {
    LeftoverKind.TEMPORARY: NoteKind.TEMPORARY,
    LeftoverKind.MULTIPART: NoteKind.MULTIPART,
}
_OF_OBJECTS: Final = (Kind.ORPHAN, Kind.MISSING, Kind.WRONG_SIZE, Kind.READABLE)
_EXAMPLES: Final = 10


class FsckStore(BlockFetcher, BlockWalker, BlockQuarantine, StoreSurveyor, StoreIdentity, Protocol):
    """What of a store fsck is handed: it removes only what was set aside."""


class Fsck:
    """Checks one database and one store. ``kept``: findings of one kind that are kept;
    ``page``: rows that are read at once, for tests."""

    def __init__(
        self, db: Database, store: FsckStore, *, kept: int = KEPT, page: int | None = None
    ) -> None:
        self._db = db
        self._store = store
        self._kept = kept
        self._page = page

    async def check(self) -> FsckReport:
        """What is wrong now. Changes nothing; costs a listing of the store and a walk over the
        rows, in short statements, and memory for what it finds.

        :raises DatabaseUnavailable: nothing can be said. Safe to repeat.
        """
        started_at = await self._db.read(gc_figures.clock)
        findings = Findings(self._kept)
        objects = ObjectCheck(self._db, self._store, findings, page=self._page or OBJECT_PAGE)
        rows = RowCheck(self._db, self._store, findings, page=self._page or ROW_PAGE)
        notes: list[Note] = []
        result = FsckResult.REFUSED
        try:
            problem = await self._begin(findings)
            if problem is None:
                await objects.run()
                await rows.run()
                notes = [*await self._notes(), *objects.notes]
                problem = await self._confirm(findings)
            if problem is None:
                is_damaged = any(kind.is_damage for kind in findings.counts)
                result = FsckResult.DAMAGE if is_damaged else FsckResult.CLEAN
        except StoreError as err:
            result, problem = FsckResult.FAILED, Problem(err.code, str(err))
        return FsckReport(
            result=result,
            started_at=started_at,
            ended_at=await self._db.read(gc_figures.clock),
            objects=objects.objects,
            object_bytes=objects.object_bytes,
            blocks=objects.blocks,
            findings=tuple(findings.items),
            counts=dict(findings.counts),
            notes=tuple(notes),
            problem=problem,
            is_whole=findings.is_whole,
        )

    async def _begin(self, findings: Findings) -> Problem | None:
        """Why nothing can be checked. That one is older than the other is a finding."""
        problem = await find_problem(self._db, self._store)
        if problem is not None and is_usable(problem):
            findings.add(Finding(Kind.EPOCH, problem.code, problem.reason))
            return None
        return problem

    async def _confirm(self, findings: Findings) -> Problem | None:
        """Why the store cannot be believed after all: it was taken away meanwhile."""
        problem = await find_problem(self._db, self._store)
        if problem is None or is_usable(problem):
            return None
        findings.drop(_OF_OBJECTS)
        return problem

    async def _notes(self) -> list[Note]:
        look = partial(gc_figures.state_figures, states=tuple(_STATES))
        notes = [
            Note(_STATES[found.state], found.blocks, found.bytes, found.oldest_at)
            for found in await self._db.read(look)
        ]
        queued, oldest = await self._db.read(gc_figures.queue_figures)
        if queued:
            notes.append(Note(NoteKind.QUEUED, queued, oldest_at=oldest or 0))
        leftovers: dict[NoteKind, _Tally] = {}
        async for left in self._store.walk_leftovers():
            tally = leftovers.setdefault(_LEFTOVERS[left.kind], _Tally())
            tally.add(left.name, left.size, left.began_at)
        notes += [tally.note(kind) for kind, tally in leftovers.items()]
        return [*notes, *await self._quarantined()]

    async def _quarantined(self) -> list[Note]:
        """How much is set aside; the examples are all its days."""
        days: Counter[str] = Counter()
        size = 0
        async for found in self._store.walk_aside():
            days[found.path.partition("/")[0]] += 1
            size += found.size
        if not days:
            return []
        return [Note(NoteKind.QUARANTINE, days.total(), size, examples=tuple(sorted(days)))]


@dataclass(slots=True)
class _Tally:
    """Sums of things that are alike, with a few names."""

    count: int = 0
    size: int = 0
    oldest_at: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str, size: int, at: int) -> None:
        self.count += 1
        self.size += size
        self.oldest_at = min(self.oldest_at or at, at)
        if len(self.names) < _EXAMPLES:
            self.names.append(name)

    def note(self, kind: NoteKind) -> Note:
        return Note(kind, self.count, self.size, self.oldest_at, tuple(self.names))


@dataclass(frozen=True, slots=True)
class FsckRepair:
    """A repair: what was found, what was planned first, what was done, and what is found now."""

    before: FsckReport
    plan: Plan
    repaired: Repaired
    after: FsckReport

    @property
    def exit_code(self) -> int:
        return self.after.exit_code

    def to_json(self) -> dict[str, Json]:
        return {
            "before": self.before.to_json(),
            "plan": self.plan.to_json(),
            "repaired": self.repaired.to_json(),
            "after": self.after.to_json(),
        }


async def repair(
    db: Database, store: FsckStore, *, terms: Terms | None = None, actor: Actor = SYSTEM
) -> FsckRepair:
    """Checks, plans and repairs until nothing is left that a repair can do; then checks again.

    :raises DatabaseUnavailable: what is done is done. Safe to repeat.
    """
    async for step in repairing(db, store, terms=terms or Terms(), actor=actor):
        last = step
    return last


async def repairing(
    db: Database, store: FsckStore, *, terms: Terms, actor: Actor = SYSTEM, kept: int = KEPT
) -> AsyncIterator[FsckRepair]:
    """The same, pass by pass: each gives what the first check found and planned, and all that
    was done until then."""
    fsck = Fsck(db, store, kept=kept)
    before = after = await fsck.check()
    first = plan = plan_repair(before, terms)
    repaired = Repaired()
    for _ in range(PASSES):
        done = await Repair(db, store).apply(plan, actor)
        repaired.add(done)
        after = await fsck.check()
        yield FsckRepair(before, first, repaired, after)
        plan = plan_repair(after, terms)
        if not (done.moved and plan.actions) or done.problem is not None:
            return
