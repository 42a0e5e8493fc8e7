"""Transactions that run at once: on SQLite the whole of them in the thread of the connection."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from filestore.meta.database import Database, LateRefusal, Tx, open_database, violates
from filestore.meta.tables import domains, instance


@pytest.fixture
async def db(any_database: str) -> AsyncIterator[Database]:
    opened = await open_database(any_database)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(f"sqlite+aiosqlite:///{tmp_path}/filestore.sqlite3")
    yield opened
    await opened.close()


@pytest.fixture
def threads() -> Iterator[list[tuple[str, int]]]:
    """The first word of each statement, and the thread that it was sent from."""
    seen: list[tuple[str, int]] = []

    def note(_c: object, _u: object, statement: str, *_: object) -> None:
        seen.append((statement.split(None, 1)[0], threading.get_ident()))

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


async def _domains(db: Database) -> list[str]:
    async def look(tx: Tx) -> list[str]:
        return list(await tx.scalars(sa.select(domains.c.id).order_by(domains.c.id)))

    return await db.read(look)


async def _insert(tx: Tx, name: str) -> int:
    await tx.execute(domains.insert().values(id=name))
    found = await tx.scalars(sa.select(domains.c.id))
    count = await tx.scalar(sa.select(sa.func.count()).select_from(domains))
    assert len(list(found)) == count
    return int(count or 0)


async def test_what_it_returns_is_committed(db: Database) -> None:
    assert await db.transact(lambda tx: _insert(tx, "one"), at_once=True) == 1
    assert await db.transact(lambda tx: _insert(tx, "two")) == 2
    assert await db.transact(lambda tx: _insert(tx, "x3"), at_once=True) == 3
    assert await _domains(db) == ["one", "two", "x3"]


async def test_on_sqlite_no_statement_of_it_waits_for_the_event_loop(
    sqlite: Database, threads: list[tuple[str, int]]
) -> None:
    await sqlite.transact(lambda tx: _insert(tx, "one"), at_once=True)
    assert [word for word, _ in threads] == ["BEGIN", "INSERT", "SELECT", "SELECT"]
    (thread,) = {thread for _, thread in threads}
    assert thread != threading.get_ident()


async def test_both_kinds_write_by_the_same_connection(sqlite: Database) -> None:
    async def connection(tx: Tx) -> int:
        await tx.execute(sa.text("CREATE TEMP TABLE IF NOT EXISTS seen (at INTEGER)"))
        await tx.execute(sa.text("INSERT INTO seen VALUES (1)"))
        return int(await tx.scalar(sa.text("SELECT count(*) FROM seen")) or 0)

    assert await sqlite.transact(connection) == 1
    assert await sqlite.transact(connection, at_once=True) == 2
    assert await sqlite.transact(connection) == 3


async def test_one_that_fails_leaves_nothing_and_says_why(db: Database) -> None:
    async def fails(tx: Tx) -> None:
        await _insert(tx, "half")
        raise LookupError("why")

    async def refused(tx: Tx) -> None:
        await _insert(tx, "half")
        await tx.execute(instance.insert().values(id=2, store_id="s", epoch=0))

    with pytest.raises(LookupError, match="why"):
        await db.transact(fails, at_once=True)
    with pytest.raises(IntegrityError) as refusal:
        await db.transact(refused, at_once=True)
    assert violates(refusal.value, "ck_instance_single")
    assert await _domains(db) == []
    assert await db.transact(lambda tx: _insert(tx, "whole"), at_once=True) == 1


async def test_a_refusal_is_explained_behind_it(db: Database) -> None:
    async def act(tx: Tx) -> None:
        await _insert(tx, "half")
        raise LateRefusal(explain)

    async def explain(tx: Tx) -> Exception:
        return LookupError(await tx.scalar(sa.select(sa.func.count()).select_from(domains)))

    with pytest.raises(LookupError, match="0"):
        await db.transact(act, at_once=True)


async def test_on_sqlite_one_that_waits_for_something_else_is_refused(sqlite: Database) -> None:
    async def act(tx: Tx) -> None:
        await _insert(tx, "half")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for nothing but its transaction"):
        await sqlite.transact(act, at_once=True)
    assert await _domains(sqlite) == []
    await sqlite.transact(lambda tx: _insert(tx, "whole"), at_once=True)


async def test_it_knows_for_which_request_it_is(db: Database) -> None:
    request: ContextVar[str] = ContextVar("request")
    request.set("req_1")

    async def act(tx: Tx) -> str:
        await tx.execute(sa.select(1))
        return request.get()

    assert await db.transact(act, at_once=True) == "req_1"


async def test_those_cancelled_at_any_moment_are_whole_or_nothing(db: Database) -> None:
    async def act(tx: Tx, number: int) -> None:
        await tx.execute(domains.insert().values(id=f"{number}-a"))
        await tx.execute(domains.insert().values(id=f"{number}-b"))

    for number in range(30):
        running = asyncio.create_task(
            db.transact(lambda tx, n=number: act(tx, n), at_once=True)  # type: ignore[misc]
        )
        for _ in range(number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
    found = await _domains(db)
    for number in range(30):
        assert (f"{number}-a" in found) == (f"{number}-b" in found)
    await db.transact(lambda tx: _insert(tx, "whole"), at_once=True)
