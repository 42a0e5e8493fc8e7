"""The one way to the database: whole transactions that are retried whole, and reads.

PostgreSQL runs READ COMMITTED with the explicit locks that the queries name. SQLite has one
process (held by a lock file), one writing connection whose transactions begin IMMEDIATE,
and readers that cannot write. Foreign exceptions do not leave this module, except
:class:`sqlalchemy.exc.IntegrityError` for callers that name the constraint they expect.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolResetState

from filestore.errors import BadSetting, CannotStart, DatabaseUnavailable
from filestore.meta.checkpoints import Checkpoints
from filestore.meta.sqlite import BEGIN, connect_in_one_hop, run_at_once
from filestore.meta.tables import metadata
from filestore.meta.turns import Turns

T = TypeVar("T")
Tx = AsyncConnection
"""A connection inside a transaction. Who gets one never commits or rolls back itself."""

ATTEMPTS: Final = 8
"""Tries of a transaction that meets a deadlock: with waits that double from 5 ms, about 1 s."""
_RETRY_STATES: Final = frozenset({"40001", "40P01", "55P03"})
_AWAY_CLASSES: Final = frozenset({"08", "28", "3D", "53", "57", "58"})
"""Classes of SQLSTATE in which the server answers that it cannot serve: connections, log-in,
no such database, resources (also a full disk), shutting down or starting, its own system.
Source: PostgreSQL documentation, appendix A."""
_END_S: Final = 5.0
"""How long a cancelled transaction may take to its end; all of ours take milliseconds."""
_READERS: Final = 4
"""Readers of SQLite: as many as the threads that serve them can keep busy."""
_MIGRATION_LOCK: Final = 0x66696C6573746F72  # "filestor": names the advisory lock


class LateRefusal(Exception):
    """Ends an act with an error whose members take a while to look up.

    ``explain`` is asked in a read, when the act's transaction is rolled back and its locks are
    gone; what it returns is raised. So whoever is refused keeps nobody waiting.
    """

    def __init__(self, explain: Callable[[Tx], Awaitable[Exception]]) -> None:
        super().__init__(explain)
        self.explain = explain


class Database:
    """An open database. Make one with :func:`open_database`."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, lock: "_LockFile | None") -> None:
        self._writer = writer
        self._reader = reader
        self._lock_file = lock
        self._turns = None if lock is None else Turns()
        self._checkpoints = (
            None if self._turns is None else Checkpoints(writer, reader, self._turns)
        )

    def __repr__(self) -> str:
        return f"<Database {self._writer.url.render_as_string(hide_password=True)}>"

    @property
    def is_sqlite(self) -> bool:
        return self._lock_file is not None

    async def transact(self, act: Callable[[Tx], Awaitable[T]], *, at_once: bool = False) -> T:
        """What ``act`` returns, committed. All or nothing; durable when this returns.

        When this is cancelled, its outcome is unknown: on SQLite it goes on to its end.

        ``at_once``: ``act`` awaits nothing but statements of its transaction, and touches nothing
        that others change meanwhile. Then SQLite runs it whole in its thread, and the turn to
        write is held only while it works.

        ``act`` may run several times: on a deadlock or a serialization failure the whole
        transaction begins again, so it must change nothing but the database.

        :raises IntegrityError: a constraint refused it; nothing is changed.
        :raises DatabaseUnavailable: no answer. If it came while committing, the outcome is
            unknown; every act here is guarded, so that repeating it is safe.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._try(act, at_once=at_once)
            except IntegrityError:
                raise
            except LateRefusal as refusal:
                raise await self.read(refusal.explain) from None
            except (DBAPIError, OSError, sa.exc.TimeoutError) as err:
                if not _is_contention(err):
                    raise _unavailable(err) from err
                if attempt == ATTEMPTS:
                    raise DatabaseUnavailable(retry_after_s=5) from err
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise AssertionError("unreachable")

    async def read(self, look: Callable[[Tx], Awaitable[T]]) -> T:
        """What ``look`` returns, from one read transaction that ends before this returns.

        :raises DatabaseUnavailable: no answer. Safe to retry.
        """
        checkpoints = self._checkpoints
        try:
            async with (
                contextlib.nullcontext() if checkpoints is None else checkpoints.gate.inside()
            ):
                async with self._reader.connect() as connection:
                    return await look(connection)
        except (DBAPIError, OSError, sa.exc.TimeoutError) as err:
            raise _unavailable(err) from err

    def make_unpooled(self) -> AsyncEngine:
        """An engine on the same database whose connections are its caller's, outside of the pool;
        for one that stays open and waits. The caller disposes of it."""
        return create_async_engine(self._writer.url, poolclass=sa.pool.NullPool)

    async def settle(self) -> None:
        """Called before anybody reads: brings what processes before have left into the file."""
        if self._checkpoints is not None:
            await self._checkpoints.begin()

    async def close(self) -> None:
        """Closes every connection and lets go of the lock file."""
        if self._checkpoints is not None:
            await self._checkpoints.end()
        await self._reader.dispose()
        if self._writer is not self._reader:
            await self._writer.dispose()  # the last connection: what the WAL has goes into the file
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._lock_file is not None:
            self._lock_file.release()

    async def _try(self, act: Callable[[Tx], Awaitable[T]], *, at_once: bool) -> T:
        if self._turns is None or self._checkpoints is None:
            return await self._attempt(act)
        async with self._turns.turn():
            result = await _to_its_end(
                self._attempt_at_once(act) if at_once else self._attempt(act)
            )
        self._checkpoints.note()
        return result

    async def _attempt(self, act: Callable[[Tx], Awaitable[T]]) -> T:
        async with self._writer.begin() as tx:
            return await act(tx)

    async def _attempt_at_once(self, act: Callable[[Tx], Awaitable[T]]) -> T:
        async with self._writer.connect() as connection:
            return await run_at_once(connection, act)


async def _to_its_end(attempt: Coroutine[Any, Any, T]) -> T:
    """Runs an attempt to its end also when the caller is cancelled, which then goes on.

    Broken off in the middle, the connection would be closed and another one opened: a second
    connection that writes, which SQLite before 3.51.3 may answer with a damaged WAL.
    """
    task = asyncio.create_task(attempt)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,), timeout=None if cancelled is None else _END_S)
            if cancelled is not None:
                task.cancel()  # without effect on one that has ended
        except asyncio.CancelledError as err:
            cancelled = err
    if cancelled is not None:
        with contextlib.suppress(Exception, asyncio.CancelledError):  # nobody is to be told
            task.result()
        raise cancelled
    return task.result()


async def open_database(url: str, *, pool_size: int = 10) -> Database:
    """Opens, and brings the schema to the newest revision.

    ``url`` is ``sqlite+aiosqlite:///PATH`` or ``postgresql+asyncpg://…``.

    :raises BadSetting: another kind of URL.
    :raises CannotStart: another process has the SQLite file, or a newer filestore wrote it.
    :raises DatabaseUnavailable: the server does not answer.
    """
    parsed = _parse(url)
    if parsed.drivername == "sqlite+aiosqlite":
        database = _open_sqlite(parsed)
    else:
        engine = create_async_engine(
            parsed, pool_size=pool_size, max_overflow=0, pool_timeout=30, pool_recycle=1800
        )
        database = Database(engine, engine, None)
    try:
        await _migrate(database)
        await database.settle()
    except BaseException:
        await database.close()
        raise
    return database


def _parse(url: str) -> URL:
    allowed = ("sqlite+aiosqlite", "postgresql+asyncpg")
    with contextlib.suppress(sa.exc.ArgumentError):
        parsed = make_url(url)
        if parsed.drivername in allowed and parsed.database:
            return parsed
    raise BadSetting(
        setting="database.url",
        source="database URL",
        reason="it must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://"
        " and name a database",
    )


def _open_sqlite(url: URL) -> Database:
    path = Path(str(url.database)).resolve()  # through a link, too, it is the same file
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _LockFile(path.with_name(path.name + ".lock"))
    lock.acquire()
    writer = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_reset_on_return=None,
        connect_args=_CONNECT,
    )
    reader = create_async_engine(
        URL.create(
            "sqlite+aiosqlite",
            database=f"file:{quote(str(path))}",
            query={"mode": "ro", "uri": "true"},
        ),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS,
        max_overflow=0,
        connect_args=_CONNECT,
    )
    _set_up_sqlite(writer, begin=BEGIN, pragmas=_WRITER_PRAGMAS)
    _set_up_sqlite(reader, begin="BEGIN", pragmas=("PRAGMA query_only = ON",))
    return Database(writer, reader, lock)


_CONNECT: Final = {"timeout": 5, "async_creator_fn": connect_in_one_hop}

_WRITER_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",  # checkpoints.py has them
)


def _set_up_sqlite(engine: AsyncEngine, *, begin: str, pragmas: tuple[str, ...]) -> None:
    """Takes the beginning of transactions from the driver, which would begin them late.

    Also ends them where they are broken off: SQLite keeps a closed connection, and the lock of
    its transaction, for as long as a traceback somewhere holds an answer that nobody fetched.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def _break_off(connection: Any, _record: object, _error: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # it is broken: there is nothing to end
            connection.rollback()

    @event.listens_for(engine.sync_engine, "reset")
    def _end(connection: Any, _record: object, state: PoolResetState) -> None:
        """Without a hop to the thread where there is nothing to end, as behind each commit."""
        if state.asyncio_safe and connection.driver_connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)


