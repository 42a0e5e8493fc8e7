"""What the service says about itself: log lines and figures.

Logs are events with fields, never sentences with values inside, and never hold a token, a
key or a body. Each line of a request carries its id, which the client got as ``X-Request-ID``.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from filestore.ids import hide_tokens

_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
"""Edges of request times: from a read of one row to an upload's request of ten minutes."""


class Metrics:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "filestore_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "filestore_request_seconds",
            "Time from the end of a request's header to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests_running = Gauge(
            "filestore_requests_running",
            "Requests that are being answered now.",
            registry=self.registry,
        )
        self.groups = Gauge(
            "filestore_groups", "Groups of the whole service.", registry=self.registry
        )
        self.quota_bytes = Gauge(
            "filestore_quota_bytes",
            "Bytes of all quotas together: their limits, what is used, and what is reserved.",
            ("kind",),
            registry=self.registry,
        )
        self.uploads_open = Gauge(
            "filestore_uploads_open",
            "Uploads of the whole service that can go on.",
            registry=self.registry,
        )
        self.uploads_open_bytes = Gauge(
            "filestore_uploads_open_bytes", "Bytes that they have sent.", registry=self.registry
        )
        self.memory_bytes = Gauge(
            "filestore_memory_bytes",
            "Bytes of the memory budget that transfers of this process hold.",
            ("part",),
            registry=self.registry,
        )
        self.memory_limit_bytes = Gauge(
            "filestore_memory_limit_bytes",
            "Bytes that they may hold.",
            ("part",),
            registry=self.registry,
        )
        self.connections = Gauge(
            "filestore_connections", "Connections that are open now.", registry=self.registry
        )
        self.connections_refused = Counter(
            "filestore_connections_refused",
            "Connections that were refused because server.max_connections were open.",
            registry=self.registry,
        )

    def watch_memory(self, part: str, used: Callable[[], int], total: int) -> None:
        """Shows a part of the memory budget; ``used`` is asked at each look."""
        self.memory_bytes.labels(part).set_function(used)
        self.memory_limit_bytes.labels(part).set(total)


def _without_tokens(_logger: object, _method: str, line: Any) -> str:
    """The finished line; a token that was sent where none belongs may stand in a message."""
    return hide_tokens(str(line))


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["auto", "console", "json"],
) -> None:
    """Sends all logs of the process, structlog's and the standard library's, to standard error.

    Tracebacks come without local variables: those hold tokens, and take seconds to write out.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *ending,
                _without_tokens,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("alembic", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
