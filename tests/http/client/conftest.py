"""A client and the server that it is tried against."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
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
    app.router.add_route("*", "/{path:(?s:.*)}", fake.handle)
    running = TestServer(app)
    await running.start_server()
    yield running
    await running.close()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@dataclass
class Devices:
    """Makes clients of one server: other people's, and those of other devices."""

    url: str
    folder: Path
    pauses: Pauses

    def __call__(self, token: str = TOKEN, state: str = "state") -> Client:
        return Client(
            self.url,
            token,
            state_folder=self.folder / state,
            retry=RetryPolicy(pause=self.pauses),
            transfer_retry=RetryPolicy(attempts=6, pause=self.pauses),
        )


@pytest.fixture
def devices(server: TestServer, pauses: Pauses, tmp_path: Path) -> Devices:
    return Devices(str(server.make_url("/")), tmp_path, pauses)


@pytest.fixture
async def client(devices: Devices) -> AsyncIterator[Client]:
    async with devices() as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "big.bin", DATA)
