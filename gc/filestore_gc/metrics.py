"""What is stored, what is on its way out, and how the last collection went, for Prometheus.

The figures are read in the background, never by a scrape: the cheap ones often, a walk over
all live blocks seldom, and the more seldom the longer it takes. Times are those of the
database, as Unix timestamps, so an age is right at any moment: ``time() - …``. All processes
of a service show the same.
"""

import asyncio
import contextlib
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from filestore.errors import FilestoreError
from filestore.meta import gc_figures, healing, journal, leases
from filestore.meta.database import Database
from filestore.meta.gc_figures import StateFigures
from filestore.meta.leases import LastTurn
from filestore.model import BlockState
from filestore_gc.audit_metrics import AuditMetrics
from filestore_gc.auditing import AUDIT
from filestore_gc.lease import NAME
from filestore_gc.report import Result
from filestore_gc.scrub_metrics import ScrubMetrics
from filestore_gc.scrubbing import SCRUB
from filestore_gc.seal_metrics import SealMetrics
from filestore_gc.stopping import end

EVERY_S: Final = 30.0
"""Between two looks at what is on its way out: some milliseconds each, and two scrapes."""
LIVE_EVERY_S: Final = 300.0
"""Between two walks over the live blocks, at least."""
LIVE_SHARE: Final = 100
"""How many times its own duration rests after such a walk: it takes 1 % of one connection."""

_ON_THEIR_WAY: Final = tuple(state for state in BlockState if state is not BlockState.LIVE)

_log: Final = structlog.get_logger("filestore.gc")


class GcMetrics:
    """The collector's figures in one registry, and those of scrub."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"filestore_{name}", what, labels, registry=registry)

        self._blocks = gauge("blocks", "Blocks in the store, by state.", "state")
        self._bytes = gauge("blocks_bytes", "Bytes that blocks take in the store.", "state")
        self._oldest = gauge(
            "blocks_oldest_timestamp_seconds", "Since when the oldest is in its state.", "state"
        )
        self._queue = gauge("gc_queue_blocks", "Blocks that the collector is to look at.")
        self._queue_oldest = gauge(
            "gc_queue_oldest_timestamp_seconds", "Since when the oldest of them waits; 0: none."
        )
        self._ended = gauge("gc_last_run_timestamp_seconds", "When the last collection ended.")
        self._lasted = gauge("gc_last_run_seconds", "How long it took.")
        self._result = gauge("gc_last_run_result", "1 for how it ended, 0 for the rest.", "result")
        self._freed_blocks = gauge("gc_last_run_freed_blocks", "Blocks that it freed.")
        self._freed_bytes = gauge("gc_last_run_freed_bytes", "Bytes that it freed.")
        self._problem = gauge("gc_last_run_problem", "1 for why it did not collect.", "code")
        for result in Result:
            self._result.labels(result)
        self.scrub = ScrubMetrics(registry)
        self.seals = SealMetrics(registry)
        self.audit = AuditMetrics(registry)

    def show_states(self, found: Iterable[StateFigures], states: Iterable[BlockState]) -> None:
        """The blocks of these states; what is not found is not there."""
        by_state = {figures.state: figures for figures in found}
        for state in states:
            figures = by_state.get(state)
            self._blocks.labels(state).set(0 if figures is None else figures.blocks)
            self._bytes.labels(state).set(0 if figures is None else figures.bytes)
            if figures is not None:
                self._oldest.labels(state).set(figures.oldest_at / 1e6)
            else:
                with contextlib.suppress(KeyError):
                    self._oldest.remove(state)

    def show_queue(self, count: int, oldest_at: int | None) -> None:
        self._queue.set(count)
        self._queue_oldest.set((oldest_at or 0) / 1e6)

    def show_last_run(self, last: LastTurn | None) -> None:
        """The last collection that ended, whichever process did it."""
        if last is None or last.result is None:
            return
        for result in Result:
            self._result.labels(result).set(result == last.result)
        report: dict[str, Any] = json.loads(last.report or "null") or {}
        self._problem.clear()
        if (problem := report.get("problem")) is not None:
            self._problem.labels(problem["code"]).set(1)
        if report:
            began, ended = (_seconds(report[name]) for name in ("started_at", "ended_at"))
            self._ended.set(ended)
            self._lasted.set(ended - began)
            self._freed_blocks.set(report["blocks"])
            self._freed_bytes.set(report["bytes"])


class Figures:
    """Keeps the metrics up to date with a database."""

    def __init__(
        self,
        db: Database,
        metrics: GcMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._clock = clock
        self._live_at = clock()

    async def refresh(self) -> None:
        """Reads what is due.

        :raises DatabaseUnavailable: what was shown stays.
        """
        on_their_way = partial(gc_figures.state_figures, states=_ON_THEIR_WAY)
        self._metrics.show_states(await self._db.read(on_their_way), _ON_THEIR_WAY)
        self._metrics.show_queue(*await self._db.read(gc_figures.queue_figures))
        self._metrics.show_last_run(await self._db.read(partial(leases.last_turn, name=NAME)))
        last_scrub = await self._db.read(partial(leases.last_turn, name=SCRUB))
        self._metrics.scrub.show(last_scrub, await self._db.read(healing.oldest_check))
        self._metrics.seals.show(await self._db.read(journal.seal_figures))
        self._metrics.audit.show(await self._db.read(partial(leases.last_turn, name=AUDIT)))
        began = self._clock()
        if began >= self._live_at:
            live = (BlockState.LIVE,)
            found = await self._db.read(partial(gc_figures.state_figures, states=live))
            self._metrics.show_states(found, live)
            took = self._clock() - began
            self._live_at = began + max(LIVE_EVERY_S, LIVE_SHARE * took)

    async def refresh_forever(self) -> None:
        while True:
            try:
                await self.refresh()
            except FilestoreError as err:
                _log.warning("gc.no_figures", error=str(err))
            await asyncio.sleep(EVERY_S)


@contextlib.asynccontextmanager
async def running_figures(db: Database, registry: CollectorRegistry) -> AsyncIterator[Figures]:
    """Shows the figures in ``registry`` while the block runs."""
    figures = Figures(db, GcMetrics(registry))
    background = asyncio.create_task(figures.refresh_forever())
    try:
        yield figures
    finally:
        await end(background)


def _seconds(instant: str) -> float:
    return dt.datetime.fromisoformat(instant).timestamp()
