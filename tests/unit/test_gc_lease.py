"""One collection at a time: whoever else wants to waits, goes without, or takes over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from filestore.meta import leases
from filestore.meta.database import Tx
from filestore.meta.processes import SILENCE_S, end_process
from filestore.model import KIB
from filestore_gc import Result, running_collector
from filestore_gc.lease import NAME, Lease, TakenOver
from filestore_gc.pacing import LEAST, LEAST_OF_ONE, TARGET_OF_ONE_S, TARGET_S, Pace, Stride
from tests.contract.faulty import Fault, Kind
from tests.services.collecting import (
    collector_of,
    delete,
    objects,
    pass_time,
    start,
    until_waiting,
)
from tests.services.hot_path import Process, Site, random_bytes

SIZE = 12 * KIB


@pytest.fixture
async def pair(postgres_site: Site) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes on one database and one store."""
    yield await start(postgres_site), await start(postgres_site)


def _held(process: Process) -> Fault:
    """The next removal of the process waits."""
    fault = Fault("remove", process.store.calls["remove"] + 1, Kind.HOLD)
    process.store.plan = [fault]
    return fault


async def test_a_run_waits_for_the_collection_of_another_process(
    pair: tuple[Process, Process],
) -> None:
    first, second = pair
    await first.upload(random_bytes(SIZE), "a")
    await delete(first, "a")
    fault = _held(first)
    running = asyncio.create_task(collector_of(first).run_once(grace_s=0))
    await fault.reached.wait()

    assert await collector_of(second, rest_s=0).run_if_due() is None
    asked = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asked.set()
        await fault.gate.wait()

    patient = collector_of(second)
    patient._lease = Lease(second.db, second.id, sleep=sleep)
    waiting = asyncio.create_task(patient.run_once(grace_s=0))
    await asked.wait()
    assert second.store.calls["remove"] == 0
    fault.gate.set()

    assert (await running).blocks > 0
    assert (await waiting).result is Result.NOTHING
    assert second.store.calls["remove"] == 0, "nothing was removed twice"


async def test_runs_of_one_process_take_turns(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    collector = collector_of(process)
    reports = await asyncio.gather(*(collector.run_once(grace_s=0) for _ in range(3)))
    assert sorted(report.result for report in reports) == ["done", "nothing", "nothing"]


async def test_the_lease_of_a_dead_process_is_taken_over_and_it_notices(
    pair: tuple[Process, Process],
) -> None:
    first, second = pair
    lease, other = Lease(first.db, first.id), Lease(second.db, second.id)
    async with lease.waiting() as turn:
        async with other.if_due(0) as none:
            assert none is None
        await pass_time(second, SILENCE_S + 1, of_processes=True)
        async with other.if_due(3600) as mine:
            assert mine is not None and mine.number == turn.number + 1
            turn._checked_at -= 60
            with pytest.raises(TakenOver):
                await turn.keep()
            mine.result = "done"
    last = await second.transact(leases.last_turn, NAME)
    assert last is not None
    assert (last.turn, last.result) == (turn.number + 1, "done"), "the first said nothing more"


async def test_a_process_that_ended_without_a_word_to_the_lease_has_let_go(
    pair: tuple[Process, Process],
) -> None:
    first, second = pair
    taken = await first.transact(leases.take, NAME, first.id, alone=False)
    assert taken == 1
    assert await second.transact(leases.take, NAME, second.id, alone=False) is None
    await second.transact(end_process, first.id)
    assert await second.transact(leases.take, NAME, second.id, alone=False) == 2
    assert not await first.transact(leases.release, NAME, 1, result="done", report=None)


async def test_of_two_that_take_a_free_lease_at_the_same_time_one_gets_it(
    pair: tuple[Process, Process],
) -> None:
    """The second waits for the first one's row, and must not judge by what was there before."""
    first, second = pair
    assert await first.transact(leases.take, NAME, first.id, alone=False) == 1
    assert await first.transact(leases.release, NAME, 1, result="done", report=None)
    taken, opened = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Tx) -> int | None:
        number = await leases.take(tx, NAME, first.id, alone=False)
        taken.set()
        await opened.wait()
        return number

    one = asyncio.create_task(first.transact(slowly))
    await taken.wait()
    two = asyncio.create_task(second.transact(leases.take, NAME, second.id, alone=False))
    await until_waiting(first)
    opened.set()
    assert (await one, await two) == (2, None)


async def test_a_run_that_is_cancelled_lets_go_of_the_lease(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    collector = collector_of(process)
    fault = _held(process)
    running = asyncio.create_task(collector.run_once(grace_s=0))
    await fault.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    last = await process.transact(leases.last_turn, NAME)
    assert last is not None and (last.process_id, last.result) == (None, "stopped")
    assert (await collector.run_once(grace_s=0)).blocks > 0
    assert objects(process) == set()


async def test_the_running_collector_ends_with_its_block(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    before = asyncio.all_tasks()
    settings = any_site.settings
    async with running_collector(settings, process.db, process.store, process.id) as collector:
        assert (await collector.run_once()).condemned > 0
        assert (await collector.run_once(grace_s=0)).blocks > 0
    assert asyncio.all_tasks() == before


async def test_removals_are_paced() -> None:
    now, waits = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        waits.append(seconds)

    pace = Pace(100, clock=lambda: now, sleep=sleep)
    for _ in range(3):
        await pace.take(50)
    assert waits == [0.5, 0.5]
    now += 60
    await pace.take(100)
    await pace.take(1)
    assert waits == [0.5, 0.5, 1.0], "nobody saves up while idle"


def test_a_transaction_takes_fewer_blocks_where_it_is_slow_and_more_where_it_is_quick() -> None:
    stride = Stride(100)
    assert stride.size == LEAST, "a busy database is so at once"
    for _ in range(20):
        stride.note(TARGET_S / 10)
    assert stride.size == 100
    stride.note(TARGET_S * 0.7)
    assert stride.size == 100, "within the bound, and not so quick that more would be"
    stride.note(TARGET_S * 2)
    assert stride.size == 50
    for _ in range(5):
        stride.note(1.0)
    assert stride.size == LEAST, "no less: what takes long is the number of statements"


def test_where_one_at_a_time_can_write_a_transaction_is_shorter() -> None:
    assert TARGET_OF_ONE_S < TARGET_S and LEAST_OF_ONE < LEAST
    stride = Stride(100, is_one=True)
    assert stride.size == LEAST_OF_ONE
    for _ in range(20):
        stride.note(TARGET_OF_ONE_S / 10)
    assert stride.size == 100
    for size in (50, 25, LEAST_OF_ONE, LEAST_OF_ONE):
        stride.note(TARGET_S * 0.9)  # not too long for others
        assert stride.size == size


def test_a_stride_is_never_more_than_asked_for() -> None:
    stride = Stride(5)
    stride.note(1.0)
    assert stride.size == 5
    stride.note(0.0)
    assert stride.size == 5
