"""fsck: holds a database and its store against each other while the service runs.

    report = await Fsck(db, store).check()
    plan = plan_repair(report, Terms())          # shown; a dry run ends here
    await Repair(db, store).apply(plan)

:mod:`filestore_gc.fsck_run` does all of it. A check may run at any time, in any process, beside
others.
"""

from collections import Counter
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
from filestore.errors import StoreError
from filestore.meta import gc_figures
from filestore.meta.database import Database
from filestore.meta.turns import in_background
from filestore.model import BlockState
from filestore_gc.fsck_objects import PAGE as OBJECT_PAGE
from filestore_gc.fsck_objects import ObjectCheck
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
from filestore_gc.fsck_rows import LOOKS, RowCheck
from filestore_gc.fsck_rows import PAGE as ROW_PAGE
from filestore_gc.heal import find_problem, is_usable
from filestore_gc.progress import Progress, quiet
from filestore_gc.report import Problem

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


STEPS: Final = 2 + LOOKS
"""Of a check: the objects, each look at the rows, and the notes."""


class Fsck:
    """Checks one database and one store. ``kept``: findings of one kind that are kept;
    ``page``: rows that are read at once, for tests."""

    def __init__(
        self,
        db: Database,
        store: FsckStore,
        *,
        kept: int = KEPT,
        page: int | None = None,
        progress: Progress = quiet,
    ) -> None:
        self._db = db
        self._store = store
        self._kept = kept
        self._page = page
        self._progress = progress

    @in_background
    async def check(self) -> FsckReport:
        """What is wrong now. Changes nothing; costs a listing of the store and a walk over the
        rows, in short statements, and memory for what it finds. May be cancelled anywhere.

        :raises DatabaseUnavailable: nothing can be said. Safe to repeat.
        """
        found = self._course()
        found.started_at = await self._db.read(gc_figures.clock)
        try:
            await self._look(found)
        except StoreError as err:
            found.result, found.problem = FsckResult.FAILED, Problem(err.code, str(err))
        return found.report(await self._db.read(gc_figures.clock))

    def _course(self) -> "_Course":
        findings = Findings(self._kept)
        found = _Course(
            findings,
            ObjectCheck(self._db, self._store, findings, page=self._page or OBJECT_PAGE),
            RowCheck(self._db, self._store, findings, page=self._page or ROW_PAGE),
            self._progress,
        )
        found.objects.on_page = found.rows.on_page = found.tell
        return found

    async def _look(self, found: "_Course") -> None:
        """:raises StoreError: what was found until then is found."""
        found.tell()
        found.problem = await self._begin(found.findings)
        if found.problem is None:
            await found.objects.run()
            found.has_objects = True
            await found.rows.run()
            found.notes = [*await self._notes(), *found.objects.notes]
            found.has_notes = True
            found.tell()
            found.problem = await self._confirm(found.findings)
        if found.problem is None:
            is_damaged = any(kind.is_damage for kind in found.findings.counts)
            found.result = FsckResult.DAMAGE if is_damaged else FsckResult.CLEAN

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


@dataclass
class _Course:
    """One check on its way: what it has found, and how far it is."""

    findings: Findings
    objects: ObjectCheck
    rows: RowCheck
    progress: Progress
    started_at: int = 0
    has_objects: bool = False
    has_notes: bool = False
    notes: list[Note] = field(default_factory=list)
    result: FsckResult = FsckResult.REFUSED
    problem: Problem | None = None

    def tell(self) -> None:
        self.progress(
            {
                "step": self.has_objects + self.rows.looks + self.has_notes,
                "steps": STEPS,
                "objects": self.objects.objects,
                "object_bytes": self.objects.object_bytes,
                "blocks": self.objects.blocks,
                "found": self.findings.counts.total(),
            }
        )

    def report(self, ended_at: int) -> FsckReport:
        return FsckReport(
            result=self.result,
            started_at=self.started_at,
            ended_at=ended_at,
            objects=self.objects.objects,
            object_bytes=self.objects.object_bytes,
            blocks=self.objects.blocks,
            findings=tuple(self.findings.items),
            counts=dict(self.findings.counts),
            notes=tuple(self.notes),
            problem=self.problem,
            is_whole=self.findings.is_whole,
        )


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
