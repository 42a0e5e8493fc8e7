"""A client that sends little at a time costs the store a few times its bytes and not more."""

import os
import random
import sys
from collections.abc import AsyncIterator
from typing import Final

import pytest

from filestore.model import KIB
from filestore.transfer.tail import MAX_ROWS, Tail
from tests.services.hot_path import Process, Site, cut, random_bytes

MOST: Final = 6
"""Times its bytes that a file may cost the store, at 1 KiB a request."""


@pytest.fixture
async def at(memory_site: Site) -> AsyncIterator[Process]:
    yield await memory_site.start()


async def _trickle(at: Process, size: int, step: int) -> float:
    """Bytes put per byte of the file."""
    data = random_bytes(size, "trickle")
    upload = await at.begin(size, "trickle")
    for offset in range(0, size, step):
        upload = await at.append(upload, offset, data[offset : offset + step])
        if upload.is_open:
            flags = [row.is_provisional for row in await at.rows(upload.building)]
            assert sum(flags) <= MAX_ROWS
    assert upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(data)
    assert await at.read(upload.content_id, 0, size) == data
    return at.store.put_size / size


async def test_1_kib_a_request_costs_the_store_a_few_times_the_file(at: Process) -> None:
    size = int(os.environ.get("FILESTORE_E2E_SIZE", 640 * KIB))
    times = await _trickle(at, size, KIB)
    sys.stderr.write(f"{size} bytes in {size // KIB} requests: {times:.2f} times put\n")
    assert times <= MOST


@pytest.mark.parametrize("pieces", [512, 1024, 4096])
def test_a_tail_of_small_pieces_is_rewritten_a_few_times(pieces: int) -> None:
    assert _rewriting([KIB] * pieces) <= (MOST - 1 if pieces <= 1024 else MOST + 2)


def test_a_tail_of_pieces_of_many_sizes_is_rewritten_a_few_times() -> None:
    sizes = random.Random(7).choices([1, 100, 1000, 20_000, 60_000], k=200)
    assert _rewriting(sizes) <= MOST


def test_what_is_acknowledged_is_not_rewritten_by_what_is_staged() -> None:
    tail = Tail([(0, 5), (5, 1)], floor=6)
    pending = bytes(6)
    for _ in range(3 * MAX_ROWS):
        pending += b"x"
        tail.extend(0, pending)
        assert tail.rows[:2] == [(0, 5), (5, 1)]
        assert len(tail.rows) <= 2 + MAX_ROWS
        assert sum(size for _, size in tail.rows) == len(pending)


def _rewriting(sizes: list[int]) -> float:
    """Bytes written per byte of a tail in which no cut comes."""
    tail, pending, written = Tail([]), b"", 0
    for size in sizes:
        pending += bytes(size)
        rows = tail.extend(0, pending)
        written += sum(row.size for row in rows)
        assert len(tail.rows) <= MAX_ROWS
        assert sum(size for _, size in tail.rows) == len(pending)
    return written / len(pending)
