"""How the last audit of quotas went, for Prometheus."""

import datetime as dt
import json
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from filestore.meta.audit_sums import NAMES
from filestore.meta.leases import LastTurn
from filestore_gc.audit_report import AuditResult


class AuditMetrics:
    """The figures of the audit of all accounts in one registry, whoever did it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"filestore_quota_{name}", what, labels, registry=registry)

        self._ended = gauge("audit_last_run_timestamp_seconds", "When the last audit ended.")
        self._lasted = gauge("audit_last_run_seconds", "How long it took.")
        self._result = gauge("audit_last_run_result", "1 for how it ended, else 0.", "result")
        self._accounts = gauge("audit_last_run_accounts", "Accounts that it looked at.")
        self._drifted = gauge("drift_accounts", "Accounts of which it found a difference.")
        self._bytes = gauge("drift_bytes", "Bytes by which they differed.", "figure")
        self._files = gauge("drift_files", "Files by which they differed.")
        for result in AuditResult:
            self._result.labels(result)
        for figure in NAMES[:2]:
            self._bytes.labels(figure)

    def show(self, last: LastTurn | None) -> None:
        """The last audit that ended; one that was broken off changes nothing."""
        report: dict[str, Any] = {}
        if last is not None:
            report = json.loads(last.report or "null") or {}
        if not report:
            return
        for result in AuditResult:
            self._result.labels(result).set(result == report["result"])
        began, ended = (_seconds(report[name]) for name in ("started_at", "verified_at"))
        self._ended.set(ended)
        self._lasted.set(ended - began)
        self._accounts.set(report["accounts"])
        self._drifted.set(report["drifted_accounts"])
        for figure in NAMES[:2]:
            self._bytes.labels(figure).set(report["drift"][figure])
        self._files.set(report["difference_files"])


def _seconds(instant: str) -> float:
    return dt.datetime.fromisoformat(instant).timestamp()
