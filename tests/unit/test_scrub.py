"""Scrub: what is read back in which order and at which rate, what is lost, and what is not."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.blocks.memory import MemoryStore
from filestore.meta import gc_figures
from filestore.meta.tables import blocks
from filestore.model import KIB, MIB
from filestore_gc.heal import key_of
from filestore_gc.scrub import BATCH, Scrub, ScrubReport, ScrubResult, run_scrub
from tests.contract.faulty import Fault, Kind, Operation
from tests.services.collecting import collector_of, delete, start
from tests.services.damage import (
    FILE,
    audited,
    block,
    blocks_of,
    change_object,
    check_clean,
    content_of,
    delete_object,
    on_disk,
    put_file,
    read_file,
    stored,
    stored_site,
    told,
    until_reached,
)
from tests.services.hot_path import Process, Site, random_bytes

__all__ = ["on_disk", "stored", "stored_site"]

FAST = 1000 * MIB


async def scrub(process: Process, **options: Any) -> ScrubReport:
    return await Scrub(process.db, process.store, **{"bytes_per_s": FAST} | options).run()


async def checks(process: Process) -> list[int]:
    """When each live block was last checked, oldest first."""
    query = sa.select(blocks.c.checked_at).where(blocks.c.state == "live")
    return sorted(row.checked_at for row in await process.all(query))


async def test_a_store_that_is_well_is_read_once_and_every_check_is_recorded(
    stored: Process,
) -> None:
    await put_file(stored, "plain", 1)
    await stored.upload(b"zero" * FILE, "compressed")
    codecs = {row.codec for row in await stored.all(sa.select(blocks.c.codec))}
    assert codecs == {"plain", "zstd"}

    report = await scrub(stored)

    every = await stored.all(sa.select(blocks.c.stored_size))
    assert (report.result, report.exit_code) == (ScrubResult.CLEAN, 0)
    assert (report.blocks, report.bytes) == (len(every), sum(row.stored_size for row in every))
    assert min(await checks(stored)) >= report.started_at
    assert "read and verified" in report.to_text()
    (row,) = await audited(stored, "scrub.run")
    assert row.target == "clean"


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
async def test_bad_blocks_become_lost_their_group_is_told_and_the_same_bytes_heal_them(
    on_disk: Site, damage: str
) -> None:
    process = await start(on_disk)
    files = {"plain": random_bytes(FILE), "compressed": b"zero" * 5000}
    bad = {}
    for name, data in files.items():
        await process.upload(data, name)
        (bad[name], *_) = await blocks_of(process, await content_of(process, name))
        if damage == "gone":
            await delete_object(process, bad[name])
        else:
            await change_object(process, bad[name], size=40 if damage == "cut" else None)
    assert {block.codec for block in bad.values()} == {"plain", "zstd"}
    await put_file(process, "other", 2)

    report = await scrub(process)

    assert (report.result, report.lost, report.exit_code) == (ScrubResult.DAMAGE, 2, 1)
    named = {lost.subject: [file.path for file in lost.affected.files] for lost in report.named}
    assert named == {key_of(bad[name]).path: [f"/{name}"] for name in files}
    assert "/plain" in report.to_text() and report.to_json()["lost"] == 2
    assert [(await block(process, each.block_id)).state for each in bad.values()] == ["lost"] * 2
    assert len(await told(process, "file.damaged")) == 2

    again = await scrub(process)
    assert (again.lost, again.still_lost) == (0, 2)
    for name, data in files.items():
        await process.upload(data, "again")
        assert await read_file(process, name) == data
    assert (await scrub(process)).exit_code == 0
    await check_clean(process)


async def test_a_lost_block_that_reads_well_again_becomes_live(stored: Process) -> None:
    data = await put_file(stored, "a", 1)
    (first, second, *_) = await blocks_of(stored, await content_of(stored, "a"))
    good = await change_object(stored, first)
    await delete_object(stored, second)
    assert (await scrub(stored)).lost == 2

    await stored.store.inner.put(key_of(first), [good])
    report = await scrub(stored)
    assert (report.revived, report.still_lost, report.exit_code) == (1, 1, 1)
    assert (await block(stored, first.block_id)).state == "live"
    assert (await block(stored, second.block_id)).state == "lost"
    await stored.upload(data, "again")
    await check_clean(stored)


async def test_a_lost_block_with_a_live_twin_stays_lost_and_is_healed(any_site: Site) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    good = await change_object(process, first)
    await scrub(process)
    await process.upload(data, "again")
    await process.store.inner.put(key_of(first), [good])
    report = await scrub(process)
    assert (report.revived, report.exit_code) == (0, 0)
    assert (await block(process, first.block_id)).state == "lost"
    await collector_of(process).run_once(grace_s=0)
    assert await read_file(process, "a") == data


# ---- what is no damage ---------------------------------------------------------------------


@pytest.mark.parametrize("fails", [Kind.WRONG_BYTES, Kind.TRUNCATED])
async def test_what_reads_well_at_the_second_look_is_well(memory_site: Site, fails: Kind) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    process.store.plan = [Fault("get", 3, fails)]
    assert (await scrub(process)).result is ScrubResult.CLEAN


@pytest.mark.parametrize("operation", ["get", "read_identity"])
async def test_a_store_that_does_not_answer_is_no_damage(
    memory_site: Site, operation: Operation
) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    before = await checks(process)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, first)
    process.store.plan = [Fault(operation, 0, Kind.BEFORE)]

    report = await scrub(process)
    assert (report.result, report.lost, report.exit_code) == (ScrubResult.FAILED, 0, 1)
    assert report.problem is not None and report.problem.code == "store-unavailable"
    assert set(await process.block_states()) == {"live"}
    assert await checks(process) == before


async def test_an_empty_folder_in_place_of_the_store_marks_nothing(
    on_disk: Site, tmp_path: Path
) -> None:
    process = await start(on_disk)
    await put_file(process, "a", 1)
    shutil.move(tmp_path / "blocks", tmp_path / "away")
    (tmp_path / "blocks").mkdir()
    assert (await scrub(process)).result is ScrubResult.FAILED
    assert set(await process.block_states()) == {"live"}


async def test_a_store_whose_mark_goes_while_blocks_are_read_marks_nothing(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    store = process.store.inner
    assert isinstance(store, MemoryStore)
    first_read = Fault("get", 1, Kind.HOLD)
    process.store.plan = [first_read]
    running = asyncio.create_task(scrub(process))
    await until_reached(first_read, running)
    store.objects, store.marks = {}, []
    first_read.gate.set()
    report = await running
    assert (report.result, report.lost) == (ScrubResult.FAILED, 0)
    assert set(await process.block_states()) == {"live"}


async def test_a_store_of_another_database_is_not_read(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    store = process.store.inner
    assert isinstance(store, MemoryStore)
    store.marks = ["sto_other.1"]
    report = await scrub(process)
    assert (report.result, report.blocks) == (ScrubResult.REFUSED, 0)
    assert process.store.calls["get"] == 0


# ---- order and rate ------------------------------------------------------------------------


async def test_the_oldest_check_comes_first_and_a_run_goes_on_where_the_last_ended(
    any_site: Site,
) -> None:
    process = await start(any_site)
    for number in range(3):
        await process.upload(random_bytes(100 * KIB, number), f"f{number}")
    every = await process.all(sa.select(blocks.c.id))
    assert len(every) > 2 * BATCH
    for age, row in enumerate(every):
        old = sa.update(blocks).where(blocks.c.id == row.id)
        await process.change(old.values(checked_at=None if age == 7 else 1000 - age))

    process.store.plan = [Fault("get", BATCH + 5, Kind.BEFORE)]
    broken = await scrub(process)
    assert broken.result is ScrubResult.FAILED
    unread = [at for at in await checks(process) if at <= 1000]
    assert BATCH <= len(every) - len(unread) < 2 * BATCH, "not the batch behind"
    assert max(unread) == 1000, "the youngest check is not read yet"

    process.store.plan = []
    process.store.calls.clear()
    rest = await scrub(process, older_than_s=60)
    assert rest.result is ScrubResult.CLEAN
    assert rest.blocks == process.store.calls["get"] == len(unread)
    assert min(await checks(process)) > 1000


async def test_what_was_checked_lately_is_left_out(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    assert (await scrub(process, older_than_s=3600)).blocks == 0
    assert (await scrub(process)).blocks > 5


async def test_the_rate_is_kept(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    now = 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    report = await scrub(process, bytes_per_s=KIB, clock=lambda: now, sleep=sleep)
    last = max(row.stored_size for row in await process.all(sa.select(blocks.c.stored_size)))
    assert report.bytes > FILE
    assert (report.bytes - last) / KIB - 1 <= now <= report.bytes / KIB
    assert all(seconds > 0 for seconds in slept)


async def test_uploads_and_collection_go_on_meanwhile(any_site: Site) -> None:
    process = await start(any_site)
    for number in range(4):
        await put_file(process, f"kept-{number}", number)

    async def work(who: int) -> None:
        for number in range(2):
            name = f"{who}-{number}"
            await put_file(process, name, name)
            await put_file(process, f"copy-{name}", number % 4)
            await delete(process, name)
            await collector_of(process).run_once(grace_s=0)

    async def scrubs() -> list[ScrubReport]:
        return [await scrub(process) for _ in range(3)]

    async with asyncio.TaskGroup() as tasks:
        scrubbing = tasks.create_task(scrubs())
        for who in range(2):
            tasks.create_task(work(who))
    for report in scrubbing.result():
        assert (report.result, report.lost) == (ScrubResult.CLEAN, 0), report.to_text()
    assert await process.db.read(gc_figures.count_live) > 0
    await check_clean(process)


# ---- as a job runs it ----------------------------------------------------------------------


async def test_a_run_takes_its_rate_from_the_settings_and_tells_how_far_it_is(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    data = await put_file(process, "a", 1)
    (bad, *rest) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, bad)
    told: list[dict[str, int]] = []
    report = await run_scrub(process.db, process.store, memory_site.settings, progress=told.append)
    assert not report.is_good and report.lost == 1
    first, last = told[0], told[-1]
    assert first["blocks"] == 0 and first["blocks_total"] == 1 + len(rest)
    assert last["blocks"] == last["blocks_total"] and last["bytes"] == report.bytes
    assert last["lost"] == 1

    await process.upload(data, "again")
    told.clear()
    again = await run_scrub(
        process.db,
        process.store,
        memory_site.settings,
        bytes_per_s=FAST,
        older_than_s=3600,
        progress=told.append,
    )
    assert again.is_good and told[-1]["blocks_total"] == again.blocks == 0


async def test_a_scrub_that_is_cancelled_keeps_what_it_has_read(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    await process.change(sa.update(blocks).values(checked_at=1))
    last = Fault("get", len(await checks(process)), Kind.HOLD)
    process.store.plan = [last]
    running = asyncio.create_task(scrub(process))
    await until_reached(last, running)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert max(await checks(process)) > 1 == min(await checks(process)), "what was read well"
    assert set(await process.block_states()) == {"live"}
    process.store.plan = []
    assert (await scrub(process)).is_good
