"""A store that fails: each kind of fault, in each call of a fixed small collection.

Whatever the store does, nothing that is referred to is lost; and once it is well again, the
next runs leave nothing that is not referred to.
"""

import asyncio
from typing import Final

import pytest
import sqlalchemy as sa

from filestore.blocks.port import BlockKey
from filestore.errors import StoreError
from filestore.meta.tables import blocks
from filestore.model import KIB
from filestore_gc import Report, Result, run_scrub
from tests.contract.faulty import Fault, FaultyStore, Kind, Operation
from tests.services.collecting import (
    DAY_S,
    block_rows,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    pass_time,
    start,
)
from tests.services.damage import repaired
from tests.services.hot_path import ACTOR, Process, Site, random_bytes

SIZE: Final = 6 * KIB
KEPT: Final = random_bytes(SIZE, "shared") + random_bytes(SIZE, "kept")
CALLS: Final[tuple[Operation, ...]] = ("read_identity", "write_identity", "remove")
"""What a collection asks of a store."""
KINDS: Final = (Kind.BEFORE, Kind.AFTER, Kind.SLOW_DOWN, Kind.FULL, Kind.HOLD)


async def _scene(process: Process) -> None:
    """A file that is gone and shares a part with one that stays, an upload that ended, and
    blocks whose rows are old enough to go with them."""
    await process.upload(random_bytes(SIZE, "shared") + random_bytes(SIZE, "gone"), "gone")
    upload = await process.begin(2 * SIZE, "half")
    await process.append(upload, 0, random_bytes(SIZE, "half"))
    await delete(process, "gone")
    await process.hot.transfers.terminate(ACTOR, upload.id)
    await pass_time(process, DAY_S)


async def _collect(process: Process, fault: Fault) -> Report:
    """A run into the fault. One that is held gets an upload of the same bytes meanwhile."""
    running = asyncio.create_task(collector_of(process).run_once(grace_s=0))
    if fault.kind is Kind.HOLD:
        reached = asyncio.create_task(fault.reached.wait())
        await asyncio.wait({running, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if not running.done():
            await process.upload(random_bytes(SIZE, "gone"), "again")
            fault.gate.set()
    return await running


async def _check_converged(process: Process) -> None:
    process.store.plan = []
    await collector_of(process).run_once(grace_s=0)
    await pass_time(process, DAY_S)
    report = await collector_of(process).run_once(grace_s=0)
    assert report.result.is_good and not report.waiting, report
    await check_everything_stored_is_referenced(process)
    assert {row.state for row in await block_rows(process)} == {"live"}
    await process.check_references()
    await process.check_books()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", CALLS)
async def test_a_fault_in_any_call_of_a_collection_loses_nothing_and_leaves_nothing(
    memory_site: Site, operation: Operation, kind: Kind
) -> None:
    process = await start(memory_site)
    await process.upload(KEPT, "kept")
    for nth in range(1, 100):
        await _scene(process)
        fault = Fault(operation, nth, kind)
        process.store.calls.clear()
        process.store.plan = [fault]

        report = await _collect(process, fault)

        if not fault.reached.is_set():
            break
        assert not report.alarms
        assert report.result.is_good or report.result is Result.FAILED, report
        assert (kind is Kind.HOLD) <= report.result.is_good
        assert await check_everything_referenced_reads(process) >= 4
        await _check_converged(process)
    assert nth > 1, f"no {operation} was ever called"


@pytest.mark.parametrize("kind", [Kind.WRONG_BYTES, Kind.TRUNCATED, Kind.BEFORE, Kind.SLOW_DOWN])
async def test_one_bad_answer_to_any_read_of_a_scrub_marks_nothing_as_lost(
    memory_site: Site, kind: Kind
) -> None:
    process = await start(memory_site)
    await process.upload(KEPT, "kept")
    for nth in range(1, 100):
        fault = Fault("get", nth, kind)
        process.store.calls.clear()
        process.store.plan = [fault]
        report = await run_scrub(process.db, process.store, memory_site.settings)
        assert report.lost == 0, report.to_text()
        assert set(await process.block_states()) == {"live"}
        if not fault.reached.is_set():
            break
    assert nth > 4


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.TRUNCATED, Kind.AFTER])
async def test_a_listing_that_breaks_off_in_a_repair_condemns_nothing(
    memory_site: Site, kind: Kind
) -> None:
    process = await start(memory_site)
    await process.upload(KEPT, "kept")
    for nth in range(1, 100):
        fault = Fault("walk", nth, kind)
        process.store.calls.clear()
        process.store.plan = [fault]
        try:
            await repaired(process)
        except StoreError:
            pass
        assert set(await process.block_states()) == {"live"}
        assert await check_everything_referenced_reads(process) >= 4
        if not fault.reached.is_set():
            break
    assert nth > 1
    await _check_converged(process)


class Watched(FaultyStore):
    """Notes what the database says to everybody of each block whose object is to go."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.store.inner)
        self._process = process
        self.states: list[str] = []

    async def remove(self, keys: list[BlockKey]) -> None:  # type: ignore[override]
        names = [key.generation for key in keys]
        query = sa.select(blocks.c.state).where(blocks.c.generation.in_(names))
        self.states += [row.state for row in await self._process.all(query)]
        await super().remove(keys)


async def test_no_object_goes_before_its_row_says_so_to_everybody(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    watched = Watched(process)
    process.store = watched
    await collector_of(process).run_once(grace_s=0)
    assert len(watched.states) > 1
    assert set(watched.states) == {"deleting"}
