"""One run of fsck as a command or a job asks for it: check, plan, and on request repair.

run = await run_fsck(db, store, settings, progress=tell)              # shows the plan
run = await run_fsck(db, store, settings, repair=True, actor=actor)   # carries it out
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from filestore.errors import Json
from filestore.meta.database import Database
from filestore.model import SYSTEM, Actor
from filestore.settings import Settings
from filestore_gc import wording
from filestore_gc.fsck import Fsck, FsckStore
from filestore_gc.fsck_plan import Plan, Terms, plan_repair
from filestore_gc.fsck_repair import Repair, Repaired
from filestore_gc.fsck_report import KEPT, LISTED, FsckReport
from filestore_gc.progress import Progress, quiet

PASSES: Final = 1000
"""Checks of one repair: at 10,000 findings each, more than a store has."""


@dataclass(frozen=True, slots=True)
class FsckRun:
    """What was found, what was planned first, what was done, and what is found now.

    Without a repair nothing was done, and ``after`` is ``before``.
    """

    before: FsckReport
    plan: Plan
    after: FsckReport
    is_repair: bool = False
    repaired: Repaired = field(default_factory=Repaired)

    @property
    def is_good(self) -> bool:
        """Whether nothing is damaged now, and a repair did not break off."""
        return self.after.is_good and self.repaired.problem is None

    @property
    def exit_code(self) -> int:
        """0: good. 1: something is damaged, or it could not be told."""
        return 0 if self.is_good else 1

    def to_json(self, *, limit: int = LISTED) -> dict[str, Json]:
        """What is found now, with the plan, and after a repair what was done and found before."""
        said = self.after.to_json(limit=limit) | {
            "is_good": self.is_good,
            "plan": self.plan.to_json(limit=limit),
        }
        if self.is_repair:
            said["repaired"] = self.repaired.to_json()
            said["before"] = self.before.to_json(limit=limit)
        return said

    def to_text(self, *, limit: int = LISTED) -> str:
        """The check, the plan; after a repair also what was done, and the check behind it."""
        return "\n".join(wording.run_lines(self.to_json(limit=limit)))


async def run_fsck(
    db: Database,
    store: FsckStore,
    settings: Settings,
    *,
    repair: bool = False,
    actor: Actor = SYSTEM,
    progress: Progress = quiet,
) -> FsckRun:
    """Checks and plans; with ``repair`` carries the plan out and checks again, until nothing is
    left that a repair can do.

    May be cancelled anywhere, run beside others, and be repeated: what is done is done.

    :raises DatabaseUnavailable: what is done is done. Safe to repeat.
    """
    terms = Terms(settings.fsck.orphan_age_s, settings.fsck.quarantine_s)
    if repair:
        async for run in repairing(db, store, terms=terms, actor=actor, progress=progress):
            last = run
        return last
    report = await Fsck(db, store, progress=progress).check()
    return FsckRun(report, plan_repair(report, terms), report)


async def repairing(
    db: Database,
    store: FsckStore,
    *,
    terms: Terms,
    actor: Actor = SYSTEM,
    kept: int = KEPT,
    progress: Progress = quiet,
) -> AsyncIterator[FsckRun]:
    """A repair pass by pass: each gives what the first check found and planned, and all that
    was done until then.

    ``kept``: findings of one kind that a pass deals with, which bounds its memory.
    """
    counts: dict[str, int] = {}
    repaired = Repaired()

    def tell(news: dict[str, int]) -> None:
        moved = repaired.moved + news.get("repaired", 0)
        progress(counts | news | {"repaired": moved})

    fsck = Fsck(db, store, kept=kept, progress=tell)
    before = after = await fsck.check()
    first = plan = plan_repair(before, terms)
    for number in range(1, PASSES + 1):
        counts |= {"pass": number, "planned": len(plan.actions)}
        done = await Repair(db, store, progress=tell).apply(plan, actor)
        repaired.add(done)
        after = await fsck.check()
        yield FsckRun(before, first, after, True, repaired)
        plan = plan_repair(after, terms)
        if not (done.moved and plan.actions) or done.problem is not None:
            return
