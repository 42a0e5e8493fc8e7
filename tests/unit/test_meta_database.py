"""The way to the database: whole transactions, retried whole; one SQLite process; reads."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError

from filestore.errors import BadSetting, CannotStart, DatabaseUnavailable
from filestore.meta.database import ATTEMPTS, Database, LateRefusal, Tx, open_database
from filestore.meta.tables import domains, now_us
from tests.services.postgres import PostgresService

HOLDER = """
import asyncio, sys
from filestore.meta.database import open_database

async def main() -> None:
    db = await open_database(sys.argv[1])
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await db.close()

asyncio.run(main())
"""


@pytest.fixture
async def db(any_database: str) -> AsyncIterator[Database]:
    opened = await open_database(any_database)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(_url(tmp_path / "filestore.sqlite3"))
    yield opened
    await opened.close()


async def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id="half"))
        raise LookupError

    with pytest.raises(LookupError):
        await db.transact(act)
    assert await _domains(db) == []


async def test_a_refusal_is_explained_when_its_locks_are_gone(db: Database) -> None:
    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id="half"))
        raise LateRefusal(explain)

    async def explain(tx: Tx) -> Exception:
        await db.transact(lambda other: other.execute(domains.insert().values(id="half")))
        return LookupError(await tx.scalar(sa.select(domains.c.id)))

    with pytest.raises(LookupError):
        async with asyncio.timeout(20):
            await db.transact(act)
    assert await _domains(db) == ["half"]


async def test_a_refused_row_takes_the_whole_transaction_with_it(db: Database) -> None:
    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id="first"))
        await tx.execute(domains.insert().values(id="first"))

    with pytest.raises(IntegrityError):
        await db.transact(act)
    assert await _domains(db) == []


async def test_a_cancelled_transaction_leaves_nothing_and_the_next_one_works(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filestore.meta.database._END_S", 0.1)
    inside = asyncio.Event()

    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id="half"))
        inside.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(db.transact(act))
    await inside.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await db.transact(lambda tx: tx.execute(domains.insert().values(id="whole")))
    assert await _domains(db) == ["whole"]


async def test_transactions_cancelled_at_any_step_leave_nothing_half(db: Database) -> None:
    async def act(tx: Tx, number: int) -> None:
        await tx.execute(domains.insert().values(id=f"{number}-a"))
        await tx.execute(domains.insert().values(id=f"{number}-b"))

    for number in range(40):
        running = asyncio.create_task(db.transact(lambda tx, n=number: act(tx, n)))  # type: ignore[misc]
        for _ in range(number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
    found = await _domains(db)
    for number in range(40):
        assert (f"{number}-a" in found) == (f"{number}-b" in found)


async def test_a_transaction_cancelled_while_it_reads_locks_nobody_out(db: Database) -> None:
    """The answer that nobody fetched is alive in the traceback, and with it a closed connection."""
    kept: list[BaseException] = []

    async def act(tx: Tx) -> None:
        await tx.execute(domains.update().values(created_at=1))
        for _ in range(4):
            await tx.execute(sa.select(domains))

    async def run() -> None:
        try:
            await db.transact(act)
        except asyncio.CancelledError as err:
            kept.append(err)

    await db.transact(lambda tx: tx.execute(domains.insert(), [{"id": f"{n}"} for n in range(50)]))
    for number in range(60):
        running = asyncio.create_task(run())
        for _ in range(number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
        async with asyncio.timeout(4):  # SQLite waits 5 s for a lock
            await db.transact(lambda tx: tx.execute(domains.update().values(created_at=2)))
    assert kept


async def test_a_read_sees_what_was_committed_and_ends_its_transaction(db: Database) -> None:
    await db.transact(lambda tx: tx.execute(domains.insert().values(id="one")))
    assert await _domains(db) == ["one"]
    await db.transact(lambda tx: tx.execute(domains.insert().values(id="two")))
    assert await _domains(db) == ["one", "two"]


async def test_the_clock_is_the_databases_and_counts_microseconds(db: Database) -> None:
    before = time.time()

    async def look(tx: Tx) -> int:
        return int((await tx.execute(sa.select(now_us()))).scalar_one())

    at = await db.read(look)
    assert before - 0.01 <= at / 1e6 <= time.time() + 0.01


@pytest.mark.parametrize(
    "url", ["", "sqlite:///a", "postgresql://host/db", "sqlite+aiosqlite://", "mysql://x", "::"]
)
async def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(BadSetting):
        await open_database(url)


async def test_sqlite_writes_ahead_and_syncs_and_keeps_its_foreign_keys(sqlite: Database) -> None:
    async def pragmas(tx: Tx) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [await tx.scalar(sa.text(f"PRAGMA {name}")) for name in names]

    assert await sqlite.transact(pragmas) == ["wal", 2, 1]


async def test_a_sqlite_transaction_holds_the_write_lock_from_its_first_statement(
    sqlite: Database, tmp_path: Path
) -> None:
    async def act(tx: Tx) -> None:
        await tx.execute(sa.select(domains.c.id))  # only reads, so a lazy BEGIN had no lock yet
        other = await asyncio.to_thread(_try_to_write, tmp_path / "filestore.sqlite3")
        assert "locked" in other

    await sqlite.transact(act)


async def test_sqlite_readers_cannot_write(sqlite: Database) -> None:
    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        await sqlite.read(lambda tx: tx.execute(domains.insert().values(id="x")))
    assert await _domains(sqlite) == []


async def test_sqlite_readers_do_not_wait_for_the_writer(sqlite: Database) -> None:
    async def act(tx: Tx) -> list[str]:
        await tx.execute(domains.insert().values(id="unseen"))
        return await _domains(sqlite)

    assert await sqlite.transact(act) == []
    assert await _domains(sqlite) == ["unseen"]


async def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "filestore.sqlite3"
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, _url(path), stdin=pipe, stdout=pipe
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(CannotStart) as refused:
        await open_database(_url(path))
    assert str(holder.pid) in str(refused.value) and str(path) in str(refused.value)

    holder.kill()
    await holder.communicate()
    await (await open_database(_url(path))).close()


async def test_the_same_process_cannot_open_a_sqlite_file_twice(
    sqlite: Database, tmp_path: Path
) -> None:
    with pytest.raises(CannotStart):
        await open_database(_url(tmp_path / "filestore.sqlite3"))
    assert await _domains(sqlite) == []


@pytest.mark.parametrize("linked", ["filestore.sqlite3", "."], ids=["file", "folder"])
async def test_a_link_to_a_sqlite_file_is_no_way_around_its_lock(
    sqlite: Database, tmp_path: Path, linked: str
) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path / linked)
    through = link if linked != "." else link / "filestore.sqlite3"
    with pytest.raises(CannotStart, match="is in use"):
        await open_database(_url(through))
    assert await _domains(sqlite) == []
    assert not (tmp_path / "elsewhere.lock").exists()


@pytest.mark.parametrize("name", ["a b", "100%25", "what?", "a#b", "ü", "mode=rw&x"])
async def test_a_sqlite_file_may_lie_in_any_folder(tmp_path: Path, name: str) -> None:
    db = await open_database(
        sa.URL.create(
            "sqlite+aiosqlite", database=str(tmp_path / name / "filestore.sqlite3")
        ).render_as_string()
    )
    await db.transact(lambda tx: tx.execute(domains.insert().values(id="one")))
    assert await _domains(db) == ["one"]
    with pytest.raises((DBAPIError, DatabaseUnavailable)):
        await db.read(lambda tx: tx.execute(domains.insert().values(id="x")))
    await db.close()
    assert await asyncio.to_thread(os.listdir, tmp_path) == [name]


async def test_a_deadlock_is_retried_whole_and_nobody_hears_of_it(
    postgres_database: str,
) -> None:
    db = await open_database(postgres_database)

    async def fill(tx: Tx) -> None:
        await tx.execute(sa.text("CREATE TABLE pair (id text PRIMARY KEY, n int)"))
        await tx.execute(sa.text("INSERT INTO pair VALUES ('a', 0), ('b', 0)"))

    await db.transact(fill)
    both_hold_one = asyncio.Barrier(2)
    tries = {"a": 0, "b": 0}

    async def act(tx: Tx, first: str, second: str) -> None:
        tries[first] += 1
        await tx.execute(_plus_one(first))
        if tries["a"] == tries["b"] == 1:
            await both_hold_one.wait()
        elif tries[first] == 1:
            await both_hold_one.wait()
        await tx.execute(_plus_one(second))

    await asyncio.gather(
        db.transact(lambda tx: act(tx, "a", "b")), db.transact(lambda tx: act(tx, "b", "a"))
    )

    assert sorted(tries.values()) == [1, 2]
    found = await db.read(lambda tx: tx.execute(sa.text("SELECT id, n FROM pair ORDER BY id")))
    assert [tuple(row) for row in found] == [("a", 2), ("b", 2)]
    await db.close()


async def test_a_serialization_failure_is_retried_until_the_attempts_end(
    postgres_database: str,
) -> None:
    db = await open_database(postgres_database)
    tries = 0

    async def act(tx: Tx) -> None:
        nonlocal tries
        tries += 1
        await tx.execute(
            sa.text("DO $$ BEGIN RAISE EXCEPTION 'planned' USING ERRCODE = '40001'; END $$")
        )

    with pytest.raises(DatabaseUnavailable):
        await db.transact(act)
    assert tries == ATTEMPTS
    await db.close()


async def test_a_postgres_that_is_gone_is_unavailable_and_comes_back_by_itself(
    postgres_service: PostgresService, migrated_database: str
) -> None:
    url = postgres_service.make_database(template=migrated_database)
    db = await open_database(url)
    assert await _domains(db) == []
    postgres_service.drop_database(url)

    with pytest.raises(DatabaseUnavailable):
        await _domains(db)
    with pytest.raises(DatabaseUnavailable):
        await db.transact(lambda tx: tx.execute(domains.insert().values(id="x")))
    await db.close()


async def test_connections_that_the_server_cut_are_replaced(postgres_database: str) -> None:
    db = await open_database(postgres_database, pool_size=2)
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await asyncio.gather(*(_domains(db) for _ in range(2)))
    await db.transact(lambda tx: tx.execute(cut))
    for _ in range(4):
        try:
            await _domains(db)
        except DatabaseUnavailable:
            continue
    assert await _domains(db) == []
    await db.close()


async def test_a_server_that_says_it_cannot_serve_is_unavailable(postgres_database: str) -> None:
    db = await open_database(postgres_database)
    for state in ("53100", "53300", "57P03", "57P01", "58030"):
        raised = sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'planned' USING ERRCODE = '{state}'; END $$")
        with pytest.raises(DatabaseUnavailable):
            await db.transact(lambda tx, raised=raised: tx.execute(raised))  # type: ignore[misc]
    with pytest.raises(DBAPIError):
        await db.transact(lambda tx: tx.execute(sa.text("SELECT nonsense")))
    await db.close()


async def test_an_unreachable_postgres_is_unavailable_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await open_database(f"postgresql+asyncpg://postgres@/none?host={tmp_path}")


def _url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def _plus_one(name: str) -> sa.TextClause:
    return sa.text("UPDATE pair SET n = n + 1 WHERE id = :id").bindparams(id=name)


async def _domains(db: Database) -> list[str]:
    async def look(tx: Tx) -> list[str]:
        return list(await tx.scalars(sa.select(domains.c.id).order_by(domains.c.id)))

    return await db.read(look)


def _try_to_write(path: Path) -> str:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.01})
    try:
        with engine.begin() as connection:
            connection.execute(domains.insert().values(id="other"))
    except sa.exc.OperationalError as err:
        return str(err.orig)
    finally:
        engine.dispose()
    return "written"


async def test_a_cancelled_transaction_of_sqlite_keeps_its_connection(tmp_path: Path) -> None:
    """There is one connection that writes, for the life of the process."""
    db = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'one.sqlite3'}")
    opened: list[object] = []
    event.listen(db._writer.sync_engine, "connect", lambda made, _: opened.append(made))

    async def act(tx: Tx) -> None:
        await tx.execute(domains.insert().values(id=f"{len(await _domains(db))}"))
        await tx.execute(sa.select(domains))

    for steps in range(40):
        running = asyncio.create_task(db.transact(act))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
    await db.transact(act)
    assert opened == []
    await db.close()
