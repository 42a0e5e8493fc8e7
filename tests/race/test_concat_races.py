"""Final uploads of the same parts, begun by two processes, while parts end and expire and are
collected: a file is its bytes, the others leave nothing, and the books are right at any time."""

import asyncio
import random

import pytest
import sqlalchemy as sa

from filestore.acts.repeated import final_key
from filestore.acts.uploads import Request
from filestore.errors import (
    BadHeader,
    FilestoreError,
    QuotaExceeded,
    UploadGone,
    UploadTakenOver,
)
from filestore.meta.tables import content_blocks, uploads
from filestore.meta.uploads import Upload
from filestore.model import Protocol, UploadPart
from filestore.names import parse_name
from filestore.transfer import concatenating
from tests.services.collecting import collector_of, pass_time, start
from tests.services.hot_path import (
    ACTOR,
    DOMAIN,
    GROUP,
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


async def _final(at: Process, parts: list[Upload], name: str) -> Upload | FilestoreError:
    raw = "final;" + " ".join(part.id for part in parts)
    request = Request(
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
    try:
        return await at.hot.transfers.concatenate(ACTOR, request)
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
