"""The bound on what is asked at once, and the reader that lets no wrong bytes through."""

import asyncio

import pytest
from blake3 import blake3

from filestore.blocks.header import encode
from filestore.blocks.limited import LimitedStore
from filestore.blocks.memory import MemoryStore
from filestore.blocks.port import BlockKey
from filestore.blocks.verified import VerifiedReader
from filestore.errors import BlockDamaged, BlockMissing, StoreUnavailable
from tests.contract.block_store import make_bytes, make_key
from tests.contract.faulty import Fault, FaultyStore, Kind, Operation


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("operation", ["put", "get"])
async def test_no_more_than_the_bound_are_under_way_and_first_come_goes_first(
    operation: Operation,
) -> None:
    holds = [Fault(operation, nth, Kind.HOLD) for nth in range(1, 8)]
    inner = MemoryStore()
    keys = [make_key(b"%d" % number) for number in range(7)]
    for key in keys:
        await inner.put(key, [b"x"])
    faulty = FaultyStore(inner, holds)
    store = LimitedStore(faulty, max_puts=3, max_gets=3)
    order: list[int] = []

    async def call(number: int) -> None:
        await (store.put(keys[number], [b"x"]) if operation == "put" else store.get(keys[number]))
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(7):
            group.create_task(call(number))
        for done in range(7):
            await _settle()
            assert faulty.calls[operation] == min(done + 3, 7)
            holds[done].gate.set()
    assert order == list(range(7))


async def test_puts_do_not_hold_up_gets() -> None:
    key, hold = make_key(b"x"), Fault("put", 2, Kind.HOLD)
    store = LimitedStore(FaultyStore(MemoryStore(), [hold]), max_puts=1, max_gets=1)
    await store.put(key, [b"x"])
    put = asyncio.create_task(store.put(key, [b"x"]))
    await hold.reached.wait()
    assert await store.get(key) == b"x"
    hold.gate.set()
    await put


async def test_a_failed_or_cancelled_call_gives_its_place_back() -> None:
    key = make_key(b"x")
    hold = Fault("put", 2, Kind.HOLD)
    faulty = FaultyStore(MemoryStore(), [Fault("put", 1, Kind.BEFORE), hold])
    store = LimitedStore(faulty, max_puts=1, max_gets=1)
    with pytest.raises(StoreUnavailable):
        await store.put(key, [b"x"])
    put = asyncio.create_task(store.put(key, [b"x"]))
    await hold.reached.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    await store.put(key, [b"x"])
    assert await store.get(key) == b"x"


async def test_a_verified_block_is_its_plain_bytes() -> None:
    store = MemoryStore()
    reader = VerifiedReader(store)
    for plain in (b"text " * 5000, make_bytes(5000)):
        key = make_key(plain)
        await store.put(key, encode(plain, level=3).parts)
        assert await reader.get_block(key, len(plain)) == plain


@pytest.mark.parametrize("kind", [Kind.WRONG_BYTES, Kind.TRUNCATED])
async def test_wrong_bytes_do_not_leave_the_reader(kind: Kind) -> None:
    plain = make_bytes(5000)
    key = make_key(plain)
    store = FaultyStore(MemoryStore(), [Fault("get", 1, kind)])
    await store.put(key, encode(plain, level=3).parts)
    reader = VerifiedReader(store)
    with pytest.raises(BlockDamaged):
        await reader.get_block(key, len(plain))
    assert await reader.get_block(key, len(plain)) == plain


async def test_a_block_under_the_wrong_key_or_of_the_wrong_size_is_damage() -> None:
    store = MemoryStore()
    key = BlockKey("default", blake3(b"other").digest(), "0123456789abcdef")
    await store.put(key, encode(b"bytes", level=3).parts)
    for size in (5, 4):
        with pytest.raises(BlockDamaged):
            await VerifiedReader(store).get_block(key, size)


async def test_a_missing_block_is_missing_not_damaged() -> None:
    with pytest.raises(BlockMissing):
        await VerifiedReader(MemoryStore()).get_block(make_key(b"x"), 1)
