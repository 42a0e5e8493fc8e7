"""What webhooks cost: nothing for who has none, and no walk over what waits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import Engine

from filestore.acts import webhooks as acts
from filestore.hooks import worker
from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.metrics import HookMetrics
from filestore.meta import deliveries
from filestore.meta.database import Tx
from filestore.meta.deliveries import Outcome
from filestore.meta.log import emit
from filestore.meta.tables import now_us
from filestore.model import Actor, DeliveryState
from tests.services.hot_path import Process, Site

LEASE_US: Final = 30_000_000


@pytest.fixture
async def at(any_site: Site) -> Process:
    return await any_site.start()


@contextmanager
def _sent() -> Iterator[list[tuple[str, Any]]]:
    """The statements that are sent to any database meanwhile, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(Engine, "before_cursor_execute", note)


async def test_an_upload_without_webhooks_pays_no_round_trip_for_them(at: Process) -> None:
    with _sent() as sent:
        await at.upload(b"x" * 1000, "a")
    ours = [text for text, _ in sent if " events" in text or "webhook" in text]
    assert len(ours) == 1, ours


async def test_taking_and_recording_walk_through_no_table(at: Process) -> None:
    hook = await acts.create(
        at.db, Actor(None, None, None), None, "https://a.example/", "whsec_AAAA", ["*"]
    )

    async def happen(tx: Tx) -> None:
        for _ in range(50):
            await emit(tx, "file.written", {})

    async def send(tx: Tx) -> None:
        claim = await deliveries.claim(tx, now_us(), LEASE_US, healthy_only=False)
        assert claim is not None and claim.webhook_id == hook.id
        outcome = Outcome(DeliveryState.DONE, 200, None, 1)
        assert not await acts.settle(tx, claim, outcome, now=now_us(), disable_after_us=1)

    await at.db.transact(happen)
    with _sent() as sent:
        assert await at.db.read(partial(deliveries.has_due, now=now_us()))
        await at.db.transact(send)
    for statement, parameters in sent:
        if not statement.startswith("BEGIN"):
            plan = await _plan(at, statement, parameters)
            assert "Seq Scan on webhook_deliveries" not in plan, f"{statement}\n{plan}"
            assert "SCAN webhook_deliveries" not in plan, f"{statement}\n{plan}"
            assert "TEMP B-TREE" not in plan or "webhooks" in statement, f"{statement}\n{plan}"


async def _plan(at: Process, statement: str, parameters: Any) -> str:
    async def explain(tx: Tx) -> str:
        if not at.db.is_sqlite:
            await tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
        words = "EXPLAIN QUERY PLAN" if at.db.is_sqlite else "EXPLAIN"
        rows = await tx.exec_driver_sql(f"{words} {statement}", parameters)
        return "\n".join(row[-1] for row in rows)

    return await at.db.read(explain)


async def test_a_defect_while_tidying_does_not_end_it_for_ever(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox would grow without bound, and nobody would be told."""
    monkeypatch.setattr(worker, "FIGURES_S", 0)
    rounds = asyncio.Queue[int]()

    class Broken(worker.Hooks):
        async def show_figures(self) -> None:
            rounds.put_nowait(1)
            raise ZeroDivisionError

    hooks = Broken(at.db, worker.Tuning(AddressPolicy()), HookMetrics(CollectorRegistry()))
    house = asyncio.create_task(hooks.keep_house())
    async with asyncio.timeout(10):
        for _ in range(2):
            await rounds.get()
    house.cancel()
    await asyncio.wait([house])
    assert house.cancelled()
