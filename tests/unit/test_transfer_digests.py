"""A digest that is expected is verified before the file appears, whoever received the bytes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
import sqlalchemy as sa
import structlog
from blake3 import blake3

from filestore.acts.uploads import Request
from filestore.errors import (
    BlockMissing,
    DigestMismatch,
    FilestoreError,
    StoreUnavailable,
    UploadGone,
    UploadTakenOver,
    Verifying,
)
from filestore.meta.tables import contents, uploads, versions
from filestore.meta.uploads import Upload
from filestore.model import ExpectedDigest, Protocol, UploadPart
from filestore.transfer import background
from filestore.transfer.background import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pauses, hash_contents
from filestore.transfer.checksums import Checksum
from filestore.transfer.digests import CHASES, Chase, DigestKeeper
from tests.contract.faulty import Fault, Kind
from tests.services.hot_path import (
    ACTOR,
    DOMAIN,
    GROUP,
    SMALL,
    USER,
    Process,
    Site,
    random_bytes,
    used_by,
)

DATA = random_bytes(400_000, "digests")
BLAKE3 = blake3(DATA).digest()
SHA256 = hashlib.sha256(DATA).digest()
RIGHT = [
    ExpectedDigest(blake3=BLAKE3),
    ExpectedDigest(sha256=SHA256),
    ExpectedDigest(BLAKE3, SHA256),
]
WRONG = [
    ExpectedDigest(blake3=SHA256),
    ExpectedDigest(sha256=BLAKE3),
    ExpectedDigest(BLAKE3, BLAKE3),
    ExpectedDigest(SHA256, SHA256),
]


@pytest.fixture
async def pair(any_site: Site) -> AsyncIterator[list[Process]]:
    """Two hot paths that know nothing of each other's digests."""
    first = await any_site.start(params=SMALL)
    yield [first, await any_site.beside(first, params=SMALL)]


async def _digest(at: Process, upload: Upload) -> bytes | None:
    query = sa.select(contents.c.blake3).where(contents.c.id == upload.content_id)
    found: bytes | None = await at.one(query)
    return found


async def _check_failed(at: Process, upload: Upload) -> None:
    """Nothing appeared, nothing is reserved, and the upload is over."""
    assert await at.all(sa.select(versions.c.id)) == []
    assert await used_by(at) == (0, 0)
    found = await at.look(upload)
    assert (found.state, found.failure) == ("failed", "digest-mismatch")
    with pytest.raises(UploadGone):
        await at.hot.transfers.status(upload.id)
    await at.check_books()
    await at.check_rest()
    assert "0 states, 0 chases" in repr(at.hot.engine.digests)


async def test_a_right_digest_lets_the_file_appear(pair: list[Process]) -> None:
    for number, expected in enumerate(RIGHT):
        upload = await pair[0].upload(DATA, f"f{number}", expected=expected)
        assert upload.state == "done"
        assert await _digest(pair[0], upload) == BLAKE3


async def test_a_wrong_digest_ends_the_upload_and_nothing_appears(pair: list[Process]) -> None:
    for number, expected in enumerate(WRONG):
        upload = await pair[0].begin(len(DATA), f"f{number}", expected=expected)
        with pytest.raises(DigestMismatch) as refused:
            await pair[0].append(upload, 0, DATA)
        assert set(refused.value.members) == {"algorithm", "expected", "got"}
        await _check_failed(pair[0], upload)


async def test_a_digest_is_kept_from_request_to_request(pair: list[Process]) -> None:
    at = pair[0]
    upload = await at.begin(len(DATA), expected=RIGHT[2])
    for start in range(0, len(DATA), 90_000):
        upload = await at.append(upload, start, DATA[start : start + 90_000])
    assert await _digest(at, upload) == BLAKE3
    assert at.store.calls["get"] == 0


async def test_a_process_that_goes_on_hashes_what_the_other_stored(pair: list[Process]) -> None:
    for number, expected in enumerate(RIGHT):
        upload = await pair[0].begin(len(DATA), f"f{number}", expected=expected)
        await pair[0].append(upload, 0, DATA[:123_456])
        await pair[1].append(upload, 123_456, DATA[123_456:300_000])
        upload = await pair[0].append(upload, 300_000, DATA[300_000:])
        assert upload.state == "done"
        assert await _digest(pair[0], upload) == BLAKE3
    for at in pair:
        await at.check_rest()