async def _migrate(database: Database) -> None:
    from filestore.meta.migrations import upgrade

    async def act(tx: Tx) -> None:
        if not database.is_sqlite:
            await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        await tx.run_sync(upgrade)

    await database.transact(act)


class DatabaseInUse(CannotStart):
    """Another process has the SQLite file."""


class _LockFile:
    """Holds a file lock for as long as the process lives; the kernel lets go at its death."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> None:
        """:raises DatabaseInUse: another process has it; names that."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = os.read(self._fd, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise DatabaseInUse(
                reason=f"{self._path.with_suffix('')} is in use by process {holder}; SQLite"
                " serves one process, for more use PostgreSQL"
            ) from err
        os.ftruncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode("ascii"))

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def violates(error: IntegrityError, constraint: str) -> bool:
    """Whether ``constraint`` (its name in the schema) is what refused the statement.

    SQLite does not say which foreign key it was, so for those the answer there is no.
    """
    cause = getattr(error.orig, "__cause__", None)
    name = getattr(cause, "constraint_name", None)
    if name is not None:
        return bool(name == constraint)
    kind, _, said = str(error.orig).partition(" constraint failed: ")
    if kind == "CHECK":
        return said == constraint
    return kind == "UNIQUE" and said == _sqlite_columns(constraint)


