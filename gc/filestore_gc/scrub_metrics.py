"""How the last scrub went and what all of them came to, for Prometheus."""

import datetime as dt
import json
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from filestore.meta.leases import LastTurn
from filestore_gc.scrub import ScrubResult


class ScrubMetrics:
    """The figures of scrub in one registry. Sums are over all runs, whoever did them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"filestore_scrub_{name}", what, labels, registry=registry)

        self._ended = gauge("last_run_timestamp_seconds", "When the last scrub, or portion, ended.")
        self._lasted = gauge("last_run_seconds", "How long it took.")
        self._result = gauge("last_run_result", "1 for how it ended, 0 for the rest.", "result")
        self._still_lost = gauge("last_run_still_lost", "Lost blocks that it found lost already.")
        self._oldest = gauge(
            "oldest_check_timestamp_seconds", "When the block was read that waits longest; 0: none."
        )
        self._sums = {
            "blocks": gauge("read_blocks", "Blocks read and verified so far."),
            "bytes": gauge("read_bytes", "Bytes read and verified so far."),
            "lost": gauge("lost_blocks", "Blocks found lost so far."),
            "revived": gauge("revived_blocks", "Lost blocks that read well again, so far."),
            "healed_references": gauge("healed_references", "References repointed so far."),
        }
        for result in ScrubResult:
            self._result.labels(result)

    def show(self, last: LastTurn | None, oldest_check: int | None) -> None:
        """The last run that ended; one that was broken off changes nothing."""
        self._oldest.set((oldest_check or 0) / 1e6)
        report: dict[str, Any] = {}
        if last is not None:
            report = json.loads(last.report or "null") or {}
        if not report:
            return
        for result in ScrubResult:
            self._result.labels(result).set(result == report["result"])
        began, ended = (_seconds(report[name]) for name in ("started_at", "ended_at"))
        self._ended.set(ended)
        self._lasted.set(ended - began)
        self._still_lost.set(report["still_lost"])
        for name, gauge in self._sums.items():
            gauge.set(report["totals"][name])


def _seconds(instant: str) -> float:
    return dt.datetime.fromisoformat(instant).timestamp()
