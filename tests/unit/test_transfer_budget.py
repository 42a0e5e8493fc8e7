"""Memory is bounded: a crowd of slow uploads finishes within a small budget."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from filestore.errors import Overloaded
from filestore.model import KIB, MIB
from filestore.transfer.budget import MemoryBudget
from filestore.transfer.checksums import Checksum
from filestore.transfer.source import Broken
from tests.contract.faulty import Fault, Kind
from tests.services.hot_path import Body, Held, Process, random_bytes, sqlite_site

pytestmark = pytest.mark.usefixtures("no_lost_errors")

CROWD = 40
SIZE = 40 * KIB
PIECE = 8 * KIB
BUDGET = 32 * MIB


class Crowd:
    """Bodies of which a random one gets its next piece, whenever somebody waits for one."""

    def __init__(self, seed: int, budget: MemoryBudget) -> None:
        self._random = random.Random(seed)
        self._budget = budget
        self.most = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._somebody = asyncio.Event()

    async def turn(self) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self._somebody.set()
        await mine

    async def run(self) -> None:
        while True:
            await self._somebody.wait()
            index = self._random.randrange(len(self._waiting))
            self._waiting[index], self._waiting[-1] = self._waiting[-1], self._waiting[index]
            chosen = self._waiting.pop()
            if not chosen.done():
                chosen.set_result(None)
            if not self._waiting:
                self._somebody.clear()
            self.most = max(self.most, self._budget.used)
            await asyncio.sleep(0)


class Trickle:
    """One body of the crowd."""

    def __init__(self, crowd: Crowd, data: bytes) -> None:
        self._crowd = crowd
        self._data = data
        self._position = 0

    async def read(self, wanted: int) -> bytes:
        await self._crowd.turn()
        piece = self._data[self._position : self._position + PIECE]
        self._position += len(piece)
        return piece


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Process]:
    async with sqlite_site(tmp_path) as site:
        yield await site.start(transfer__memory_budget_bytes=BUDGET)


async def test_a_crowd_of_trickling_uploads_finishes_within_the_budget(at: Process) -> None:
    seed = 5
    budget = at.hot.engine.budget
    budget.total = 3 * MIB // 4
    crowd = Crowd(seed, budget)
    assert SIZE * CROWD > 2 * budget.total, "they cannot all be held at once"

    async def one(number: int) -> str:
        data = random_bytes(SIZE, number % 20)
        upload = await at.begin(SIZE, f"f{number}")
        body = Trickle(crowd, data)
        upload = await at.append(upload, 0, body)
        return upload.state

    giving = asyncio.create_task(crowd.run())
    states = await asyncio.gather(*(one(number) for number in range(CROWD)))
    giving.cancel()

    assert set(states) == {"done"}, seed
    assert crowd.most <= budget.total * 1.1, "what is in hand already is charged without waiting"
    await at.check_rest()
    await at.check_books()


async def test_idle_uploads_are_flushed_for_one_that_is_fast(at: Process) -> None:
    budget = at.hot.engine.budget
    idle = []
    data = random_bytes(500 * KIB, "idle")
    for number in range(40):  # 20 MiB behind their last cuts: more than there is
        upload = await at.begin(MIB, f"idle{number}")
        body = Held(data, step=64 * KIB)
        idle.append((upload, body, asyncio.create_task(at.append(upload, 0, body))))
    fast = random_bytes(12 * MIB, "fast")
    upload = await asyncio.wait_for(at.upload(fast, "fast"), 60)
    assert upload.state == "done"
    assert budget.used <= budget.total
    for waiting, body, running in idle:
        body.gate.set()
        found = await running
        assert (found.offset, found.is_open) == (500 * KIB, True), waiting.id
    await at.check_rest()


async def test_what_was_flushed_goes_on_as_if_it_had_not_been(at: Process) -> None:
    data = random_bytes(900 * KIB, "flushed")
    upload = await at.begin(len(data))
    body = Held(data[: 300 * KIB], data[300 * KIB :], step=64 * KIB)
    running = asyncio.create_task(at.append(upload, 0, body))
    await body.waiting.wait()
    holder = next(iter(at.hot.engine.budget._holders.values()))
    holder.let_go()
    while (await at.look(upload)).offset == 0:
        assert not running.done()
    assert any(row.is_provisional for row in await at.rows(upload.building))
    body.gate.set()
    upload = await running
    assert upload.state == "done" and upload.content_id is not None
    assert await at.read(upload.content_id, 0, len(data)) == data
    assert len(await at.rows(upload.content_id)) <= 2
    await at.check_rest()


async def test_a_flush_never_records_the_whole_file_before_its_end(at: Process) -> None:
    data = random_bytes(300 * KIB, "whole")
    upload = await at.begin(len(data))
    body = Held(data, step=64 * KIB)
    running = asyncio.create_task(at.append(upload, 0, body))
    await body.waiting.wait()
    holder = next(iter(at.hot.engine.budget._holders.values()))
    for _ in range(20):
        holder.let_go()
        assert (await at.look(upload)).offset < len(data)
    body.gate.set()
    assert (await running).state == "done"
    await at.check_rest()


async def test_every_way_to_fail_gives_the_memory_back(at: Process) -> None:
    for nth in range(1, 7):
        at.store.calls.clear()
        at.store.plan = [Fault("put", nth, Kind.BEFORE)]
        data = random_bytes(8 * MIB, nth)
        upload = await at.begin(len(data), f"f{nth}")
        with pytest.raises(Exception):  # noqa: B017  (which one is tested elsewhere)
            await at.append(upload, 0, data)
        await at.check_rest()
    at.store.plan = []


async def test_a_source_with_a_defect_gives_the_memory_back(at: Process) -> None:
    class Defective:
        async def read(self, wanted: int) -> bytes:
            raise LookupError

    upload = await at.begin(MIB)
    with pytest.raises(LookupError):
        await at.append(upload, 0, Defective())
    await at.check_rest()
    with pytest.raises(Broken):
        await at.append(upload, 0, _Breaking())
    await at.check_rest()


class _Breaking:
    async def read(self, wanted: int) -> bytes:
        raise Broken(seconds=0)


async def test_bodies_under_checksums_do_not_wait_for_each_other(at: Process) -> None:
    """Each holds bytes behind its last cut and waits for memory: together they hold all of it."""
    budget = at.hot.engine.budget
    budget.total = 5 * MIB
    data = [random_bytes(MIB + number, number) for number in range(12)]
    assert sum(len(each) // 2 for each in data) > budget.total
    bodies = [Held(each[: MIB // 2], each[MIB // 2 :], step=64 * KIB) for each in data]

    async def one(number: int) -> str:
        upload = await at.begin(len(data[number]), f"f{number}")
        checksum = Checksum("sha1", hashlib.sha1(data[number]).digest())
        return (await at.append(upload, 0, bodies[number], checksum=checksum)).state

    running = [asyncio.create_task(one(number)) for number in range(len(data))]
    for body in bodies:
        await asyncio.wait_for(body.waiting.wait(), 60)
    for body in bodies:
        body.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*running), 60) == ["done"] * len(data)
    await at.check_rest()
    await at.check_references()


async def test_who_waits_too_long_for_memory_is_told_to_come_again(at: Process) -> None:
    budget = at.hot.engine.budget
    budget._wait_s = 0.2
    everything = await budget.take(budget.total)
    data = random_bytes(MIB, "late")
    upload = await at.begin(len(data))
    with pytest.raises(Overloaded):
        await at.append(upload, 0, Body(data, step=64 * KIB))
    assert (await at.look(upload)).offset == 64 * KIB, "what had come is kept"
    everything.release()
    assert (await at.append(upload, 64 * KIB, data[64 * KIB :])).state == "done"
    await at.check_rest()


async def test_slow_readers_let_go_for_others(at: Process) -> None:
    data = random_bytes(5 * MIB, "read")
    content = (await at.upload(data)).content_id or 0
    budget = at.hot.egress._budget
    budget.total = 3 * MIB // 2  # one or two blocks
    slow = [at.hot.egress.stored(content, 0, len(data)) for _ in range(3)]
    got = [bytearray() for _ in slow]

    async def take(number: int) -> None:
        async for piece in slow[number]:
            got[number] += piece
            await asyncio.sleep(0.05)

    reading = [asyncio.create_task(take(number)) for number in range(len(slow))]
    async with asyncio.timeout(60):
        fast = [piece async for piece in at.hot.egress.stored(content, 2 * MIB, 2 * MIB + 10)]
        assert b"".join(fast) == data[2 * MIB : 2 * MIB + 10]
        assert not any(task.done() for task in reading)
        await asyncio.gather(*reading)
    assert all(each == data for each in got)
    assert budget.used == 0


# The budget by itself


async def test_grants_are_given_in_the_order_of_asking() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(80)
    order: list[str] = []

    async def ask(name: str, size: int) -> None:
        grant = await budget.take(size)
        order.append(name)
        grant.release()

    tasks = [asyncio.create_task(ask("large", 60)), asyncio.create_task(ask("small", 10))]
    await asyncio.sleep(0)
    assert order == []
    first.release()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]
    assert budget.used == 0


async def test_a_waiter_that_is_cancelled_holds_nothing_and_lets_others_through() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(80)
    large = asyncio.create_task(budget.take(60))
    small = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    large.cancel()
    assert (await small).size == 10
    assert budget.used == 90
    first.release()
    first.release()
    (await small).release()
    assert budget.used == 0


async def test_a_waiter_that_is_cancelled_as_it_is_served_gives_back() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(100)
    second = asyncio.create_task(budget.take(100))
    await asyncio.sleep(0)
    first.release()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert budget.used == 0


async def test_a_lone_holder_gets_more_than_there_is() -> None:
    budget = MemoryBudget(100)
    grant = await budget.take(500)
    assert budget.used == 500
    grant.release()
    assert budget.used == 0


async def test_who_held_longest_without_progress_is_asked_first() -> None:
    budget = MemoryBudget(100)
    asked: list[str] = []
    for name in ("a", "b", "c"):
        budget.register(name, lambda: 10, lambda name=name: asked.append(name))  # type: ignore[misc]
    for holder in budget._holders.values():
        holder.touched_at -= 60
    budget.touch("a")
    grant = await budget.take(76)
    assert asked == []
    waiting = asyncio.create_task(budget.take(30))
    await asyncio.sleep(0)
    assert asked == ["b", "c"], "a made progress a moment ago"
    grant.release()
    (await waiting).release()
    assert budget.used == 0