def _sqlite_columns(constraint: str) -> str | None:
    """How SQLite names a unique index or constraint in its message: by its columns."""
    for table in metadata.tables.values():
        named: list[sa.Index | sa.UniqueConstraint | sa.PrimaryKeyConstraint] = [
            *table.indexes,
            *(c for c in table.constraints if isinstance(c, sa.UniqueConstraint)),
            table.primary_key,
        ]
        for item in named:
            if item.name == constraint:
                return ", ".join(f"{table.name}.{column.name}" for column in item.columns)
    return None


def _is_contention(err: BaseException) -> bool:
    if not isinstance(err, DBAPIError):
        return False
    state = getattr(err.orig, "sqlstate", None)
    if state is not None:
        return state in _RETRY_STATES
    return "database is locked" in str(err.orig)


def _unavailable(err: BaseException) -> Exception:
    """No answer becomes ``DatabaseUnavailable``; a wrong statement stays what it is: a bug."""
    if isinstance(err, DBAPIError) and not _is_away(err):
        return err
    return DatabaseUnavailable(retry_after_s=5)


def _is_away(err: DBAPIError) -> bool:
    if err.connection_invalidated or isinstance(err, OperationalError | InterfaceError):
        return True
    return str(getattr(err.orig, "sqlstate", None) or "")[:2] in _AWAY_CLASSES
