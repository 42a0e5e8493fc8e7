"""The collector as a part of the service: it runs by itself, waits for the store, and stops."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from filestore import attaching
from filestore.app import ADMIN_TOKEN, Service, listening, make_service
from filestore.blocks.disk import DiskStore
from filestore.blocks.port import BlockKey
from filestore.errors import StoreUnavailable
from filestore.meta import gc_figures, leases
from filestore.meta.database import open_database
from filestore.meta.tables import blocks
from filestore.settings import Settings, load
from filestore_gc import Result
from filestore_gc.lease import NAME
from tests.http.api import Api
from tests.http.conftest import GROUP, Cast

FILE = f"/api/v1/groups/{GROUP}/files/a"
SOON = {"listen": "127.0.0.1:0", "gc.interval_s": 1, "gc.grace_s": 0}


def _objects(settings: Settings) -> list[Path]:
    folder = Path(settings.blocks_url.removeprefix("file:"))
    return [path for path in folder.glob("default/*/*") if path.is_file()]


async def _with_a_deleted_file(stack: AsyncExitStack, settings: Settings) -> Service:
    """A service with a block that nothing refers to any more."""
    service = await stack.enter_async_context(make_service(settings))
    url = await stack.enter_async_context(listening(service))
    session = await stack.enter_async_context(aiohttp.ClientSession())
    api = Api(session, url, (settings.server.data / ADMIN_TOKEN).read_text().strip())
    await api.post("/api/v1/groups", {"name": GROUP})
    assert (await api.put(FILE, data=b"y" * 1000)).status == 201
    assert (await api.delete(f"{FILE}?permanent=true")).status == 204
    return service


async def _last_result(service: Service) -> str | None:
    last = await service.services.db.read(lambda tx: leases.last_turn(tx, NAME))
    return None if last is None else last.result


async def test_what_is_deleted_is_collected_by_a_run_that_is_asked_for(
    cast: Cast, service: Service, settings: Settings
) -> None:
    assert (await cast.member.put(FILE, data=b"x" * 1000)).status == 201
    assert len(_objects(settings)) == 1
    assert (await cast.manager.delete(f"{FILE}?permanent=true")).status == 204

    waiting = await service.services.collector.run_once()
    assert (waiting.condemned, waiting.blocks) == (1, 0), "the grace is a day"
    report = await service.services.collector.run_once(grace_s=0)

    assert (report.result, report.blocks) == (Result.DONE, 1)
    assert _objects(settings) == []


async def test_it_runs_by_itself_and_stops_with_the_service(
    database_url: str, tmp_path: Path
) -> None:
    settings = load(flags={"data": tmp_path, "database": database_url} | SOON)
    async with AsyncExitStack() as stack:
        service = await _with_a_deleted_file(stack, settings)
        async with asyncio.timeout(20):
            while _objects(settings):
                await service.services.db.read(gc_figures.clock)
    assert repr(service.services.collector).endswith("free>>")


async def test_a_store_that_comes_late_lets_the_collector_begin_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away, opened = True, DiskStore.open

    async def open_if_there(store: DiskStore) -> None:
        if is_away:
            raise StoreUnavailable(reason="it is away")
        await opened(store)

    monkeypatch.setattr(DiskStore, "open", open_if_there)
    monkeypatch.setattr(attaching, "ATTACH_S", 0.05)
    async with make_service(load(flags={"data": tmp_path} | SOON)) as service:
        refused = await service.services.collector.run_once()
        assert refused.result is Result.FAILED
        assert refused.problem is not None and refused.problem.code == "store-unavailable"
        is_away = False
        async with asyncio.timeout(20):
            while await _last_result(service) != Result.NOTHING:
                continue


async def test_a_service_stops_in_time_while_the_store_does_not_answer_a_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never(_store: DiskStore, _keys: list[BlockKey]) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(DiskStore, "remove", never)
    settings = load(flags={"data": tmp_path} | SOON)
    async with AsyncExitStack() as stack:
        await _with_a_deleted_file(stack, settings)
        async with asyncio.timeout(20):
            await reached.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 8
    db = await open_database(settings.database_url)
    last = await db.read(lambda tx: leases.last_turn(tx, NAME))
    assert last is not None and (last.process_id, last.result) == (None, "stopped")
    assert await db.read(lambda tx: tx.scalar(sa.select(blocks.c.state))) == "deleting"
    await db.close()


async def test_its_figures_are_among_the_metrics_of_the_service(admin: Api) -> None:
    async with asyncio.timeout(20):
        text = ""
        while 'filestore_blocks{state="live"} 0.0' not in text:
            text = (await admin.get("/metrics")).body.decode()
    assert "filestore_gc_queue_blocks 0.0" in text
    assert 'filestore_gc_last_run_result{result="refused"} 0.0' in text
