"""Scrub by itself: in portions that go on, slowly enough, one at a time, and ended at once."""

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.meta import gc_figures, healing, leases
from filestore.meta.tables import blocks
from filestore.model import GIB, KIB, MIB
from filestore_gc import lease
from filestore_gc.scrub import BATCH, ScrubResult
from filestore_gc.scrubbing import SCRUB, SLOWEST, Portions, Scrubber, rate_for, running_scrubber
from tests.contract.faulty import Fault, Kind
from tests.services.collecting import start
from tests.services.damage import (
    audited,
    blocks_of,
    content_of,
    delete_object,
    put_file,
    until_reached,
)
from tests.services.hot_path import Process, Site, random_bytes

DAY_S = 86_400
AT_ONCE = Portions(work_s=3600, rest_s=0)


def scrubber_of(process: Process, site: Site, portions: Portions = AT_ONCE) -> Scrubber:
    return Scrubber(process.db, process.store, process.id, site.settings, portions=portions)


async def make_due(process: Process) -> None:
    """All blocks were read back 16 days ago."""
    then = await process.db.read(gc_figures.clock) - 16 * DAY_S * 10**6
    await process.change(sa.update(blocks).values(checked_at=then))


async def last(process: Process) -> Any:
    return await process.db.read(lambda tx: leases.last_turn(tx, SCRUB))


def test_the_rate_reads_all_within_half_of_the_interval_within_its_bounds() -> None:
    half_s = 15 * DAY_S
    assert rate_for(4096 * GIB, interval_s=30 * DAY_S, at_most=50 * MIB) > 4096 * GIB / half_s
    assert rate_for(4096 * GIB, interval_s=30 * DAY_S, at_most=MIB) == MIB
    assert rate_for(0, interval_s=30 * DAY_S, at_most=50 * MIB) == SLOWEST
    assert rate_for(10 * GIB, interval_s=1, at_most=50 * MIB) == 50 * MIB


async def test_portions_read_what_is_due_and_go_on_where_the_last_one_ended(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(300 * KIB), "a")
    every = len(await process.all(sa.select(blocks.c.id)))
    assert every > BATCH
    short = scrubber_of(process, any_site, Portions(work_s=0, rest_s=0))
    young = await short.run_if_due()
    assert young is not None and young.blocks == 0, "nothing is due"

    await make_due(process)
    first = await short.run_if_due()
    rest = await scrubber_of(process, any_site).run_if_due()
    assert first is not None and rest is not None
    assert (first.blocks, rest.blocks) == (BATCH, every - BATCH)
    oldest = await process.db.read(healing.oldest_check)
    assert oldest is not None and oldest >= first.started_at

    found = await last(process)
    assert found.result == "clean"
    assert json.loads(found.report)["totals"]["blocks"] == every
    assert await audited(process, "scrub.run") == [], "nothing to tell of"
    resting = scrubber_of(process, any_site, Portions(rest_s=600))
    assert await resting.run_if_due() is None


async def test_what_is_lost_is_told_once_and_still_known_by_the_next_portion(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    (gone, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, gone)
    await make_due(process)
    scrubber = scrubber_of(process, memory_site)

    found, again = await scrubber.run_if_due(), await scrubber.run_if_due()

    assert found is not None and again is not None
    assert (found.result, found.lost) == (ScrubResult.DAMAGE, 1)
    assert (again.result, again.lost, again.still_lost) == (ScrubResult.DAMAGE, 0, 1)
    (row,) = await audited(process, "scrub.run")
    assert row.actor_id is None and row.target == "damage"


async def test_a_scrub_that_is_asked_for_takes_the_place_of_one_by_itself(
    postgres_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "CHECK_S", 0)
    mine, other = await start(postgres_site), await start(postgres_site)
    await mine.upload(random_bytes(300 * KIB), "a")
    await make_due(mine)
    fault = Fault("get", 1, Kind.HOLD)
    mine.store.plan = [fault]
    scrubber = scrubber_of(mine, postgres_site)
    running = asyncio.create_task(scrubber.run_if_due())
    await until_reached(fault, running)
    assert await scrubber_of(other, postgres_site).run_if_due() is None, "one at a time"

    report = await scrubber_of(other, postgres_site).run_once()
    assert report.blocks > BATCH
    before = await last(mine)
    fault.gate.set()
    assert await running is None, "it lets go behind the batch"
    assert mine.store.calls["get"] <= BATCH
    assert await last(mine) == before, "the one by itself does not overwrite the report"


async def test_it_runs_by_itself_until_the_service_ends(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    await make_due(process)
    held = Fault("get", 3, Kind.HOLD)
    process.store.plan = [held]
    begun = asyncio.Event()

    async with running_scrubber(
        memory_site.settings, process.db, process.store, process.id,
        begin=begun.wait, portions=AT_ONCE,
    ):  # fmt: skip
        assert not held.reached.is_set()
        begun.set()
        async with asyncio.timeout(10):
            await held.reached.wait()
    assert (await last(process)).result == "stopped"
    assert set(await process.block_states()) == {"live"}


async def test_with_an_interval_of_0_it_does_not_run_by_itself(memory_site: Site) -> None:
    process = await start(memory_site)
    off = memory_site.settings.scrub.model_copy(update={"interval_s": 0})
    settings = memory_site.settings.model_copy(update={"scrub": off})
    alone = asyncio.all_tasks()
    async with running_scrubber(settings, process.db, process.store, process.id) as scrubber:
        assert asyncio.all_tasks() == alone
        assert (await scrubber.run_once()).is_good, "but when it is asked"
