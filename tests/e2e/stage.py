"""What a test of the whole needs: servers on one backend, one group, and people to be.

Everything that a test starts ends with it, and its gigabytes go with it.
"""

import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.e2e import backends
from tests.e2e.backends import Backend
from tests.e2e.material import GIB, MIB
from tests.http.api import Api
from tests.services.server import Server

GROUP: Final = "lab"
OTHER_GROUP: Final = "office"
SIZE_VARIABLE: Final = "FILESTORE_E2E_SIZE"
"""Bytes of the large files, such as 256MiB. Not set: 1 GiB with ``-m e2e``."""

_UNITS: Final = {"": 1, "MiB": MIB, "GiB": GIB}


def full_size() -> int:
    """How large the large files are at full size."""
    found = re.fullmatch(r"([0-9]+)(MiB|GiB|)", os.environ.get(SIZE_VARIABLE, "1GiB"))
    assert found, f"{SIZE_VARIABLE} must be a size such as 256MiB"
    return int(found[1]) * _UNITS[found[2]]


SIZES: Final = (
    pytest.param(64 * MIB, id="small"),
    pytest.param(full_size(), id="full", marks=pytest.mark.e2e),
)
"""Parameters for the argument ``size`` of the main job's tests."""


class Stage:
    """Servers over one backend, in processes of their own; they share the data folder."""

    def __init__(self, backend: Backend, session: aiohttp.ClientSession) -> None:
        self.backend = backend
        self.session = session
        self.kind: type[Server] = Server
        self.servers: list[Server] = []

    def __repr__(self) -> str:
        return f"<Stage {self.backend.name}, {self.servers}>"

    @property
    def folder(self) -> Path:
        """A folder for the test's own files."""
        return self.backend.folder

    def server(
        self,
        *,
        blocks: str | None = None,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> Server:
        """A server that was not started yet. ``blocks`` None: those of the backend."""
        made = self.kind(
            self.folder / "data",
            database=self.backend.database,
            blocks=blocks or self.backend.blocks,
            port=port,
            settings=settings,
            environment=self.backend.environment,
        )
        self.servers.append(made)
        return made

    def admin(self, server: Server) -> Api:
        """The site admin, asking ``server`` as it runs now."""
        return Api(self.session, server.url, server.admin_token)

    async def open(
        self,
        *,
        quota: int = 100 * GIB,
        blocks: str | None = None,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> tuple[Server, Api]:
        """A running server with the group ``lab``, and its site admin."""
        server = self.server(blocks=blocks, port=port, settings=settings)
        server.start()
        api = self.admin(server)
        await make_group(api, GROUP, quota)
        return server, api

    def close(self) -> None:
        for server in self.servers:
            server.close()


async def make_group(api: Api, name: str, quota: int) -> None:
    """A new group, of which the caller is a manager."""
    made = await api.post("/api/v1/groups", {"name": name, "quota_bytes": quota})
    assert made.status == 201, made.body


async def quota_of(api: Api, group: str = GROUP) -> tuple[int, int]:
    """(used, reserved) of a group."""
    reply = await api.get(f"/api/v1/groups/{group}/quota")
    assert reply.status == 200, reply.body
    return reply.json["used_bytes"], reply.json["reserved_bytes"]


@pytest.fixture(params=backends.ALL)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Each of the three backends, fresh. Its folder goes with the test."""
    folder = tmp_path / "place"
    folder.mkdir()
    with backends.made(request.param, folder, request) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def stage(backend: Backend) -> AsyncIterator[Stage]:
    """Servers on ``backend``; their logs are shown with a test that failed."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # servers come and go
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Stage(backend, session)
        stack.callback(made.close)
        yield made
        if made.servers:
            sys.stderr.write(f"{made!r}\n{made.servers[-1].tail()}\n")
