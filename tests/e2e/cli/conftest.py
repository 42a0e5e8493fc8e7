"""A real server in a process of its own, and the command line in others."""

import asyncio
import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from filestore.cli.main import execute


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

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "FILESTORE_URL": self.url,
            "FILESTORE_TOKEN": self.token,
            "FILESTORE_STATE_DIR": str(self.state),
            "LC_ALL": "C.UTF-8",
            **self.more,
        }

    async def start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "filestore", *map(str, arguments)),
            env={**os.environ, **self._environment, "PYTHONPATH": _python_path()},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_heed_interrupts,
        )

    async def run(self, *arguments: str | Path) -> Outcome:
        """A command in this process: starting another takes longer than most commands."""
        return await asyncio.to_thread(self._execute, [str(argument) for argument in arguments])

    def _execute(self, arguments: list[str]) -> Outcome:
        out, err = _stream(), _stream()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            for name, value in self._environment.items():
                patch.setenv(name, value)
            code = execute(arguments)
        return Outcome(code, _written(out), _written(err))

    async def run_process(self, *arguments: str | Path) -> Outcome:
        """A command as the shell runs it."""
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


@dataclass
class Relay:
    """Passes connections on to a server, and stops when ``limit`` bytes went one way."""

    host: str
    port: int
    limit: int | None = None
    upwards: bool = True
    passed: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        there, back = await asyncio.open_connection(self.host, self.port)
        up = self._pass(reader, back, counted=self.upwards)
        down = self._pass(there, writer, counted=not self.upwards)
        await asyncio.gather(up, down)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
                self.passed += len(data) if counted else 0
                if self.limit is not None and self.passed > self.limit:
                    self.reached.set()
                    while await source.read(1 << 16):  # until that side is gone
                        pass
        except ConnectionError:
            return
        finally:
            sink.close()


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    """What a stream was given; bytes that are no text come as lone surrogates."""
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(errors="surrogateescape")


def _heed_interrupts() -> None:
    """A shell that runs the tests in the background makes its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _python_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and admin token of a server that all tests here share; groups keep them apart."""
    folder = tmp_path_factory.mktemp("server")
    log = folder / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "filestore", "serve"]
            + ["--data", str(folder / "data"), "--listen", "127.0.0.1:0"],
            env={**os.environ, "PYTHONPATH": _python_path()},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        token = (folder / "data" / "admin.token").read_text().strip()
        yield line.removeprefix("listening on ").strip(), token
        process.terminate()


@pytest.fixture
def admin(server: tuple[str, str], tmp_path: Path) -> Cli:
    """The command line of the site admin."""
    here = tmp_path / "here"
    here.mkdir()
    return Cli(*server, tmp_path / "state", here)


@pytest.fixture
async def team(admin: Cli) -> str:
    """A fresh group of 1 GiB."""
    name = f"team-{secrets.token_hex(4)}"
    await admin.json("group", "create", name, "--quota", "1GiB")
    return name


@pytest.fixture
async def relay(admin: Cli) -> AsyncIterator[Relay]:
    """A way to the server that can stop; ``admin`` goes over it."""
    there = URL(admin.url)
    assert there.host is not None and there.port is not None
    made = Relay(there.host, there.port)
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    admin.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield made
    listener.close()
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
