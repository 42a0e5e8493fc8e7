"""How fast objects are removed: what serves requests uses the same disk or store."""

import asyncio
import time
from collections.abc import Awaitable, Callable


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
