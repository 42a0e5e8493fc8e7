"""How background work ends: asked once to clean up, and made to when that takes too long."""

import asyncio
from typing import Any, Final

STOP_S: Final = 5.0
"""What ending may take: some transactions. A database that does not answer takes longer, and
what it then does not learn it learns from the end of the process."""


async def end(task: asyncio.Task[Any], *, within_s: float = STOP_S) -> None:
    """Returns when the task has ended; within about twice ``within_s``.

    It is cancelled, and cancelled again, in the middle of its cleaning up, when it has not ended
    in time. What it fails with is dropped: nobody waits for its answer any more.
    """
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=within_s)
        if task.done():
            break
    if task.done() and not task.cancelled():
        task.exception()  # else it is reported as never looked at
