"""Scrub as the service and its jobs see it: run once, and run by itself.

    async with running_scrubber(settings, db, store, process_id) as scrubber:
        report = await scrubber.run_once()

By itself it works in portions, one at a time over all processes, and goes on where the last
one ended. A block is due after half of ``scrub.interval_s``, and the rate is such that all of
the store takes less than the other half; so each is read again within the whole.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from filestore.errors import FilestoreError, Json
from filestore.meta import gc_figures, leases
from filestore.meta.database import Database
from filestore.model import MIB, SYSTEM, Actor, BlockState
from filestore.settings import Settings
from filestore_gc.heal import HealStore
from filestore_gc.lease import Lease, TakenOver, Turn
from filestore_gc.progress import Progress, quiet
from filestore_gc.scrub import Scrub, ScrubReport, record, run_scrub
from filestore_gc.stopping import end

SCRUB: Final = "scrub"
"""The name of the lease."""
SLOWEST: Final = MIB
"""Bytes a second, at least: what nobody notices, and a small store is through in minutes."""
SPARE: Final = 1.25
"""How much faster than needed: it rests between portions, and stores grow."""
MAX_LOST: Final = 1000
"""Lost blocks that a portion looks at: a disk that is gone must not stop the rest."""

_TOTALS: Final = ("blocks", "bytes", "lost", "revived", "healed_references")

_log: Final = structlog.get_logger("filestore.scrub")


@dataclass(frozen=True, slots=True)
class Portions:
    """How long it works, and rests then. A walk over all blocks comes with each portion."""

    work_s: float = 3600.0
    rest_s: float = 600.0


class Scrubber:
    """Scrubs one database and its store; any number of them may exist."""

    def __init__(
        self,
        db: Database,
        store: HealStore,
        process_id: str,
        settings: Settings,
        *,
        portions: Portions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._store = store
        self._settings = settings
        self._portions = portions or Portions()
        self._lease = Lease(db, process_id, name=SCRUB)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Scrubber, {self._lease!r}>"

    async def run_once(
        self,
        *,
        bytes_per_s: float | None = None,
        older_than_s: int = 0,
        actor: Actor = SYSTEM,
        progress: Progress = quiet,
    ) -> ScrubReport:
        """One scrub that somebody asks for, in the place of one that runs by itself.

        :raises DatabaseUnavailable: what was recorded is recorded. Safe to repeat.
        """
        async with self._lease.at_once() as turn:
            before = await self._last_report()
            report = await run_scrub(
                self._db,
                self._store,
                self._settings,
                bytes_per_s=bytes_per_s,
                older_than_s=older_than_s,
                actor=actor,
                progress=progress,
            )
            _settle(turn, report, before)
        return report

    async def run_if_due(self) -> ScrubReport | None:
        """A portion; None when one is under way or was lately, or when another process took over.

        :raises DatabaseUnavailable: what was recorded is recorded. Safe to repeat.
        """
        async with self._lease.if_due(self._portions.rest_s) as turn:
            if turn is None:
                return None
            before = turn.report = await self._last_report()
            try:
                report = await (await self._portion(turn)).look()
            except TakenOver:
                return None
            _settle(turn, report, before)
            if _is_news(report, str(before.get("result"))):
                await self._db.transact(partial(record, actor=SYSTEM, report=report))
        if report.lost:
            named = [lost.subject for lost in report.named]
            _log.error("scrub.blocks_lost", count=report.lost, blocks=named)
        if report.problem is not None:
            code, reason = report.problem.code, report.problem.reason
            _log.warning("scrub.broke_off", code=code, reason=reason)
        return report

    async def run_forever(self, begin: Callable[[], Awaitable[object]] | None = None) -> None:
        """Runs by itself, again and again; an error waits for the next time.

        The first portion comes within one rest after ``begin`` has returned.
        """
        if begin is not None:
            await begin()
        await asyncio.sleep(random.uniform(0, self._portions.rest_s))
        while True:
            try:
                await self.run_if_due()
            except FilestoreError as err:
                _log.warning("scrub.failed", error=str(err))
            except Exception:
                _log.exception("scrub.crashed")  # a defect, which must not end it for ever
            await asyncio.sleep(self._portions.rest_s)

    async def _portion(self, turn: Turn) -> Scrub:
        interval_s = self._settings.scrub.interval_s
        live = await self._db.read(partial(gc_figures.state_figures, states=(BlockState.LIVE,)))
        until = self._clock() + self._portions.work_s

        async def go_on() -> bool:
            await turn.keep()
            return self._clock() < until

        rate = rate_for(
            sum(figures.bytes for figures in live),
            interval_s=interval_s,
            at_most=self._settings.scrub.bytes_per_s,
        )
        return Scrub(
            self._db,
            self._store,
            bytes_per_s=rate,
            older_than_s=interval_s // 2,
            max_lost=MAX_LOST,
            go_on=go_on,
        )

    async def _last_report(self) -> dict[str, Json]:
        last = await self._db.read(partial(leases.last_turn, name=SCRUB))
        found: Any = None if last is None else json.loads(last.report or "null")
        return found or {}


def rate_for(live_bytes: int, *, interval_s: int, at_most: float) -> float:
    """Bytes a second with which all that is stored takes less than half of the interval."""
    return min(at_most, max(SLOWEST, SPARE * live_bytes / max(interval_s / 2, 1)))


@contextlib.asynccontextmanager
async def running_scrubber(
    settings: Settings,
    db: Database,
    store: HealStore,
    process_id: str,
    *,
    begin: Callable[[], Awaitable[object]] | None = None,
    portions: Portions | None = None,
) -> AsyncIterator[Scrubber]:
    """A scrubber that also runs by itself while the block runs, unless the settings say no.

    What it does when the block ends is broken off; what it has read is recorded.
    """
    scrubber = Scrubber(db, store, process_id, settings, portions=portions)
    if not settings.scrub.interval_s:
        yield scrubber
        return
    background = asyncio.create_task(scrubber.run_forever(begin))
    try:
        yield scrubber
    finally:
        await end(background)


def _settle(turn: Turn, report: ScrubReport, before: dict[str, Json]) -> None:
    """What is kept of a run: its report without the names, and sums over all runs so far."""
    said = report.to_json()
    sums = before.get("totals")
    totals = sums if isinstance(sums, dict) else {}
    added = {name: _number(totals.get(name)) + _number(said[name]) for name in _TOTALS}
    turn.result = report.result
    turn.report = said | {"blocks_lost": len(report.named), "totals": {**added}}


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _is_news(report: ScrubReport, before: str) -> bool:
    """Whether a portion is worth a row in the audit log."""
    has_changed = bool(report.lost or report.revived or report.healed)
    return has_changed or (not report.is_good and report.result != before)
