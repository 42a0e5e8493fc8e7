"""What waits for webhooks, and what came of the attempts, for Prometheus."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from filestore.meta.deliveries import Figures, Outcome
from filestore.model import DeliveryState

_RESULTS: Final = {
    DeliveryState.DONE: "done",
    DeliveryState.WAITING: "again",
    DeliveryState.FAILED: "failed",
}


class HookMetrics:
    """The figures of webhooks in one registry; attempts are those of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"filestore_{name}", what, labels, registry=registry)

        self._waiting = gauge("webhook_deliveries_waiting", "Deliveries that are not over.")
        self._oldest = gauge(
            "webhook_deliveries_oldest_timestamp_seconds",
            "Since when the oldest of them waits; 0: none.",
        )
        self._webhooks = gauge("webhooks", "Webhooks, by how they are.", "state")
        self._attempts = Counter(
            "filestore_webhook_attempts",
            "Messages that were sent, by result: done, again (later), failed (for good).",
            ("result",),
            registry=registry,
        )
        for result in _RESULTS.values():
            self._attempts.labels(result)

    def count(self, outcome: Outcome) -> None:
        """One attempt more."""
        self._attempts.labels(_RESULTS[outcome.state]).inc()

    def show(self, found: Figures) -> None:
        """What waits now, in the whole service."""
        self._waiting.set(found.waiting)
        self._oldest.set((found.oldest_at or 0) / 1e6)
        self._webhooks.labels("well").set(found.enabled - found.failing)
        self._webhooks.labels("failing").set(found.failing)
        self._webhooks.labels("disabled").set(found.disabled)
