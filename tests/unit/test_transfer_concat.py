"""Concatenation on the hot path: bytes, sums and quota are right, whatever happens meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
import sqlalchemy as sa
from blake3 import blake3

from filestore.acts.repeated import final_key
from filestore.acts.uploads import Request
from filestore.errors import (
    BadHeader,
    DigestMismatch,
    FinalUpload,
    Stopping,
    TailLost,
    UploadGone,
    UploadTakenOver,
    Verifying,
)
from filestore.meta import gc_figures
from filestore.meta.tables import blocks, content_blocks, events, uploads
from filestore.meta.uploads import Upload
from filestore.model import ExpectedDigest, Protocol, UploadPart
from filestore.names import parse_name
from filestore.quota.auditing import audit_account
from filestore.transfer import concatenating
from filestore.transfer.concatenating import BATCH, Concatenation
from filestore_gc.reaping import Reaper
from tests.services.collecting import collector_of, delete, pass_time, put_in_trash, start
from tests.services.hot_path import (
    ACTOR,
    DOMAIN,
    GROUP,
    TINY,
    USER,
    Process,
    Site,
    random_bytes,
)


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start(params=TINY)


async def _part(at: Process, data: bytes, *cuts: int) -> Upload:
    """A whole partial upload, in requests that end at the cuts."""
    upload = await at.begin(len(data), part=UploadPart.PARTIAL, raw_concat="partial")
    ends = [*sorted(cuts), len(data)]
    for begin, end in zip([0, *ends], ends, strict=False):
        if begin < end:
            upload = await at.append(upload, begin, data[begin:end])
    assert (upload.state, upload.offset, upload.reserved) == ("open", len(data), len(data))
    return upload


def _request(parts: Sequence[str], name: str = "file", **more: object) -> Request:
    raw = "final;" + " ".join(parts)
    wish: dict[str, object] = {"idempotency_key": final_key(GROUP, raw, name)} | more
    return Request(
        GROUP,
        DOMAIN,
        USER,
        Protocol.TUS,
        None,
        name=parse_name(name),
        part=UploadPart.FINAL,
        raw_concat=raw,
        parts=tuple(parts),
        **wish,  # type: ignore[arg-type]
    )


async def _final(at: Process, parts: Sequence[Upload], name: str = "file") -> Upload:
    request = _request([part.id for part in parts], name)
    return await at.hot.transfers.concatenate(ACTOR, request)


async def _check(at: Process, upload: Upload, data: bytes) -> None:
    """The file is these bytes, and its rows are what the sums say."""
    assert (upload.state, upload.offset, upload.length) == ("done", len(data), len(data))
    assert upload.content_id is not None
    rows = await at.rows(upload.content_id)
    assert sum(row.size for row in rows) == len(data)
    assert not any(row.is_provisional for row in rows)
    assert [row.offset for row in rows] == [sum(r.size for r in rows[:n]) for n in range(len(rows))]
    assert await at.read(upload.content_id, 0, len(data)) == data


@pytest.mark.parametrize("seed", range(4))
async def test_concatenations_of_random_parts_are_their_bytes_while_the_collector_runs(
    any_site: Site, seed: int
) -> None:
    at = await start(any_site)
    dice = random.Random(f"concat-{seed}")
    pieces = [random_bytes(dice.choice([0, 1, 700, 5000, 30_000]), n) for n in range(6)]
    done = asyncio.Event()

    async def collect() -> int:
        freed = 0
        while not done.is_set():
            freed += (await collector_of(at).run_once(grace_s=0)).blocks
        return freed

    used = 0
    async with asyncio.TaskGroup() as tasks:
        collecting = tasks.create_task(collect())
        for number in range(4):
            chosen = dice.choices(pieces, k=dice.randint(1, 4))
            parts = [
                await _part(at, piece, *(dice.randint(0, len(piece)) for _ in range(2)))
                for piece in chosen
            ]
            order = dice.choices(range(len(parts)), k=dice.randint(1, 6))
            upload = await _final(at, [parts[n] for n in order], f"file-{number}")
            for part in parts:
                await at.hot.transfers.terminate(ACTOR, part.id)
            data = b"".join(chosen[n] for n in order)
            used += len(data)
            await _check(at, upload, data)
            assert await _quota(at) == (used, 0)
        done.set()
    await collecting
    await at.check_references()
    await at.check_books()
    await at.check_rest()


async def _quota(at: Process) -> tuple[int, int]:
    found = await at.counters()
    return found.used, found.reserved


async def test_a_final_upload_of_many_blocks_is_built_in_short_transactions(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(900_000, "many")
    part = await _part(at, data)
    assert len(await at.rows(part.building)) > BATCH
    seen = await _stopped_behind_the_first_batch(at, [part], monkeypatch)
    assert len(await at.rows(seen.building)) == BATCH
    assert 0 < seen.offset < len(data)
    assert await _quota(at) == (0, len(data))
    with pytest.raises(FinalUpload):
        await at.append(seen, seen.offset, b"x")
    upload = await _final(at, [part])
    assert upload.id == seen.id
    await _check(at, upload, data)
    assert await _quota(at) == (len(data), 0)
    await at.check_books()


async def _stopped_behind_the_first_batch(
    at: Process, parts: Sequence[Upload], monkeypatch: pytest.MonkeyPatch, name: str = "file"
) -> Upload:
    """The final upload as a crash leaves it that comes behind its first batch."""
    begun: list[Concatenation] = []
    run = Concatenation.run

    async def noted(self: Concatenation) -> None:
        begun.append(self)
        await run(self)

    with monkeypatch.context() as patch:
        patch.setattr(Concatenation, "run", noted)
        patch.setattr(concatenating, "reached", lambda _: begun[0].leave())
        with pytest.raises(UploadTakenOver):
            await _final(at, parts, name)
    is_running = (uploads.c.part == "final", uploads.c.state == "open")
    (running,) = await at.all(sa.select(uploads.c.id).where(*is_running))
    return await at.look(running.id)


async def test_a_part_that_ends_meanwhile_ends_the_final_upload_and_nothing_is_left(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = await _part(at, random_bytes(900_000, "ends"))
    seen = await _stopped_behind_the_first_batch(at, [part], monkeypatch)
    await at.hot.transfers.terminate(ACTOR, part.id)
    with pytest.raises(BadHeader, match="ended"):
        await _final(at, [part])
    assert (await at.look(seen)).state == "failed"
    assert await _quota(at) == (0, 0)
    await at.check_books()


async def test_an_unfinished_final_upload_expires_with_what_it_reserved(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = await _part(at, random_bytes(900_000, "expires"))
    seen = await _stopped_behind_the_first_batch(at, [part], monkeypatch)
    await pass_time(at, 30 * 86_400)
    assert await Reaper(at.db, at.id).expire_uploads() == 2
    await Reaper(at.db, at.id).release_contents()
    with pytest.raises(UploadGone):
        await at.hot.transfers.status(seen.id)
    assert await _quota(at) == (0, 0)
    assert await at.one(sa.select(sa.func.count()).select_from(content_blocks)) == 0
    await at.check_books()


async def test_who_asks_the_same_in_another_process_goes_on_with_it_and_there_is_one_file(
    any_site: Site,
) -> None:
    first = await any_site.start(params=TINY)
    second = await any_site.beside(first, params=TINY)
    parts = [await _part(first, random_bytes(400_000, n)) for n in range(3)]
    done = await asyncio.gather(
        *(_final(process, parts) for process in (first, second, first, second)),
        return_exceptions=True,
    )
    finals = {upload.id for upload in done if isinstance(upload, Upload)}
    robbed = [error for error in done if isinstance(error, BaseException)]
    assert len(finals) == 1
    assert all(isinstance(error, UploadTakenOver) for error in robbed), robbed
    data = b"".join(random_bytes(400_000, n) for n in range(3))
    await _check(first, await first.look(finals.pop()), data)
    kind = sa.select(sa.func.count()).where(events.c.kind == "file.written")
    assert await first.one(kind) == 1
    await first.check_books()
    await first.check_rest()


async def test_a_server_that_stops_keeps_what_is_built(at: Process) -> None:
    part = await _part(at, b"hello")
    at.hot.transfers.stop()
    with pytest.raises(Stopping):
        await _final(at, [part])
    assert await _quota(at) == (0, 5)
    (row,) = await at.all(sa.select(uploads).where(uploads.c.part == "final"))
    assert (row.state, row.holder_id) == ("open", None)


async def test_a_digest_is_verified_from_the_stored_blocks_and_may_take_several_requests(
    any_site: Site,
) -> None:
    first = await any_site.start(params=TINY)
    at = await any_site.beside(first, params=TINY, transfer__verify_wait_s=0)
    data = random_bytes(300_000, "verified")
    part = await _part(at, data)
    request = _request([part.id], expected=ExpectedDigest(blake3=blake3(data).digest()))
    told_to_repeat, upload = 0, None
    while upload is None:
        try:
            upload = await at.hot.transfers.concatenate(ACTOR, request)
        except Verifying:
            told_to_repeat += 1
            assert (await _quota(at)) == (0, len(data))
    assert told_to_repeat
    await _check(at, upload, data)
    wrong = _request([part.id], "wrong", expected=ExpectedDigest(sha256=blake3(data).digest()))
    with pytest.raises(DigestMismatch):
        while True:
            try:
                await at.hot.transfers.concatenate(ACTOR, wrong)
            except Verifying:
                continue
    assert await _quota(at) == (len(data), 0)
    await at.check_books()


async def test_a_lost_block_ends_the_final_upload_unless_a_live_one_has_its_bytes(
    at: Process,
) -> None:
    data = random_bytes(5000, "lost")
    part = await _part(at, data)
    (lost, *_) = await at.all(
        sa.select(content_blocks.c.block_id).where(content_blocks.c.content_id == part.building)
    )
    await at.change(blocks.update().where(blocks.c.id == lost.block_id).values(state="lost"))
    with pytest.raises(TailLost):
        await _final(at, [part])
    assert await _quota(at) == (0, len(data)), "the part holds its bytes on"
    again = await _part(at, data)
    await at.change(  # as before the upload healed them
        content_blocks.update()
        .where(content_blocks.c.content_id == part.building, content_blocks.c.byte_offset == 0)
        .values(block_id=lost.block_id)
    )
    upload = await _final(at, [part, again], "healed")
    await _check(at, upload, data + data)
    await at.check_books()


async def test_copying_stops_where_a_source_has_a_gap(at: Process) -> None:
    part = await _part(at, random_bytes(5000, "gap"))
    second = (await at.rows(part.building))[1]
    await at.change(
        content_blocks.delete().where(
            content_blocks.c.content_id == part.building,
            content_blocks.c.byte_offset == second.offset,
        )
    )
    with pytest.raises(BadHeader):
        await _final(at, [part])


async def test_parts_are_charged_again_when_their_final_upload_fails(at: Process) -> None:
    """Else who says a wrong digest stores as much as he likes, and nobody is charged for it."""
    data = random_bytes(3000)
    part, empty = await _part(at, data), await _part(at, b"")
    request = _request([part.id, empty.id, part.id], expected=ExpectedDigest(blake3=b"x" * 32))
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            await at.hot.transfers.concatenate(ACTOR, request)
        assert (await at.look(part)).reserved == len(data)
        books = await at.check_books()
        assert (books.used, books.reserved, books.reserved_files) == (0, len(data), 0)
    audited = await audit_account(at.db, GROUP)
    assert audited is not None and audited.is_good
    upload = await _final(at, [part, part])
    await _check(at, upload, data * 2)
    books = await at.check_books()
    assert (books.used, books.reserved, (await at.look(part)).reserved) == (6000, 0, 0)


async def test_parts_end_with_the_file_that_was_made_of_them(any_site: Site) -> None:
    """Else who removes files again and again stores as much as he likes for a day."""
    at = await start(any_site)
    data = random_bytes(3000)
    parts = [await _part(at, data), await _part(at, b"")]
    first = await _final(at, parts)
    await put_in_trash(at, "file")
    assert await _parts_left_over(at) == 0, "what lies in the trash is charged for them"
    second = await _final(at, parts, "second")
    await delete(at, "second")
    assert await _parts_left_over(at) == 0, "the first is charged for them still"

    third = await _part(at, data)
    await _final(at, [third], "third")
    await delete(at, "third")
    assert await _parts_left_over(at) == 1
    fourth = await _final(at, [third], "fourth")
    await _check(at, fourth, data)
    assert await _parts_left_over(at) == 0, "somebody is charged for it again"
    await at.hot.transfers.terminate(ACTOR, fourth.id)  # which removes no file
    assert await _parts_left_over(at) == 0
    await delete(at, "fourth")
    assert await _parts_left_over(at) == 1
    assert await Reaper(at.db, at.id).expire_uploads() == 1
    with pytest.raises(UploadGone):
        await at.hot.transfers.status(third.id)
    assert (await at.look(parts[0])).state == "open"
    assert await _quota(at) == (len(data), 0)
    assert [(await at.look(one)).state for one in (first, second)] == ["done", "done"]
    await at.check_books()
    await at.check_references()


async def test_parts_end_with_a_file_whose_upload_its_client_has_forgotten(at: Process) -> None:
    """Else who terminates what is done, as clients may, holds bytes that nobody is charged for."""
    part = await _part(at, random_bytes(3000))
    final = await _final(at, [part])
    await at.hot.transfers.terminate(ACTOR, final.id)
    assert await _parts_left_over(at) == 0, "the file is charged for them"
    await delete(at, "file")
    assert await _parts_left_over(at) == 1
    assert await Reaper(at.db, at.id).expire_uploads() == 1
    with pytest.raises(UploadGone):
        await at.hot.transfers.status(part.id)
    assert await _quota(at) == (0, 0)


async def _parts_left_over(at: Process) -> int:
    """How many uploads the reaper would end, by the plan that it shows."""
    return (await at.db.read(partial(gc_figures.to_reap, process_id=at.id, alone=False))).uploads


async def test_a_file_in_the_trash_is_no_answer_to_who_makes_it_again(at: Process) -> None:
    part = await _part(at, b"hello")
    first = await _final(at, [part])
    assert (await _final(at, [part])).id == first.id, "a lost answer"
    await put_in_trash(at, "file")
    again = await _final(at, [part])
    assert again.id != first.id
    await _check(at, again, b"hello")
    assert (await _final(at, [part])).id == again.id
    assert await _quota(at) == (10, 0)
    await delete(at, "file")
    last = await _final(at, [part])
    assert last.id not in (first.id, again.id)
    await _check(at, last, b"hello")
    assert (await at.look(part)).reserved == 0
    await at.check_books()


async def test_a_part_of_which_another_file_is_being_made_stays(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(900_000, "twice")
    part = await _part(at, data)
    await _final(at, [part], "first")
    await _stopped_behind_the_first_batch(at, [part], monkeypatch, "second")
    await delete(at, "first")
    assert await _parts_left_over(at) == 0
    assert await Reaper(at.db, at.id).expire_uploads() == 0
    await _check(at, await _final(at, [part], "second"), data)
    assert await Reaper(at.db, at.id).expire_uploads() == 1
    await at.check_books()
