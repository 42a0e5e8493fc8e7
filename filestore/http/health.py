"""Whether the service lives, whether it can work, and its figures.

``/healthz`` says only that the process answers: who restarts on it must not restart because a
database is away. ``/readyz`` asks the database and the block store: who routes requests by it
sends them where they can be served.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import sqlalchemy as sa
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from filestore.errors import DatabaseUnavailable, FilestoreError, NotReady
from filestore.http.call import Answer, Call, Services, reply
from filestore.http.routing import Access, Route
from filestore.meta import leases
from filestore.meta.database import Tx
from filestore.meta.totals import Totals, read_totals
from filestore_gc import Result
from filestore_gc.lease import NAME

CHECK_TIMEOUT_S: Final = 5.0
"""Kubernetes and load balancers ask every 10 s; an answer later than this is a failure."""


KEEP_S: Final = 1.0
"""How long an answer of ``/readyz`` holds: shorter than anybody asks in earnest."""

FIGURES_S: Final = 5.0
"""How long sums over the database are shown; Prometheus asks every 15 s by default."""


class HealthAnswer(Answer):
    """``ok``, when it is."""

    status: str = "ok"


class CollectionRefused(Answer):
    """Why the last collection refused: a word, and a sentence."""

    code: str
    reason: str


class ReadyAnswer(HealthAnswer):
    """``collection`` is there only when the last one refused. Requests are served all the same,
    but nothing that is deleted is freed until somebody has looked at it."""

    collection: CollectionRefused | None = None


async def _alive(call: Call) -> web.Response:
    return reply(HealthAnswer())


class Readiness:
    """Asks database and store, once for all who want to know at the same time.

    Anybody may ask, and a store is asked by writing an object: so an answer holds for
    :data:`KEEP_S`, and who comes while one is being found waits for that one.
    """

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._turn = asyncio.Lock()
        self._failing: dict[str, str] = {}
        self._holds_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Readiness {self._failing or 'well'}>"

    async def failing(self) -> dict[str, str]:
        """What cannot be used, with the code of the error that says why; within 5 s."""
        async with self._turn:
            if self._clock() >= self._holds_until:
                self._failing = await self._ask_all()
                self._holds_until = self._clock() + KEEP_S
            return self._failing

    async def _ask_all(self) -> dict[str, str]:
        checks: dict[str, Awaitable[object]] = {
            "database": self._services.db.read(_ask),
            "store": self._services.store.check(),
        }
        async with asyncio.TaskGroup() as tasks:
            asked = {name: tasks.create_task(_failure(check)) for name, check in checks.items()}
        return {name: why for name, task in asked.items() if (why := task.result()) is not None}


READINESS: Final = web.AppKey("readiness", Readiness)


async def _ready(call: Call) -> web.Response:
    failing = await call.request.app[READINESS].failing()
    if failing:
        raise NotReady(failing=", ".join(failing), reasons={**failing}, retry_after_s=5)
    refusal = await _find_refusal(call)
    return reply(HealthAnswer() if refusal is None else ReadyAnswer(collection=refusal))


async def _find_refusal(call: Call) -> CollectionRefused | None:
    last = await call.services.db.read(partial(leases.last_turn, name=NAME))
    if last is None or last.result != Result.REFUSED:
        return None
    report = json.loads(last.report or "null") or {}
    return CollectionRefused.model_validate(report["problem"])


async def _ask(tx: Tx) -> None:
    await tx.execute(sa.select(1))


async def _failure(check: Awaitable[object]) -> str | None:
    """Why a check failed, as its error's code; None when it did not."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check
    except FilestoreError as err:
        return err.code
    except TimeoutError:
        return "timeout"
    return None


class WholeService:
    """Figures that the database has for all processes together, read again after a while.

    Whoever may read ``/metrics`` may read it often; two sums for each look would add up.
    """

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._turn = asyncio.Lock()
        self._holds_until = float("-inf")

    async def show(self) -> None:
        """Puts them into the registry; not a number while the database does not answer."""
        async with self._turn:
            if self._clock() < self._holds_until:
                return
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    found: Totals | None = await self._services.db.read(read_totals)
            except (DatabaseUnavailable, TimeoutError):
                found = None
            self._set(found)
            self._holds_until = self._clock() + FIGURES_S

    def _set(self, found: Totals | None) -> None:
        metrics, unknown = self._services.metrics, float("nan")
        metrics.groups.set(found.groups if found else unknown)
        metrics.uploads_open.set(found.uploads_open if found else unknown)
        metrics.uploads_open_bytes.set(found.uploads_received if found else unknown)
        for kind in ("limit", "used", "reserved"):
            value = getattr(found, kind) if found else unknown
            metrics.quota_bytes.labels(kind).set(value)


WHOLE: Final = web.AppKey("whole", WholeService)


async def _metrics(call: Call) -> web.Response:
    await call.request.app[WHOLE].show()
    body = generate_latest(call.services.metrics.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=_alive,
        access=Access.PUBLIC,
        summary="Whether the process answers",
        responses={200: HealthAnswer},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=_ready,
        access=Access.PUBLIC,
        summary="Whether the database and the block store can be used",
        responses={200: ReadyAnswer},
    ),
)

METRICS = Route(
    method="GET",
    path="/metrics",
    handler=_metrics,
    access=Access.ADMIN,
    summary="Figures for Prometheus",
    responses={200: "text/plain"},
)
