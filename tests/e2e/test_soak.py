"""Hours of mixed load on a server that collects all the time, without any grace.

``make soak`` runs it for ``SOAK_SECONDS`` on each backend (two minutes; set more by hand), the main
job for one minute on SQLite and disk.
Every byte is compared at the end, fsck finds nothing, sums and memory are what they must be,
and the collection has had work to do: a soak in which nothing was collected proves nothing.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import sys
from collections import Counter
from typing import Any, Final

import pytest
import sqlalchemy as sa

from filestore.attaching import make_backend
from filestore.meta.database import Database, open_database
from filestore.meta.tables import audit_log, blocks, content_blocks, gc_queue
from filestore.settings import load
from filestore_gc.fsck import Fsck
from tests.e2e import backends
from tests.e2e.material import MIB
from tests.e2e.mixed_load import Person, live_together
from tests.e2e.stage import GROUP, Stage, quota_of
from tests.http.api import Api
from tests.services.server import Server

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "60"))
PEOPLE: Final = 5
SETTINGS: Final = {"gc.interval_s": 1, "gc.grace_s": 0}
BACKENDS: Final = (
    backends.DISK,
    *(pytest.param(*one.values, marks=[*one.marks, pytest.mark.e2e]) for one in backends.SHARED),
)
SLACK: Final = 24 * MIB
"""Memory that may come and go: some buffers of 8 MiB, and holes in the heap."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_nothing_is_lost_and_nothing_stays_while_all_goes_on(stage: Stage) -> None:
    seed = int(os.environ.get("SOAK_SEED", secrets.randbits(32)))
    print(f"SOAK_SEED={seed} SOAK_SECONDS={SECONDS:.0f}")
    server, api = await stage.open(settings=SETTINGS)
    people = [Person(f"p{n}", api, random.Random(f"{seed}-{n}")) for n in range(PEOPLE)]
    memory: list[int] = []
    watching = asyncio.create_task(_watch(server, memory))
    try:
        await live_together(people, SECONDS)
    finally:
        watching.cancel()

    versions = sum([await person.check() for person in people])
    assert await quota_of(api) == (sum(person.used for person in people), 0)
    for _ in range(2):
        report = await _collect(api)
        assert report["result"] in ("done", "nothing"), report
    assert server.stop() == 0
    collected = await _check_at_rest(stage)

    done = sum((person.done for person in people), Counter())
    uploaded = sum(person.uploaded for person in people)
    print(f"{stage.backend.name}: {uploaded / MIB:.0f} MiB uploaded, {dict(done)}")
    print(f"{versions} versions compared, {collected} blocks collected in the background")
    print(f"memory in MiB: {[size // MIB for size in memory[:: max(1, len(memory) // 12)]]}")
    assert min(done[act] for act in ("write", "delete", "overwrite", "read")) > 0
    assert collected > PEOPLE, "nothing was collected: this proves nothing"
    third = len(memory) // 3
    assert max(memory[-third:]) <= max(memory[third:-third]) + SLACK, memory


async def _watch(server: Server, memory: list[int]) -> None:
    while True:
        memory.append(server.memory)
        await asyncio.sleep(SECONDS / 100)


async def _collect(api: Api) -> dict[str, Any]:
    """The report of a collection that was asked for."""
    asked = await api.post("/api/v1/admin/jobs", {"kind": "gc", "grace_s": 0})
    assert asked.status == 202, asked.body
    async with asyncio.timeout(120):
        while True:
            job = (await api.get(f"/api/v1/admin/jobs/{asked.json['id']}")).json
            if job["ended_at"] is not None:
                return dict(job["report"])
            await asyncio.sleep(0.1)


async def _check_at_rest(stage: Stage) -> int:
    """Looks at database and store without a server; how much it had collected by itself."""
    backend = stage.backend
    flags = {"data": backend.folder / "data", "database": backend.database}
    settings = load(environ=backend.environment, flags=flags | {"blocks": backend.blocks})
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings.database_url)
        stack.push_async_callback(db.close)
        store = make_backend(stack, settings, "soak")
        await store.open()
        report = await Fsck(db, store).check()
        assert report.is_good, report.to_text()
        await _check_all_is_referenced(db)
        paths = {found.path async for found in store.walk("default")}
        assert len(paths) == await _count(db, sa.select(blocks.c.id).where(_LIVE))
        runs = await _all(db, sa.select(audit_log.c.after).where(audit_log.c.act == "gc.run"))
        sys.stderr.write(f"{GROUP}: {len(runs)} collections, {len(paths)} objects\n")
        return sum(json.loads(row.after)["blocks"] for row in runs)


_LIVE: Final = blocks.c.state == "live"


async def _check_all_is_referenced(db: Database) -> None:
    """The second oracle: only tombstones, whose objects are gone, are not referred to."""
    used = sa.exists().where(content_blocks.c.block_id == blocks.c.id)
    removed = sa.exists().where(
        gc_queue.c.block_id == blocks.c.id, gc_queue.c.removed_at.is_not(None)
    )
    wrong = sa.select(blocks.c.id, blocks.c.state).where(
        sa.or_(sa.and_(_LIVE, ~used), sa.and_(~_LIVE, ~removed))
    )
    assert await _all(db, wrong) == []


async def _all(db: Database, query: sa.Select[Any]) -> list[Any]:
    async def look(tx: Any) -> list[Any]:
        return list((await tx.execute(query)).all())

    return await db.read(look)


async def _count(db: Database, query: sa.Select[Any]) -> int:
    return len(await _all(db, query))
