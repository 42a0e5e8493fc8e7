"""Writers, the reaper and collectors at the same blocks, held at each step by barriers.

The facts behind these are PostgreSQL's: what a statement sees that waited for a lock, which
locks wait for which. So they run on PostgreSQL; SQLite has one writer at a time. Each test
holds one side inside its transaction and lets the other side run into it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import sqlalchemy as sa

from filestore.meta import blocks, contents, gc, gc_reaper
from filestore.meta.database import Tx
from filestore.meta.gc import Task
from filestore.meta.tables import blocks as all_blocks
from filestore.meta.tables import content_blocks, gc_queue, uploads
from filestore.model import KIB, BlockState, ChunkerParams, Codec
from filestore_gc.judging import Terms
from filestore_gc.reaping import Reaper
from filestore_gc.stepping import Stepped, settle, step
from filestore_gc.sweeping import key_of
from tests.contract.faulty import Fault, Kind
from tests.race.barriers import until_done_or_waiting
from tests.services.collecting import (
    DAY_S,
    block_rows,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    objects,
    pass_time,
    start,
    until_waiting,
)
from tests.services.hot_path import DOMAIN, Process, Site, random_bytes

pytestmark = pytest.mark.needs("postgres")

NOW = Terms(0, is_override=True)
PATIENCE_S = 10
"""A collector that waits for a lock that the test holds would wait for ever."""
DATA = random_bytes(1000)


@dataclass
class Gate:
    """Holds a transaction at a place until the test opens it."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


@dataclass
class Stage:
    """Two processes, and one block that a deleted file has left in the queue."""

    writer: Process
    collector: Process
    block_id: int

    async def step(self, terms: Terms = NOW) -> Stepped:
        """The collector's next transaction on the block. It never waits for a writer."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.collector.transact(step, [self.block_id], terms, may_doom=True)

    async def state(self) -> str | None:
        found = [row.state for row in await block_rows(self.writer) if row.id == self.block_id]
        return found[0] if found else None

    async def queued(self) -> bool:
        return self.block_id in await self.writer.queued()

    async def new_content(self) -> int:
        made = await self.writer.transact(contents.create_all, [DOMAIN], ChunkerParams())
        return made[0]


@pytest.fixture
async def stage(postgres_site: Site) -> AsyncIterator[Stage]:
    writer, collector = await start(postgres_site), await start(postgres_site)
    await writer.upload(DATA, "a")
    await delete(writer, "a")
    content_id = (await writer.transact(gc_reaper.deleting_contents, after=0, limit=1))[0]
    await writer.transact(gc_reaper.release_batch, content_id, limit=10)
    (block_id,) = await writer.queued()
    yield Stage(writer, collector, block_id)


async def _pin(tx: Tx, stage: Stage, content_id: int, gate: Gate | None = None) -> bool:
    """What a writer does with a block that it found live; whether it could."""
    if not await blocks.pin_live(tx, [stage.block_id]):
        return False
    await contents.add_rows(tx, content_id, [(0, 1000, stage.block_id, False)])
    if gate is not None:
        await gate.wait()
    return True


async def test_the_collector_does_not_wait_for_a_writer_that_pins_and_keeps_the_block(
    stage: Stage,
) -> None:
    gate, content_id = Gate(), await stage.new_content()
    pinning = asyncio.create_task(stage.writer.transact(_pin, stage, content_id, gate))
    await gate.reached.wait()

    stepped = await stage.step()
    assert (stepped.looked, stepped.moved) == (0, 0), "skipped, at once"
    gate.opened.set()
    assert await pinning

    assert [task.is_referenced for task in (await stage.step()).dropped] == [True]
    assert (await stage.state(), await stage.queued()) == ("live", False)


async def test_a_reference_that_commits_behind_the_hint_is_seen_under_the_lock(
    stage: Stage,
) -> None:
    hint = await stage.collector.db.read(lambda tx: gc.pick(tx, [stage.block_id]))
    assert [task.is_referenced for task in hint] == [False]
    assert await stage.writer.transact(_pin, stage, await stage.new_content())
    assert (await stage.step()).condemned == []
    assert await stage.state() == "live"


class Stepwise:
    """A transaction that stops behind its first statement until the gate is opened."""

    def __init__(self, tx: Tx, gate: Gate) -> None:
        self._tx = tx
        self._gate = gate

    async def execute(self, statement: Any) -> Any:
        found = await self._tx.execute(statement)
        if not self._gate.reached.is_set():
            await self._gate.wait()
        return found

    async def scalars(self, statement: Any) -> Any:
        return (await self.execute(statement)).scalars()


async def test_references_are_looked_for_behind_the_locks_in_a_statement_of_its_own(
    stage: Stage,
) -> None:
    """A pin that commits while the collector is on its way to the block's lock is seen."""
    gate = Gate()

    async def slow_look(tx: Tx) -> list[Task]:
        return await gc.look(cast(Tx, Stepwise(tx, gate)), [stage.block_id])

    looking = asyncio.create_task(stage.collector.transact(slow_look))
    await gate.reached.wait()
    assert await stage.writer.transact(_pin, stage, await stage.new_content())
    gate.opened.set()
    assert [task.is_referenced for task in await looking] == [True]


