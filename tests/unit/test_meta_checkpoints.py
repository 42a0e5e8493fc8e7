"""SQLite's WAL goes into the file beside the writers, begins anew, and loses nothing."""

import asyncio
import contextlib
import errno
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog.testing
from sqlalchemy.ext.asyncio import AsyncConnection

from filestore.meta import checkpoints, sqlite
from filestore.meta.checkpoints import VERY_LONG, Checkpoints
from filestore.meta.database import Database, Tx, open_database
from filestore.meta.tables import domains
from filestore.meta.turns import Gate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filestore.sqlite3"


@pytest.fixture
async def db(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(checkpoints, "EVERY", 5)
    monkeypatch.setattr(checkpoints, "LONG", 40)
    monkeypatch.setattr(checkpoints, "QUIET_S", 0.01)
    opened = await open_database(f"sqlite+aiosqlite:///{path}")
    yield opened
    await opened.close()


def _of(db: Database) -> Checkpoints:
    assert db._checkpoints is not None
    return db._checkpoints


async def _write_until_done(db: Database, times: int, first: int = 0) -> int:
    """Writes until the WAL has been copied to its end so often; the number of the next commit."""
    while _of(db).done < times:
        await _write(db, range(first, first + 10))
        first += 10
    return first


async def _write(db: Database, numbers: range) -> None:
    for number in numbers:
        rows = [{"id": f"{number}-{row}"} for row in range(10)]
        await db.transact(lambda tx, rows=rows: tx.execute(domains.insert(), rows))  # type: ignore[misc]


@contextlib.asynccontextmanager
async def _reading(db: Database) -> AsyncIterator[None]:
    """Somebody reads, with a view from before the block until its end."""
    inside, over = asyncio.Event(), asyncio.Event()

    async def look(tx: Tx) -> None:
        await tx.execute(sa.select(domains).limit(1))
        inside.set()
        await over.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(db.read(look))
        await inside.wait()
        yield
        over.set()


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _size(path: Path) -> int:
    return path.stat().st_size


def _times_begun(wal: Path) -> int:
    """How often it began anew. Source: sqlite.org/fileformat2.html, section 4.1."""
    return int.from_bytes(wal.read_bytes()[12:16], "big")


def _count(path: Path) -> int:
    """Of the rows, by a connection of its own; the file must be whole."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (count,) = connection.execute("SELECT count(*) FROM domains").fetchone()
    connection.close()
    return int(count)


async def test_the_wal_begins_anew_while_there_is_writing(db: Database, path: Path) -> None:
    commits = await _write_until_done(db, 3)
    await _of(db).settled()
    await _write(db, range(commits, commits + 1))
    assert _times_begun(path.with_name(path.name + "-wal")) >= 2
    assert _count(path) == (commits + 1) * 10


async def test_the_pages_get_into_the_file_without_it(
    db: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LONG", VERY_LONG)
    before = _size(path)
    await _write(db, range(100))
    await _of(db).settled()
    assert _of(db).done == 0
    assert _size(path) > before
    assert _count(path) == 1000


async def test_beside_a_view_that_is_older_sqlite_leaves_the_end_and_so_the_sync(
    db: Database,
) -> None:
    """SQLite syncs the file only where it has copied the WAL to its end."""
    async with db._reader.connect() as view:
        await view.execute(sa.select(domains))
        await _write(db, range(1))
        some = await _of(db)._copy()
        assert some.copied < some.pages
    rest = await _of(db)._copy()
    assert rest.copied == rest.pages == some.pages


async def test_it_goes_on_where_nobody_writes_any_more(db: Database) -> None:
    await _write(db, range(6))
    async with asyncio.timeout(20):
        await _of(db).settled()


async def test_one_under_way_holds_up_neither_the_end_nor_a_writer(
    db: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "QUIET_S", 3600)
    await _write(db, range(5))  # the last of them begins one, which waits for the next commit
    async with asyncio.timeout(20):
        await db.transact(lambda tx: tx.execute(domains.insert().values(id="more")))
        await db.close()
    assert _count(path) == 51


async def test_one_that_fails_is_said_and_done_again(
    db: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_connection: object) -> sqlite.Copied:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(checkpoints, "checkpoint", full)
    with structlog.testing.capture_logs() as logs:
        await _write(db, range(20))
        await _of(db).settled()
    assert {log["event"] for log in logs} == {"sqlite.not_checkpointed"}
    monkeypatch.setattr(checkpoints, "checkpoint", sqlite.checkpoint)
    commits = await _write_until_done(db, 1, first=20)
    assert _count(path) == commits * 10


async def test_no_commit_copies_or_syncs(db: Database) -> None:
    async def limit(tx: Tx) -> int:
        return int(await tx.scalar(sa.text("PRAGMA wal_autocheckpoint")) or 0)

    assert await db.transact(limit) == 0


async def test_overlapping_readers_are_held_up_for_a_wal_that_is_very_long(
    db: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "VERY_LONG", 40)
    over = asyncio.Event()

    async def look(tx: Tx) -> None:
        await tx.execute(sa.select(domains).limit(1))
        await asyncio.sleep(0.01)
        await tx.execute(sa.select(domains).limit(1))

    async def read() -> int:
        times = 0
        while not over.is_set():
            await db.read(look)
            times += 1
        return times

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read()) for _ in range(3)]
        commits = await _write_until_done(db, 3)
        over.set()
    assert all(reader.result() for reader in readers)
    assert _times_begun(path.with_name(path.name + "-wal")) >= 2
    await _of(db).settled()
    assert _count(path) == commits * 10


async def test_a_reader_that_stays_is_not_waited_for_without_end(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EMPTY_S", 0.05)
    await _write(db, range(3))
    async with _reading(db):
        await _write(db, range(3, 4))
        some = await _of(db)._copy_alone()
        assert some.copied < some.pages
        await db.read(lambda tx: tx.execute(sa.select(domains).limit(1)))


async def test_who_reads_in_its_turn_to_write_is_not_waited_for_without_end(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EMPTY_S", 0.05)
    copying: list[asyncio.Task[sqlite.Copied]] = []

    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id="one"))
        copying.append(asyncio.create_task(_of(db)._copy_alone()))
        while _of(db).gate._is_open.is_set():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0)
        await db.read(lambda tx: tx.execute(sa.select(domains).limit(1)))

    async with asyncio.timeout(20):
        await db.transact(act)
        await copying[0]


async def test_while_a_reader_stays_others_are_held_up_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "VERY_LONG", 40)
    shut: list[float] = []
    shutting = Gate.shut

    def noted(self: Gate, *, within_s: float) -> contextlib.AbstractAsyncContextManager[None]:
        shut.append(within_s)
        return shutting(self, within_s=within_s)

    monkeypatch.setattr(Gate, "shut", noted)
    async with _reading(db):
        for first in range(0, 200, 10):
            await _write(db, range(first, first + 10))
            await _of(db).settled()
    assert len(shut) == 1
    assert "shut" not in repr(_of(db).gate)


async def test_a_wal_that_others_left_is_brought_in_before_anybody_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LONG", 40)
    sizes = []
    for life in range(4):
        db = await open_database(f"sqlite+aiosqlite:///{path}")
        await _write(db, range(40 * life, 40 * life + 40))
        sizes.append(_size(path.with_name(path.name + "-wal")))
        left = path.with_name(f"left-{life}.sqlite3")
        for suffix in ("", "-wal"):  # as a crash leaves it
            left.with_name(left.name + suffix).write_bytes(
                _bytes(path.with_name(path.name + suffix))
            )
        await db.close()
        path = left
    assert max(sizes) < 2 * sizes[0]
    assert _count(path) == 1600


@pytest.mark.parametrize("during", ["sync", "checkpoint"])
async def test_a_failure_is_told_also_to_who_was_told_to_end(
    db: Database, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    died: list[str] = []
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(checkpoints, "end_at_once", died.append)

    def broken(*_of: object) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)
        raise OSError(errno.EIO, "Input/output error")

    async def broken_checkpoint(_connection: AsyncConnection) -> sqlite.Copied:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(broken)
        raise _fsync_error()

    if during == "sync":
        monkeypatch.setattr(checkpoints, "_flush", broken)
    else:
        monkeypatch.setattr(checkpoints, "checkpoint", broken_checkpoint)
    await _write(db, range(6))
    await begun.wait()
    ending = asyncio.create_task(_of(db).end())
    await asyncio.sleep(0)
    go.set()
    await ending
    assert len(died) == 1


@pytest.mark.parametrize("fails", ["sync", "checkpoint"])
async def test_after_a_write_that_was_lost_the_process_ends_and_the_wal_has_all(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The file is put back as it was: as after a write-back that failed once, and is forgotten."""
    died = asyncio.Event()
    monkeypatch.setattr(checkpoints, "EVERY", 5)
    monkeypatch.setattr(checkpoints, "QUIET_S", 0.01)
    monkeypatch.setattr(checkpoints, "end_at_once", lambda _reason: died.set())
    db = await open_database(f"sqlite+aiosqlite:///{path}")
    await _write(db, range(20))
    await _of(db).settled()
    before = _bytes(path)

    if fails == "sync":
        monkeypatch.setattr(checkpoints, "_flush", _broken)
    else:
        monkeypatch.setattr(checkpoints, "checkpoint", _broken_checkpoint)
    await _write(db, range(20, 40))
    async with asyncio.timeout(20):
        await died.wait()
    left = tmp_path / "left"
    left.mkdir()
    (left / path.name).write_bytes(before)
    wal = path.with_name(path.name + "-wal")
    (left / wal.name).write_bytes(_bytes(wal))
    connection = sqlite3.connect(left / path.name)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM domains").fetchone() == (400,)
    connection.close()
    await db.close()


def _broken(_fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def _broken_checkpoint(connection: AsyncConnection) -> sqlite.Copied:
    await sqlite.checkpoint(connection)
    raise _fsync_error()


def _fsync_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return error


def test_it_ends_as_a_crash_would() -> None:
    code = """
from filestore.meta.checkpoints import end_at_once
try:
    end_at_once("it broke")
finally:
    print("in order")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "it broke" in ended.stdout + ended.stderr and "in order" not in ended.stdout
