"""Final uploads of the same parts, begun by two processes, while parts end and expire and are
collected: a file is its bytes, the others leave nothing, and the books are right at any time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

import pytest
import sqlalchemy as sa

from filestore.acts import uploads as acts
from filestore.acts.concatenating import begin_final
from filestore.acts.repeated import final_key
from filestore.acts.uploads import Request
from filestore.errors import (
    BadHeader,
    FilestoreError,
    QuotaExceeded,
    TailLost,
    UploadGone,
    UploadTakenOver,
)
from filestore.meta import blocks as pins
from filestore.meta import concatenating as copying
from filestore.meta import uploads as upload_rows
from filestore.meta.blocks import pin_live
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, content_blocks, uploads
from filestore.meta.uploads import Upload
from filestore.model import Protocol, UploadPart, UploadState
from filestore.names import parse_name
from filestore.transfer import concatenating
from filestore_gc.reaping import Reaper
from tests.race.barriers import Paused, after, deadlocks, until_done_or_waiting
from tests.services.collecting import collector_of, delete, pass_time, start
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
    used_by,
)

pytestmark = pytest.mark.usefixtures("no_lost_errors")

SIZES = (9000, 14_000, 0, 5000)
EXPECTED = (BadHeader, QuotaExceeded, UploadGone, UploadTakenOver)
"""What a client may meet who concatenates parts that others end, or that itself does it twice."""


async def _part(at: Process, data: bytes) -> Upload:
    upload = await at.begin(len(data), part=UploadPart.PARTIAL, raw_concat="partial")
    return await at.append(upload, 0, data) if data else upload


def _request(parts: list[Upload], name: str) -> Request:
    raw = "final;" + " ".join(part.id for part in parts)
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
        idempotency_key=final_key(GROUP, raw, name),
    )


async def _final(at: Process, parts: list[Upload], name: str) -> Upload | FilestoreError:
    try:
        return await at.hot.transfers.concatenate(ACTOR, _request(parts, name))
    except EXPECTED as err:
        return err


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_ends_meanwhile_files_are_whole_and_the_books_right(
    postgres_site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concatenating, "BATCH", 3)
    dice = random.Random(f"concat-races-{seed}")
    pair = [await start(postgres_site) for _ in range(2)]
    await set_limit(pair[0], 90_000)
    pieces = [random_bytes(size, (seed, size)) for size in SIZES]
    parts = [await _part(pair[0], piece) for piece in pieces]
    orders = [[0, 1, 2, 3], [1, 3], [0, 1, 2, 3]]
    names = ["a", "b", "a"]

    async def end(at: Process, part: Upload) -> None:
        for _ in range(dice.randint(0, 12)):
            await at.look(part)  # some round trips later
        try:
            await at.hot.transfers.terminate(ACTOR, part.id)
        except UploadGone:
            pass

    async def expire(part: Upload) -> None:
        for _ in range(dice.randint(0, 12)):
            await pair[1].look(part)
        due = sa.update(uploads).where(uploads.c.id == part.id, uploads.c.state == "open")
        await pair[1].change(due.values(expires_at=0))
        await collector_of(pair[1]).run_once(grace_s=0)

    async with asyncio.TaskGroup() as tasks:
        building = [
            tasks.create_task(_final(at, [parts[n] for n in order], name))
            for at in pair
            for order, name in zip(orders, names, strict=True)
        ]
        if seed % 3:
            tasks.create_task(end(pair[dice.randint(0, 1)], parts[dice.randint(0, 1)]))
        tasks.create_task(expire(parts[3 if seed % 2 else 0]))
    done = [task.result() for task in building]
    first = pair[0]
    used = 0
    files = {found.id: found for found in done if isinstance(found, Upload)}
    for found in files.values():
        order = orders[names.index(found.name)]
        data = b"".join(pieces[n] for n in order)
        assert (found.state, found.length) == ("done", len(data))
        assert found.content_id is not None
        assert await first.read(found.content_id, 0, len(data)) == data
        used += len(data)
    assert len({found.name for found in files.values()}) == len(files)
    assert (await used_by(first))[0] == used
    await first.check_books()
    await pass_time(first, 40 * 86_400)
    for _ in range(2):
        await collector_of(first).run_once(grace_s=0)
    assert await used_by(first) == (used, 0)
    left = await first.all(sa.select(content_blocks.c.content_id).distinct())
    assert {row.content_id for row in left} == {found.content_id for found in files.values()}
    await first.check_references()
    await first.check_books()
    for process in pair:
        await process.check_rest()


@pytest.fixture
async def at(postgres_site: Site) -> AsyncIterator[Process]:
    at = await start(postgres_site)
    yield at
    assert await deadlocks(at) == 0
    await at.check_books()
    await at.check_references()


def _begin(at: Process, parts: list[Upload], name: str) -> Callable[[Tx], Awaitable[Upload]]:
    """The transaction that begins a final upload."""
    limits = at.hot.engine.limits
    return lambda tx: begin_final(tx, ACTOR, _request(parts, name), params=TINY, limits=limits)


async def test_two_finals_that_begin_at_once_take_what_a_part_reserves_only_once(
    at: Process,
) -> None:
    part = await _part(at, random_bytes(3000))
    async with Paused(at, _begin(at, [part], "a")) as first:
        _, second = await after(at, _begin(at, [part], "b"), first)
    assert (await at.look(part)).reserved == 0
    assert second.reserved == 3000
    assert await used_by(at) == (0, 6000)


async def test_a_final_that_ends_gives_nothing_back_to_a_part_that_is_just_ending(
    at: Process,
) -> None:
    kept, gone = [await _part(at, random_bytes(size, size)) for size in (3000, 2000)]
    final = await at.db.transact(_begin(at, [kept, gone], "a"))

    async def end(tx: Tx, upload: Upload) -> None:
        locked = await upload_rows.lock(tx, upload.id)
        await acts.end(tx, ACTOR, locked, UploadState.TERMINATED)

    async with Paused(at, partial(end, upload=gone)) as first:
        await after(at, partial(end, upload=final), first)
    states = [(found.state, found.reserved) for found in [await at.look(p) for p in (kept, gone)]]
    assert states == [("open", 3000), ("terminated", 0)]
    assert await used_by(at) == (0, 3000)


async def test_a_part_that_is_terminated_and_reaped_while_it_is_copied_is_copied_as_a_whole(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(30_000)
    part = await _part(at, data)
    ending: list[asyncio.Task[None]] = []

    async def pin(tx: Tx, ids: Iterable[int]) -> set[int]:
        """What was seen of the part is not copied yet."""
        pinned = await pin_live(tx, ids)
        if ending:
            return pinned
        ending.append(asyncio.create_task(at.hot.transfers.terminate(ACTOR, part.id)))
        await until_done_or_waiting(at, ending[0])
        if ending[0].done():
            await Reaper(at.db, at.id).release_contents()
        return pinned

    monkeypatch.setattr(pins, "pin_live", pin)
    done = await _final(at, [part], "a")
    await ending[0]
    assert isinstance(done, Upload) and done.content_id is not None
    await collector_of(at).run_once(grace_s=0)
    assert await at.read(done.content_id, 0, len(data)) == data
    assert await used_by(at) == (len(data), 0)


async def test_the_twin_of_a_lost_block_that_is_collected_at_that_moment_is_not_taken(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_bytes(60)
    part = await _part(at, data)
    (lost,) = await at.all(
        sa.select(content_blocks).where(content_blocks.c.content_id == part.building)
    )
    await at.change(blocks.update().where(blocks.c.id == lost.block_id).values(state="lost"))
    await at.upload(data, "twin")
    await at.change(  # as before that upload healed it
        content_blocks.update()
        .where(content_blocks.c.content_id == part.building)
        .values(block_id=lost.block_id)
    )
    look = copying._twins

    async def look_and_lose(tx: Tx, ids: set[int]) -> dict[int, int]:
        found = await look(tx, ids)
        if found:
            await delete(at, "twin")
            await collector_of(at).run_once(grace_s=0)
        return found

    monkeypatch.setattr(copying, "_twins", look_and_lose)
    with pytest.raises(TailLost):
        await at.hot.transfers.concatenate(ACTOR, _request([part], "a"))
    assert await used_by(at) == (0, len(data))
    await at.hot.transfers.terminate(ACTOR, part.id)
    await collector_of(at).run_once(grace_s=0)
