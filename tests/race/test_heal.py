"""Healing beside writers, collectors, scrub and other healers, held at each step by barriers.

What waits for what is PostgreSQL's business, so these run there; SQLite has one writer at a
time. Each test holds one side inside its transaction and lets the other run into it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.meta import blocks, contents
from filestore.meta.blocks import NewBlock, StoredBlock
from filestore.meta.database import Tx
from filestore.meta.healing import Healed, KnownBlock, find_lost, heal, heal_batch, mark_lost
from filestore.meta.tables import blocks as all_blocks
from filestore.meta.tables import content_blocks
from filestore.model import KIB, Codec
from filestore_gc.heal import heal_all
from filestore_gc.judging import Terms
from filestore_gc.scrub import Scrub
from filestore_gc.stepping import step
from tests.services.collecting import collector_of, start, until_waiting
from tests.services.damage import (
    block,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    fsck,
    kinds,
    put_orphan,
    read_file,
)
from tests.services.hot_path import DOMAIN, Process, Site, random_bytes

pytestmark = pytest.mark.needs("postgres")

PATIENCE_S = 10
NOW = Terms(0, is_override=True)
DATA = random_bytes(1000)


@dataclass
class Held:
    """An act inside a transaction that commits only when the test says so."""

    process: Process
    act: Callable[[Tx], Awaitable[Any]]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> "Held":
        async def run(tx: Tx) -> Any:
            done = await self.act(tx)
            self.reached.set()
            await self.opened.wait()
            return done

        self.task = asyncio.create_task(self.process.db.transact(run))
        await self.reached.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.commit()

    async def commit(self) -> Any:
        self.opened.set()
        assert self.task is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.task


@dataclass
class Stage:
    """Two processes; a file whose only block is lost, and a live block with the same bytes that
    nothing refers to yet."""

    one: Process
    two: Process
    content_id: int
    lost: KnownBlock
    twin_id: int

    async def refers_to(self) -> set[int]:
        rows = await self.one.all(
            sa.select(content_blocks.c.block_id).where(
                content_blocks.c.content_id == self.content_id
            )
        )
        return {row.block_id for row in rows}


@pytest.fixture
async def stage(postgres_site: Site) -> AsyncIterator[Stage]:
    one, two = await start(postgres_site), await start(postgres_site)
    await one.upload(DATA, "a")
    content_id = await content_of(one, "a")
    (lost,) = await blocks_of(one, content_id)
    await delete_object(one, lost)
    await one.transact(mark_lost, lost, "gone")
    twin_id = await make_twin(one, lost)
    yield Stage(one, two, content_id, lost, twin_id)


async def announce(process: Process, lost: KnownBlock, data: bytes = DATA) -> StoredBlock:
    """A new block with the bytes of the lost one: its object is there, its row is uploading."""
    key = await put_orphan(process, data)
    new = NewBlock(lost.hash, lost.size, key.generation)
    (block_id,) = await process.transact(
        blocks.insert_uploading, DOMAIN, process.id, [new], deadline_s=60
    )
    size = len(await process.store.inner.get(key))
    return StoredBlock(block_id, key.generation, size, Codec.PLAIN)


async def make_twin(process: Process, lost: KnownBlock, data: bytes = DATA) -> int:
    stored = await announce(process, lost, data)
    assert await process.transact(blocks.make_live, [stored]) == {stored.block_id}
    return stored.block_id


async def test_two_healers_at_once_repoint_each_reference_once(stage: Stage) -> None:
    async with Held(stage.one, lambda tx: heal_batch(tx, stage.lost.block_id)) as first:
        second = asyncio.create_task(heal(stage.two.db, stage.lost.block_id))
        await until_waiting(stage.one)
        assert await first.commit() == Healed(1, False)
        async with asyncio.timeout(PATIENCE_S):
            assert await second == 0
    assert await stage.refers_to() == {stage.twin_id}
    assert stage.lost.block_id in await stage.one.queued()


async def test_a_twin_that_is_being_condemned_heals_nothing(stage: Stage) -> None:
    await stage.one.transact(blocks.enqueue, [stage.twin_id], "released")

    async def condemn(tx: Tx) -> int:
        stepped = await step(tx, [stage.twin_id], NOW, may_doom=True)
        return len(stepped.condemned)

    async with Held(stage.one, condemn) as collecting:
        healing = asyncio.create_task(heal(stage.two.db, stage.lost.block_id))
        await until_waiting(stage.one)
        assert await collecting.commit() == 1
        async with asyncio.timeout(PATIENCE_S):
            assert await healing == 0
    assert await stage.refers_to() == {stage.lost.block_id}
    assert (await block(stage.one, stage.twin_id)).state == "condemned"


async def test_a_collector_leaves_a_twin_that_is_being_referred_to(stage: Stage) -> None:
    await stage.one.transact(blocks.enqueue, [stage.twin_id], "released")
    async with Held(stage.one, lambda tx: heal_batch(tx, stage.lost.block_id)):
        async with asyncio.timeout(PATIENCE_S):
            stepped = await stage.two.transact(step, [stage.twin_id], NOW, may_doom=True)
            assert (stepped.looked, stepped.moved) == (0, 0)
    assert await stage.refers_to() == {stage.twin_id}
    stepped = await stage.two.transact(step, [stage.twin_id], NOW, may_doom=True)
    assert [task.is_referenced for task in stepped.dropped] == [True]
    await check_clean(stage.one)


async def test_a_block_that_becomes_lost_waits_for_who_pins_it_and_takes_that_along(
    postgres_site: Site,
) -> None:
    one, two = await start(postgres_site), await start(postgres_site)
    await one.upload(DATA, "a")
    (seen,) = await blocks_of(one, await content_of(one, "a"))
    await one.upload(b"", "b")
    other = await content_of(one, "b")

    async def pin(tx: Tx) -> None:
        assert await blocks.pin_live(tx, [seen.block_id]) == {seen.block_id}
        await contents.add_rows(tx, other, [(0, 1000, seen.block_id, False)])

    async with Held(one, pin):
        losing = asyncio.create_task(two.transact(mark_lost, seen, "gone"))
        await until_waiting(one)
    async with asyncio.timeout(PATIENCE_S):
        affected = await losing
    assert affected is not None and affected.count == 2, "the late file is told too"

    twin = await make_twin(one, seen)
    assert await heal(two.db, seen.block_id) == 2
    assert {each.block_id for each in await blocks_of(one, other)} == {twin}


async def test_who_makes_the_twin_live_sees_what_a_scrub_has_lost_before(
    postgres_site: Site,
) -> None:
    """A scrub between look and live: the look comes behind, so nothing stays unhealed."""
    one, two = await start(postgres_site), await start(postgres_site)
    await one.upload(DATA, "a")
    (seen,) = await blocks_of(one, await content_of(one, "a"))
    await delete_object(one, seen)
    await two.transact(mark_lost, seen, "gone")
    stored = await announce(one, seen)

    async def record(tx: Tx) -> list[int]:
        await blocks.make_live(tx, [stored])
        return await find_lost(tx, DOMAIN, [seen.hash])

    async with Held(one, record) as recording:
        assert await heal_all(two.db) == 0, "the twin is not committed yet"
        assert await recording.commit() == [seen.block_id]
    assert await heal(one.db, seen.block_id) == 1
    assert await read_file(one, "a") == DATA


async def test_a_tail_that_is_replaced_while_it_is_healed(postgres_site: Site) -> None:
    """The healer holds the references that the next request of the upload removes."""
    one, two = await start(postgres_site), await start(postgres_site)
    data = random_bytes(20 * KIB, "tail")
    upload = await one.begin(len(data), "file")
    upload = await one.append(upload, 0, data[:9000])
    tail = (await blocks_of(one, upload.building))[-1]
    at = upload.offset - tail.size
    await one.transact(mark_lost, tail, "gone")
    twin_id = await make_twin(one, tail, data[at : upload.offset])

    async with Held(two, lambda tx: heal_batch(tx, tail.block_id)) as healing:
        going_on = asyncio.create_task(one.append(upload, upload.offset, data[9000:]))
        await until_waiting(one)
        assert (await healing.commit()).references == 1
        async with asyncio.timeout(PATIENCE_S):
            assert (await going_on).state == "done"
    assert await one.read(upload.building, 0, len(data)) == data
    assert {tail.block_id, twin_id} <= await one.queued()
    await collector_of(one).run_once(grace_s=0)
    assert kinds(await fsck(one)) == {}


async def test_lost_found_healed_and_collected_at_once_by_everybody(postgres_site: Site) -> None:
    """Blocks vanish while files with the same bytes come and go, are scrubbed and collected."""
    one, two = await start(postgres_site), await start(postgres_site)
    pieces = [random_bytes(3 * KIB, seed) for seed in range(3)]
    for number, data in enumerate(pieces):
        await one.upload(data, f"kept-{number}")

    async def write(process: Process, turn: int) -> None:
        for number in range(4):
            await process.upload(pieces[(number + turn) % 3], f"{process.id}-{number}")

    async def break_and_scrub(process: Process) -> None:
        for _ in range(3):
            query = sa.select(sa.func.max(all_blocks.c.id)).where(all_blocks.c.state == "live")
            await delete_object(process, await block(process, await process.one(query)))
            await Scrub(process.db, process.store, bytes_per_s=1e9).run()
            await heal_all(process.db)

    async def collect() -> None:
        for _ in range(4):
            await collector_of(two).run_once(grace_s=0)

    async with asyncio.TaskGroup() as work:
        for turn, process in enumerate((one, two)):
            work.create_task(write(process, turn))
        work.create_task(break_and_scrub(one))
        work.create_task(collect())
    await Scrub(one.db, one.store, bytes_per_s=1e9).run()
    for number, data in enumerate(pieces):
        await two.upload(data, f"again-{number}")
    for number, data in enumerate(pieces):
        assert await read_file(one, f"kept-{number}") == data
    await collector_of(two).run_once(grace_s=0)
    await check_clean(one)
