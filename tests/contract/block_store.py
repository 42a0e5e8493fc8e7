"""What every block store must do: one check per sentence, run on each store and wrapper.

A check takes an opened, empty store and raises ``AssertionError`` if the store breaks the
sentence that is its name. :data:`CHECKS` lists them all. ``test_block_store_teeth`` breaks
a store in many ways and sees each of them caught.
"""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from blake3 import blake3

from filestore.blocks.backend import Backend
from filestore.blocks.deadline import put_deadline
from filestore.blocks.port import MAX_OBJECT_SIZE, BlockKey, Buffer, StoredObject
from filestore.errors import BlockMissing, StoreUnavailable
from filestore.ids import new_generation, new_id
from filestore.model import KIB, MIB

Check = Callable[[Backend], Awaitable[None]]

DOMAIN: Final = "default"


def make_key(data: bytes, domain: str = DOMAIN) -> BlockKey:
    """A key that nobody used before, for these bytes."""
    return BlockKey(domain, blake3(data).digest(), new_generation())


def make_bytes(size: int, seed: int = 0) -> bytes:
    """The same incompressible bytes for the same seed."""
    return random.Random(seed).randbytes(size)


async def an_object_comes_back_as_it_was_put(store: Backend) -> None:
    data = make_bytes(100_000)
    key = make_key(data)
    await store.put(key, [data])
    assert await store.get(key) == data


async def parts_of_every_kind_are_joined_in_order(store: Backend) -> None:
    parts: list[Buffer] = [b"head", bytearray(b"-body-"), memoryview(b"xtailx")[1:-1], b"", b"."]
    key = make_key(b"parts")
    await store.put(key, parts)
    assert await store.get(key) == b"head-body-tail."


async def many_parts_are_joined_in_order(store: Backend) -> None:
    parts = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    key = make_key(b"many parts")
    await store.put(key, parts)
    assert await store.get(key) == b"".join(parts)


async def the_largest_object_comes_back(store: Backend) -> None:
    data = make_bytes(MAX_OBJECT_SIZE)
    key = make_key(data)
    await store.put(key, [data[:32], memoryview(data)[32:]])
    assert _digest(await store.get(key)) == _digest(data)


async def the_smallest_object_comes_back(store: Backend) -> None:
    key = make_key(b"x")
    await store.put(key, [b"x"])
    assert await store.get(key) == b"x"


async def a_repeated_put_is_harmless(store: Backend) -> None:
    key = make_key(b"again")
    for _ in range(3):
        await store.put(key, [b"ag", b"ain"])
    assert await store.get(key) == b"again"
    assert await paths(store) == [key.path]


async def puts_of_one_key_at_once_are_harmless(store: Backend) -> None:
    data = make_bytes(200_000)
    key = make_key(data)
    await asyncio.gather(*(store.put(key, [data]) for _ in range(6)))
    assert await store.get(key) == data
    assert await paths(store) == [key.path]


async def many_puts_at_once_do_not_mix(store: Backend) -> None:
    blocks = [make_bytes(150_000 + seed, seed) for seed in range(24)]
    keys = [make_key(data) for data in blocks]
    await asyncio.gather(*(store.put(key, [data]) for key, data in zip(keys, blocks, strict=True)))
    assert await asyncio.gather(*map(store.get, keys)) == blocks


async def a_buffer_may_change_after_its_put_returned(store: Backend) -> None:
    buffer = bytearray(b"first" * 1000)
    key = make_key(b"first")
    await store.put(key, [memoryview(buffer)])
    buffer[:] = b"other" * 1000
    assert await store.get(key) == b"first" * 1000


async def one_hash_may_lie_under_many_generations_and_domains(store: Backend) -> None:
    keys = [make_key(b"same"), make_key(b"same"), make_key(b"same", "apart")]
    for number, key in enumerate(keys):
        await store.put(key, [b"%d" % number])
    assert [await store.get(key) for key in keys] == [b"0", b"1", b"2"]


