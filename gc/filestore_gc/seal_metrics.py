"""How far the journals of the quotas are sealed, for Prometheus."""

from prometheus_client import CollectorRegistry, Gauge

from filestore.meta.journal import SealFigures


class SealMetrics:
    """The figures of sealing in one registry, over all groups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"filestore_journal_{name}", what, registry=registry)

        self._unsealed = gauge("unsealed_rows", "Rows of journals that no seal covers yet.")
        self._oldest = gauge(
            "unsealed_oldest_timestamp_seconds", "When the oldest of them was written; 0: none."
        )
        self._unmarked = gauge(
            "unmarked_seals", "Seals whose heads do not lie outside of the database yet."
        )
        self._last = gauge("last_seal_timestamp_seconds", "When the newest seal was made; 0: none.")

    def show(self, found: SealFigures) -> None:
        self._unsealed.set(found.unsealed)
        self._oldest.set((found.oldest_at or 0) / 1e6)
        self._unmarked.set(found.unmarked)
        self._last.set((found.sealed_at or 0) / 1e6)
