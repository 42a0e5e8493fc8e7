"""Buffers that are used again: never under anybody's eyes, and never uncounted."""

import asyncio

import pytest

from filestore.model import MIB
from filestore.transfer.budget import MemoryBudget
from filestore.transfer.buffers import Buffers


@pytest.fixture
async def budget() -> MemoryBudget:
    return MemoryBudget(16 * MIB)


@pytest.fixture
async def buffers(budget: MemoryBudget) -> Buffers:
    return Buffers(budget)


async def test_memory_that_nobody_refers_to_is_used_again(
    budget: MemoryBudget, buffers: Buffers
) -> None:
    first = buffers.take(MIB)
    assert first is not None
    memory = first.obj
    del first
    again = buffers.take(MIB)
    assert again is not None and again.obj is memory
    assert budget.used == MIB


async def test_memory_that_any_view_refers_to_is_let_alone(
    budget: MemoryBudget, buffers: Buffers
) -> None:
    first = buffers.take(MIB)
    assert first is not None
    part = first[100:200]
    part[:] = bytes([7]) * 100
    del first
    second = buffers.take(MIB)
    assert second is not None and second.obj is not part.obj
    second[:] = bytes(MIB)
    buffers.drop()
    assert bytes(part) == bytes([7]) * 100
    assert buffers.has(part) and budget.used == 2 * MIB


async def test_buffers_of_another_size_make_room(budget: MemoryBudget, buffers: Buffers) -> None:
    assert buffers.take(8 * MIB) is not None  # and let go
    assert buffers.take(4 * MIB) is not None
    assert budget.used == 4 * MIB


async def test_there_is_no_buffer_where_the_budget_has_no_room(
    budget: MemoryBudget, buffers: Buffers
) -> None:
    held = [buffers.take(4 * MIB) for _ in range(3)]
    assert all(view is not None for view in held)
    assert buffers.take(4 * MIB) is None  # a quarter stays for others
    assert budget.used == 12 * MIB


async def test_who_waits_for_memory_gets_what_lies_unused(
    budget: MemoryBudget, buffers: Buffers
) -> None:
    view = buffers.take(12 * MIB)
    waiting = asyncio.create_task(budget.take(10 * MIB))
    await asyncio.sleep(0)
    assert buffers.take(12 * MIB) is None, "others come first"
    assert not waiting.done()
    del view
    grant = await waiting
    assert budget.used == grant.size == 10 * MIB


async def test_closing_gives_back_all_and_views_live_on(
    budget: MemoryBudget, buffers: Buffers
) -> None:
    view = buffers.take(MIB)
    assert view is not None
    buffers.close()
    assert budget.used == 0 and not buffers.has(view)
    view[:3] = b"abc"
    assert bytes(view[:3]) == b"abc"
