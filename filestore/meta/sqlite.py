"""SQLite connections whose statements take one hop to their thread instead of four.

The driver hops for the cursor, the statement, the rows and the close, and each hop costs more
than what most statements do. Here a statement and its rows are one, as results here are
always bounded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Connection, Cursor, connect
from typing import Any, Self

import aiosqlite


def connect_in_one_hop(path: str, **options: Any) -> aiosqlite.Connection:
    """As :func:`aiosqlite.connect`; to be given to SQLAlchemy as ``async_creator_fn``."""
    connection = _OneHopConnection(partial(connect, path, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy does with those that it makes
    return connection


class _OneHopConnection(aiosqlite.Connection):
    def cursor(self) -> "_OneHopCursor":  # type: ignore[override]
        return _OneHopCursor(self)


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
