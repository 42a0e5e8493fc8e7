"""One memory budget for all transfers of the process.

Buffers wait for it; what is already in hand (the bytes behind the last cut) is charged
without waiting. When it is short, the holders who have been idle longest are asked to put
what they hold into the store and let go of it: a few at a time, so that the store and the
database stay free for those that are fast, and until half of it is free, so that there is
peace for a while.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from filestore.errors import Overloaded
from filestore.model import MIB

_SHORT: Final = 0.75
"""Part of the budget from which idle holders are asked to let go: a quarter stays for those
that are fast, so that they do not wait for the flushes of the slow."""

_EASE: Final = 0.5
"""Part of the budget at which nobody is asked any more. Between the two a crowd of 500 clients
with 1 KiB/s each takes most of a minute; with one mark it would be asked all the time."""

_ASKED: Final = 8
"""Holders who let go at the same time: each is a put and two transactions, which would stand in
line before those of a fast upload."""

_IDLE_S: Final = 1.0
"""Who made no progress for this long is idle: a stream of 64 KiB/s fills a buffer in it."""

_PAUSE_S: Final = 0.1
"""Between two looks at all holders: a look at 1,000 takes a millisecond."""


@dataclass(slots=True)
class _Holder:
    held: Callable[[], int]
    let_go: Callable[[], None]
    touched_at: float
    asked_for: int = 0  # bytes that it is about to give back


class Grant:
    """Bytes of the budget that one holder has; grows and shrinks, ends at zero."""

    def __init__(self, budget: "MemoryBudget", size: int = 0) -> None:
        self._budget = budget
        self.size = size

    def set(self, size: int) -> None:
        """Now this many bytes are held. Never waits, so it can exceed the budget for a moment."""
        self._budget._add(size - self.size)
        self.size = size

    def release(self) -> None:
        """Gives everything back; again is harmless."""
        self.set(0)


class MemoryBudget:
    """Hands out grants, in order of asking; waiters hold nothing of what they wait for."""

    def __init__(self, total: int = 192 * MIB, *, wait_s: float = 30.0) -> None:
        self.total = total
        self._wait_s = wait_s
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._holders: dict[object, _Holder] = {}
        self._asked: dict[object, _Holder] = {}
        self._looked_at = float("-inf")
        self._is_easing = False  # from short on until at ease again
        self.give_spare: Callable[[], None] | None = None
        """Gives back at once what is charged and used by nobody."""

    def __repr__(self) -> str:
        return f"<MemoryBudget {self.used} of {self.total}, {len(self._waiting)} waiting>"

    @property
    def is_short(self) -> bool:
        return self.used > self.total * _SHORT

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for memory."""
        return bool(self._waiting)

    async def take(self, size: int) -> Grant:
        """A grant of ``size`` bytes, as soon as there is room; a lone holder always gets it.

        :raises Overloaded: there was no room for ``wait_s``. Holders who wait for more are
            bounded by this too, so they cannot wait for each other for ever.
        """
        if self._waiting or not self._fits(size):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                async with asyncio.timeout(self._wait_s):
                    while not turn.done():
                        self.relieve()
                        await asyncio.wait((turn,), timeout=_IDLE_S)
            except TimeoutError as err:
                self._forget(turn, size)
                raise Overloaded(retry_after_s=5) from err
            except asyncio.CancelledError:
                self._forget(turn, size)
                raise
        else:
            self.used += size
        return Grant(self, size)

    def take_now(self, size: int) -> Grant | None:
        """A grant for what can be done without; never waits. None while memory is not at ease."""
        grant = Grant(self)
        return grant if self.grow(grant, size) else None

    def grow(self, grant: Grant, size: int) -> bool:
        """Makes a grant larger if memory is at ease and nobody waits; never waits itself."""
        if self._waiting or self.used + size - grant.size > self.total * _SHORT:
            return False
        grant.set(size)
        return True

    def register(self, key: object, held: Callable[[], int], let_go: Callable[[], None]) -> None:
        """Makes a holder known: ``held`` is what it could give back, ``let_go`` asks for it.

        Who was asked says :meth:`settled` when it is done, or is unregistered.
        """
        self._holders[key] = _Holder(held, let_go, time.monotonic())

    def unregister(self, key: object) -> None:
        self._holders.pop(key, None)
        self.settled(key)

    def touch(self, key: object) -> None:
        """``key`` made progress: it is asked to let go after those that did not."""
        if key in self._holders:
            holder = self._holders[key] = self._holders.pop(key)
            holder.touched_at = time.monotonic()

    def settled(self, key: object) -> None:
        """``key`` gave back what it was asked for, or cannot: the next one may be asked."""
        holder = self._asked.pop(key, None)
        if holder is not None:
            holder.asked_for = 0
            self._relieve()

    def relieve(self) -> None:
        """Asks idle holders to let go; harmless at any time and cheap when repeated."""
        if len(self._asked) < _ASKED and time.monotonic() - self._looked_at >= _PAUSE_S:
            self._relieve()

    def _relieve(self) -> None:
        """Asks idle holders, longest idle first, until enough would come back.

        Who holds less than half of an even share is left alone: a flush costs the same for a
        few bytes. The others hold at least half of what there is to be had.
        """
        if self.give_spare is not None:
            self.give_spare()
        wanted = self._wanted()
        if wanted <= 0:
            return
        self._looked_at = time.monotonic()
        idle = self._idle()
        share = sum(size for _, _, size in idle) / max(len(idle), 1)
        for key, holder, size in idle:
            if wanted <= 0 or len(self._asked) >= _ASKED:
                return
            if size >= share / 2:
                holder.asked_for = size
                self._asked[key] = holder
                wanted -= size
                holder.let_go()

    def _wanted(self) -> int:
        """Bytes that are to come back beyond those that are about to."""
        needed = self.used + sum(size for size, _ in self._waiting)
        mark = _EASE if self._is_easing else _SHORT
        self._is_easing = needed > self.total * mark
        if not self._is_easing:
            return 0
        coming = sum(holder.asked_for for holder in self._asked.values())
        return needed - int(self.total * _EASE) - coming

    def _idle(self) -> list[tuple[object, _Holder, int]]:
        """Who can be asked, longest idle first, and for how much."""
        since = time.monotonic() - _IDLE_S
        found = []
        for key, holder in self._holders.items():
            if holder.touched_at > since:
                break
            if key not in self._asked and (size := holder.held()) > 0:
                found.append((key, holder, size))
        return found

    def _fits(self, size: int) -> bool:
        return self.used + size <= self.total or self.used == 0

    def _add(self, change: int) -> None:
        self.used += change
        if change > 0 and self.is_short:
            self.relieve()
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.used += size
                turn.set_result(None)

    def _forget(self, turn: "asyncio.Future[None]", size: int) -> None:
        if turn.done() and not turn.cancelled():
            self._add(-size)
            return
        self._waiting = deque(item for item in self._waiting if item[1] is not turn)
        self._add(0)
