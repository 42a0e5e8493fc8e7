"""A slow upload whose memory others need: its tail waits in the store and is hardly ever read.

Nothing here depends on time: a body asks for each flush itself, and waits until it is done.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable

import pytest

from filestore.errors import ChecksumMismatch, FilestoreError
from filestore.model import KIB, MIB
from filestore.transfer.budget import MemoryBudget
from filestore.transfer.checksums import Checksum
from filestore.transfer.ingest import Completion, Ingest
from filestore.transfer.source import Broken
from filestore.transfer.tail import MAX_ROWS
from tests.services.hot_path import SMALL, Body, Process, Site, cut, random_bytes

pytestmark = pytest.mark.usefixtures("no_lost_errors")


class Flushed:
    """A body in pieces of ``step``; ``flushes`` says before which offsets the server is asked to
    let go of what it holds, and then the next piece comes when that is done."""

    def __init__(
        self,
        at: Process,
        data: bytes,
        flushes: Callable[[int], bool],
        *,
        step: int = KIB,
        error: FilestoreError | None = None,
    ) -> None:
        self._at = at
        self._body = Body(data, step, error=error)
        self._size = len(data)
        self._flushes = flushes
        self._start: int | None = None

    async def read(self, wanted: int) -> bytes:
        (ingest,) = self._at.hot.engine.budget._holders
        assert isinstance(ingest, Ingest)
        if self._start is None:
            self._start = ingest.offset
        position = self._start + self._body.position
        if 0 < self._body.position < self._size and self._flushes(position):
            await self._flush(ingest, position)
        return await self._body.read(wanted)

    async def _flush(self, ingest: Ingest, position: int) -> None:
        """Asks until nothing is held: a buffer that was just handed on goes before the last."""
        async with asyncio.timeout(60):
            while (
                ingest._wants_flush
                or ingest._slicer.position < position
                or ingest._could_give_back()
            ):
                if not ingest._wants_flush:
                    self._at.hot.engine.budget._holders[ingest].let_go()
                await asyncio.sleep(0.001)
        upload = await self._at.look(ingest._upload)
        kept = self._start if ingest._checksum is not None else position
        assert upload.offset == kept, "all that came is kept, or staged"
        flags = [row.is_provisional for row in await self._at.rows(upload.building)]
        assert sum(flags) <= MAX_ROWS


@pytest.fixture
async def at(memory_site: Site) -> AsyncIterator[Process]:
    yield await memory_site.start()


@pytest.fixture
async def small(memory_site: Site) -> AsyncIterator[Process]:
    """Blocks of 8 KiB, so that a tail that nobody looks at has cuts in it."""
    yield await memory_site.start(params=SMALL)


async def test_a_tail_in_the_store_is_not_read_for_what_is_too_little_for_a_cut(
    at: Process,
) -> None:
    data = random_bytes(448 * KIB, "drip")
    rest = random_bytes(MIB, "rest")
    upload = await at.begin(len(data) + len(rest))
    gone = Broken(seconds=0)
    body = Flushed(at, data, lambda position: position % (64 * KIB) == 0, error=gone)
    with pytest.raises(Broken):
        await at.append(upload, 0, body)
    assert at.store.calls["get"] == 0
    assert at.store.put_size < len(data) * 1.01, "each byte is written once"
    assert (await at.look(upload)).offset == len(data)
    upload = await at.append(upload, len(data), rest)
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data + rest)
    await at.check_rest()


async def test_a_tail_is_read_back_only_when_it_has_doubled(at: Process) -> None:
    data = random_bytes(3 * MIB, "doubled")
    upload = await at.begin(len(data))
    body = Flushed(at, data, lambda position: position % (64 * KIB) == 0, step=16 * KIB)
    upload = await at.append(upload, 0, body)
    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data)
    assert await at.read(upload.content_id, 0, len(data)) == data
    flushes = len(data) // (64 * KIB)
    assert at.store.calls["get"] < 3 * flushes, "and not each row for each flush"
    await at.check_rest()
    await at.check_references()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["plain", "checksum", "unknown length", "empty end"])
async def test_cuts_are_where_they_are_without_flushes(
    small: Process, seed: int, kind: str
) -> None:
    """Cuts in a tail that nobody looked at are found when it is read back."""
    source = random.Random(f"{seed} {kind}")
    data = random_bytes(source.randrange(60, 120) * KIB + source.randrange(KIB), seed)
    flushes = Flushed(
        small, data, lambda _: source.random() < 0.2, step=source.randrange(300, 3000)
    )
    checksum = Checksum("sha1", hashlib.sha1(data).digest()) if kind == "checksum" else None
    if kind in ("unknown length", "empty end"):
        upload = await small.begin(None)
        end = Completion.WITH_BODY if kind == "unknown length" else Completion.LATER
        upload = await small.append(upload, 0, flushes, completion=end)
        if kind == "empty end":
            assert upload.offset == len(data)
            upload = await small.append(upload, len(data), b"", length=len(data))
    else:
        upload = await small.begin(len(data))
        upload = await small.append(upload, 0, flushes, checksum=checksum)
    assert upload.state == "done" and upload.content_id is not None
    assert await small.rows(upload.content_id) == cut(data, SMALL)
    assert await small.read(upload.content_id, 0, len(data)) == data
    await small.check_rest()
    await small.check_references()
    await small.check_books()


@pytest.mark.parametrize("seed", range(4))
async def test_another_request_goes_on_with_a_tail_that_nobody_looked_at(
    small: Process, seed: int
) -> None:
    source = random.Random(seed)
    data = random_bytes(120 * KIB, seed)
    upload = await small.begin(len(data))
    position = 0
    while position < len(data):
        end = min(position + source.randrange(8, 40) * KIB, len(data))
        step = source.randrange(300, 3000)
        part = data[position:end]
        checksum = Checksum("sha1", hashlib.sha1(part).digest()) if source.random() < 0.5 else None
        error = None if checksum is not None or end == len(data) else Broken(seconds=0)
        body = Flushed(small, part, lambda _: source.random() < 0.3, step=step, error=error)
        if checksum is not None:
            body._flushes = lambda _: False  # what is staged is not acknowledged
        small.hot.engine.tails.drop(upload.id)
        try:
            await small.append(upload, position, body, checksum=checksum)
        except Broken:
            assert error is not None
        position = end
        assert (await small.look(upload)).offset == position
        await small.check_references()
    upload = await small.look(upload)
    assert upload.state == "done" and upload.content_id is not None
    assert await small.rows(upload.content_id) == cut(data, SMALL)
    await small.check_rest()
    await small.check_books()


async def test_a_checksum_of_what_follows_finds_the_cuts_of_a_tail_that_nobody_looked_at(
    small: Process,
) -> None:
    """They are acknowledged already and stay so, also when the body is refused."""
    found = 0
    for seed in range(8):
        data = random_bytes(40 * KIB, f"sum {seed}")
        upload = await small.begin(len(data), f"f{seed}")
        first = Flushed(small, data[: 12 * KIB], lambda p: p == 6 * KIB, error=Broken(seconds=0))
        with pytest.raises(Broken):
            await small.append(upload, 0, first)
        small.hot.engine.tails.drop(upload.id)
        assert len(await small.rows(upload.building)) > 1
        rest = data[12 * KIB :]
        with pytest.raises(ChecksumMismatch):
            await small.append(upload, 12 * KIB, rest, checksum=Checksum("sha1", bytes(20)))
        assert (await small.look(upload)).offset == 12 * KIB
        rows = await small.rows(upload.building)
        assert rows[-1].offset + rows[-1].size == 12 * KIB
        known = [row for row in cut(data, SMALL) if row.offset + row.size < 12 * KIB]
        assert [row for row in rows if not row.is_provisional] in ([], known), "or not yet"
        found += any(row.offset + row.size > 6 * KIB for row in known)
        checksum = Checksum("sha1", hashlib.sha1(rest).digest())
        upload = await small.append(upload, 12 * KIB, rest, checksum=checksum)
        assert upload.state == "done" and upload.content_id is not None
        assert await small.rows(upload.content_id) == cut(data, SMALL)
        await small.check_rest()
        await small.check_references()
    assert found > 2, "such cuts were there"


# Who is asked for memory


class Crowd:
    """Holders of a budget who have been idle for a minute, and who was asked, in order."""

    def __init__(self, total: int, sizes: dict[str, int]) -> None:
        self.budget = MemoryBudget(total)
        self.held = dict(sizes)
        self.asked: list[str] = []
        for name in sizes:
            self.budget.register(name, lambda name=name: self.held[name], self._ask(name))  # type: ignore[misc]
            self.budget._holders[name].touched_at -= 60
        self.budget.used = sum(sizes.values())

    def _ask(self, name: str) -> Callable[[], None]:
        return lambda: self.asked.append(name)

    def settle(self, name: str) -> None:
        self.budget.used -= self.held[name]
        self.held[name] = 0
        self.budget.settled(name)


def test_a_few_are_asked_at_a_time_until_half_is_free() -> None:
    crowd = Crowd(100, {f"{number:02}": 1 for number in range(80)})
    crowd.budget.relieve()
    assert len(crowd.asked) == 8
    crowd.budget.relieve()
    assert len(crowd.asked) == 8, "until one of them has let go"
    for number in range(60):
        if number < len(crowd.asked):
            crowd.settle(crowd.asked[number])
    assert crowd.asked == [f"{number:02}" for number in range(30)], "longest idle first"
    assert crowd.budget.used == 50


def test_those_who_hold_little_are_left_alone() -> None:
    crowd = Crowd(100, {"a": 1, "b": 30, "c": 2, "d": 45})
    crowd.budget.relieve()
    assert crowd.asked == ["b"]


def test_who_ends_instead_of_letting_go_makes_room_for_the_next_to_be_asked() -> None:
    crowd = Crowd(100, {f"{number:02}": 1 for number in range(80)})
    crowd.budget.relieve()
    for name in list(crowd.asked):
        crowd.budget.unregister(name)
    assert len(crowd.asked) == 16