@pytest.mark.parametrize("state", [BlockState.LIVE, BlockState.CONDEMNED])
async def test_a_writer_waits_for_the_collector_and_then_does_without_the_block(
    stage: Stage, state: BlockState
) -> None:
    """Facts A to E: the pin must wait for an uncommitted step, and see what came of it."""
    if state is BlockState.CONDEMNED:
        await stage.step()
    gate, content_id = Gate(), await stage.new_content()

    async def slow_step(tx: Tx) -> Stepped:
        stepped = await step(tx, [stage.block_id], NOW, may_doom=True)
        await gate.wait()
        return stepped

    stepping = asyncio.create_task(stage.collector.transact(slow_step))
    await gate.reached.wait()
    pinning = asyncio.create_task(stage.writer.transact(_pin, stage, content_id))
    if state is BlockState.LIVE:
        await until_waiting(stage.writer)
        assert not pinning.done(), "FOR SHARE waits; FOR KEY SHARE would not have"
    gate.opened.set()
    assert (await stepping).moved == 1

    assert await pinning is False
    assert await stage.writer.all(content_blocks.select()) == []


async def test_a_pin_between_look_and_change_is_impossible(stage: Stage) -> None:
    """The block is locked before references are looked for, so none can come in between."""
    gate, content_id = Gate(), await stage.new_content()

    async def slow(tx: Tx) -> list[Task]:
        looked = await gc.look(tx, [stage.block_id])
        await gate.wait()
        await gc.condemn(tx, looked, grace_us=0)
        return looked

    stepping = asyncio.create_task(stage.collector.transact(slow))
    await gate.reached.wait()
    pinning = asyncio.create_task(stage.writer.transact(_pin, stage, content_id))
    await until_waiting(stage.writer)
    gate.opened.set()
    assert [task.is_referenced for task in await stepping] == [False]
    assert await pinning is False


async def test_a_pin_that_commits_while_the_collector_changes_the_state_is_seen(
    stage: Stage,
) -> None:
    """Fact A: one UPDATE … WHERE NOT EXISTS waits for the pin, and does not see it then."""
    gate, content_id = Gate(), await stage.new_content()
    pinning = asyncio.create_task(stage.writer.transact(_pin, stage, content_id, gate))
    await gate.reached.wait()
    stepping = asyncio.create_task(stage.step())
    await until_done_or_waiting(stage.writer, stepping)
    gate.opened.set()
    assert await pinning
    await stepping
    assert await stage.state() == "live"
    await stage.step()
    assert (await stage.state(), await stage.queued()) == ("live", False)


