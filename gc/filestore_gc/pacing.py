"""How fast objects are removed, and how much is done under one lock: others have work too."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from filestore.meta.database import Database, Tx

T = TypeVar("T")

TARGET_S: Final = 0.03
"""How long a transaction is to hold its locks at most: an upload that wants one of its blocks
waits for its end, and is to wait less than 50 ms."""
LEAST: Final = 40
"""Blocks of a transaction where even that takes longer: then it is the number of statements that
costs, as on a busy machine or with a database far away, and fewer blocks would take more."""
TARGET_OF_ONE_S: Final = 0.015
"""The same where one at a time can write, as on SQLite: then every upload waits for it, and behind
it for the others that came before."""
LEAST_OF_ONE: Final = 16
"""There statements cost little, and blocks a few pages each of a commit, some 0.15 ms of work."""
LANES: Final = 2
"""Transactions of a process at once: while one is at the database, another is worked on here.
More would only hold their locks for longer, since all take turns in one thread."""


class Pace:
    """Lets through at most ``per_s`` a second, after a first batch that goes at once.

    Who comes early waits until what went before is paid for; nobody saves up while idle.
    """

    def __init__(
        self,
        per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._per_s = per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    def __repr__(self) -> str:
        return f"<Pace of {self._per_s} a second>"

    async def take(self, count: int) -> None:
        """Returns when ``count`` more may go."""
        now = self._clock()
        begin = max(self._free_at, now)
        self._free_at = begin + count / self._per_s
        if begin > now:
            await self._sleep(begin - now)


class Stride:
    """How many blocks one transaction takes: up to ``most``, fewer where that takes long.

    Begins with few: a database that is cold or busy is so at once. ``is_one``: one at a time can
    write there, where it is :data:`LEAST_OF_ONE`.
    """

    def __init__(self, most: int, *, is_one: bool = False, least: int = LEAST) -> None:
        self._most = most
        self._least = min(LEAST_OF_ONE if is_one else least, most)
        self._target_s = TARGET_OF_ONE_S if is_one else TARGET_S
        self.size = self._least

    def __repr__(self) -> str:
        return f"<Stride of {self.size} of at most {self._most}>"

    def note(self, took_s: float) -> None:
        """A transaction of this size took so long: the next ones take fewer, or more."""
        if took_s > self._target_s:
            self.size = max(self._least, self.size // 2)
        elif took_s < self._target_s / 2:
            self.size = min(self._most, self.size + self.size // 4)


async def transact_in(
    stride: Stride,
    db: Database,
    act: Callable[[Tx], Awaitable[T]],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """A transaction of that many rows, for which others may have to wait. It runs at once; how
    long it took is noted."""
    began = clock()

    async def timed(tx: Tx) -> T:
        nonlocal began
        began = clock()  # waiting for the turn is not holding it
        return await act(tx)

    result = await db.transact(timed, at_once=True)
    stride.note(clock() - began)
    return result
