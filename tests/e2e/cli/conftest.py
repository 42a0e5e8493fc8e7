"""A real server in a process of its own, and the command line in others."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_START_S = 30


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        return json.loads(self.err.splitlines()[-1])


@dataclass
class Cli:
    """``filestore`` with one user's environment."""

    url: str
    token: str
    state: Path
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    async def start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "filestore", *map(str, arguments)),
            env={
                **os.environ,
                "FILESTORE_URL": self.url,
                "FILESTORE_TOKEN": self.token,
                "FILESTORE_STATE_DIR": str(self.state),
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                **self.more,
            },
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str | Path) -> Outcome:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())

    async def json(self, *arguments: str | Path) -> Any:
        """The document that a command gives, which must succeed."""
        outcome = await self.run(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        return outcome.document

    def as_user(self, token: str) -> "Cli":
        return Cli(self.url, token, self.state, self.folder, self.more)


async def _start_server(data: Path, log: Path) -> tuple[asyncio.subprocess.Process, str]:
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "filestore", "serve"),
            *("--data", str(data), "--listen", "127.0.0.1:0"),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    async with asyncio.timeout(_START_S):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("listening on "), log.read_text()
    return process, line.removeprefix("listening on ").strip()


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Cli]:
    """The command line of the site admin of a fresh server."""
    data = tmp_path / "data"
    process, url = await _start_server(data, tmp_path / "server.log")
    here = tmp_path / "here"
    here.mkdir()
    try:
        yield Cli(url, (data / "admin.token").read_text().strip(), tmp_path / "state", here)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


@dataclass
class Relay:
    """Passes connections on to a server, and stops when so many bytes went one way."""

    host: str
    port: int
    limit: int | None = None
    upwards: bool = True
    passed: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, back, counted=self.upwards))
            group.create_task(self._pass(there, writer, counted=not self.upwards))

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
                if counted and self.limit is not None:
                    self.passed += len(data)
                    if self.passed > self.limit:
                        self.reached.set()
                        await asyncio.Event().wait()
        except ConnectionError:
            return
        finally:
            sink.close()
