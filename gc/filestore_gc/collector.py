"""The collector as the service and its jobs see it: plan, run once, run by itself.

    async with running_collector(settings, db, store, process_id) as collector:
        report = await collector.run_once(grace_s=0)

A run is: the reaper; the guards; passes over the queue until nothing moves; a report. One
runs at a time over all processes (:mod:`filestore_gc.lease`).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from filestore.errors import FilestoreError, Json, StoreError
from filestore.meta import gc_figures, leases
from filestore.meta.database import Database, Tx
from filestore.meta.log import audit, emit
from filestore.meta.turns import in_background
from filestore.model import SYSTEM, Actor
from filestore.settings import Settings
from filestore_gc.guards import CollectorStore, find_refusal, raise_epoch
from filestore_gc.judging import SECOND_US, Terms
from filestore_gc.lease import NAME, Lease, TakenOver, Turn
from filestore_gc.pacing import Pace
from filestore_gc.planning import make_plan, waits_of
from filestore_gc.reaping import Memory, Reaper
from filestore_gc.report import Problem, Reaped, Report, Result
from filestore_gc.stopping import end
from filestore_gc.sweeping import Sweep, Swept, Way

THOROUGH_EVERY: Final = 60
"""Of so many runs by itself one also looks for blocks that no task names, and raises the epoch
if blocks have come since: about hourly."""

_KEPT_LINES: Final = 100
"""Lines of a report, the largest, that the audit log keeps: thousands of groups have more."""

_log: Final = structlog.get_logger("filestore.gc")


@dataclass(frozen=True, slots=True)
class Tuning:
    """``rest_s``: between two runs by itself; ``removals_per_s``: objects, at most. ``memory``:
    how long what has ended is remembered."""

    grace_s: int = 0
    rest_s: float = 60.0
    removals_per_s: float = 1000.0
    workers: int = 4
    memory: Memory = Memory()


Keep = Callable[[], Awaitable[None]]
Tell = Callable[[Json], None]
"""Is told how far a run is, between its transactions. Cheap, and asked often."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One run: by which terms, for whom, and how much it is to find out. ``renews``: the epoch is
    raised if blocks have come since this collector did."""

    terms: Terms
    actor: Actor = SYSTEM
    is_asked: bool = False
    renews: bool = False
    thorough: bool = True
    tell: Tell | None = None


class Collector:
    """Collects for one database and one store; any number of them may exist."""

    def __init__(
        self, db: Database, store: CollectorStore, process_id: str, tuning: Tuning
    ) -> None:
        self._db = db
        self._store = store
        self._process_id = process_id
        self._tuning = tuning
        self._lease = Lease(db, process_id)
        self._pace = Pace(tuning.removals_per_s)
        self._runs = 0
        self._newest: int | None = None
        self._complaint: Problem | None = None

    def __repr__(self) -> str:
        return f"<Collector of {self._process_id}, {self._runs} runs, {self._lease!r}>"

    async def plan(self, *, grace_s: int | None = None) -> Report:
        """What :meth:`run_once` with the same grace would do now. Changes and waits for nothing.

        Costs a walk over the queue, and over the references of what is about to be released.
        """
        terms = self._terms(grace_s)
        started_at = await self._db.read(gc_figures.clock)
        found = _Outcome()
        await self._guard(found)
        plan = await make_plan(self._db, self._process_id, terms)
        names = await self._db.read(partial(gc_figures.group_names, ids=plan.freed.groups))
        return Report(
            result=Result.PLANNED if found.problem is None else found.result,
            grace_s=terms.grace_us // SECOND_US,
            started_at=started_at,
            ended_at=await self._db.read(gc_figures.clock),
            freed=plan.freed.lines(names),
            waiting=plan.waiting,
            reaped=plan.reaped,
            problem=found.problem,
        )

    async def run_once(
        self, *, grace_s: int | None = None, actor: Actor = SYSTEM, tell: Tell | None = None
    ) -> Report:
        """Reaps, collects and removes to the end, as far as the grace allows.

        Waits for a collection under way first; whoever asks bounds the wait. ``grace_s``
        overrides the setting, also for what is queued or condemned already: 0 frees at once
        what nothing refers to.

        :raises DatabaseUnavailable: what is done is done. Safe to repeat.
        """
        order = _Order(self._terms(grace_s), actor, is_asked=True, tell=tell)
        if tell is not None:
            tell({"stage": "waiting"})
        async with self._lease.waiting() as turn:
            return await self._run(turn, order)

    async def run_if_due(self) -> Report | None:
        """A run by itself; None when another one is under way, or was lately.

        :raises DatabaseUnavailable: what is done is done. Safe to repeat.
        """
        async with self._lease.if_due(self._tuning.rest_s) as turn:
            if turn is None:
                return None
            thorough = self._runs % THOROUGH_EVERY == 0
            renews = thorough or self._newest is None
            order = _Order(self._terms(None), renews=renews, thorough=thorough)
            report = await self._run(turn, order)
        self._complain(report)
        return report

    async def run_forever(self, begin: Callable[[], Awaitable[None]] | None = None) -> None:
        """Runs by itself, again and again; an error waits for the next time.

        The first run comes within one rest after ``begin`` has returned, at a time of its own
        for each process.
        """
        if begin is not None:
            await begin()
        await asyncio.sleep(random.uniform(0, self._tuning.rest_s))
        while True:
            try:
                await self.run_if_due()
            except FilestoreError as err:
                _log.warning("gc.failed", error=str(err))
            except Exception:
                _log.exception("gc.crashed")  # a defect, which must not end collection for ever
            await asyncio.sleep(self._tuning.rest_s)

    def _terms(self, grace_s: int | None) -> Terms:
        wanted = self._tuning.grace_s if grace_s is None else grace_s
        return Terms(wanted * SECOND_US, is_override=grace_s is not None)

    @in_background
    async def _run(self, turn: Turn, order: _Order) -> Report:
        self._runs += 1
        started_at = await self._db.read(gc_figures.clock)
        before = await self._db.read(partial(leases.last_turn, name=NAME))
        outcome = _Outcome()
        keep = partial(_keep, turn, order, outcome)
        try:
            reaper = Reaper(self._db, self._process_id, keep, self._tuning.memory)
            outcome.reaped = await reaper.reap(thorough=order.thorough)
            await self._guard(outcome)
            if outcome.problem is None and order.renews:
                await self._renew(outcome)
            if outcome.problem is None:
                await self._sweep(order, outcome, keep)
        except TakenOver:
            outcome.result = Result.TAKEN_OVER
        report = await self._report(order, started_at, outcome)
        turn.result, turn.report = report.result, summary_of(report)
        if _is_worth_a_row(report, order, before.result if before else None):
            await self._db.transact(partial(_record, actor=order.actor, report=report))
        return report

    async def _guard(self, outcome: "_Outcome") -> None:
        try:
            outcome.problem = await find_refusal(self._db, self._store)
            if outcome.problem is not None:
                outcome.result = Result.REFUSED
        except StoreError as err:
            outcome.fail(err)

    async def _renew(self, outcome: "_Outcome") -> None:
        """A backup is older now that was made before this process began, or before the blocks
        came that have come since this was last asked."""
        newest = await self._db.read(gc_figures.newest_block)
        if newest == self._newest:
            return
        try:
            await raise_epoch(self._db, self._store)
            self._newest = newest
        except StoreError as err:
            outcome.fail(err)

    def _complain(self, report: Report) -> None:
        """Says in the log why nothing is collected, once for each reason."""
        if report.problem is not None and report.problem != self._complaint:
            code, reason = report.problem.code, report.problem.reason
            _log.error("gc.not_collected", result=report.result.value, code=code, reason=reason)
        self._complaint = report.problem

    async def _sweep(self, order: _Order, outcome: "_Outcome", keep: Keep) -> None:
        outcome.stage = "collecting"
        way = Way(
            terms=order.terms,
            queued_until=await self._db.read(gc_figures.clock),
            workers=self._tuning.workers,
            patient=order.is_asked,
        )
        sweep = Sweep(self._db, self._store, way, pace=self._pace, keep=keep)
        outcome.swept = sweep.done
        newest, self._newest = self._newest, None  # breaking off leaves the epoch to the next run
        try:
            await sweep.run()
            self._newest = newest
        except StoreError as err:
            outcome.fail(err)
        if sweep.done.problem is not None and sweep.done.failed:
            outcome.result, outcome.problem = Result.FAILED, sweep.done.problem

    async def _report(self, order: _Order, started_at: int, outcome: "_Outcome") -> Report:
        swept = outcome.swept
        names = await self._db.read(partial(gc_figures.group_names, ids=swept.freed.groups))
        waiting = waits_of(await self._db.read(gc_figures.waiting)) if order.is_asked else ()
        report = Report(
            result=outcome.result,
            grace_s=order.terms.grace_us // SECOND_US,
            started_at=started_at,
            ended_at=await self._db.read(gc_figures.clock),
            freed=swept.freed.lines(names),
            waiting=waiting,
            reaped=outcome.reaped,
            alarms=tuple(swept.alarms.values()),
            problem=outcome.problem,
            condemned=swept.condemned,
            removed_rows=swept.removed_rows,
            busy=swept.busy,
            failed=len(swept.failed),
        )
        if report.result is Result.DONE and not report.did_something:
            return replace(report, result=Result.NOTHING)
        return report


@dataclass(slots=True)
class _Outcome:
    """What a run has come to so far."""

    stage: str = "reaping"
    result: Result = Result.DONE
    problem: Problem | None = None
    reaped: Reaped = field(default_factory=Reaped)
    swept: Swept = field(default_factory=Swept)

    def fail(self, err: StoreError) -> None:
        self.result, self.problem = Result.FAILED, Problem(err.code, str(err))


async def _keep(turn: Turn, order: _Order, outcome: _Outcome) -> None:
    """Goes on while it is this process's turn, and says how far it is."""
    await turn.keep()
    if order.tell is not None:
        swept = outcome.swept
        order.tell(
            {
                "stage": outcome.stage,
                "condemned": swept.condemned,
                "blocks": swept.freed.blocks,
                "bytes": swept.freed.bytes,
            }
        )


