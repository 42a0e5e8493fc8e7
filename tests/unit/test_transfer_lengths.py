"""Uploads without a length, with a wrong one, and of nothing; whole files in one request."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts.uploads import Request
from filestore.errors import (
    BadRequest,
    DigestMismatch,
    FilestoreError,
    LengthExceeded,
    LengthMismatch,
    QuotaExceeded,
    RequestTimeout,
    StoreUnavailable,
    TooLarge,
)
from filestore.meta.tables import contents, uploads, versions
from filestore.meta.uploads import Upload
from filestore.model import MIB, ExpectedDigest, Protocol
from filestore.names import parse_name
from filestore.transfer.source import Broken
from tests.contract.faulty import Fault, Kind
from tests.services.hot_path import (
    ACTOR,
    DOMAIN,
    GROUP,
    SMALL,
    USER,
    Body,
    Process,
    Site,
    cut,
    random_bytes,
    set_limit,
    used_by,
)

DATA = random_bytes(100_000, "lengths")
MAX_SIZE = 2 * MIB


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start(
        params=SMALL, uploads__max_size_bytes=MAX_SIZE, uploads__reserve_step_bytes=MIB
    )


async def _check_whole(at: Process, upload: Upload, data: bytes = DATA) -> None:
    assert (upload.state, upload.length, upload.offset) == ("done", len(data), len(data))
    assert upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data, SMALL)
    assert await at.read(upload.content_id, 0, len(data)) == data
    await at.check_books()
    await at.check_rest()


async def _put(at: Process, body: Body, length: int | None = None) -> Upload:
    request = Request(GROUP, DOMAIN, USER, Protocol.HTTP, length, name=parse_name("put"))
    return await at.hot.transfers.put(ACTOR, request, body)


async def test_an_empty_file_is_done_when_it_is_created(at: Process) -> None:
    upload = await at.begin(0)
    await _check_whole(at, upload, b"")
    again = await at.append(upload, 0, b"")
    assert again.version_id == upload.version_id


async def test_an_empty_file_with_another_digest_is_not_created(at: Process) -> None:
    for expected in (ExpectedDigest(blake3=bytes(32)), ExpectedDigest(sha256=bytes(32))):
        with pytest.raises(DigestMismatch):
            await at.begin(0, expected=expected)
    assert await at.all(sa.select(uploads.c.id)) == []
    assert await at.all(sa.select(contents.c.id)) == []


async def test_a_length_may_be_declared_with_the_first_bytes(at: Process) -> None:
    upload = await at.begin(None)
    upload = await at.append(upload, 0, DATA[:500], length=len(DATA))
    assert (upload.length, upload.reserved) == (len(DATA), len(DATA))
    await _check_whole(at, await at.append(upload, 500, DATA[500:]))


async def test_a_length_may_be_declared_in_the_middle_and_again(at: Process) -> None:
    upload = await at.begin(None)
    upload = await at.append(upload, 0, DATA[:50_000])
    assert upload.length is None
    upload = await at.append(upload, 50_000, DATA[50_000:60_000], length=len(DATA))
    await _check_whole(at, await at.append(upload, 60_000, DATA[60_000:], length=len(DATA)))


async def test_a_length_may_be_declared_at_the_end_with_an_empty_body(at: Process) -> None:
    upload = await at.append(await at.begin(None), 0, DATA)
    assert upload.is_open
    await _check_whole(at, await at.append(upload, len(DATA), b"", length=len(DATA)))


async def test_a_length_of_nothing_may_be_declared_at_once(at: Process) -> None:
    upload = await at.begin(None)
    await _check_whole(at, await at.append(upload, 0, b"", length=0), b"")


async def test_an_end_that_could_not_be_recorded_leaves_the_length_open(at: Process) -> None:
    upload = await at.append(await at.begin(None), 0, DATA)
    at.hot.engine.tails.drop(upload.id)
    at.store.plan = [Fault("get", 0, Kind.BEFORE)]
    with pytest.raises(StoreUnavailable):
        await at.append(upload, len(DATA), b"", length=len(DATA))
    found = await at.hot.transfers.status(upload.id)
    assert (found.is_open, found.offset, found.length) == (True, len(DATA), None)
    at.store.plan = []
    await _check_whole(at, await at.append(upload, len(DATA), b"", length=len(DATA)))


async def test_a_wrong_length_is_refused_and_nothing_is_taken(at: Process) -> None:
    upload = await at.append(await at.begin(None), 0, DATA[:500])
    with pytest.raises(BadRequest):
        await at.append(upload, 500, DATA[500:], length=499)
    with pytest.raises(TooLarge):
        await at.append(upload, 500, DATA[500:], length=MAX_SIZE + 1)
    assert (await at.look(upload)).length is None
    upload = await at.append(upload, 500, b"", length=len(DATA))
    with pytest.raises(BadRequest):
        await at.append(upload, 500, DATA[500:], length=len(DATA) + 1)
    found = await at.look(upload)
    assert (found.offset, found.length) == (500, len(DATA))
    await _check_whole(at, await at.append(upload, 500, DATA[500:]))


async def test_bytes_beyond_the_declared_length_are_refused(at: Process) -> None:
    upload = await at.begin(None)
    with pytest.raises(LengthExceeded):
        await at.append(upload, 0, DATA, length=99_999)
    found = await at.hot.transfers.status(upload.id)
    assert found.is_open and found.length == 99_999 and found.offset < 99_999
    done = await at.append(upload, found.offset, DATA[found.offset : 99_999])
    await _check_whole(at, done, DATA[:99_999])


async def test_an_upload_without_a_length_ends_at_the_largest_size(at: Process) -> None:
    upload = await at.begin(None)
    data = random_bytes(MAX_SIZE, "large")
    with pytest.raises(LengthExceeded):
        await at.append(upload, 0, data + b"x")
    found = await at.hot.transfers.status(upload.id)
    upload = await at.append(upload, found.offset, data[found.offset :])
    assert upload.offset == MAX_SIZE
    assert await used_by(at) == (0, MAX_SIZE)
    await _check_whole(at, await at.append(upload, MAX_SIZE, b"", length=MAX_SIZE), data)


async def test_a_whole_file_of_unknown_length_appears_at_the_end_of_its_body(
    at: Process,
) -> None:
    await _check_whole(at, await _put(at, Body(DATA, 3000)))
    await _check_whole(at, await _put(at, Body(b"")), b"")
    await _check_whole(at, await _put(at, Body(DATA), len(DATA)))


@pytest.mark.parametrize(
    ("body", "length", "error"),
    [
        (Body(DATA, 3000, error=Broken()), None, Broken),
        (Body(DATA, 3000, error=RequestTimeout(seconds=1)), None, RequestTimeout),
        (Body(DATA[:500]), len(DATA), LengthMismatch),
        (Body(DATA[:500], error=Broken()), len(DATA), Broken),
        (Body(DATA + b"x", 3000), len(DATA), LengthExceeded),
        (Body(bytes(3 * MIB)), None, LengthExceeded),
        (Body(DATA[:500]), 11 * MIB, TooLarge),
    ],
)
async def test_a_whole_file_that_does_not_come_whole_leaves_nothing(
    at: Process, body: Body, length: int | None, error: type[FilestoreError]
) -> None:
    body.position = 0
    with pytest.raises(error):
        await _put(at, body, length)
    await _check_nothing_left(at)


async def test_a_whole_file_that_has_no_room_leaves_nothing(at: Process) -> None:
    await set_limit(at, 50_000)
    for length in (None, len(DATA)):
        with pytest.raises(QuotaExceeded):
            await _put(at, Body(DATA), length)
        await _check_nothing_left(at)


async def test_a_whole_file_that_the_store_does_not_take_leaves_nothing(at: Process) -> None:
    at.store.plan = [Fault("put", 3, Kind.BEFORE)]
    with pytest.raises(StoreUnavailable):
        await _put(at, Body(DATA))
    await _check_nothing_left(at)


async def _check_nothing_left(at: Process) -> None:
    """No file, nothing reserved, no upload that still runs."""
    assert await at.all(sa.select(versions.c.id)) == []
    assert await at.all(sa.select(uploads.c.id).where(uploads.c.state == "open")) == []
    assert await used_by(at) == (0, 0)
    await at.check_books()
    await at.check_references()
    await at.check_rest()
