"""However a file is split into requests, the same blocks, bytes and digest come out."""

import asyncio
import hashlib
import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from blake3 import blake3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from filestore.meta.tables import contents
from filestore.model import KIB, MIB, ChunkerParams
from filestore.transfer.assembly import NEW_CONTENTS
from filestore.transfer.checksums import Checksum
from filestore.transfer.tail import MAX_ROWS
from tests.services.hot_path import (
    TINY,
    Body,
    Process,
    Site,
    cut,
    random_bytes,
    sqlite_site,
)

names = itertools.count(1)

EDGES = [0, 1, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 2048, 2049, 3072, 4097]
LARGE_EDGES = [
    0,
    1,
    64 * KIB,
    512 * KIB - 1,
    512 * KIB,
    512 * KIB + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    4 * MIB - 1,
    4 * MIB,
    4 * MIB + 1,
    8 * MIB,
]
KINDS = ["random", "zeros", "period"]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def site(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = sqlite_site(tmp_path_factory.mktemp("splits"))
    yield made
    runner.run(made.__aexit__())


@pytest.fixture(scope="module")
def pair(runner: asyncio.Runner, site: Site) -> list[Process]:
    """Two hot paths with the smallest blocks, which know nothing of each other."""
    first = runner.run(site.start(params=TINY, uploads__running_per_user=10_000))
    return [first, runner.run(site.beside(first, params=TINY))]


@pytest.fixture(scope="module")
def usual(runner: asyncio.Runner, site: Site, pair: list[Process]) -> Process:
    """A hot path with blocks of the usual size."""
    return runner.run(site.beside(pair[0]))


def _bytes(kind: str, size: int, seed: int) -> bytes:
    if kind == "zeros":
        return bytes(size)
    if kind == "period":
        unit = random_bytes(700, seed)
        return (unit * (size // len(unit) + 1))[:size]
    return random_bytes(size, seed)


async def _check_running(at: Process, content_id: int, offset: int) -> None:
    """What is acknowledged is a prefix without gaps, with a short tail."""
    rows = await at.rows(content_id)
    position = 0
    for row in rows:
        assert row.offset == position
        position += row.size
    assert position == offset
    flags = [row.is_provisional for row in rows]
    assert sum(flags) <= MAX_ROWS
    assert flags == sorted(flags), "final rows lie before provisional ones"


async def _check_done(
    at: Process, content_id: int, data: bytes, params: ChunkerParams = NEW_CONTENTS
) -> None:
    assert await at.rows(content_id) == cut(data, params)
    assert await at.read(content_id, 0, len(data)) == data
    row = (await at.all(sa.select(contents).where(contents.c.id == content_id)))[0]
    assert (row.state, row.size) == ("complete", len(data))
    assert row.blake3 in (None, blake3(data).digest())


Step = tuple[int, int, bool]
"""Bytes of one request, which process takes them, and whether they carry a checksum."""

steps = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 1), st.booleans()), max_size=24)


@given(
    size=st.one_of(st.sampled_from(EDGES), st.integers(0, 6000)),
    kind=st.sampled_from(KINDS),
    cuts=steps,
    is_length_known=st.booleans(),
    seed=st.integers(0, 5),
)
@example(size=4096, kind="zeros", cuts=[(1024, 0, False)] * 3, is_length_known=True, seed=0)
@example(size=1000, kind="random", cuts=[(9, 0, False)] * 24, is_length_known=True, seed=0)
@example(
    size=5000, kind="random", cuts=[(100, 0, False), (900, 1, True)], is_length_known=False, seed=1
)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_any_split_over_any_processes_gives_the_rows_of_one_append(
    runner: asyncio.Runner,
    pair: list[Process],
    size: int,
    kind: str,
    cuts: list[Step],
    is_length_known: bool,
    seed: int,
) -> None:
    data = _bytes(kind, size, seed)

    async def play() -> None:
        upload = await pair[0].begin(size if is_length_known else None, f"f{next(names)}")
        position = 0
        for count, process, has_checksum in [*cuts, (size, 0, False)]:
            piece = data[position : position + count]
            is_last = position + len(piece) == size
            checksum = Checksum("sha1", hashlib.sha1(piece).digest()) if has_checksum else None
            if not upload.is_open:
                break
            upload = await pair[process].append(
                upload,
                position,
                Body(piece, step=1 + len(piece) // 3),
                checksum=checksum,
                length=size if is_last and not is_length_known else None,
            )
            position += len(piece)
            assert upload.offset == position
            if upload.is_open:
                await _check_running(pair[0], upload.building, position)
        assert upload.state == "done"
        assert upload.content_id is not None
        await _check_done(pair[0], upload.content_id, data, TINY)

    runner.run(play())
    for at in pair:
        runner.run(at.check_rest())


@given(
    size=st.sampled_from(LARGE_EDGES),
    kind=st.sampled_from(KINDS),
    parts=st.lists(st.floats(0, 1), max_size=5),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_any_split_of_a_file_with_blocks_of_the_usual_size(
    runner: asyncio.Runner, usual: Process, size: int, kind: str, parts: list[float]
) -> None:
    data = _bytes(kind, size, 3)
    places = sorted({int(part * size) for part in parts} | {size})

    async def play() -> None:
        upload = await usual.begin(size, f"f{next(names)}")
        position = 0
        for place in places:
            if not upload.is_open:
                break
            upload = await usual.append(upload, position, data[position:place])
            position = place
        assert upload.state == "done" and upload.content_id is not None
        await _check_done(usual, upload.content_id, data)
        stored = await usual.one(
            sa.select(contents.c.blake3).where(contents.c.id == upload.content_id)
        )
        assert stored == blake3(data).digest()

    runner.run(play())
    runner.run(usual.check_rest())


@given(start=st.integers(0, 5000), end=st.integers(0, 5000))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_any_range_gives_its_bytes(
    runner: asyncio.Runner, pair: list[Process], start: int, end: int
) -> None:
    data = random_bytes(5000, "range")

    async def play() -> None:
        upload = await pair[0].upload(data, "ranged")
        assert upload.content_id is not None
        low, high = sorted((start, end))
        assert await pair[1].read(upload.content_id, low, high) == data[low:high]

    runner.run(play())


def test_the_same_file_again_stores_nothing_new(
    runner: asyncio.Runner, pair: list[Process]
) -> None:
    async def play() -> None:
        data = random_bytes(5000, "again")
        await pair[0].upload(data, "first")
        puts = pair[0].store.calls["put"], pair[1].store.calls["put"]
        states = await pair[0].block_states()
        await pair[0].upload(data, "second")
        await pair[1].upload(data, "third")
        assert (pair[0].store.calls["put"], pair[1].store.calls["put"]) == puts
        assert await pair[0].block_states() == states

    runner.run(play())