async def test_an_upload_whose_time_is_over_keeps_its_blocks_until_that_is_recorded(
    stage: Stage,
) -> None:
    """Its writer may be sending just now: what it records makes the upload expire later."""
    writer = stage.writer
    upload = await writer.begin(2 * len(DATA), "b")
    await writer.append(upload, 0, DATA)
    await writer.change(sa.update(uploads).values(expires_at=1))
    assert await stage.queued()

    assert len((await stage.step()).dropped) == 1

    assert await check_everything_referenced_reads(writer) == 1
    assert await Reaper(writer.db, writer.id).expire_uploads() == 1
    await collector_of(writer).run_once(grace_s=0)
    assert objects(writer) == set()


async def test_a_writer_waits_for_a_block_that_is_just_being_found_lost(stage: Stage) -> None:
    """What finds damage changes the state without locking first; FOR KEY SHARE would not wait."""
    gate, content_id = Gate(), await stage.new_content()

    async def lose(tx: Tx) -> None:
        await tx.execute(sa.update(all_blocks).values(state="lost"))
        await gate.wait()

    losing = asyncio.create_task(stage.collector.transact(lose))
    await gate.reached.wait()
    pinning = asyncio.create_task(stage.writer.transact(_pin, stage, content_id))
    await until_waiting(stage.writer)
    gate.opened.set()
    await losing
    assert await pinning is False


async def _reference(stage: Stage) -> int:
    """The block is in use by a content again, and still has its task."""
    content_id = await stage.new_content()
    assert await stage.writer.transact(_pin, stage, content_id)
    return content_id


async def test_the_task_that_a_reaper_is_just_touching_is_not_taken_away(stage: Stage) -> None:
    """The reaper has removed the reference and touched the task, uncommitted. A collector that
    locked only the block would see the reference, and remove the task that was touched."""
    content_id = await _reference(stage)
    gate = Gate()

    async def release(tx: Tx) -> None:
        gone = await contents.remove_rows(tx, content_id, start=0)
        await blocks.enqueue(tx, gone, "released")
        await gate.wait()

    releasing = asyncio.create_task(stage.writer.transact(release))
    await gate.reached.wait()
    stepped = await stage.step()
    assert (stepped.looked, stepped.moved) == (0, 0)
    gate.opened.set()
    await releasing

    assert await stage.queued()
    assert len((await stage.step()).condemned) == 1


async def test_an_event_that_comes_while_the_task_is_taken_away_makes_a_new_one(
    stage: Stage,
) -> None:
    """The collector has seen the reference and deleted the task, uncommitted; meanwhile the
    reference goes."""
    content_id = await _reference(stage)
    gate = Gate()

    async def slow_step(tx: Tx) -> Stepped:
        stepped = await step(tx, [stage.block_id], NOW, may_doom=True)
        await gate.wait()
        return stepped

    async def release(tx: Tx) -> None:
        gone = await contents.remove_rows(tx, content_id, start=0)
        await blocks.enqueue(tx, gone, "released")

    stepping = asyncio.create_task(stage.collector.transact(slow_step))
    await gate.reached.wait()
    releasing = asyncio.create_task(stage.writer.transact(release))
    await until_waiting(stage.writer)
    gate.opened.set()
    assert len((await stepping).dropped) == 1
    await releasing

    assert (await stage.state(), await stage.queued()) == ("live", True)


async def test_a_block_that_is_becoming_live_is_not_reaped(stage: Stage) -> None:
    writer = stage.writer
    new = blocks.NewBlock(bytes(32), 10, "f" * 16)
    (block_id,) = await writer.transact(
        blocks.insert_uploading, DOMAIN, writer.id, [new], deadline_s=600
    )
    gate = Gate()

    async def record(tx: Tx) -> None:
        stored = blocks.StoredBlock(block_id, new.generation, 42, Codec.PLAIN)
        assert await blocks.make_live(tx, [stored]) == {block_id}
        await gate.wait()

    recording = asyncio.create_task(writer.transact(record))
    await gate.reached.wait()
    whose = {"process_id": "prc_other", "alone": True}
    async with asyncio.timeout(PATIENCE_S):
        condemned = await stage.collector.transact(
            gc_reaper.condemn_unfinished, [block_id], **whose
        )
    gate.opened.set()
    await recording

    assert condemned == 0
    states = {row.id: row.state for row in await block_rows(writer)}
    assert states[block_id] == "live"


