"""Turns to write: who has somebody waiting goes first, and nobody waits for ever."""

import asyncio
import itertools

import pytest

from filestore.meta.turns import PATIENCE, Line, Turns, giving_way, in_background, next_line


@pytest.mark.parametrize("first, behind", list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("passed", [0, PATIENCE - 1, PATIENCE, PATIENCE + 1])
def test_the_next_turn_is_of_who_may_not_wait_or_has_been_passed_often(
    first: bool, behind: bool, passed: int
) -> None:
    line = next_line(first=first, behind=behind, passed=passed)
    if not (first or behind):
        assert line is None
    elif first and behind:
        assert line is (Line.BEHIND if passed >= PATIENCE else Line.FIRST)
    else:
        assert line is (Line.FIRST if first else Line.BEHIND)


class House:
    """Turns, and in which order they were had."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.had: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, *names: str) -> list[asyncio.Task[None]]:
        """They wait for a turn; those in the background have a name that begins with ``b``."""
        mine = [asyncio.create_task(self._take(name)) for name in names]
        self._tasks += mine
        await asyncio.sleep(0)
        return mine

    async def rest(self) -> list[str]:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.had

    async def _take(self, name: str) -> None:
        if name.startswith("b"):
            await self._behind(name)
            return
        async with self.turns.turn():
            self.had.append(name)

    @in_background
    async def _behind(self, name: str) -> None:
        async with self.turns.turn():
            self.had.append(name)


async def test_each_line_goes_in_the_order_of_asking() -> None:
    house = House()
    async with house.turns.turn():
        await house.wait("b1", "a1", "b2", "a2")
        assert repr(house.turns) == "<Turns, taken, waiting {'FIRST': 2, 'BEHIND': 2}>"
    assert await house.rest() == ["a1", "a2", "b1", "b2"]
    assert repr(house.turns) == "<Turns, free, waiting {'FIRST': 0, 'BEHIND': 0}>"


async def test_a_request_waits_for_one_turn_of_the_background_at_most() -> None:
    house = House()
    async with house.turns.turn():
        await house.wait("b1", "b2", "b3", *(f"a{number}" for number in range(3 * PATIENCE)))
    had = await house.rest()
    behind = [place for place, name in enumerate(had) if name.startswith("b")]
    assert behind == [PATIENCE, 2 * PATIENCE + 1, 3 * PATIENCE + 2]


async def test_the_background_has_every_turn_that_nobody_else_wants() -> None:
    house = House()
    async with house.turns.turn():
        await house.wait("b1", "b2", "b3")
    assert await house.rest() == ["b1", "b2", "b3"]


async def test_who_is_cancelled_while_waiting_is_passed_over() -> None:
    house = House()
    async with house.turns.turn():
        gone, _ = await house.wait("a1", "a2")
        gone.cancel()
        also, _ = await house.wait("a3", "a4")
        also.cancel()
        await asyncio.sleep(0)
    assert await house.rest() == ["a2", "a4"]
    async with house.turns.turn():
        pass


async def test_who_is_cancelled_just_as_its_turn_comes_hands_it_on() -> None:
    house = House()
    async with house.turns.turn():
        first, _ = await house.wait("a1", "b1")
    first.cancel()  # the turn is its own already, and it has not run yet
    assert await house.rest() == ["b1"]
    assert "free" in repr(house.turns)


async def test_giving_way_ends_with_its_block() -> None:
    house = House()
    async with house.turns.turn():
        with giving_way():
            behind = asyncio.create_task(house._take("x"))
            await asyncio.sleep(0)
        await house.wait("y")
    await behind
    assert await house.rest() == ["y", "x"]