async def a_missing_object_is_missing(store: Backend) -> None:
    there = make_key(b"there")
    await store.put(there, [b"there"])
    for absent in (make_key(b"there"), make_key(b"elsewhere"), make_key(b"there", "apart")):
        with _raising(BlockMissing):
            await store.get(absent)


async def fetch_gives_what_finish_makes_of_the_object(store: Backend) -> None:
    key = make_key(b"fetched")
    await store.put(key, [b"fetched"])
    assert await store.fetch(key, lambda stored: (len(stored), stored[:2])) == (7, b"fe")
    with _raising(BlockMissing):
        await store.fetch(make_key(b"fetched"), len)


async def what_finish_raises_comes_through(store: Backend) -> None:
    def refuse(stored: bytes) -> None:
        raise LookupError(stored)

    key = make_key(b"refused")
    await store.put(key, [b"refused"])
    with _raising(LookupError):
        await store.fetch(key, refuse)
    assert await store.get(key) == b"refused"


async def removed_objects_are_gone_and_others_stay(store: Backend) -> None:
    keys = [make_key(make_bytes(50, seed)) for seed in range(20)]
    twin = BlockKey(DOMAIN, keys[0].hash, new_generation())
    for key in [*keys, twin]:
        await store.put(key, [b"x"])
    await store.remove(keys[:10])
    assert await paths(store) == sorted(key.path for key in [*keys[10:], twin])
    with _raising(BlockMissing):
        await store.get(keys[0])
    assert await store.get(twin) == b"x"


async def removing_what_is_not_there_counts_as_removed(store: Backend) -> None:
    key, other = make_key(b"once"), make_key(b"other")
    await store.put(key, [b"once"])
    await store.put(other, [b"other"])
    await store.remove([key, make_key(b"never"), make_key(b"never", "nowhere")])
    await store.remove([key])
    await store.remove([])
    assert await paths(store) == [other.path]


async def walk_shows_paths_and_sizes_in_ascending_order(store: Backend) -> None:
    expected = await _fill(store, 40)
    found = await objects(store)
    assert [item.path for item in found] == sorted(expected)
    assert {item.path: item.size for item in found} == expected


async def walk_stays_within_its_domain(store: Backend) -> None:
    keys = [make_key(b"x", domain) for domain in ("a", "a-b", "a0", "aa", "b")]
    for key in keys:
        await store.put(key, [b"x"])
    await store.write_identity(new_id("sto"), 1)
    assert await paths(store, domain="a") == [keys[0].path]
    assert await paths(store, domain="aa") == [keys[3].path]
    assert await paths(store, domain="never") == []


async def walk_goes_on_behind_any_path(store: Backend) -> None:
    every = sorted(await _fill(store, 30))
    for number in (0, 13, 29):
        assert await paths(store, after=every[number]) == every[number + 1 :]
    between = every[10][:-1] + chr(ord(every[10][-1]) + 1)
    assert await paths(store, after=between) == [path for path in every if path > between]
    assert await paths(store, after=f"{DOMAIN}/") == every
    assert await paths(store, after="zzz") == []


async def walk_sees_more_than_a_page_once_each(store: Backend) -> None:
    expected = sorted(await _fill(store, 1100))
    found = await paths(store)
    assert found == expected
    assert await paths(store, after=expected[999]) == expected[1000:]


async def walk_goes_on_when_objects_are_removed_meanwhile(store: Backend) -> None:
    await _fill(store, 30)
    seen = []
    async for found in store.walk(DOMAIN):
        seen.append(found.path)
        _, _, name = found.path.rpartition("/")
        digest, _, generation = name.partition(".")
        await store.remove([BlockKey(DOMAIN, bytes.fromhex(digest), generation)])
    assert len(seen) == 30 and seen == sorted(seen)
    assert await paths(store) == []


async def an_unused_store_has_no_identity(store: Backend) -> None:
    assert await store.read_identity() is None
    assert await paths(store) == []


