"""What collection, fsck and scrub ask goes by an index, so a batch costs the same on any store.

SQLite plans without statistics, so its plan for a few rows is its plan for two million.
PostgreSQL is told to do without walks through tables: where it still walks, no index helps.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from filestore.meta import fsck, fsck_sums, healing
from filestore.meta.database import Tx
from filestore.model import KIB
from filestore_gc.reaping import Memory
from filestore_gc.scrub import Scrub
from tests.services.collecting import DAY_S, collector_of, delete, pass_time, start
from tests.services.hot_path import DOMAIN, Process, Site, random_bytes

Asked = dict[str, Any]

_LARGE: Final = "blocks|content_blocks|contents|entries|versions|uploads"
_SQLITE_WALK: Final = re.compile(
    rf"SCAN ({_LARGE})\b(?! USING (COVERING )?INDEX ix_\w+_(?!checked))"
)
"""Partial indexes of what is under way may be walked through; that of all checks may not."""
_SQLITE_RANGE: Final = re.compile(r"SEARCH (blocks|entries|versions) USING .*\((rowid|id)>\?\)")
"""All rows behind one: a look for a few that begins so reads all of them."""
_POSTGRES_WALK: Final = re.compile(rf"Seq Scan on ({_LARGE})\b")
_QUESTIONS: Final = ("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")
_FIRST_ROW: Final = "SELECT NOT (EXISTS"
"""The guard that asks whether there is anything at all: it ends at the first row."""


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """All statements meanwhile, each with the parameters of one execution."""
    asked: Asked = {}

    def note(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        is_question = statement.split(None, 1)[0] in _QUESTIONS
        if is_question and not statement.startswith(_FIRST_ROW):
            asked.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def with_garbage(site: Site) -> Process:
    """A process with three files, of which two are dead, and whose uploads ended a day ago."""
    process = await start(site)
    for name in ("a", "b", "c"):
        await process.upload(random_bytes(20 * KIB, name), name)
    for name in ("a", "b"):
        await delete(process, name)
    await pass_time(process, 90_000)
    return process


async def collect(process: Process) -> None:
    collector = collector_of(process, memory=Memory(DAY_S, DAY_S))
    await collector.plan(grace_s=0)
    report = await collector.run_once(grace_s=0)
    assert report.blocks > 0 and report.removed_rows == report.blocks


async def look_again(tx: Tx) -> None:
    """What fsck and scrub ask under locks or, on SQLite, in their turn to write."""
    seen = await fsck.block_page(tx, DOMAIN, after=(b"", ""), limit=10)
    await fsck.have_rows(tx, DOMAIN, [(block.hash, block.generation) for block in seen])
    await healing.note_checked(tx, seen)
    await healing.heal_batch(tx, seen[0].block_id)
    await fsck_sums.REFERENCES.again(tx, [(1, 0), (2, 0)])
    await fsck.DEAD.again(tx, [1, 2])
    await fsck.NOT_LISTED.again(tx, [1, 2])


async def plans_of(process: Process, asked: Asked) -> dict[str, str]:
    """How the database would run each of the statements now."""
    is_sqlite = process.db.is_sqlite

    async def explain(tx: Tx) -> dict[str, str]:
        if not is_sqlite:
            await tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plans = {}
        for statement, parameters in asked.items():
            words = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
            rows = await tx.exec_driver_sql(f"{words} {statement}", parameters)
            plans[statement] = "\n".join(row[-1] for row in rows)
        return plans

    return await process.db.read(explain)


async def test_collection_on_sqlite_walks_through_no_table(memory_site: Site) -> None:
    process = await with_garbage(memory_site)
    with listening() as asked:
        await collect(process)
    plans = await plans_of(process, asked)
    assert len(plans) > 20
    for statement, plan in plans.items():
        found = _SQLITE_WALK.search(plan) or _SQLITE_RANGE.search(plan)
        assert not found, f"{statement}\n{plan}"


async def test_second_looks_and_scrub_on_sqlite_walk_through_no_table(memory_site: Site) -> None:
    process = await with_garbage(memory_site)
    with listening() as asked:
        await process.db.transact(look_again)
        report = await Scrub(process.db, process.store).run()
    assert report.blocks > 0
    for statement, plan in (await plans_of(process, asked)).items():
        assert not _SQLITE_WALK.search(plan), f"{statement}\n{plan}"


async def test_no_batch_on_postgres_needs_a_walk_through_a_table(postgres_site: Site) -> None:
    process = await with_garbage(postgres_site)
    with listening() as asked:
        await collect(process)
        await process.db.transact(look_again)

    for statement, plan in (await plans_of(process, asked)).items():
        assert not _POSTGRES_WALK.search(plan), f"{statement}\n{plan}"


async def test_the_uploads_to_forget_come_by_their_index(any_site: Site) -> None:
    """Else each batch would look at all that have ended, hour after hour."""
    process = await with_garbage(any_site)
    with listening() as asked:
        await collect(process)
    plans = await plans_of(process, asked)
    (plan,) = [plans[one] for one in plans if "uploads.changed_at <" in one]
    assert "ix_uploads_changed_at" in plan
    assert "TEMP B-TREE" not in plan, "sorted in SQLite; PostgreSQL sorts so few on its own"
