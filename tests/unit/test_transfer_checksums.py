"""A body with a checksum is staged: all of it is kept at once, or nothing of it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.errors import (
    ChecksumMismatch,
    LengthExceeded,
    RequestTimeout,
    StoreUnavailable,
    UploadTakenOver,
)
from filestore.meta.tables import content_blocks
from filestore.meta.uploads import Upload
from filestore.model import MIB
from filestore.transfer.checksums import Checksum
from filestore.transfer.source import Broken
from tests.contract.faulty import Fault, Kind
from tests.services.hot_path import (
    SMALL,
    BlockRow,
    Body,
    Held,
    Process,
    Site,
    cut,
    random_bytes,
)

DATA = random_bytes(24 * MIB, "checksums")
HEAD = 5 * MIB // 4 + 7  # leaves a tail behind the first blocks


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


def _sha1(data: bytes) -> Checksum:
    return Checksum("sha1", hashlib.sha1(data).digest())


async def _with_tail(at: Process) -> tuple[Upload, list[BlockRow]]:
    """An upload of ``DATA`` that holds its first bytes, and its rows."""
    upload = await at.begin(len(DATA))
    upload = await at.append(upload, 0, DATA[:HEAD])
    rows = await at.rows(upload.building)
    assert any(row.is_provisional for row in rows)
    return upload, rows


async def _check_unchanged(at: Process, upload: Upload, rows: list[BlockRow]) -> None:
    """Nothing of the body is kept: neither the offset nor a row moved, and blocks are queued."""
    found = await at.look(upload)
    assert (found.offset, found.is_open) == (HEAD, True)
    assert await at.rows(upload.building) == rows
    await at.check_references()
    await at.check_rest()


async def _finish(at: Process, upload: Upload) -> None:
    done = await at.append(upload, HEAD, DATA[HEAD:], checksum=_sha1(DATA[HEAD:]))
    assert done.state == "done" and done.content_id is not None
    assert await at.rows(done.content_id) == cut(DATA)
    assert await at.read(done.content_id, 0, len(DATA)) == DATA
    await at.check_references()
    await at.check_rest()
    await at.check_books()


async def test_a_wrong_checksum_keeps_nothing_of_a_body_of_many_batches(at: Process) -> None:
    upload, rows = await _with_tail(at)
    body = Held(DATA[HEAD : 20 * MIB], DATA[20 * MIB :])
    wrong = _sha1(b"something else")
    running = asyncio.create_task(at.append(upload, HEAD, body, checksum=wrong))
    await body.waiting.wait()
    while (await at.rows(upload.building))[-1].offset < HEAD:
        assert not running.done()
    body.gate.set()
    with pytest.raises(ChecksumMismatch):
        await running
    await _check_unchanged(at, upload, rows)
    assert await at.queued(), "the blocks that were staged are the collector's now"
    await _finish(at, upload)


async def test_a_right_checksum_keeps_all_of_a_body_that_is_not_the_last(at: Process) -> None:
    upload, _ = await _with_tail(at)
    body = DATA[HEAD : 22 * MIB]
    upload = await at.append(upload, HEAD, body, checksum=_sha1(body))
    assert upload.offset == 22 * MIB
    done = await at.append(upload, 22 * MIB, DATA[22 * MIB :])
    assert done.content_id is not None
    assert await at.rows(done.content_id) == cut(DATA)


@pytest.mark.parametrize("error", [Broken(), RequestTimeout(seconds=1)])
async def test_a_body_that_breaks_off_under_a_checksum_is_discarded(
    at: Process, error: Broken | RequestTimeout
) -> None:
    upload, rows = await _with_tail(at)
    broken = Body(DATA[HEAD : 20 * MIB], error=error)
    with pytest.raises(type(error)):
        await at.append(upload, HEAD, broken, checksum=_sha1(DATA[HEAD:]))
    await _check_unchanged(at, upload, rows)
    await _finish(at, upload)


async def test_staged_rows_are_not_acknowledged_and_a_newcomer_removes_them(
    at: Process,
) -> None:
    upload, rows = await _with_tail(at)
    body = Held(DATA[HEAD : 20 * MIB])
    running = asyncio.create_task(
        at.append(upload, HEAD, body, checksum=_sha1(DATA[HEAD : 20 * MIB]))
    )
    await body.waiting.wait()
    staged = sa.select(sa.func.count()).where(content_blocks.c.byte_offset >= HEAD)
    while await at.one(staged) < 5:
        assert not running.done()
    assert (await at.look(upload)).offset == HEAD

    assert (await at.hot.transfers.status(upload.id)).offset == HEAD
    with pytest.raises(UploadTakenOver):
        await running
    await _check_unchanged(at, upload, rows)
    await _finish(at, upload)


async def test_another_process_takes_over_a_staged_body_and_the_holder_records_nothing(
    any_site: Site, at: Process
) -> None:
    other = await any_site.beside(at)
    upload, rows = await _with_tail(at)
    body = Held(DATA[HEAD : 20 * MIB])
    running = asyncio.create_task(
        at.append(upload, HEAD, body, checksum=_sha1(DATA[HEAD : 20 * MIB]))
    )
    await body.waiting.wait()
    assert (await other.hot.transfers.status(upload.id)).offset == HEAD
    body.gate.set()
    with pytest.raises(UploadTakenOver):
        await running
    await _check_unchanged(at, upload, rows)
    await _finish(other, upload)


async def test_a_checksum_over_the_whole_file_completes_it(at: Process) -> None:
    upload = await at.begin(len(DATA))
    with pytest.raises(ChecksumMismatch):
        await at.append(upload, 0, DATA, checksum=_sha1(b""))
    found = await at.look(upload)
    assert (found.offset, found.is_open) == (0, True)
    assert await at.rows(upload.building) == []
    done = await at.append(upload, 0, DATA, checksum=_sha1(DATA))
    assert done.content_id is not None
    assert await at.rows(done.content_id) == cut(DATA)
    await at.check_rest()


async def test_an_empty_body_has_a_checksum_too(at: Process) -> None:
    upload, rows = await _with_tail(at)
    with pytest.raises(ChecksumMismatch):
        await at.append(upload, HEAD, b"", checksum=_sha1(b"x"))
    await _check_unchanged(at, upload, rows)
    await at.append(upload, HEAD, b"", checksum=_sha1(b""))
    await _check_unchanged(at, upload, rows)
    await _finish(at, upload)


async def test_a_body_that_is_too_long_is_discarded_under_a_checksum(at: Process) -> None:
    upload, rows = await _with_tail(at)
    body = DATA[HEAD:] + b"x"
    with pytest.raises(LengthExceeded):
        await at.append(upload, HEAD, body, checksum=_sha1(body))
    await _check_unchanged(at, upload, rows)


async def test_a_store_that_fails_while_a_body_is_staged_keeps_nothing(at: Process) -> None:
    upload, rows = await _with_tail(at)
    for nth in (9, 4, 1):  # what was stored before the fault stays known
        at.store.calls.clear()
        at.store.plan = [Fault("put", nth, Kind.BEFORE)]
        with pytest.raises(StoreUnavailable):
            await at.append(upload, HEAD, DATA[HEAD:], checksum=_sha1(DATA[HEAD:]))
        await _check_unchanged(at, upload, rows)
    at.store.plan = []
    await _finish(at, upload)


async def test_small_bodies_with_checksums_go_on_from_each_other(any_site: Site) -> None:
    at = await any_site.start(params=SMALL)
    data = random_bytes(100_000, "pieces")
    upload = await at.begin(len(data))
    for start in range(0, len(data), 7000):
        piece = data[start : start + 7000]
        with pytest.raises(ChecksumMismatch):
            await at.append(upload, start, piece, checksum=_sha1(b""))
        upload = await at.append(upload, start, piece, checksum=_sha1(piece))
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data, SMALL)
    await at.check_references()
    await at.check_rest()