async def test_a_process_that_goes_on_finds_a_wrong_digest_too(pair: list[Process]) -> None:
    for number, expected in enumerate(WRONG):
        upload = await pair[0].begin(len(DATA), f"f{number}", expected=expected)
        await pair[0].append(upload, 0, DATA[:123_456])
        with pytest.raises(DigestMismatch):
            await pair[1].append(upload, 123_456, DATA[123_456:])
        await _check_failed(pair[1], upload)


@pytest.mark.parametrize("has_checksum", [False, True])
@pytest.mark.parametrize("expected", [RIGHT[0], WRONG[0]])
async def test_who_waits_too_long_for_a_digest_repeats_and_succeeds_or_is_refused(
    any_site: Site, pair: list[Process], expected: ExpectedDigest, has_checksum: bool
) -> None:
    at = await any_site.beside(pair[0], params=SMALL, transfer__verify_wait_s=0)
    upload = await pair[0].begin(len(DATA), expected=expected)
    upload = await pair[0].append(upload, 0, DATA[:300_000])
    rest = DATA[300_000:]
    checksum = Checksum("sha1", hashlib.sha1(rest).digest()) if has_checksum else None
    told_to_repeat = 0
    outcome: Upload | FilestoreError | None = None
    while outcome is None:
        found = await at.hot.transfers.status(upload.id)
        try:
            body = DATA[found.offset :]
            outcome = await at.append(upload, found.offset, body, checksum=checksum)
        except DigestMismatch as err:
            outcome = err
        except Verifying:
            told_to_repeat += 1
            found = await at.look(upload)
            assert found.is_open and 300_000 <= found.offset < len(DATA)
            await at.check_references()
    assert told_to_repeat or has_checksum, "under a checksum the chase has the whole body's time"
    if expected is RIGHT[0]:
        assert isinstance(outcome, Upload) and outcome.state == "done"
        assert await _digest(at, outcome) == BLAKE3
    else:
        await _check_failed(at, upload)
    await at.check_rest()


async def test_a_chase_that_fails_is_begun_again_by_the_next_request(
    pair: list[Process],
) -> None:
    upload = await pair[0].begin(len(DATA), expected=RIGHT[0])
    await pair[0].append(upload, 0, DATA[:300_000])
    at = pair[1]
    at.store.plan = [Fault("get", 0, Kind.BEFORE)]
    with pytest.raises(FilestoreError):
        await at.append(upload, 300_000, DATA[300_000:])
    found = await at.hot.transfers.status(upload.id)
    assert found.is_open and found.offset < len(DATA)
    at.store.plan = []
    upload = await at.append(upload, found.offset, DATA[found.offset :])
    assert upload.state == "done"
    await at.check_rest()


async def test_files_that_did_not_run_through_get_their_digest_later(
    pair: list[Process],
) -> None:
    upload = await pair[0].begin(len(DATA))
    await pair[0].append(upload, 0, DATA[:123_456])
    upload = await pair[1].append(upload, 123_456, DATA[123_456:])
    assert upload.state == "done"
    assert await _digest(pair[0], upload) is None
    assert await hash_contents(pair[0].hot.engine) == 1
    assert await _digest(pair[0], upload) == BLAKE3
    assert await hash_contents(pair[0].hot.engine) == 0


async def test_a_file_that_cannot_be_read_does_not_keep_others_from_their_digest(
    pair: list[Process],
) -> None:
    made = []
    for number in range(2):
        data = random_bytes(50_000, number)
        upload = await pair[0].begin(len(data), f"f{number}")
        await pair[0].append(upload, 0, data[:20_000])
        made.append(await pair[1].append(upload, 20_000, data[20_000:]))
    first = pair[0].store.inner
    objects = [found async for found in first.walk("default")]
    rows = await pair[0].rows(made[0].content_id or 0)
    paths = [found.path for found in objects if rows[0].hash.hex() in found.path]
    assert len(paths) == 1
    inner = first.objects.pop(paths[0])  # type: ignore[attr-defined]
    assert inner
    with pytest.raises(BlockMissing):
        await pair[0].read(made[0].content_id or 0, 0, 10)
    now = [0.0]
    pauses = Pauses(clock=lambda: now[0])
    assert await hash_contents(pair[0].hot.engine, pauses) == 1
    assert await _digest(pair[0], made[0]) is None
    assert await _digest(pair[0], made[1]) is not None

    gets = pair[0].store.calls["get"]
    assert await hash_contents(pair[0].hot.engine, pauses) == 0
    assert pair[0].store.calls["get"] == gets, "it is not read again at once"
    first.objects[paths[0]] = inner  # type: ignore[attr-defined]
    now[0] += FIRST_PAUSE_S
    assert await hash_contents(pair[0].hot.engine, pauses) == 1
    assert "0 contents" in repr(pauses)


