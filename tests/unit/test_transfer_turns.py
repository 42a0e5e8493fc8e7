"""One writer per upload: the newcomer wins, what came before is kept, nothing interleaves."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.errors import (
    FilestoreError,
    LengthExceeded,
    NotFound,
    OffsetMismatch,
    RequestTimeout,
    Stopping,
    UploadGone,
    UploadTakenOver,
)
from filestore.meta.tables import uploads
from filestore.meta.uploads import Upload
from filestore.model import MIB
from filestore.transfer.source import Broken
from filestore_gc.reaping import Reaper
from tests.contract.faulty import Fault, Kind
from tests.services.hot_path import (
    ACTOR,
    SMALL,
    Body,
    Held,
    Process,
    Site,
    cut,
    random_bytes,
    used_by,
)

DATA = random_bytes(300_000, "turns")


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start(params=SMALL)


async def _begun(at: Process, first: int = 200_000) -> tuple[Upload, Held, asyncio.Task[Upload]]:
    """An upload of ``DATA`` of which a request has sent ``first`` bytes and now is silent."""
    upload = await at.begin(len(DATA))
    body = Held(DATA[:first], DATA[first:], step=10_000)
    running = asyncio.create_task(at.append(upload, 0, body))
    await body.waiting.wait()
    return upload, body, running


async def _check_whole(at: Process, upload: Upload) -> None:
    """The upload is done and its file is ``DATA``."""
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(DATA, SMALL)
    assert await at.read(upload.content_id, 0, len(DATA)) == DATA
    await at.check_books()
    await at.check_references()
    await at.check_rest()


async def test_who_asks_for_the_offset_gets_all_that_came(at: Process) -> None:
    upload, _, running = await _begun(at)
    found = await at.hot.transfers.status(upload.id)
    assert (found.offset, found.is_open) == (200_000, True)
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(at, await at.append(upload, 200_000, DATA[200_000:]))


async def test_who_appends_ends_the_request_before_and_is_told_the_offset(at: Process) -> None:
    upload, _, running = await _begun(at)
    with pytest.raises(OffsetMismatch) as refused:
        await at.append(upload, 0, DATA)
    assert refused.value.members == {"expected": 200_000, "got": 0}
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(at, await at.append(upload, 200_000, DATA[200_000:]))


async def test_who_terminates_ends_the_request_and_frees_the_reservation(at: Process) -> None:
    upload, _, running = await _begun(at)
    assert await used_by(at) == (0, len(DATA))
    await at.hot.transfers.terminate(ACTOR, upload.id)
    with pytest.raises(UploadTakenOver):
        await running
    assert (await at.look(upload)).state == "terminated"
    assert await used_by(at) == (0, 0)
    with pytest.raises(UploadGone):
        await at.append(upload, 200_000, DATA[200_000:])
    with pytest.raises(UploadGone):
        await at.hot.transfers.terminate(ACTOR, upload.id)
    await at.check_rest()


async def test_of_many_newcomers_each_asks_the_one_before(at: Process) -> None:
    upload, _, running = await _begun(at)
    answers = await asyncio.gather(*(at.hot.transfers.status(upload.id) for _ in range(5)))
    assert {found.offset for found in answers} == {200_000}
    with pytest.raises(UploadTakenOver):
        await running
    await _check_whole(at, await at.append(upload, 200_000, DATA[200_000:]))


async def test_a_newcomer_that_is_cancelled_while_it_waits_holds_nothing(at: Process) -> None:
    fault = Fault("put", 1, Kind.HOLD)
    at.store.plan = [fault]
    upload, _, running = await _begun(at)
    await fault.reached.wait()
    newcomer = asyncio.create_task(at.hot.transfers.status(upload.id))
    await asyncio.sleep(0)
    newcomer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newcomer
    fault.gate.set()
    with pytest.raises(UploadTakenOver):
        await running
    found = await at.hot.transfers.status(upload.id)
    assert found.offset == 200_000
    await _check_whole(at, await at.append(upload, found.offset, DATA[found.offset :]))


async def test_a_holder_that_cannot_let_go_in_time_is_fenced_and_records_nothing(
    any_site: Site,
) -> None:
    at = await any_site.start(params=SMALL, transfer__lock_wait_s=0.2)
    upload = await at.begin(len(DATA))
    fault = Fault("put", 0, Kind.HOLD)
    at.store.plan = [fault]
    stuck = asyncio.create_task(at.append(upload, 0, DATA[:200_000]))
    await fault.reached.wait()

    found = await at.hot.transfers.status(upload.id)
    assert (found.offset, found.holder_id) == (0, None)
    at.store.plan = []
    other = random_bytes(len(DATA), "others")
    half = await at.append(upload, 0, other[:150_000])
    fault.gate.set()
    with pytest.raises(UploadTakenOver):
        await stuck

    assert (await at.look(upload)).offset == half.offset == 150_000
    done = await at.append(upload, 150_000, other[150_000:])
    assert done.state == "done" and done.content_id is not None
    assert await at.read(done.content_id, 0, len(DATA)) == other
    assert await at.rows(done.content_id) == cut(other, SMALL)
    await at.check_rest()


@pytest.mark.parametrize("error", [Broken(), RequestTimeout(seconds=5)])
async def test_a_body_that_breaks_off_is_kept_up_to_there(
    at: Process, error: FilestoreError
) -> None:
    upload = await at.begin(len(DATA))
    with pytest.raises(type(error)):
        await at.append(upload, 0, Body(DATA[:123_456], 1000, error=error))
    found = await at.hot.transfers.status(upload.id)
    assert (found.offset, found.is_open) == (123_456, True)
    await _check_whole(at, await at.append(upload, 123_456, DATA[123_456:]))


async def test_a_body_that_breaks_off_behind_its_last_byte_is_whole(at: Process) -> None:
    upload = await at.begin(len(DATA))
    await _check_whole(at, await at.append(upload, 0, Body(DATA, 1000, error=Broken())))


async def test_a_file_appears_only_when_its_body_ended(at: Process) -> None:
    upload, body, running = await _begun(at, first=len(DATA))
    found = await at.look(upload)
    assert found.is_open and found.offset < len(DATA)
    body.gate.set()
    await _check_whole(at, await running)


async def test_an_open_upload_is_never_recorded_up_to_its_length(at: Process) -> None:
    zeros = bytes(10 * SMALL.max_size)  # the last cut is final before the end is known
    upload = await at.begin(len(zeros))
    body = Held(zeros, step=SMALL.max_size)
    running = asyncio.create_task(at.append(upload, 0, body))
    await body.waiting.wait()
    await asyncio.wait((running,), timeout=0.2)
    found = await at.look(upload)
    assert found.is_open and found.offset < len(zeros)
    body.gate.set()
    assert (await running).state == "done"
    await at.check_rest()


async def test_a_taken_over_request_whose_bytes_all_came_is_done(at: Process) -> None:
    upload, _, running = await _begun(at, first=len(DATA))
    found = await at.hot.transfers.status(upload.id)
    assert found.state == "done"
    await _check_whole(at, await running)


async def test_a_body_that_is_too_long_leaves_the_upload_open(at: Process) -> None:
    for step in (1000, len(DATA) + 1):
        upload = await at.begin(len(DATA), f"f{step}")
        with pytest.raises(LengthExceeded):
            await at.append(upload, 0, Body(DATA + b"x", step))
        found = await at.hot.transfers.status(upload.id)
        assert found.is_open and found.offset < len(DATA)
        await _check_whole(at, await at.append(upload, found.offset, DATA[found.offset :]))
        await at.hot.transfers.terminate(ACTOR, upload.id)


async def test_zeros_that_are_too_long_leave_the_upload_open(at: Process) -> None:
    zeros = bytes(10 * SMALL.max_size)
    upload = await at.begin(len(zeros))
    with pytest.raises(LengthExceeded):
        await at.append(upload, 0, Body(zeros + b"x", SMALL.max_size))
    found = await at.hot.transfers.status(upload.id)
    assert found.is_open and found.offset < len(zeros)
    assert (await at.append(upload, found.offset, zeros[found.offset :])).state == "done"
    await at.check_rest()


async def test_an_announced_body_that_is_too_long_is_not_read(at: Process) -> None:
    upload = await at.begin(len(DATA))
    body = Body(DATA)
    with pytest.raises(LengthExceeded):
        await at.append(upload, 0, body, announced=len(DATA) + 1)
    assert (body.position, (await at.look(upload)).offset) == (0, 0)
    await _check_whole(at, await at.append(upload, 0, DATA, announced=len(DATA)))


async def test_a_lost_final_answer_is_given_again(at: Process) -> None:
    upload = await at.upload(DATA)
    end = len(DATA)
    assert (await at.append(upload, end, b"")).version_id == upload.version_id
    assert (await at.append(upload, end, b"", length=end)).version_id == upload.version_id
    with pytest.raises(OffsetMismatch):
        await at.append(upload, 0, DATA)
    with pytest.raises(LengthExceeded):
        await at.append(upload, end, b"more")
    await at.hot.transfers.terminate(ACTOR, upload.id)
    assert await at.read(upload.content_id or 0, 0, end) == DATA
    with pytest.raises(UploadGone):
        await at.hot.transfers.status(upload.id)
    await at.check_books()


async def test_an_upload_that_is_unknown_is_not_found(at: Process) -> None:
    for act in (at.hot.transfers.status, at.look):
        with pytest.raises(NotFound):
            await act("upl_unknown")
    with pytest.raises(NotFound):
        await at.append("upl_unknown", 0, b"")
    await at.check_rest()


async def test_a_server_that_stops_keeps_what_came(at: Process) -> None:
    upload, _, running = await _begun(at)
    at.hot.transfers.stop()
    with pytest.raises(Stopping):
        await running
    assert (await at.look(upload)).offset == 200_000
    with pytest.raises(Stopping):
        await at.append(upload, 200_000, Held(b""))
    await at.check_rest()


async def test_a_request_that_is_cancelled_at_any_step_leaves_the_upload_usable(
    at: Process,
) -> None:
    upload = await at.begin(len(DATA))
    for steps in range(1, 120, 4):
        found = await at.hot.transfers.status(upload.id)
        running = asyncio.create_task(
            at.append(upload, found.offset, Body(DATA[found.offset :][:9000], 3000))
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
    found = await at.hot.transfers.status(upload.id)
    if found.is_open:
        found = await at.append(upload, found.offset, DATA[found.offset :])
    await _check_whole(at, found)


async def test_an_upload_that_is_due_takes_no_more_and_reserves_nothing(at: Process) -> None:
    for ask in ("append", "status", "terminate"):
        upload = await at.begin(len(DATA), ask)
        await at.append(upload, 0, DATA[:100])
        await at.change(sa.update(uploads).where(uploads.c.id == upload.id).values(expires_at=1))
        if ask == "append":
            with pytest.raises(UploadGone):
                await at.append(upload, 100, DATA[100:])
        elif ask == "status":
            with pytest.raises(UploadGone):
                await at.hot.transfers.status(upload.id)
        else:
            with pytest.raises(UploadGone):
                await at.hot.transfers.terminate(ACTOR, upload.id)
        assert (await at.look(upload)).state == "expired"
        assert await used_by(at) == (0, 0)


async def test_an_upload_that_expires_under_its_holder_records_nothing_more(
    at: Process,
) -> None:
    upload, body, running = await _begun(at)
    while (await at.look(upload)).is_open:  # batches that were under way still move it
        await at.change(sa.update(uploads).values(expires_at=1))
        await Reaper(at.db, at.id).expire_uploads()
    body.gate.set()
    with pytest.raises(UploadGone):
        await running
    assert (await at.look(upload)).state == "expired"
    assert await used_by(at) == (0, 0)
    await at.check_rest()


async def test_progress_moves_the_expiry_up_to_its_cap(at: Process) -> None:
    upload = await at.begin(2 * MIB)
    early = sa.update(uploads).values(expires_at=uploads.c.expires_at - 10_000_000)
    await at.change(early)
    before = await at.look(upload)
    after = await at.append(upload, 0, b"x")
    assert after.expires_at > before.expires_at
    await at.change(sa.update(uploads).values(expires_cap_at=after.expires_at - 7))
    capped = await at.append(upload, 1, b"y")
    assert capped.expires_at == after.expires_at - 7
