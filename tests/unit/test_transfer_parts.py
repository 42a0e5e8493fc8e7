"""Partial and final uploads beside the pool, the checker, the reaper, a failing store, and each
other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from blake3 import blake3

from filestore.acts import temporary
from filestore.acts.repeated import final_key
from filestore.acts.uploads import Request
from filestore.errors import BadHeader, DatabaseUnavailable, QuotaExceeded, StoreError
from filestore.meta.accounts import POOL_ID
from filestore.meta.tables import content_blocks, groups, uploads
from filestore.meta.uploads import Upload
from filestore.model import ExpectedDigest, Protocol, UploadPart
from filestore.names import parse_name
from filestore.transfer import concatenating
from filestore.transfer.concatenating import Concatenation
from filestore.transfer.ingest import Completion
from filestore_gc.reaping import Reaper
from tests.contract.faulty import Fault, Kind, Operation
from tests.services.collecting import collector_of, pass_time, start
from tests.services.damage import fsck
from tests.services.hot_path import (
    ACTOR,
    DOMAIN,
    GROUP,
    TINY,
    USER,
    Process,
    Site,
    random_bytes,
    set_limit,
    sqlite_site,
    used_by,
)


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await start(any_site)


async def _part(at: Process, data: bytes) -> Upload:
    upload = await at.begin(len(data), part=UploadPart.PARTIAL, raw_concat="partial")
    return await at.append(upload, 0, data) if data else upload


def _request(parts: Sequence[Upload], name: str = "file", **more: Any) -> Request:
    raw = "final;" + " ".join(part.id for part in parts)
    wish = {"idempotency_key": final_key(GROUP, raw, name)} | more
    return Request(
        GROUP,
        DOMAIN,
        USER,
        Protocol.TUS,
        None,
        name=parse_name(name),
        part=UploadPart.FINAL,
        raw_concat=raw,
        parts=tuple(part.id for part in parts),
        **wish,
    )


async def _final(at: Process, parts: Sequence[Upload], name: str = "file", **more: Any) -> Upload:
    return await at.hot.transfers.concatenate(ACTOR, _request(parts, name, **more))


async def _begun(
    at: Process, parts: Sequence[Upload], monkeypatch: pytest.MonkeyPatch, name: str = "begun"
) -> Upload:
    """A final upload as a crash leaves it that comes behind its first batch."""

    class CrashError(BaseException):
        pass

    def crash(point: str) -> None:
        if point == "concat.copied":
            raise CrashError

    with monkeypatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(concatenating, "reached", crash)
        await _final(at, parts, name)
    found = await at.one(
        sa.select(uploads.c.id).where(uploads.c.part == "final", uploads.c.state == "open")
    )
    return await at.look(str(found))


# Quotas


async def _overflowing(at: Process, *, pool: int) -> None:
    """A group of 1,000 bytes that keeps 100 of them for good, and a pool."""
    await set_limit(at, 1000)
    await at.change(
        sa.update(groups).where(groups.c.id == GROUP).values(soft_limit=100, overflows=True)
    )
    await at.transact(temporary.change_pool, ACTOR, domain_id=DOMAIN, limit=pool, keep_s=86_400)


async def _pool_holds(at: Process) -> tuple[int, int]:
    (pool,) = await at.all(sa.select(groups).where(groups.c.id == POOL_ID))
    return pool.used, pool.reserved


async def test_a_final_upload_takes_over_what_its_parts_have_of_the_pool(at: Process) -> None:
    await _overflowing(at, pool=300)
    await at.upload(random_bytes(100, "fills"), "fills")
    parts = [await _part(at, random_bytes(140, n)) for n in range(2)]
    assert await _pool_holds(at) == (0, 280)
    upload = await _final(at, parts)
    assert (upload.state, upload.pool_id) == ("done", POOL_ID)
    assert await _pool_holds(at) == (280, 0)
    with pytest.raises(QuotaExceeded):  # used again, they have to be reserved anew
        await _final(at, parts, "again")
    assert await _pool_holds(at) == (280, 0)
    await at.check_books()


async def test_an_unfinished_final_upload_gives_its_part_back_what_it_took_of_the_pool(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _overflowing(at, pool=300)
    part = await _part(at, random_bytes(250, "pool"))
    begun = await _begun(at, [part], monkeypatch)
    assert (begun.pool_id, begun.reserved, await _pool_holds(at)) == (POOL_ID, 250, (0, 250))
    await at.hot.transfers.terminate(ACTOR, begun.id)
    part = await at.look(part)
    assert (part.pool_id, part.reserved, await _pool_holds(at)) == (POOL_ID, 250, (0, 250))
    again = await _begun(at, [part], monkeypatch)
    assert (again.pool_id, await _pool_holds(at)) == (POOL_ID, (0, 250))
    await pass_time(at, 30 * 86_400)
    await collector_of(at).run_once(grace_s=0)
    assert await _pool_holds(at) == (0, 0)
    assert (await fsck(at)).damage == 0
    await at.check_books()


async def test_parts_of_the_group_and_of_the_pool_become_one_file_of_the_pool(
    at: Process,
) -> None:
    await _overflowing(at, pool=150)
    of_group = await _part(at, random_bytes(80, "group"))
    of_pool = await _part(at, random_bytes(70, "pool"))
    assert (of_group.pool_id, of_pool.pool_id) == (None, POOL_ID)
    upload = await _final(at, [of_group, of_pool])
    assert (upload.state, upload.pool_id) == ("done", POOL_ID)
    assert await _pool_holds(at) == (150, 0)
    assert await used_by(at) == (0, 0)
    await at.check_books()


async def test_a_file_that_has_room_in_the_group_leaves_the_pool(at: Process) -> None:
    await _overflowing(at, pool=150)
    part = await _part(at, random_bytes(150, "pool"))
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(soft_limit=500))
    upload = await _final(at, [part])
    assert (upload.state, upload.pool_id) == ("done", None)
    assert (await _pool_holds(at), await used_by(at)) == ((0, 0), (150, 0))
    await at.check_books()


async def test_parts_that_are_used_twice_are_charged_twice(at: Process) -> None:
    await set_limit(at, 250)
    part = await _part(at, random_bytes(100, "twice"))
    assert (await _final(at, [part, part])).length == 200
    assert await used_by(at) == (200, 0)
    with pytest.raises(QuotaExceeded):
        await _final(at, [part], "third")
    assert await used_by(at) == (200, 0)
    await at.check_books()


# The same request twice


async def test_of_two_creations_with_one_key_the_second_needs_no_room(at: Process) -> None:
    await set_limit(at, 100)
    wishes = [at.begin(100, "same", idempotency_key="key:same") for _ in range(4)]
    begun = await asyncio.gather(*wishes)
    assert len({upload.id for upload in begun}) == 1
    assert await used_by(at) == (0, 100)
    await at.check_books()


async def test_of_two_final_uploads_at_once_the_second_needs_no_room(any_site: Site) -> None:
    first = await start(any_site)
    second = await any_site.beside(first, params=TINY)
    await set_limit(first, 300)
    parts = [await _part(first, random_bytes(150, n)) for n in range(2)]
    done = await asyncio.gather(
        *(_final(process, parts) for process in (first, second, first, second)),
        return_exceptions=True,
    )
    assert not [error for error in done if isinstance(error, QuotaExceeded)], done
    assert len({upload.id for upload in done if isinstance(upload, Upload)}) == 1
    assert await used_by(first) == (300, 0)
    await first.check_books()


async def test_creations_that_wait_while_the_database_is_away_are_asked_once_together(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(act: object, *, at_once: bool = False) -> None:
        nonlocal asked
        asked += 1
        raise DatabaseUnavailable(retry_after_s=5)

    with monkeypatch.context() as patch:
        patch.setattr(at.db, "transact", away)
        wishes = [at.begin(100, f"away-{number}") for number in range(20)]
        done = await asyncio.gather(*wishes, return_exceptions=True)
    assert all(isinstance(one, DatabaseUnavailable) for one in done), done
    assert asked <= 2  # who came first, then all the others
    assert await used_by(at) == (0, 0)


# The checker and the reaper


async def test_parts_and_final_uploads_are_no_damage_and_nothing_of_them_stays(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(60_000, "whole")
    half = await at.begin(50_000, part=UploadPart.PARTIAL, raw_concat="partial")
    await at.append(half, 0, data[:30_000])
    used, unused = await _part(at, data), await _part(at, random_bytes(20_000, "unused"))
    file = await _final(at, [used, await _part(at, b""), used])
    monkeypatch.setattr(concatenating, "BATCH", 5)
    begun = await _begun(at, [used, unused], monkeypatch)
    assert 0 < begun.offset < 80_000
    report = await fsck(at)
    assert (report.damage, report.findings) == (0, ()), report
    await at.check_books()
    await pass_time(at, 30 * 86_400)
    await collector_of(at).run_once(grace_s=0)
    for upload in (half, used, unused, begun):
        assert (await at.look(upload)).state == "expired"
    assert await used_by(at) == (120_000, 0)
    assert file.content_id is not None
    left = set(await at.all(sa.select(content_blocks.c.content_id).distinct()))
    assert {row.content_id for row in left} == {file.content_id}
    assert await at.read(file.content_id, 0, 120_000) == data + data
    report = await fsck(at)
    assert (report.damage, report.findings) == (0, ()), report
    await at.check_references()
    await at.check_books()


async def test_a_final_upload_whose_parts_expired_meanwhile_fails_and_reserves_nothing(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concatenating, "BATCH", 5)
    part = await _part(at, random_bytes(60_000, "late"))
    begun = await _begun(at, [part], monkeypatch)
    await at.change(uploads.update().where(uploads.c.id == part.id).values(expires_at=0))
    await collector_of(at).run_once(grace_s=0)
    assert (await at.look(part)).state == "expired"
    assert await used_by(at) == (0, 60_000)
    with pytest.raises(BadHeader, match="ended"):
        await _final(at, [part], "begun")
    assert (await at.look(begun)).state == "failed"
    assert await used_by(at) == (0, 0)
    await Reaper(at.db, at.id).release_contents()
    assert await at.one(sa.select(sa.func.count()).select_from(content_blocks)) == 0
    assert (await fsck(at)).damage == 0
    await at.check_books()


# A store that fails


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with sqlite_site(tmp_path) as site:
        first = await site.start(params=TINY)
        yield [first, await site.beside(first, params=TINY)]


async def _concatenated(pair: list[Process], number: int) -> int:
    """A file of two partial uploads whose digest the other process verifies; errors it met."""
    at, other = pair
    data = random_bytes(2400, f"concat {number}")
    errors = 0
    parts = []
    for piece in (data[:1300], data[1300:]):
        part = await at.begin(len(piece), part=UploadPart.PARTIAL, raw_concat="partial")
        while not part.is_whole_part:
            try:
                part = await at.hot.transfers.status(part.id)
                part = await at.append(part, part.offset, piece[part.offset :][:700])
            except StoreError:
                errors += 1
        parts.append(part)
    expected = ExpectedDigest(blake3=blake3(data).digest())
    upload = None
    while upload is None:
        try:
            upload = await _final(other, parts, f"c{number}", expected=expected)
        except StoreError:
            errors += 1
    assert upload.state == "done" and upload.content_id is not None
    assert await _read(at, upload.content_id, len(data)) == data
    return errors


async def _drafted(pair: list[Process], number: int) -> int:
    """An upload as the IETF draft has it: complete when a request says so; errors it met."""
    at, other = pair
    data = random_bytes(2400, f"draft {number}")
    upload = await at.begin(None, f"d{number}", protocol=Protocol.IETF, waits=True)
    plan = [(at, 900, Completion.LATER), (other, 1600, Completion.LATER)]
    plan += [(other, 2400, Completion.LATER), (at, 2400, Completion.WITH_BODY)]
    errors = 0
    while plan:
        process, end, completion = plan[0]
        try:
            upload = await process.hot.transfers.status(upload.id)
            if not upload.is_open:
                break
            body = data[upload.offset : end]
            length = len(data) if completion is Completion.WITH_BODY else None
            await process.append(upload, upload.offset, body, completion=completion, length=length)
            plan.pop(0)
        except StoreError:
            errors += 1
    upload = await at.look(upload)
    assert upload.state == "done" and upload.content_id is not None
    assert await _read(at, upload.content_id, len(data)) == data
    return errors


async def _read(at: Process, content_id: int, size: int) -> bytes:
    while True:
        try:
            return await at.read(content_id, 0, size)
        except StoreError:
            continue


@pytest.mark.parametrize("scenario", [_concatenated, _drafted])
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.FULL, Kind.WRONG_BYTES])
async def test_a_fault_at_any_call_of_a_protocol_is_survived(
    pair: list[Process], kind: Kind, scenario: Any
) -> None:
    assert await scenario(pair, 0) == 0
    operations: dict[Kind, list[Operation]] = {Kind.WRONG_BYTES: ["get"], Kind.FULL: ["put"]}
    number, tried = 0, 0
    for process in pair:
        for operation in operations.get(kind, ["put", "get"]):
            nth, is_reached = 0, True
            while is_reached:
                number, nth = number + 1, nth + 1
                fault = Fault(operation, nth, kind)
                process.store.calls.clear()
                process.store.plan = [fault]
                await scenario(pair, number)
                is_reached = fault.reached.is_set()
                process.store.plan = []
                tried += is_reached
    assert tried >= 2
    for each in pair:
        await each.check_rest()
    assert (await pair[0].counters()).reserved == 0
    await pair[0].check_references()
    await pair[0].check_books()


# Who ends it


async def test_who_ends_a_final_upload_elsewhere_reaches_the_one_that_builds_it(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await start(any_site)
    second = await any_site.beside(first, params=TINY)
    part = await _part(first, random_bytes(60_000, "asked"))
    begun: list[Concatenation] = []
    copied, gate = asyncio.Event(), asyncio.Event()
    copy = Concatenation._copy_all

    async def held(self: Concatenation) -> None:
        begun.append(self)
        copied.set()
        await gate.wait()
        await copy(self)

    monkeypatch.setattr(Concatenation, "_copy_all", held)
    async with asyncio.TaskGroup() as tasks:
        building = tasks.create_task(_tried(_final(first, [part])))
        await copied.wait()
        upload_id = str(await first.one(sa.select(uploads.c.id).where(uploads.c.part == "final")))
        upload = await first.look(upload_id)
        first.hot.transfers._holders.ask(upload.id, upload.epoch)
        assert begun[0]._is_asked
        gate.set()
    assert building.result() is not None
    await second.hot.transfers.terminate(ACTOR, upload_id)
    assert await used_by(first) == (0, 60_000)  # the part has it back
    await first.check_books()


async def _tried(building: Any) -> Exception | None:
    try:
        await building
    except Exception as err:
        return err
    return None