def test_what_cannot_be_read_is_tried_ever_more_seldom_and_not_remembered_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = Pauses(clock=lambda: 0.0)
    taken = [pauses.pause(7) for _ in range(14)]
    assert taken[:3] == [60, 120, 240] and taken[-1] == LONGEST_PAUSE_S
    assert pauses.is_paused(7) and not pauses.is_paused(8)
    monkeypatch.setattr(background, "MAX_PAUSED", 2)
    for content_id in (8, 9):
        pauses.pause(content_id)
    assert [pauses.is_paused(number) for number in (7, 8, 9)] == [False, True, True]


async def test_a_defect_in_the_background_is_said_loudly_and_does_not_end_it(
    pair: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = asyncio.Event()
    failures: list[Exception] = [ZeroDivisionError(), StoreUnavailable(reason="it is away")]

    async def fail(*_: object) -> int:
        if failures:
            raise failures.pop(0)
        rounds.set()
        return 0

    monkeypatch.setattr(background, "hash_contents", fail)
    monkeypatch.setattr(background, "INTERVAL_S", 0)
    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(background.run_forever(pair[0].hot.engine))
        async with asyncio.timeout(10):
            await rounds.wait()
        running.cancel()
        await asyncio.wait({running})
    events = [(line["event"], line["log_level"]) for line in said]
    assert ("background.crashed", "error") in events
    assert ("background.failed", "warning") in events


async def test_nobody_is_left_hashing_when_the_hot_path_ends(
    any_site: Site, pair: list[Process]
) -> None:
    upload = await pair[0].begin(len(DATA), expected=RIGHT[0])
    await pair[0].append(upload, 0, DATA[:300_000])
    at = await any_site.beside(pair[0], params=SMALL)
    at.store.plan = [Fault("get", 1, Kind.HOLD)]
    await at.append(upload, 300_000, b"")
    assert "1 chases" in repr(at.hot.engine.digests)
    await any_site.stop(at)
    assert "0 chases" in repr(at.hot.engine.digests)
    waiting = [task for task in asyncio.all_tasks() if "Chase" in repr(task)]
    assert waiting == []


async def _nothing(_start: int, _end: int) -> AsyncIterator[memoryview]:
    for _ in ():
        yield memoryview(b"")


async def _never(_start: int, _end: int) -> AsyncIterator[memoryview]:
    await asyncio.Event().wait()
    yield memoryview(b"")


async def test_digests_of_uploads_that_ended_elsewhere_are_not_chased_without_bound(
    pair: list[Process],
) -> None:
    keeper, workers = DigestKeeper(), pair[0].hot.engine.workers
    idle = partial(Chase, _nothing, workers, with_sha256=False, goal=0)
    busy = keeper.chase("busy", partial(Chase, _never, workers, with_sha256=False, goal=1))
    waiting = asyncio.create_task(busy.reach(1))
    for number in range(3 * CHASES):
        keeper.chase(f"ended {number}", idle)
        await asyncio.sleep(0)
    assert len(keeper._chases) <= CHASES + 1
    assert keeper.chase("busy", idle) is busy
    keeper.forget("busy")
    with pytest.raises(UploadTakenOver):  # not cancelled, which nobody asked for
        await waiting
    await keeper.close()


async def test_who_waits_for_the_digest_of_an_upload_that_is_ended_is_told(
    pair: list[Process],
) -> None:
    at, other = pair
    part = await at.begin(len(DATA), part=UploadPart.PARTIAL, raw_concat="partial")
    await at.append(part, 0, DATA)
    request = Request(
        GROUP,
        DOMAIN,
        USER,
        Protocol.TUS,
        None,
        expected=ExpectedDigest(blake3=BLAKE3),
        part=UploadPart.FINAL,
        parts=(part.id,),
    )
    hold = Fault("get", 0, Kind.HOLD)
    other.store.plan = [hold]
    running = asyncio.create_task(other.hot.transfers.concatenate(ACTOR, request))
    await hold.reached.wait()
    final = str(await at.one(sa.select(uploads.c.id).where(uploads.c.part == "final")))
    other.hot.engine.digests.forget(final)  # as who ends it does, having waited long enough
    with pytest.raises(UploadTakenOver):
        await running
    hold.gate.set()
    other.store.plan = []
    assert (await other.hot.transfers.find(final)).is_open
    await at.hot.transfers.terminate(ACTOR, final)
    assert await used_by(at) == (0, len(DATA))  # the part has it back