async def the_identity_with_the_highest_epoch_stays(store: Backend) -> None:
    store_id = new_id("sto")
    for epoch in (1, 2, 10):
        await store.write_identity(store_id, epoch)
        assert await store.read_identity() == (store_id, epoch)
    await store.write_identity(store_id, 10)
    await store.write_identity(store_id, 9)
    assert await store.read_identity() == (store_id, 10)


async def marks_come_back_in_order_and_behind_any_name(store: Backend) -> None:
    names = ["a-b/1", "a_b/05.x", "a_b/10.x", "b/1"]
    assert await _marks(store) == []
    for name in reversed(names):
        await store.write_mark("facts", name)
    await store.write_mark("facts", names[0])
    await store.write_mark("others", "a_b/07.x")
    assert await _marks(store) == names
    for number, name in enumerate(names):
        assert await _marks(store, after=name) == names[number + 1 :]
    assert await _marks(store, after="a_b/") == names[1:]
    assert await _marks(store, after="a_b/06") == names[2:]
    assert await _marks(store, kind="others") == ["a_b/07.x"]


async def removed_marks_are_gone_and_others_stay(store: Backend) -> None:
    for name in ("a/1", "a/2", "b/1"):
        await store.write_mark("facts", name)
    await store.write_mark("others", "a/1")
    await store.remove_marks("facts", ["a/1", "a/never", "never/1"])
    await store.remove_marks("facts", ["a/1"])
    await store.remove_marks("facts", [])
    assert await _marks(store) == ["a/2", "b/1"]
    assert await _marks(store, kind="others") == ["a/1"]


async def marks_are_neither_objects_nor_the_identity(store: Backend) -> None:
    await store.write_mark("facts", "default/1")
    assert await paths(store) == [] and await store.domains() == []
    assert [found async for found in store.walk_leftovers()] == []
    assert [found async for found in store.walk_aside()] == []
    assert await store.read_identity() is None


async def marks_cannot_lead_out_of_their_kind(store: Backend) -> None:
    await store.write_identity("sto_kept", 1)
    for kind, name in (
        *(("facts", name) for name in ("../1", "a/../../x", "a", "a/b/c", "/a", "a/.b", "a/")),
        *((kind, "a/1") for kind in ("identity", "quarantine", "tmp", "..", "", "a/b", "A")),
    ):
        with _raising(ValueError):
            await store.write_mark(kind, name)
        with _raising(ValueError):
            await store.remove_marks(kind, [name])
    with _raising(ValueError):
        await store.remove_marks("identity", ["sto_kept.1/x"])
    assert await store.read_identity() == ("sto_kept", 1)


async def a_put_past_its_deadline_is_refused_and_stores_nothing(store: Backend) -> None:
    key, in_time = make_key(b"late"), make_key(b"in time")
    with _deadline_in(-1.0), _raising(StoreUnavailable):
        await store.put(key, [b"late"])
    with _deadline_in(60.0):
        await store.put(in_time, [b"in time"])
    assert await paths(store) == [in_time.path]


async def a_cancelled_put_leaves_nothing_or_the_whole_object(store: Backend) -> None:
    data = make_bytes(4 * MIB)
    started = time.perf_counter()
    await store.put(make_key(data), [data])
    usual_s = time.perf_counter() - started
    for step in range(12):
        key = make_key(data)
        put = store.put(key, [data[: 64 * KIB], data[64 * KIB :]])
        await _cancel(put, turns=step, wait_s=usual_s * max(0, step - 3) / 10)
        assert await _is_whole_or_missing(store, key, data)
        await store.put(key, [data])
        assert await store.get(key) == data


