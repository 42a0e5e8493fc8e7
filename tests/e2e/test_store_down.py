"""The block store is away: when the service starts, and in the middle of an upload."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e import backends, tus
from tests.e2e.backends import Backend
from tests.e2e.material import MIB, Material
from tests.e2e.outage import mortal
from tests.e2e.stage import GROUP, Stage, make_group, quota_of
from tests.http.api import Api, Reply
from tests.services.postgres import PostgresService
from tests.services.server import Server

PATIENCE_S = 60
SETTINGS = {"blocks.retries": 1, "blocks.request_timeout_s": 10}


class Breakable(Protocol):
    """A store that can go away and come back with all that it had."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


class _Unmounted:
    """The folder of the blocks is gone, as that of a disk that is not mounted."""

    def __init__(self, blocks: Path) -> None:
        self._blocks = blocks
        self._away = blocks.with_name("blocks.away")

    def begin(self) -> None:
        if self._blocks.exists():
            self._blocks.rename(self._away)
        self._blocks.write_text("no folder")

    def end(self) -> None:
        self._blocks.unlink()
        if self._away.exists():
            self._away.rename(self._blocks)


@pytest.fixture(params=backends.ALL)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Breakable]]:
    """A backend with a store of its own, and what breaks it."""
    folder = tmp_path / "place"
    folder.mkdir()
    if request.param == backends.DISK:
        (folder / "data").mkdir()
        yield Backend(request.param, folder), _Unmounted(folder / "data" / "blocks")
        return
    postgres: PostgresService = request.getfixturevalue("postgres_service")
    url = postgres.make_database()
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, url)
        outage = stack.enter_context(mortal(request.param.removeprefix("postgres-")))
        yield Backend(request.param, folder, url, outage.service), outage


@pytest.fixture
def backend(broken: tuple[Backend, Breakable]) -> Backend:
    return broken[0]


@pytest.fixture
def store(broken: tuple[Backend, Breakable]) -> Breakable:
    return broken[1]


async def test_a_store_that_is_down_at_start_is_waited_for(stage: Stage, store: Breakable) -> None:
    store.begin()
    server = stage.server(settings=SETTINGS)
    server.start()
    api = stage.admin(server)
    assert (await api.get("/healthz")).status == 200
    await _assert_not_ready(api)
    assert "store.unreachable" in server.log and "Traceback" not in server.log

    await make_group(api, GROUP, 10 * MIB)
    material = Material("early", 3 * MIB)
    upload = await tus.begin(api, GROUP, "early.bin", material)
    await _assert_unavailable(api, upload, material, 0)
    assert await tus.offset_of(api, upload) == 0

    store.end()
    await _readiness(api, 200)
    assert (await tus.patch(api, upload, material, 0)).status == 204
    await tus.assert_equal(api, GROUP, "early.bin", material)
    assert await quota_of(api) == (material.size, 0)


async def test_a_store_that_goes_down_loses_nothing_and_uploads_go_on(
    stage: Stage, store: Breakable
) -> None:
    server, api = await stage.open(settings=SETTINGS)
    material = Material("outage", 40 * MIB)
    finished = Material("finished", MIB)
    await tus.upload(api, GROUP, "finished.bin", finished)
    upload = await tus.begin(api, GROUP, "outage.bin", material)

    async with tus.SlowPatch(api, upload, 0, material.size) as patch:
        await patch.feed(material, 0, 24 * MIB)
        promised = await tus.wait_for_offset(api, GROUP, upload, 8 * MIB)
        store.begin()
        await _feed_what_is_taken(patch, material, 24 * MIB)
        status, headers = await patch.answer()
    assert (status, int(headers["retry-after"]) > 0) == (503, True)
    await _assert_not_ready(api)
    offset = await tus.offset_of(api, upload)
    assert promised <= offset < material.size
    assert await quota_of(api) == (finished.size, material.size)
    await _assert_unavailable(api, upload, material, offset)

    store.end()
    await _readiness(api, 200)
    assert await tus.offset_of(api, upload) == offset
    assert (await tus.patch(api, upload, material, offset)).status == 204
    await tus.assert_equal(api, GROUP, "outage.bin", material)
    await tus.assert_equal(api, GROUP, "finished.bin", finished)
    assert await quota_of(api) == (material.size + finished.size, 0)
    _assert_no_crash(server)


async def _assert_not_ready(api: Api) -> None:
    reply = await _readiness(api, 503)
    assert reply.code == "not-ready"
    assert reply.json["failing"] == "store"
    assert int(reply.headers["Retry-After"]) > 0


async def _readiness(api: Api, status: int) -> Reply:
    """Waits until ``/readyz`` answers with this status."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reply = await api.get("/readyz")
            if reply.status == status:
                return reply
            await asyncio.sleep(0.1)


async def _assert_unavailable(api: Api, upload: str, material: Material, begin: int) -> None:
    """Bytes are refused for now, not for good."""
    reply = await tus.patch(api, upload, material, begin)
    assert (reply.status, reply.code) == (503, "store-unavailable"), reply.body
    assert int(reply.headers["Retry-After"]) > 0


async def _feed_what_is_taken(patch: tus.SlowPatch, material: Material, begin: int) -> None:
    """Sends the rest to a server that may stop reading it."""
    try:
        await patch.feed(material, begin, material.size)
    except ConnectionError:
        return


def _assert_no_crash(server: Server) -> None:
    assert "request.crashed" not in server.log
