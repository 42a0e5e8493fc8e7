"""An upload that goes on at another process: who held it is fenced, and nothing goes back."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.errors import OffsetMismatch, UploadGone, UploadTakenOver
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, uploads
from filestore.meta.uploads import Upload, lock
from filestore.model import KIB
from filestore.transfer.claiming import Piece
from filestore_gc.reaping import Reaper
from tests.contract.faulty import Fault, Kind
from tests.race.barriers import Paused, until_done_or_waiting, until_waiting
from tests.services.hot_path import (
    ACTOR,
    SMALL,
    TINY,
    Held,
    Process,
    Site,
    cut,
    random_bytes,
    used_by,
)

pytestmark = pytest.mark.usefixtures("no_lost_errors")

DATA = random_bytes(300 * KIB, "takeover")
HALF = len(DATA) // 2


@pytest.fixture
async def pair(postgres_site: Site) -> AsyncIterator[list[Process]]:
    yield [await postgres_site.start(params=SMALL) for _ in range(2)]


async def _check_whole(at: Process, upload: Upload, data: bytes = DATA) -> None:
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data, SMALL)
    assert await at.read(upload.content_id, 0, len(data)) == data
    await at.check_books()
    await at.check_references()
    await at.check_rest()


async def test_who_still_holds_an_upload_that_went_on_elsewhere_records_nothing(
    pair: list[Process],
) -> None:
    first, second = pair
    upload = await first.begin(len(DATA))
    await first.append(upload, 0, DATA[:1000])
    body = Held(DATA[1000:HALF], random_bytes(len(DATA) - HALF, "never recorded"))
    holding = asyncio.create_task(first.append(upload, 1000, body))
    await body.waiting.wait()

    found = await second.hot.transfers.status(upload.id)
    assert 1000 <= found.offset <= HALF
    other = DATA[: found.offset] + random_bytes(len(DATA) - found.offset, "others")
    half = await second.append(upload, found.offset, other[found.offset : HALF + 5000])
    body.gate.set()
    with pytest.raises(UploadTakenOver):
        await holding
    assert (await second.look(upload)).offset == half.offset == HALF + 5000
    with pytest.raises(OffsetMismatch):
        await first.append(upload, HALF, DATA[HALF:])
    done = await second.append(upload, half.offset, other[half.offset :])
    await _check_whole(second, done, other)
    await first.check_rest()


async def test_a_holder_that_comes_back_after_the_file_is_done_changes_nothing(
    pair: list[Process],
) -> None:
    first, second = pair
    upload = await first.begin(len(DATA))
    fault = Fault("put", 0, Kind.HOLD)
    first.store.plan = [fault]
    holding = asyncio.create_task(first.append(upload, 0, random_bytes(len(DATA), "late")))
    await fault.reached.wait()
    assert (await second.hot.transfers.status(upload.id)).offset == 0
    done = await second.append(upload, 0, DATA)
    fault.gate.set()
    with pytest.raises(UploadTakenOver):
        await holding
    assert (await second.look(upload)).version_id == done.version_id
    await _check_whole(second, done)


async def test_the_epoch_is_checked_inside_the_recording_transaction(
    pair: list[Process],
) -> None:
    """A tail is replaced by one process while the other is about to replace it, too."""
    first, second = pair
    upload = await first.append(await first.begin(len(DATA)), 0, DATA[:3000])

    async def take_over_and_record(tx: Tx) -> None:
        locked = await lock(tx, upload.id)
        piece = Piece(3000, Held(b""))
        claim = await second.hot.transfers._claims.take_over(ACTOR, piece, tx, locked)
        assert claim.upload.epoch > upload.epoch

    async with Paused(second, take_over_and_record) as taking:
        late = asyncio.create_task(first.append(upload, 3000, DATA[3000:4000]))
        await until_waiting(second, late)
        await taking.go_on()
    late_one = await late  # it came later, so it takes over in its turn
    assert late_one.offset == 4000
    await _check_whole(second, await second.append(upload, 4000, DATA[4000:]))


async def test_nobody_takes_an_upload_over_between_the_fence_and_the_commit(
    pair: list[Process],
) -> None:
    """The holder is inside its recording transaction, and waits for a block that it pins."""
    first, second = pair
    await first.upload(DATA[:HALF], "known")
    upload = await first.begin(len(DATA))

    async def hold_blocks(tx: Tx) -> None:
        await tx.execute(sa.select(blocks.c.id).with_for_update())

    async with Paused(second, hold_blocks) as holding:
        recording = asyncio.create_task(first.append(upload, 0, DATA[:HALF]))
        await until_waiting(second, recording)
        taking = asyncio.create_task(second.hot.transfers.status(upload.id))
        await until_done_or_waiting(second, taking, least=2)
        assert not taking.done(), "it waits for the upload's row"
        await holding.go_on()
    with contextlib.suppress(UploadTakenOver):
        await recording  # the second batch comes behind the newcomer
    found = await taking
    assert 0 < found.offset <= HALF, "what was being recorded is"
    await _check_whole(second, await second.append(upload, found.offset, DATA[found.offset :]))


async def test_an_upload_that_ends_while_a_step_is_reserved_leaves_nothing_reserved(
    pair: list[Process],
) -> None:
    first, second = pair
    upload = await first.begin(None)
    body = Held(DATA[:HALF], DATA[HALF:])
    holding = asyncio.create_task(first.append(upload, 0, body))
    await body.waiting.wait()
    ended = sa.update(uploads).where(uploads.c.id == upload.id).values(expires_at=1)
    while (await second.look(upload)).is_open:
        await second.change(ended)
        await Reaper(second.db, second.id).expire_uploads()
    assert await used_by(second) == (0, 0)
    body.gate.set()
    with pytest.raises(UploadGone):
        await holding
    assert await used_by(second) == (0, 0)
    await second.check_books()
    await first.check_rest()


@pytest.mark.parametrize("seed", range(3))
async def test_many_who_go_on_with_one_upload_never_mix_their_bytes(
    postgres_site: Site, seed: int
) -> None:
    """Each client appends a mark of its own at the offset it is told; all acknowledged stays.

    Where the blocks end is not compared: a cut depends on the byte behind it, which here may be
    another's in the end.
    """
    rng = random.Random(seed)
    crowd = [await postgres_site.start(params=TINY) for _ in range(3)]
    size = 12_000
    upload = await crowd[0].begin(size)
    acknowledged: dict[int, bytes] = {}
    at_once = asyncio.Semaphore(2)  # more of them would only end each other's requests

    async def client(at: Process, mark: int) -> None:
        mine = random.Random(f"{seed}-{mark}")
        while True:
            try:
                async with at_once:
                    found = await at.hot.transfers.status(upload.id)
                    if not found.is_open:
                        return
                    piece = bytes([mark]) * min(mine.randrange(1, 900), size - found.offset)
                    after = await at.append(upload, found.offset, piece)
                if after.offset >= found.offset + len(piece):
                    acknowledged[found.offset] = piece
            except (UploadTakenOver, OffsetMismatch):
                continue

    async with asyncio.timeout(60):
        await asyncio.gather(*(client(rng.choice(crowd), mark) for mark in range(1, 7)))
    done = await crowd[0].look(upload)
    assert done.state == "done" and done.content_id is not None
    stored = await crowd[0].read(done.content_id, 0, size)
    assert len(stored) == size
    for offset, piece in acknowledged.items():
        assert stored[offset : offset + len(piece)] == piece, (seed, offset)
    await crowd[0].check_books()
    await crowd[0].check_references()
