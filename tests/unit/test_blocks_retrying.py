"""Patience: what is tried again, how often, how long, and what never is."""

import asyncio
import itertools
import time

import pytest

from filestore.blocks.backend import Backend
from filestore.blocks.deadline import put_deadline
from filestore.blocks.memory import MemoryStore
from filestore.blocks.retrying import RetryingStore, RetryPolicy
from filestore.errors import BlockMissing, StoreFull, StoreUnavailable
from tests.contract.block_store import DOMAIN, make_key, paths
from tests.contract.faulty import Fault, FaultyStore, Kind, Operation


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _retrying(inner: Backend, clock: Clock, draw: float = 1.0, **policy: float) -> RetryingStore:
    attempts = int(policy.pop("attempts", 5))
    made = RetryPolicy(attempts, **policy)
    return RetryingStore(inner, made, sleep=clock.sleep, draw=lambda: draw, clock=clock)


async def test_waits_double_up_to_a_bound_and_then_the_error_comes_through(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("get", 0, Kind.BEFORE)])
    store = _retrying(faulty, clock, first_wait_s=1.0, longest_wait_s=5.0)
    with pytest.raises(StoreUnavailable, match="planned: no get"):
        await store.get(make_key(b"x"))
    assert clock.waits == [1.0, 2.0, 4.0, 5.0]
    assert faulty.calls["get"] == 5
    assert store.retries == 4


async def test_waits_are_drawn_from_zero_to_the_bound(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("get", 0, Kind.BEFORE)])
    with pytest.raises(StoreUnavailable):
        await _retrying(faulty, clock, draw=0.25, first_wait_s=1.0).get(make_key(b"x"))
    assert clock.waits == [0.25, 0.5, 1.0, 1.25]


async def test_no_attempt_begins_past_the_total_time(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("get", 0, Kind.BEFORE)])
    store = _retrying(faulty, clock, attempts=99, first_wait_s=4.0, give_up_after_s=10.0)
    with pytest.raises(StoreUnavailable):
        await store.get(make_key(b"x"))
    assert clock.waits == [4.0, 5.0]


async def test_a_store_that_names_a_wait_is_given_it(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("put", 1, Kind.SLOW_DOWN)])
    key = make_key(b"x")
    await _retrying(faulty, clock, draw=0.0).put(key, [b"x"])
    assert clock.waits == [1.0]
    assert await faulty.get(key) == b"x"


async def test_a_put_with_a_lost_answer_is_put_again(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("put", 1, Kind.AFTER)])
    key = make_key(b"x")
    await _retrying(faulty, clock).put(key, [b"x"])
    assert faulty.calls["put"] == 2
    assert await paths(faulty) == [key.path]


@pytest.mark.parametrize("kind", [StoreFull, BlockMissing])
async def test_full_and_missing_are_told_at_once(clock: Clock, kind: type[Exception]) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("put", 1, Kind.FULL)])
    store, key = _retrying(faulty, clock), make_key(b"x")
    with pytest.raises(kind):
        await (store.put(key, [b"x"]) if kind is StoreFull else store.get(key))
    assert clock.waits == []
    assert await paths(faulty) == []


async def test_what_finish_raises_is_not_tried_again(clock: Clock) -> None:
    faulty, key = FaultyStore(MemoryStore()), make_key(b"x")
    store = _retrying(faulty, clock)
    await store.put(key, [b"x"])
    with pytest.raises(ZeroDivisionError):
        await store.fetch(key, lambda stored: 1 // 0)
    assert faulty.calls["get"] == 1


async def test_a_put_that_would_be_late_after_the_wait_is_not_sent(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("put", 1, Kind.BEFORE)])
    store = _retrying(faulty, clock, first_wait_s=2.0)
    token = put_deadline.set(clock.now + 2.0)
    try:
        with pytest.raises(StoreUnavailable):
            await store.put(make_key(b"x"), [b"x"])
    finally:
        put_deadline.reset(token)
    assert faulty.calls["put"] == 1 and clock.waits == []
    assert await paths(faulty) == []


async def test_a_walk_goes_on_behind_the_last_path_without_repeating(clock: Clock) -> None:
    inner = MemoryStore()
    for number in range(10):
        await inner.put(make_key(b"%d" % number), [b"x"])
    breaks = [Fault("walk", nth, Kind.TRUNCATED) for nth in range(1, 8)]
    store = _retrying(FaultyStore(inner, breaks), clock, attempts=2, first_wait_s=1.0)
    assert await paths(store) == sorted(inner.objects)
    assert clock.waits == [1.0] * 7  # each step forward begins anew


async def test_a_walk_that_does_not_come_forward_ends(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("walk", 0, Kind.BEFORE)])
    with pytest.raises(StoreUnavailable):
        await paths(_retrying(faulty, clock, attempts=3))
    assert faulty.calls["walk"] == 3


async def test_check_tells_how_things_are_now(clock: Clock) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("check", 1, Kind.BEFORE)])
    store = _retrying(faulty, clock)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.check()
    assert clock.waits == []


async def test_a_cancelled_wait_tries_no_more() -> None:
    faulty = FaultyStore(MemoryStore(), [Fault("put", 0, Kind.BEFORE)])
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    store = RetryingStore(faulty, sleep=sleep)
    task = asyncio.create_task(store.put(make_key(b"x"), [b"x"]))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert faulty.calls["put"] == 1


async def test_every_repeatable_operation_is_repeated(clock: Clock) -> None:
    operations: list[Operation] = ["put", "get", "remove", "read_identity", "write_identity"]
    kinds = itertools.cycle([Kind.BEFORE, Kind.AFTER])
    faults = [Fault(name, 1, kind) for name, kind in zip(operations, kinds, strict=False)]
    faulty = FaultyStore(MemoryStore(), faults)
    store, key = _retrying(faulty, clock), make_key(b"x")
    await store.put(key, [b"x"])
    assert await store.get(key) == b"x"
    await store.remove([key])
    await store.write_identity("sto_1", 1)
    assert await store.read_identity() == ("sto_1", 1)
    assert [faulty.calls[name] for name in operations] == [2] * 5
    assert [found async for found in store.walk(DOMAIN)] == []
