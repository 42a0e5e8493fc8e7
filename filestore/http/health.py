"""Whether the service lives, whether it can work, and its figures.

``/healthz`` says only that the process answers: who restarts on it must not restart because a
database is away. ``/readyz`` asks the database and the block store: who routes requests by it
sends them where they can be served.
"""

import asyncio
import json
from collections.abc import Awaitable
from functools import partial
from typing import Final

import sqlalchemy as sa
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from filestore.errors import FilestoreError, NotReady
from filestore.http.call import Answer, Call, reply
from filestore.http.routing import Access, Route
from filestore.meta import leases
from filestore.meta.database import Tx
from filestore_gc import Result
from filestore_gc.lease import NAME

CHECK_TIMEOUT_S: Final = 5.0
"""Kubernetes and load balancers ask every 10 s; an answer later than this is a failure."""


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


async def _ready(call: Call) -> web.Response:
    services = call.services
    checks: dict[str, Awaitable[object]] = {
        "database": services.db.read(_ask),
        "store": services.store.check(),
    }
    async with asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(_failure(check)) for name, check in checks.items()}
    failing = {name: why for name, task in asked.items() if (why := task.result()) is not None}
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


async def _metrics(call: Call) -> web.Response:
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
