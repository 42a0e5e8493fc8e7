"""One service for all tests of a file, and files to upload to it."""

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from filestore.settings import Settings, load
from tests.clients.node import node_modules
from tests.protocol.conftest import Site, site
from tests.services.needs import find_program

__all__ = ["node_modules", "site"]

_HERE = Path(__file__).parent
_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """SQLite and a folder: which store it is, clients cannot tell."""
    yield load(
        flags={
            "data": tmp_path_factory.mktemp("data"),
            "listen": "127.0.0.1:0",
            "server.shutdown_s": 1,
            "gc.interval_s": 86_400,
        }
    )


@dataclass(frozen=True)
class Source:
    """A file on the client's side."""

    path: Path
    data: bytes

    @classmethod
    def make(cls, folder: Path, size: int, name: str = "source.bin") -> "Source":
        data = random.Random(size).randbytes(size)
        path = folder / name
        path.write_bytes(data)
        return cls(path, data)


@dataclass(frozen=True)
class Job:
    """What clients are told to do, for the user of ``site``, through ``url``."""

    site: Site
    url: str
    source: Source

    def told(self, **more: object) -> dict[str, object]:
        return {
            "endpoint": f"{self.url}{self.site.collection}",
            "token": self.site.token,
            "path": str(self.source.path),
            **more,
        }

    async def tus_js(self, modules: Path, **more: object) -> dict[str, Any]:
        """Runs tus-js-client; ``more`` as ``tus_js.cjs`` takes it."""
        node = find_program("node")
        assert node is not None
        command = [str(node), str(_HERE / "tus_js.cjs")]
        return await _run(command, self.told(**more), {"NODE_PATH": str(modules)})

    async def tuspy(self, **more: object) -> dict[str, Any]:
        """Runs tuspy; ``more`` as ``tuspy_job.py`` takes it."""
        return await _run([sys.executable, str(_HERE / "tuspy_job.py")], self.told(**more), {})


async def _run(
    command: list[str], job: dict[str, object], environment: dict[str, str]
) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=os.environ | environment
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate(json.dumps(job).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found