@contextlib.asynccontextmanager
async def running_collector(
    settings: Settings,
    db: Database,
    store: CollectorStore,
    process_id: str,
    *,
    begin: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Collector]:
    """A collector that also runs by itself while the block runs, from when ``begin`` returns.

    What it does when the block ends is broken off; that takes seconds at most.
    """
    collector = make_collector(settings, db, store, process_id)
    background = asyncio.create_task(collector.run_forever(begin))
    try:
        yield collector
    finally:
        await end(background)


def make_collector(
    settings: Settings, db: Database, store: CollectorStore, process_id: str
) -> Collector:
    """A collector as the settings say, which runs only when it is asked."""
    tuning = Tuning(
        grace_s=settings.gc.grace_s,
        rest_s=settings.gc.interval_s,
        removals_per_s=settings.gc.removals_per_s,
        workers=settings.gc.workers,
        memory=Memory(settings.uploads.keep_ended_s, settings.jobs.keep_s),
    )
    return Collector(db, store, process_id, tuning)


def summary_of(report: Report) -> dict[str, Json]:
    """The report as JSON, with the largest of its lines: what is kept of each run."""
    return replace(report, freed=report.freed[:_KEPT_LINES]).to_json() | {
        "blocks": report.blocks,
        "bytes": report.bytes,
    }


def _is_worth_a_row(report: Report, order: _Order, before: str | None) -> bool:
    """Whether it is news: somebody asked, something was done, or it goes wrong since now."""
    is_new_trouble = not report.result.is_good and report.result != before
    return order.is_asked or report.did_something or is_new_trouble


async def _record(tx: Tx, actor: Actor, report: Report) -> None:
    said = summary_of(report)
    await audit(tx, actor, "gc.run", target=report.result, after=said)
    await emit(tx, "gc.ran", said)