async def test_two_collectors_at_the_same_blocks_take_each_step_once(postgres_site: Site) -> None:
    one, two = await start(postgres_site), await start(postgres_site)
    await one.upload(random_bytes(100 * KIB), "a")
    await delete(one, "a")
    await Reaper(one.db, one.id).release_contents()
    ids = sorted(await one.queued())

    async def step_at_once() -> list[Stepped]:
        both = (process.transact(step, ids, NOW, may_doom=True) for process in (one, two))
        return list(await asyncio.gather(*both))

    condemned = [task.block_id for done in await step_at_once() for task in done.condemned]
    while len(condemned) < len(ids):
        condemned += [task.block_id for done in await step_at_once() for task in done.condemned]
    assert sorted(condemned) == ids


async def test_two_collectors_that_remove_the_same_objects_count_them_once(stage: Stage) -> None:
    await stage.step()
    await stage.step()
    assert await stage.state() == "deleting"
    removed = await stage.collector.transact(gc.pick, [stage.block_id])
    for process in (stage.writer, stage.collector):
        await process.store.remove([key_of(task) for task in removed])
    settled = [
        await process.transact(settle, removed) for process in (stage.writer, stage.collector)
    ]
    assert [len(done.freed) for done in settled] == [1, 0]


async def test_a_delete_that_arrives_late_cannot_hit_what_was_stored_again(stage: Stage) -> None:
    await stage.step()
    await stage.step()
    stale = await stage.collector.transact(gc.pick, [stage.block_id])
    await stage.writer.upload(DATA, "again")
    await stage.collector.store.remove([key_of(task) for task in stale])
    assert await check_everything_referenced_reads(stage.writer) == 1


async def test_the_loser_of_a_race_for_the_same_bytes_leaves_nothing_behind(
    postgres_site: Site,
) -> None:
    one, two = await start(postgres_site), await start(postgres_site)
    faults = [Fault("put", 1, Kind.HOLD) for _ in range(2)]
    for process, fault in zip((one, two), faults, strict=True):
        process.store.plan = [fault]
    sending = [
        asyncio.create_task(process.upload(DATA, name))
        for process, name in ((one, "a"), (two, "b"))
    ]
    for fault in faults:
        await fault.reached.wait()
    assert [row.state for row in await block_rows(one)] == ["uploading"] * 2
    for fault in faults:
        fault.gate.set()
    await asyncio.gather(*sending)

    report = await collector_of(one).run_once(grace_s=0)

    assert report.blocks == 1
    assert len(objects(one)) == 1
    assert await check_everything_referenced_reads(one) == 2
    await pass_time(one, DAY_S)
    await collector_of(two).run_once(grace_s=0)
    await check_everything_stored_is_referenced(one)
    assert len(await block_rows(one)) == 1


async def test_a_run_that_was_asked_for_waits_for_a_writer_that_holds_a_block(
    stage: Stage,
) -> None:
    gate = Gate()

    async def hold(tx: Tx) -> None:
        """Locks the task, and changes nothing in the end."""
        await tx.execute(gc_queue.select().with_for_update())
        await gate.wait()

    holding = asyncio.create_task(stage.writer.transact(hold))
    await gate.reached.wait()
    guard = Fault("read_identity", stage.collector.store.calls["read_identity"] + 1, Kind.HOLD)
    stage.collector.store.plan = [guard]
    running = asyncio.create_task(collector_of(stage.collector).run_once(grace_s=0))
    await guard.reached.wait()
    guard.gate.set()
    gate.opened.set()
    await holding
    report = await running
    assert (report.blocks, report.busy) == (1, 0)
    assert objects(stage.writer) == set()
