"""The reaper: blocks that were announced and whose writer is gone, late, or just finishing."""

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa

from filestore.errors import StoreUnavailable
from filestore.meta import gc_reaper
from filestore.meta.processes import SILENCE_S, end_process, insert_process
from filestore.meta.tables import blocks, gc_queue
from filestore.model import KIB
from filestore_gc import Result
from tests.contract.faulty import Fault, Kind
from tests.services.collecting import (
    DAY_S,
    acts,
    block_rows,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    objects,
    pass_time,
    start,
)
from tests.services.hot_path import Process, Site, random_bytes

SIZE = 12 * KIB


async def _half_stored(process: Process) -> None:
    """An upload whose blocks are announced and put, and then nothing records them."""
    upload = await process.begin(SIZE)
    process.store.calls.clear()
    process.store.plan = [Fault("put", 0, Kind.AFTER)]
    with pytest.raises(StoreUnavailable):
        await process.append(upload, 0, random_bytes(SIZE))
    process.store.plan = []
    async with asyncio.timeout(30):
        while len(objects(process)) < len(await block_rows(process)):
            continue  # those that did not fail are on their way still
    assert {row.state for row in await block_rows(process)} == {"uploading"}


async def test_blocks_of_a_living_process_wait_for_twice_their_deadline(any_site: Site) -> None:
    process = await start(any_site, blocks__put_deadline_s=600)
    await _half_stored(process)
    stored = objects(process)
    assert stored
    collector = collector_of(process)

    await pass_time(process, 1190)
    report = await collector.run_once(grace_s=0)
    assert report.reaped.unfinished == 0, "no grace shortens this for a living process"
    assert objects(process) == stored

    await pass_time(process, 10)
    report = await collector.run_once(grace_s=0)
    assert report.reaped.unfinished == len(stored)
    assert {line.reason for line in report.freed} == {"unfinished"}
    assert objects(process) == set()


async def test_blocks_of_a_process_that_ended_are_freed_at_once(any_site: Site) -> None:
    process = await start(any_site)
    await _half_stored(process)
    stored = len(objects(process))
    await any_site.stop(process)
    after = await start(any_site)
    await after.transact(end_process, process.id)

    report = await collector_of(after).run_once(grace_s=0)

    assert (report.reaped.unfinished, report.blocks) == (stored, stored)
    assert objects(after) == set()
    assert {row.state for row in await block_rows(after)} == {"deleting"}, "a PUT may still land"
    await pass_time(after, DAY_S)
    await collector_of(after).run_once(grace_s=0)
    assert await block_rows(after) == []


@pytest.mark.needs("postgres")
async def test_a_silent_process_is_dead_after_a_minute_but_never_the_one_that_asks(
    postgres_site: Site,
) -> None:
    silent = await start(postgres_site)
    await _half_stored(silent)
    other = await start(postgres_site)
    assert (await collector_of(other).run_once(grace_s=0)).reaped.unfinished == 0

    await pass_time(other, SILENCE_S + 1, of_processes=True)
    assert (await collector_of(silent).run_once(grace_s=0)).reaped.unfinished == 0
    assert (await collector_of(other).run_once(grace_s=0)).reaped.unfinished > 0
    assert objects(other) == set()


async def test_a_process_taken_for_dead_stores_its_blocks_again_and_loses_nothing(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = random_bytes(SIZE)
    upload = await process.begin(SIZE)
    held = Fault("put", 0, Kind.HOLD)
    process.store.plan = [held]
    sending = asyncio.create_task(process.append(upload, 0, data))
    await held.reached.wait()

    whose = {"process_id": "prc_other", "alone": True}
    ids = [row.id for row in await block_rows(process) if row.state == "uploading"]
    condemned = await process.db.transact(
        lambda tx: gc_reaper.condemn_unfinished(tx, ids, **whose)  # type: ignore[arg-type]
    )
    assert condemned == len(ids) > 0
    await collector_of(process).run_once(grace_s=0)
    held.gate.set()
    done = await sending

    assert done.state == "done" and done.content_id is not None
    assert await process.read(done.content_id, 0, SIZE) == data
    await pass_time(process, DAY_S)
    await collector_of(process).run_once(grace_s=0)
    await check_everything_stored_is_referenced(process)


async def test_blocks_on_their_way_out_that_no_task_names_are_queued_again(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    collector = collector_of(process, grace_s=3600)
    condemned = (await collector.run_once()).condemned
    await process.change(gc_queue.delete())

    report = await collector.run_once(grace_s=0)

    assert (report.reaped.found, report.blocks) == (condemned, condemned)
    assert objects(process) == set()


async def test_a_lost_block_goes_when_nothing_refers_to_it_and_stays_while_something_does(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await process.change(blocks.update().values(state="lost"))
    everything = sa.select(blocks.c.id, sa.literal("test"))
    await process.change(gc_queue.insert().from_select(["block_id", "reason"], everything))
    collector = collector_of(process)
    await collector.run_once(grace_s=0)
    assert {row.state for row in await block_rows(process)} == {"lost"}

    await delete(process, "a")
    await collector.run_once(grace_s=0)
    assert objects(process) == set()


async def test_a_condemned_block_that_is_in_use_is_an_alarm_and_stays_readable(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    stored = objects(process)
    await process.change(blocks.update().values(state="condemned"))
    collector = collector_of(process)

    for _ in range(2):
        report = await collector.run_once(grace_s=0)
        assert len(report.alarms) == len(stored)
        assert {wait.why for wait in report.waiting} == {"in-use"}
    assert objects(process) == stored
    assert {row.state for row in await block_rows(process)} == {"condemned"}
    assert (await acts(process)).count("gc.alarm") == len(stored), "each is reported once"

    await process.change(blocks.update().values(state="live"))
    await collector.run_once(grace_s=0)
    assert await check_everything_referenced_reads(process) == len(stored)


async def test_a_doomed_block_that_is_in_use_is_not_removed_either(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    stored = objects(process)
    await process.change(blocks.update().values(state="deleting"))
    report = await collector_of(process).run_once(grace_s=0)
    assert len(report.alarms) == len(stored)
    assert objects(process) == stored


async def test_a_task_for_a_block_without_a_row_is_not_made(any_site: Site) -> None:
    from filestore.meta.blocks import enqueue

    process = await start(any_site)
    await process.transact(enqueue, [4711], "superseded")
    assert await process.queued() == set()


async def test_rows_of_processes_are_enough_to_tell_the_dead_from_the_living(
    any_site: Site,
) -> None:
    process = await start(any_site)
    other = await process.transact(insert_process, host="other", pid=2)
    await process.change(
        blocks.insert().values(
            domain_id="default",
            hash=bytes(32),
            generation="0" * 16,
            size=1,
            state="uploading",
            process_id=other,
            deadline_at=2**60,
        )
    )
    find = partial(gc_reaper.unfinished, process_id=process.id, after=0, limit=9)
    assert await process.db.read(partial(find, alone=False)) == []
    assert len(await process.db.read(partial(find, alone=True))) == 1
    await process.transact(end_process, other)
    assert len(await process.db.read(partial(find, alone=False))) == 1
    report = await collector_of(process).run_once(grace_s=0)
    assert report.result is Result.DONE and report.reaped.unfinished == 1
