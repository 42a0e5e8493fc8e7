"""Patience with a store that does not answer for a moment."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from filestore.blocks.backend import Backend, T
from filestore.blocks.deadline import put_deadline, refuse_if_late
from filestore.blocks.port import BlockKey, Buffer, Leftover, StoredObject
from filestore.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Waits are drawn from 0 to a bound that doubles each time.

    Source: "full jitter", Marc Brooker, AWS Architecture Blog, 2015: the fewest calls and
    the least time when many clients come back to the same store at once.
    """

    attempts: int = 5
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    give_up_after_s: float = 30.0
    """No attempt begins later than this after the first one began."""


class RetryingStore:
    """Tries again where the port calls it safe: on :class:`StoreUnavailable` only.

    A store that is full is reported at once; a put is never sent past
    :data:`~filestore.blocks.deadline.put_deadline`. ``open`` and ``check`` are not
    repeated: they are there to say how things are now. A ``retry_after_s`` in the error is
    the least that is waited.
    """

    def __init__(
        self,
        inner: Backend,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._draw = draw
        self._clock = clock
        self.retries = 0

    def __str__(self) -> str:
        return str(self._inner)

    def __repr__(self) -> str:
        return f"<RetryingStore of {self._inner!r}, {self.retries} retries>"

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        deadline = put_deadline.get()

        async def attempt() -> None:
            refuse_if_late(deadline, self._clock())
            await self._inner.put(key, parts)

        await self._retry(attempt, deadline)

    async def get(self, key: BlockKey) -> bytes:
        return await self._retry(lambda: self._inner.get(key))

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        return await self._retry(lambda: self._inner.fetch(key, finish))

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        await self._retry(lambda: self._inner.remove(keys))

    def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._walk(lambda seen: self._inner.walk(domain, after=seen), after)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        await self._retry(lambda: self._inner.set_aside(keys, day))

    def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._walk(lambda seen: self._inner.walk_aside(after=seen), after)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        await self._retry(lambda: self._inner.remove_aside(paths))

    async def domains(self) -> list[str]:
        return await self._retry(self._inner.domains)

    def walk_leftovers(self) -> AsyncIterator[Leftover]:
        """Not repeated: it cannot go on where it broke off."""
        return self._inner.walk_leftovers()

    async def _walk(
        self, begin: Callable[[str], AsyncIterator[StoredObject]], after: str
    ) -> AsyncIterator[StoredObject]:
        """Goes on behind the last path seen, each time that the walk breaks off."""
        turn: _Turn | None = None
        while True:
            try:
                async for found in begin(after):
                    after = found.path
                    turn = None
                    yield found
                return
            except StoreUnavailable as err:
                turn = await self._wait(turn or self._first_turn(), err)

    async def read_identity(self) -> tuple[str, int] | None:
        return await self._retry(self._inner.read_identity)

    async def write_identity(self, store_id: str, epoch: int) -> None:
        await self._retry(lambda: self._inner.write_identity(store_id, epoch))

    async def write_mark(self, kind: str, name: str) -> None:
        await self._retry(lambda: self._inner.write_mark(kind, name))

    def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._walk(lambda seen: self._inner.walk_marks(kind, after=seen), after)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        await self._retry(lambda: self._inner.remove_marks(kind, names))

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return await self._retry(lambda: self._inner.sweep(is_alive))

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def check(self) -> None:
        await self._inner.check()

    async def _retry(self, attempt: Callable[[], Awaitable[T]], deadline: float | None = None) -> T:
        turn = self._first_turn(deadline)
        while True:
            try:
                return await attempt()
            except StoreUnavailable as err:
                turn = await self._wait(turn, err)

    def _first_turn(self, deadline: float | None = None) -> "_Turn":
        last_start = self._clock() + self._policy.give_up_after_s
        return _Turn(1, last_start if deadline is None else min(last_start, deadline))

    async def _wait(self, turn: "_Turn", err: StoreUnavailable) -> "_Turn":
        """Waits for the next turn, or raises ``err`` where there is none."""
        policy = self._policy
        bound = min(policy.longest_wait_s, policy.first_wait_s * 2 ** (turn.number - 1))
        wait_s = max(bound * self._draw(), err.retry_after_s or 0)
        if turn.number >= policy.attempts or self._clock() + wait_s >= turn.last_start:
            raise err
        self.retries += 1
        await self._sleep(wait_s)
        return _Turn(turn.number + 1, turn.last_start)


@dataclass(frozen=True, slots=True)
class _Turn:
    number: int
    last_start: float
