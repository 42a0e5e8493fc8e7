"""SQLite connections whose statements take one hop to their thread instead of four.

The driver hops for the cursor, the statement, the rows and the close, and each hop costs more
than what most statements do. Here a statement and its rows are one, as results here are
always bounded.

:func:`run_at_once` makes a whole transaction one hop. Else the turn to write is held while each
of its statements waits for the thread, and the event loop for each answer: on a busy machine ten
times as long as SQLite works on it.
"""

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection, Cursor, connect
from typing import Any, Final, Self, TypeVar, cast

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

BEGIN: Final = "BEGIN IMMEDIATE"
"""How all that write begin: who begins later may find that it read what is no longer so."""


def connect_in_one_hop(path: str, **options: Any) -> aiosqlite.Connection:
    """As :func:`aiosqlite.connect`; to be given to SQLAlchemy as ``async_creator_fn``."""
    connection = _OneHopConnection(partial(connect, path, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy does with those that it makes
    return connection


async def run_at_once(
    connection: AsyncConnection, act: Callable[[AsyncConnection], Awaitable[T]]
) -> T:
    """What ``act`` returns, committed: all of it in the thread of the connection, in one hop.

    ``act`` runs beside the event loop, so it awaits nothing but statements of the transaction
    that it is given, and touches nothing that others change.

    :raises RuntimeError: it waited for something else; nothing is changed.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, _OneHopConnection)
    return await driver.run(act)


@dataclass(frozen=True, slots=True)
class Copied:
    """How many pages the WAL has, and how many of them are in the file."""

    pages: int
    copied: int


async def checkpoint(connection: AsyncConnection) -> Copied:
    """Copies from the WAL what no reader keeps it from."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, _OneHopConnection)
    return await driver.checkpoint()


class _OneHopConnection(aiosqlite.Connection):
    _engine: sa.Engine | None = None

    def cursor(self) -> "_OneHopCursor":  # type: ignore[override]
        return _OneHopCursor(self)

    async def run(self, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        run = contextvars.copy_context().run
        return cast(T, await self._execute(run, self._run, act))  # type: ignore[no-untyped-call]

    async def checkpoint(self) -> Copied:
        act = partial(self._conn.execute, "PRAGMA wal_checkpoint(PASSIVE)")
        _, pages, copied = await self._execute(lambda: act().fetchone())  # type: ignore[no-untyped-call]
        return Copied(pages, copied)

    def _run(self, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        if self._engine is None:
            self._engine = _engine_on(self._conn)
        with self._engine.begin() as connection:
            return _without_waiting(_call(act, connection))


def _engine_on(connection: Connection) -> sa.Engine:
    """An engine whose one connection is this one, which stays another's to close."""
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: connection,
        poolclass=sa.pool.StaticPool,
        pool_reset_on_return=None,  # each transaction is ended where it began
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(BEGIN)

    return engine


class _InThread:
    """What acts use of a transaction, where each answer is there at once."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> sa.Dialect:
        return self._connection.dialect

    async def execute(self, *args: Any, **options: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(*args, **options)

    async def scalar(self, *args: Any, **options: Any) -> Any:
        return self._connection.scalar(*args, **options)

    async def scalars(self, *args: Any, **options: Any) -> sa.ScalarResult[Any]:
        return self._connection.scalars(*args, **options)


async def _call(act: Callable[[AsyncConnection], Awaitable[T]], connection: sa.Connection) -> T:
    return await act(cast(AsyncConnection, _InThread(connection)))


def _without_waiting(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    coroutine.close()
    raise RuntimeError("what runs at once waits for nothing but its transaction")


class _OneHopCursor:
    """What SQLAlchemy uses of a cursor. Rows are in memory when :meth:`execute` returns."""

    def __init__(self, connection: _OneHopConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        await self._run(lambda cursor: cursor.execute(statement, parameters))

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        await self._run(lambda cursor: cursor.executemany(statement, parameters))

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []

    async def _run(self, act: Callable[[Cursor], object]) -> None:
        connection = self._connection._conn
        found = await self._connection._execute(_whole, connection, act)  # type: ignore[no-untyped-call]
        self._rows, self.description, self.rowcount, self.lastrowid = found


def _whole(
    connection: Connection, act: Callable[[Cursor], object]
) -> tuple[list[Any], Any, int, int | None]:
    cursor = connection.cursor()
    try:
        act(cursor)
        rows = [] if cursor.description is None else cursor.fetchall()
        return rows, cursor.description, cursor.rowcount, cursor.lastrowid
    finally:
        cursor.close()
