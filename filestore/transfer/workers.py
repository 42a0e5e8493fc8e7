"""The one seam between the event loop and blocking work."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Workers:
    """A bounded set of threads for work that releases the GIL."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns. Cancelling stops the waiting, not the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
