"""A store that fails at any call: a clear error, the upload goes on, and nothing is lost."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from filestore.blocks.memory import MemoryStore
from filestore.errors import (
    BlockDamaged,
    BlockMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TailLost,
    UploadGone,
)
from filestore.meta.tables import blocks, gc_queue
from filestore.meta.uploads import Upload
from filestore.transfer.checksums import Checksum
from tests.contract.faulty import Fault, Kind, Operation
from tests.services.hot_path import (
    SMALL,
    TINY,
    Process,
    Site,
    cut,
    random_bytes,
    sqlite_site,
    used_by,
)

pytestmark = pytest.mark.usefixtures("no_lost_errors")

DATA = random_bytes(300_000, "faults")


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start(params=SMALL)


async def _check_whole(at: Process, upload: Upload, data: bytes = DATA) -> None:
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data, SMALL)
    assert await at.read(upload.content_id, 0, len(data)) == data
    await at.check_books()
    await at.check_references()
    await at.check_rest()


async def _go_on(at: Process, upload: Upload, data: bytes = DATA) -> Upload:
    found = await at.hot.transfers.status(upload.id)
    if not found.is_open:
        return found
    return await at.append(upload, found.offset, data[found.offset :])


# Every call of a fixed scenario, one after the other


async def _scenario(at: Process, other: Process, number: int) -> int:
    """Uploads a file over two processes, with a checksum in the middle; errors it met.

    The client does what a client does: after an error it asks for the offset and goes on.
    """
    data = random_bytes(3000, f"scenario {number}")
    upload = await at.begin(len(data), f"f{number}")
    plan = [(at, 700, False), (other, 700, False), (other, 700, True), (at, 3000, False)]
    errors = 0
    while plan:
        process, size, has_checksum = plan[0]
        upload = await process.hot.transfers.status(upload.id)
        if not upload.is_open:
            break
        piece = data[upload.offset : upload.offset + size]
        checksum = Checksum("sha1", hashlib.sha1(piece).digest()) if has_checksum else None
        try:
            await process.append(upload, upload.offset, piece, checksum=checksum)
            plan.pop(0)
        except StoreError:
            errors += 1
    assert upload.state == "done" or not plan
    upload = await at.look(upload)
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data, TINY)
    got = bytearray()
    while len(got) < len(data):
        try:
            async for stored in at.hot.egress.stored(upload.content_id, len(got), len(data)):
                got += stored
        except StoreError:
            errors += 1
    assert got == data
    return errors


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with sqlite_site(tmp_path) as site:
        first = await site.start(params=TINY)
        yield [first, await site.beside(first, params=TINY)]


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.WRONG_BYTES])
async def test_a_fault_at_any_call_is_survived_and_leaves_nothing_behind(
    pair: list[Process], kind: Kind
) -> None:
    at, other = pair
    operations: list[Operation] = ["get"] if kind is Kind.WRONG_BYTES else ["put", "get"]
    assert await _scenario(at, other, 0) == 0
    number, tried = 0, 0
    for process in pair:
        for operation in operations:
            nth, is_reached = 0, True
            while is_reached:
                number, nth = number + 1, nth + 1
                fault = Fault(operation, nth, kind)
                process.store.calls.clear()
                process.store.plan = [fault]
                errors = await _scenario(at, other, number)
                is_reached = fault.reached.is_set()
                process.store.plan = []
                assert errors <= is_reached
                tried += is_reached
                for each in pair:
                    await each.check_rest()
    assert tried >= 3
    await pair[0].check_references()
    await pair[0].check_books()


# Down, full, lost, damaged


@pytest.mark.parametrize(
    ("kind", "error"), [(Kind.BEFORE, StoreUnavailable), (Kind.FULL, StoreFull)]
)
async def test_a_store_that_is_away_for_a_while_keeps_the_upload(
    at: Process, kind: Kind, error: type[StoreError]
) -> None:
    upload = await at.begin(len(DATA))
    upload = await at.append(upload, 0, DATA[:100_000])
    at.store.plan = [Fault("put", 0, kind)]
    for _ in range(3):
        with pytest.raises(error):
            await _go_on(at, upload)
        found = await at.look(upload)
        assert (found.offset, found.is_open) == (100_000, True)
        await at.check_rest()
    at.store.plan = []
    await _check_whole(at, await _go_on(at, upload))


async def test_what_was_acknowledged_before_the_store_went_away_counts(at: Process) -> None:
    upload = await at.begin(len(DATA))
    at.store.plan = [Fault("put", 20, Kind.BEFORE)]
    with pytest.raises(StoreUnavailable):
        await at.append(upload, 0, DATA)
    found = await at.look(upload)
    assert found.is_open
    assert sum(row.size for row in await at.rows(upload.building)) == found.offset
    await at.check_rest()
    await _check_whole(at, await _go_on(at, upload))


@pytest.mark.parametrize("damage", ["gone", "other bytes"])
async def test_a_tail_that_is_lost_ends_the_upload_and_its_offset_stays(
    at: Process, damage: str
) -> None:
    upload = await _with_lost_tail(at, damage)
    with pytest.raises(TailLost):
        await at.append(upload, 100_000, DATA[100_000:])
    found = await at.look(upload)
    assert (found.state, found.failure, found.offset) == ("failed", "tail-lost", 100_000)
    assert await used_by(at) == (0, 0)
    for _ in range(2):
        with pytest.raises(UploadGone):
            await at.hot.transfers.status(upload.id)
        with pytest.raises(UploadGone):
            await at.append(upload, 100_000, DATA[100_000:])
    await at.check_books()
    await at.check_rest()


async def test_a_lost_tail_whose_bytes_live_in_another_block_is_found_there(
    at: Process,
) -> None:
    upload = await _with_lost_tail(at, "gone")
    tail = [row for row in await at.rows(upload.building) if row.is_provisional][0]
    await at.change(sa.update(blocks).where(blocks.c.hash == tail.hash).values(state="lost"))
    twin = await at.upload(DATA[tail.offset : tail.offset + tail.size], "twin")
    assert twin.state == "done"
    upload = await at.append(upload, 100_000, DATA[100_000:])
    assert upload.state == "done"
    assert await at.read(upload.content_id or 0, 0, len(DATA)) == DATA
    await at.check_rest()


@pytest.mark.parametrize("kind", [Kind.WRONG_BYTES, Kind.TRUNCATED, Kind.BEFORE])
async def test_a_tail_that_reads_badly_once_does_not_end_the_upload(
    at: Process, kind: Kind
) -> None:
    upload = await at.append(await at.begin(len(DATA)), 0, DATA[:100_000])
    at.hot.engine.tails.drop(upload.id)
    at.store.plan = [Fault("get", 1, kind)]
    try:
        upload = await _go_on(at, upload)
    except StoreUnavailable:
        assert kind is Kind.BEFORE
        upload = await _go_on(at, upload)
    await _check_whole(at, upload)


async def _with_lost_tail(at: Process, damage: str) -> Upload:
    """An upload at 100,000 whose tail nobody can read any more."""
    upload = await at.append(await at.begin(len(DATA)), 0, DATA[:100_000])
    at.hot.engine.tails.drop(upload.id)
    tail = [row for row in await at.rows(upload.building) if row.is_provisional][0]
    store = at.store.inner
    assert isinstance(store, MemoryStore)
    path = next(path for path in store.objects if tail.hash.hex() in path)
    if damage == "gone":
        del store.objects[path]
    else:
        store.objects[path] = store.objects[path][:-1] + b"?"
    return upload


# Downloads


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.BEFORE, StoreUnavailable),
        (Kind.AFTER, StoreUnavailable),
    ],
)
async def test_a_download_that_breaks_gave_only_right_bytes(
    at: Process, kind: Kind, error: type[StoreError]
) -> None:
    upload = await at.upload(DATA)
    for nth in (1, 2, 10, 30):
        at.store.calls.clear()
        at.store.plan = [Fault("get", nth, kind)]
        got = bytearray()
        with pytest.raises(error):
            async for piece in at.hot.egress.stored(upload.content_id or 0, 0, len(DATA)):
                got += piece
        assert len(got) < len(DATA) and DATA.startswith(bytes(got))
        assert at.hot.egress._budget.used == 0


@pytest.mark.parametrize("kind", [Kind.WRONG_BYTES, Kind.TRUNCATED])
async def test_wrong_bytes_never_leave(at: Process, kind: Kind) -> None:
    upload = await at.upload(DATA)
    at.store.plan = [Fault("get", 5, kind)]
    assert await at.read(upload.content_id or 0, 0, len(DATA)) == DATA, "a second look helps"
    at.store.plan = [Fault("get", 0, kind)]
    with pytest.raises(BlockDamaged):
        await at.read(upload.content_id or 0, 0, len(DATA))
    assert at.hot.egress._budget.used == 0


async def test_a_download_of_a_file_that_is_deleted_for_good_meanwhile_breaks_off(
    at: Process,
) -> None:
    upload = await at.upload(DATA)
    reading = at.hot.egress.stored(upload.content_id or 0, 0, len(DATA))
    got = bytearray(await anext(reading))
    await at.change(sa.text("DELETE FROM content_blocks"))
    store = at.store.inner
    assert isinstance(store, MemoryStore)
    store.objects.clear()
    with pytest.raises(BlockMissing):
        async for piece in reading:
            got += piece
    assert len(got) < len(DATA) and DATA.startswith(bytes(got))
    assert at.hot.egress._budget.used == 0


async def test_who_reads_while_the_tail_is_replaced_and_collected_gets_its_bytes(
    at: Process,
) -> None:
    upload = await at.begin(len(DATA))
    for start in range(0, 4000, 1000):
        upload = await at.append(upload, start, DATA[start : start + 1000])
    content, tail = upload.building, await at.rows(upload.building)
    reading = at.hot.egress.stored(content, 0, 4000)
    got = bytearray(await anext(reading))

    await at.append(upload, 4000, DATA[4000:100_000])
    store = at.store.inner
    assert isinstance(store, MemoryStore)
    for row in tail:
        for path in [path for path in store.objects if row.hash.hex() in path]:
            del store.objects[path]
    async for piece in reading:
        got += piece
    assert bytes(got) == DATA[:4000]
    assert at.hot.egress._budget.used == 0


async def test_a_download_that_nobody_reads_to_its_end_leaves_nothing(at: Process) -> None:
    upload = await at.upload(DATA)
    reading = at.hot.egress.stored(upload.content_id or 0, 0, len(DATA))
    await anext(reading)
    await reading.aclose()
    assert at.hot.egress._budget.used == 0


# Rows that change while their objects are on their way


@pytest.fixture
def held_put(at: Process) -> Iterator[Fault]:
    """Puts wait until the gate opens."""
    fault = Fault("put", 0, Kind.HOLD)
    at.store.plan = [fault]
    yield fault
    fault.gate.set()


async def test_a_block_that_was_reaped_on_its_way_is_stored_anew(
    at: Process, held_put: Fault
) -> None:
    upload = await at.begin(len(DATA))
    running = asyncio.create_task(at.append(upload, 0, DATA))
    await held_put.reached.wait()
    reap = sa.update(blocks).where(blocks.c.state == "uploading").values(state="condemned")
    await at.change(reap)
    held_put.gate.set()
    upload = await running
    assert (await at.block_states())["condemned"] >= 1
    await at.change(
        gc_queue.insert().from_select(
            ["block_id", "not_before", "reason", "queued_at"],
            sa.select(blocks.c.id, sa.literal(1), sa.literal("reaped"), sa.literal(1)).where(
                blocks.c.state == "condemned"
            ),
        )
    )
    await _check_whole(at, upload)


async def test_a_known_block_that_was_condemned_meanwhile_is_stored_anew(at: Process) -> None:
    await at.upload(DATA[:150_000], "known")
    at.store.calls.clear()
    fault = Fault("put", 0, Kind.HOLD)
    at.store.plan = [fault]
    upload = await at.begin(len(DATA))
    running = asyncio.create_task(at.append(upload, 0, DATA))
    await fault.reached.wait()
    known = (await at.rows(1))[-2]  # it waits in one batch with the block that is held
    await at.change(sa.text("DELETE FROM content_blocks WHERE content_id = 1"))
    condemn = sa.update(blocks).where(blocks.c.hash == known.hash).values(state="condemned")
    await at.change(condemn)
    fault.gate.set()
    upload = await running
    states = await at.all(sa.select(blocks.c.state).where(blocks.c.hash == known.hash))
    assert sorted(row.state for row in states) == ["condemned", "live"]
    assert await at.read(upload.content_id or 0, 0, len(DATA)) == DATA
    await at.check_rest()


async def test_who_is_second_with_the_same_bytes_uses_the_first_ones_blocks(
    any_site: Site, at: Process, held_put: Fault
) -> None:
    other = await any_site.beside(at, params=SMALL)
    slow = await at.begin(len(DATA), "slow")
    running = asyncio.create_task(at.append(slow, 0, DATA))
    await held_put.reached.wait()
    fast = await other.upload(DATA, "fast")
    held_put.gate.set()
    slow = await running
    assert await at.rows(slow.content_id or 0) == await at.rows(fast.content_id or 0)
    states = await at.block_states()
    assert states["live"] == len(cut(DATA, SMALL))
    assert "uploading" not in states
    losers = await at.all(sa.select(blocks.c.id).where(blocks.c.state == "condemned"))
    assert {row.id for row in losers} <= await at.queued()
    await _check_whole(at, slow)


async def test_two_uploads_of_one_process_share_the_blocks_on_their_way(
    at: Process, held_put: Fault
) -> None:
    twins = [await at.begin(len(DATA), name) for name in ("a", "b")]
    running = [asyncio.create_task(at.append(upload, 0, DATA)) for upload in twins]
    await held_put.reached.wait()
    held_put.gate.set()
    done = await asyncio.gather(*running)
    assert at.store.calls["put"] == len(cut(DATA, SMALL))
    assert await at.block_states() == {"live": len(cut(DATA, SMALL))}
    for upload in done:
        await _check_whole(at, upload)


async def test_who_shares_a_block_with_a_request_that_is_cancelled_still_gets_it(
    at: Process, held_put: Fault
) -> None:
    first, second = [await at.begin(len(DATA), name) for name in ("a", "b")]
    doomed = asyncio.create_task(at.append(first, 0, DATA))
    await held_put.reached.wait()
    running = asyncio.create_task(at.append(second, 0, DATA))
    await at.hot.engine.db.read(lambda tx: tx.execute(sa.select(1)))  # it has joined by now
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    held_put.gate.set()
    second = await running
    assert await at.read(second.content_id or 0, 0, len(DATA)) == DATA
    await at.check_rest()
    await _check_whole(at, await _go_on(at, first))


async def test_a_block_that_is_not_sent_in_time_is_given_up(any_site: Site) -> None:
    at = await any_site.start(params=SMALL, blocks__put_deadline_s=0.0)
    upload = await at.begin(len(DATA))
    with pytest.raises(StoreUnavailable):
        await at.append(upload, 0, DATA)
    assert (await at.look(upload)).offset == 0
    assert set(await at.block_states()) == {"uploading"}
    assert at.store.inner.objects == {}  # type: ignore[attr-defined]
    await at.check_rest()
