"""A client and the server that it is tried against."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from filestore.client import Client, RetryPolicy
from tests.http.client.breaking_server import DATA, TOKEN, Fake, Pauses, written


@pytest.fixture
async def fake() -> Fake:
    return Fake()


@pytest.fixture
async def server(fake: Fake) -> AsyncIterator[TestServer]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    running = TestServer(app)
    await running.start_server()
    yield running
    await running.close()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(server: TestServer, pauses: Pauses, tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(
        str(server.make_url("/")),
        TOKEN,
        state_folder=tmp_path / "state",
        retry=RetryPolicy(pause=pauses),
        transfer_retry=RetryPolicy(attempts=6, pause=pauses),
    ) as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "big.bin", DATA)
