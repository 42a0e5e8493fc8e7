"""Bringing what SQLite has written into its file, so that hardly anybody waits for the disk.

A checkpoint copies pages from the WAL into the file, and syncs that. SQLite would do it inside of
a commit, and syncing a thousand pages from all over a large file takes from 20 ms to seconds: for
so long nobody could write. So it goes in pieces here:

1. A reader keeps its view of the database. What is copied meanwhile ends where that begins, so
   the WAL is not done with, and SQLite leaves the file unsynced: it goes by memory.
2. The file is synced in a thread of ours, while others write.
3. When the WAL is long, 1 and 2 are done once more, for what has come meanwhile, and then the
   little that is left is copied and synced; so SQLite begins the WAL anew.
4. That fails where readers overlap without end. When the WAL is very long, new ones wait for the
   others, and for 3.

All of it is done by the one connection that writes: before 3.51.3 a checkpoint by another one
beside it may damage the WAL (sqlite.org/wal.html, "The WAL-reset bug").

SQLite takes for safe what 1 has copied. When the system then says that it could not write that to
the disk, nobody would copy it again, and the WAL would begin anew over it. So the process ends on
the spot, without the last checkpoint of an orderly end: SQLite copies all of a WAL that it finds.
A long one that a process left is copied before anybody reads.
"""

import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from filestore.meta.sqlite import Copied, checkpoint
from filestore.meta.turns import Gate, Turns, giving_way

EVERY: Final = 50
"""Commits from one copying to the next: of ten to a hundred pages each, so some thousand pages,
which take some milliseconds."""
LONG: Final = 4000
"""Pages in the WAL, 16 MB, from which on it is to begin anew."""
VERY_LONG: Final = 16_384
"""Pages in the WAL, 64 MiB, from which on readers are held up for that."""
EMPTY_S: Final = 0.1
"""How long those inside are waited for, and then the turn to write; new readers wait as long."""
REST_S: Final = 30.0
"""Before that is tried again when somebody stayed inside: doubled each time, up to ten minutes."""
MOST_REST_S: Final = 600.0
_PAGE: Final = 4096

_LOST: Final = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
"""Errors of a checkpoint behind which what was copied may be lost. Others changed nothing."""
QUIET_S: Final = 0.5
"""How long a copying waits for a commit behind its view. Where none comes nobody waits for it."""

T = TypeVar("T")

_flush: Final = getattr(os, "fdatasync", os.fsync)
_log: Final = structlog.get_logger("filestore.meta")


class Checkpoints:
    """Those of one SQLite file. :meth:`note` is told of each commit."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, turns: Turns) -> None:
        self._path = str(writer.url.database)
        self._writer = writer
        self._reader = reader
        self._turns = turns
        self._commits = 0
        self._committed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._fd = -1
        self._rest_s = REST_S
        self._not_before = 0.0
        self.gate = Gate()
        """What all who read go through."""
        self.done = 0
        """How often all of the WAL was in the file, so that it could begin anew."""

    def __repr__(self) -> str:
        return f"<Checkpoints, {self._commits} commits since one, {self.done} done>"

    def note(self) -> None:
        """There was a commit. Begins a checkpoint in the background when it is time for one."""
        self._commits += 1
        self._committed.set()
        if self._commits >= EVERY and (self._running is None or self._running.done()):
            self._commits = 0
            self._running = asyncio.create_task(self._run())

    async def begin(self) -> None:
        """Called before anybody reads: brings a long WAL that was left into the file."""
        if _size(f"{self._path}-wal") >= LONG * _PAGE:
            await self._guarded(self._copy_now())

    async def settled(self) -> None:
        """Returns when no checkpoint is under way."""
        if self._running is not None:
            await asyncio.wait((self._running,))

    async def end(self) -> None:
        """Breaks off what is under way. The WAL keeps what is not copied."""
        if self._running is not None:
            self._running.cancel()
            await self.settled()

    def close(self) -> None:
        """Called when all connections are closed: closing any descriptor of a file lets go of
        all locks that SQLite has on it in this process."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _run(self) -> None:
        await self._guarded(self._go())

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """It is tried again after as many commits; until then the WAL has everything."""
        try:
            await work
        except Unsynced as err:
            end_at_once(str(err))
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as err:
            _log.warning("sqlite.not_checkpointed", error=str(err), again_after_commits=EVERY)
        except Exception:
            _log.exception("sqlite.checkpoint_crashed")  # a defect, which must not be the last one

    async def _go(self) -> None:
        if self._fd < 0:  # before anything is copied: who opens it later may not be told of errors
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        pages = await self._copy_apart()
        if pages < LONG:
            return
        await self._copy_apart()  # what came during the sync: its own is short
        is_patient = pages < VERY_LONG or time.monotonic() < self._not_before
        rest = await (self._copy() if is_patient else self._copy_alone())
        self.done += rest.copied == rest.pages

    async def _copy_apart(self) -> int:
        """Copies and syncs what is in the WAL by now; how many pages are in it. Only for copying
        it takes a turn to write."""
        async with self._reader.connect() as view:
            await view.execute(sa.text("SELECT count(*) FROM instance"))
            self._committed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._committed.wait()
            there = await self._copy()
        await self._sync()
        return there.pages

    async def _copy_alone(self) -> Copied:
        """Copies all, while nobody reads what is not in the file yet. If somebody stays, that is
        not tried again for some time: others who read would hardly get in."""
        try:
            async with self.gate.shut(within_s=EMPTY_S):
                copied = await self._copy_now(within_s=EMPTY_S)
        except TimeoutError:
            self._not_before = time.monotonic() + self._rest_s
            _log.warning("sqlite.wal_is_long", reason="readers stay", again_in_s=self._rest_s)
            self._rest_s = min(2 * self._rest_s, MOST_REST_S)
            return await self._copy()
        self._rest_s = REST_S
        return copied

    async def _copy(self) -> Copied:
        with giving_way():
            return await self._copy_now()

    async def _copy_now(self, *, within_s: float | None = None) -> Copied:
        """Copies in its turn to write.

        :raises TimeoutError: somebody else had that for so long; who does may wait for us.
        """
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(within_s):
                await stack.enter_async_context(self._turns.turn())
            connection = await stack.enter_async_context(self._writer.connect())
            try:
                return await _outcome(checkpoint(connection))
            except sqlite3.OperationalError as err:
                if getattr(err, "sqlite_errorcode", 0) in _LOST:
                    raise Unsynced(str(err)) from err
                raise

    async def _sync(self) -> None:
        try:
            await _outcome(asyncio.to_thread(_flush, self._fd))
        except OSError as err:
            raise Unsynced(str(err)) from err


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


async def _outcome(work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to. Also when this is cancelled it waits for that, since a thread goes
    on in any case; a failure is told in place of the cancellation."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as err:
            cancelled = err
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


class Unsynced(Exception):
    """What SQLite takes for written may not be on the disk."""


def end_at_once(reason: str) -> NoReturn:
    """Ends the process as a crash would. What was acknowledged is in the WAL."""
    _log.critical("sqlite.not_synced", error=reason, act="the process ends; start it again")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