async def many_puts_cancelled_at_once_leave_the_store_usable(store: Backend) -> None:
    blocks = [make_bytes(MIB, seed) for seed in range(16)]
    keys = [make_key(data) for data in blocks]
    tasks = [
        asyncio.create_task(_put(store, key, data)) for key, data in zip(keys, blocks, strict=True)
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
    for key, data in zip(keys, blocks, strict=True):
        assert await _is_whole_or_missing(store, key, data)
    await store.put(keys[0], [blocks[0]])
    assert await store.get(keys[0]) == blocks[0]


async def objects_say_when_they_were_put(store: Backend) -> None:
    await _fill(store, 3)
    for found in await objects(store):
        assert abs(found.written_at / 1e6 - time.time()) < 3600


async def objects_set_aside_leave_their_domain_and_are_kept(store: Backend) -> None:
    keys = [make_key(make_bytes(50, seed), domain) for seed, domain in enumerate("aabc")]
    for key in keys:
        await store.put(key, [key.generation.encode()])
    await store.set_aside([*keys[1:], make_key(b"never", "b")], "2026-01-31")
    await store.set_aside(keys[1:2], "2026-02-01")
    assert await paths(store, domain="a") == [keys[0].path]
    assert await paths(store, domain="b") == []
    for key in keys[1:]:
        with _raising(BlockMissing):
            await store.get(key)
    assert await store.get(keys[0]) == keys[0].generation.encode()
    found = [(item.path, item.size) async for item in store.walk_aside()]
    assert found == sorted((f"2026-01-31/{key.path}", 16) for key in keys[1:])


async def a_walk_aside_goes_on_behind_any_path_and_removed_ones_are_gone(store: Backend) -> None:
    keys = [make_key(make_bytes(50, seed), domain) for seed, domain in enumerate(["a", "a-b"] * 3)]
    for number, key in enumerate(keys):
        await store.put(key, [b"x"])
        await store.set_aside([key], f"2026-01-0{number % 2 + 1}")
    every = [item.path async for item in store.walk_aside()]
    assert every == sorted(every) and len(every) == 6
    for number in range(6):
        rest = [item.path async for item in store.walk_aside(after=every[number])]
        assert rest == every[number + 1 :]
    await store.remove_aside([every[0], every[4], f"2026-01-01/{make_key(b'never').path}"])
    left = [item.path async for item in store.walk_aside()]
    assert left == [path for path in every if path not in (every[0], every[4])]


async def the_quarantine_cannot_lead_out_of_itself(store: Backend) -> None:
    key = make_key(b"kept")
    await store.put(key, [b"kept"])
    for path in (f"../{key.path}", f"2026-01-31/../../{key.path}", key.path, "2026-01-31"):
        with _raising(ValueError):
            await store.remove_aside([path])
    with _raising(ValueError):
        await store.set_aside([key], "..")
    assert await store.get(key) == b"kept"


async def domains_are_those_that_hold_objects(store: Backend) -> None:
    assert await store.domains() == []
    for domain in ("b", "a-b", "a"):
        await store.put(make_key(b"x", domain), [b"x"])
    await store.set_aside([make_key(b"x", "never")], "2026-01-31")
    await store.write_identity(new_id("sto"), 1)
    assert await store.domains() == ["a", "a-b", "b"]


async def finished_puts_leave_nothing_over(store: Backend) -> None:
    await _fill(store, 3)
    assert [found async for found in store.walk_leftovers()] == []


async def check_and_sweep_change_nothing(store: Backend) -> None:
    expected = await _fill(store, 3)
    await store.check()
    assert await store.sweep(lambda process: False) == 0
    await store.check()
    assert {item.path: item.size for item in await objects(store)} == expected


async def opening_again_is_harmless(store: Backend) -> None:
    key = make_key(b"kept")
    await store.put(key, [b"kept"])
    await store.open()
    assert await store.get(key) == b"kept"


async def a_domain_cannot_lead_out_of_the_store(store: Backend) -> None:
    for domain in ("..", ".identity", "a/b", ""):
        with _raising(ValueError):
            await store.put(make_key(b"x", domain), [b"x"])


CHECKS: Final[list[Check]] = [
    an_object_comes_back_as_it_was_put,
    parts_of_every_kind_are_joined_in_order,
    many_parts_are_joined_in_order,
    the_largest_object_comes_back,
    the_smallest_object_comes_back,
    a_repeated_put_is_harmless,
    puts_of_one_key_at_once_are_harmless,
    many_puts_at_once_do_not_mix,
    a_buffer_may_change_after_its_put_returned,
    one_hash_may_lie_under_many_generations_and_domains,
    a_missing_object_is_missing,
    fetch_gives_what_finish_makes_of_the_object,
    what_finish_raises_comes_through,
    removed_objects_are_gone_and_others_stay,
    removing_what_is_not_there_counts_as_removed,
    walk_shows_paths_and_sizes_in_ascending_order,
    walk_stays_within_its_domain,
    walk_goes_on_behind_any_path,
    walk_sees_more_than_a_page_once_each,
    walk_goes_on_when_objects_are_removed_meanwhile,
    an_unused_store_has_no_identity,
    the_identity_with_the_highest_epoch_stays,
    marks_come_back_in_order_and_behind_any_name,
    removed_marks_are_gone_and_others_stay,
    marks_are_neither_objects_nor_the_identity,
    marks_cannot_lead_out_of_their_kind,
    a_put_past_its_deadline_is_refused_and_stores_nothing,
    a_cancelled_put_leaves_nothing_or_the_whole_object,
    many_puts_cancelled_at_once_leave_the_store_usable,
    objects_say_when_they_were_put,
    objects_set_aside_leave_their_domain_and_are_kept,
    a_walk_aside_goes_on_behind_any_path_and_removed_ones_are_gone,
    the_quarantine_cannot_lead_out_of_itself,
    domains_are_those_that_hold_objects,
    finished_puts_leave_nothing_over,
    check_and_sweep_change_nothing,
    opening_again_is_harmless,
    a_domain_cannot_lead_out_of_the_store,
]


async def objects(store: Backend, *, domain: str = DOMAIN, after: str = "") -> list[StoredObject]:
    """All that a walk shows."""
    return [found async for found in store.walk(domain, after=after)]


async def paths(store: Backend, *, domain: str = DOMAIN, after: str = "") -> list[str]:
    """The paths that a walk shows, in its order."""
    return [found.path for found in await objects(store, domain=domain, after=after)]


async def _marks(store: Backend, *, kind: str = "facts", after: str = "") -> list[str]:
    return [found.path async for found in store.walk_marks(kind, after=after)]


def _digest(data: bytes) -> str:
    """Equal for equal bytes, and short enough for a message."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


async def _put(store: Backend, key: BlockKey, data: bytes) -> None:
    await store.put(key, [data])


async def _fill(store: Backend, count: int) -> dict[str, int]:
    """Puts small objects, 16 at once; gives their paths and sizes."""
    blocks = [b"%d" % number + b"x" * (number % 9) for number in range(count)]
    keys = [make_key(data) for data in blocks]
    pairs = zip(keys, blocks, strict=True)
    while batch := list(itertools.islice(pairs, 16)):
        await asyncio.gather(*(_put(store, key, data) for key, data in batch))
    return {key.path: len(data) for key, data in zip(keys, blocks, strict=True)}


async def _cancel(put: Awaitable[None], *, turns: int, wait_s: float) -> None:
    """Lets a put run for some turns of the loop and some time at most, then cancels it."""
    task = asyncio.ensure_future(put)
    for _ in range(turns):
        await asyncio.sleep(0)
    if wait_s:
        await asyncio.wait([task], timeout=wait_s)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def _is_whole_or_missing(store: Backend, key: BlockKey, data: bytes) -> bool:
    try:
        return await store.get(key) == data
    except BlockMissing:  # or not there yet: a service may take what was sent whole at its leisure
        return key.path not in await paths(store) or await store.get(key) == data


@contextmanager
def _raising(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


@contextmanager
def _deadline_in(seconds: float) -> Iterator[None]:
    token = put_deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        put_deadline.reset(token)
