"""Turns with what one can have at a time: SQLite's writing connection.

Who has somebody waiting goes before who can wait: a request before a batch of the collector. But
work in the background goes on, too: after :data:`PATIENCE` turns that passed it, it has the next.
So a request waits for those that came before it, and for one batch of the background at most.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import ContextVar
from enum import Enum, auto
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE: Final = 4
"""Turns that may pass one that gives way: as many requests as are seldom waiting at once. So
background work has a fifth of the turns where there is no end of requests."""

_gives_way: Final[ContextVar[bool]] = ContextVar("gives_way", default=False)


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """What the block does, and what it begins meanwhile, is work in the background."""
    token = _gives_way.set(True)
    try:
        yield
    finally:
        _gives_way.reset(token)


def in_background(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same work, which gives way to what somebody waits for."""

    @wraps(work)
    async def behind(*args: P.args, **options: P.kwargs) -> T:
        with giving_way():
            return await work(*args, **options)

    return behind


class Line(Enum):
    """Where one waits: those in ``FIRST`` have somebody waiting for them."""

    FIRST = auto()
    BEHIND = auto()


def next_line(*, first: bool, behind: bool, passed: int) -> Line | None:
    """Whose turn it is, by whether anybody waits there, and how many have ``passed`` the others."""
    if first and not (behind and passed >= PATIENCE):
        return Line.FIRST
    return Line.BEHIND if behind else None


class Turns:
    """Turns in the two lines, each in the order in which they were asked for."""

    def __init__(self) -> None:
        self._is_taken = False
        self._passed = 0
        self._lines: dict[Line, deque[asyncio.Future[None]]] = {line: deque() for line in Line}

    def __repr__(self) -> str:
        waiting = {line.name: len(those) for line, those in self._lines.items()}
        return f"<Turns, {'taken' if self._is_taken else 'free'}, waiting {waiting}>"

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Holds the turn while the block runs. Cancelled while it waits, it was never there."""
        await self._take(Line.BEHIND if _gives_way.get() else Line.FIRST)
        try:
            yield
        finally:
            self._hand_on()

    async def _take(self, line: Line) -> None:
        if not self._is_taken:  # then nobody waits
            self._is_taken = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[line].append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._hand_on()  # it was mine already
            elif mine in self._lines[line]:
                self._lines[line].remove(mine)
            raise

    def _hand_on(self) -> None:
        first, behind = self._is_waited_for(Line.FIRST), self._is_waited_for(Line.BEHIND)
        line = next_line(first=first, behind=behind, passed=self._passed)
        if line is None:
            self._is_taken = False
            return
        self._passed = self._passed + 1 if line is Line.FIRST and behind else 0
        self._lines[line].popleft().set_result(None)

    def _is_waited_for(self, line: Line) -> bool:
        waiting = self._lines[line]
        while waiting and waiting[0].done():  # cancelled, and not yet out of the line
            waiting.popleft()
        return bool(waiting)


class Gate:
    """Lets everybody through, but while somebody wants to have those inside gone."""

    def __init__(self) -> None:
        self._inside = 0
        self._is_open, self._is_empty = asyncio.Event(), asyncio.Event()
        self._is_open.set()
        self._is_empty.set()

    def __repr__(self) -> str:
        return f"<Gate, {'open' if self._is_open.is_set() else 'shut'}, {self._inside} inside>"

    @contextlib.asynccontextmanager
    async def inside(self) -> AsyncIterator[None]:
        while not self._is_open.is_set():
            await self._is_open.wait()
        self._inside += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._is_empty.set()

    @contextlib.asynccontextmanager
    async def shut(self, *, within_s: float) -> AsyncIterator[None]:
        """Nobody is inside while the block runs. One at a time.

        :raises TimeoutError: somebody stays; all go through again.
        """
        self._is_open.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._is_empty.wait()
            yield
        finally:
            self._is_open.set()
