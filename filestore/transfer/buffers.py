"""Large buffers that are used again, by all streams of the process.

Memory that is new to the process costs a page fault each 4 KiB when it is first written,
which takes as long as hashing what goes into it: 0.6 to 1 ms a MiB on a virtual machine,
against 0.05 ms when it is used again.
"""

import asyncio
from typing import Final

from filestore.transfer.budget import Grant, MemoryBudget

_IDLE_S: Final = 10.0
"""After this long without a taker, what nobody uses is given back to the system."""


class Buffers:
    """Buffers that ``budget`` is charged for as long as they exist here.

    A buffer is in use as long as a view refers to it: Python refuses to resize such a one. So
    nothing has to be given back, and no mistake elsewhere can overwrite bytes on their way to
    the store. What a failed call left in a cycle stays counted until Python has collected it.
    Belongs to the event loop; views may be used and let go by any thread.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._grant = Grant(budget)
        self._held: list[bytearray] = []
        self._is_taken = False
        self._timer: asyncio.TimerHandle | None = None
        budget.give_spare = self.drop

    def __repr__(self) -> str:
        return f"<Buffers: {len(self._held)}, {self._unused_size()} of {self._grant.size} unused>"

    def take(self, size: int) -> memoryview | None:
        """``size`` bytes of memory that nobody uses, or None if there are none to be had.

        There are none while memory is short: what is read is charged beside the buffer as soon
        as a part of it has to be kept.
        """
        if self._budget.is_wanted or self._budget.is_short:
            self.drop()
            return None
        self._is_taken = True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self._tidy)
        for buffer in self._held:
            if len(buffer) == size and not _is_used(buffer):
                return memoryview(buffer)
        self.drop()  # of other sizes: the streams have changed their pace
        if not self._budget.grow(self._grant, self._grant.size + size):
            return None
        self._held.append(bytearray(size))
        return memoryview(self._held[-1])

    def has(self, view: memoryview) -> bool:
        """Whether these bytes lie in one of the buffers."""
        return any(view.obj is buffer for buffer in self._held)

    def drop(self) -> None:
        """Gives back the buffers that nobody uses."""
        self._held = [buffer for buffer in self._held if _is_used(buffer)]
        self._grant.set(sum(map(len, self._held)))

    def close(self) -> None:
        """Gives back all; those in use live as long as their views."""
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()
        self._grant.release()
        self._budget.give_spare = None

    def _unused_size(self) -> int:
        return sum(len(buffer) for buffer in self._held if not _is_used(buffer))

    def _tidy(self) -> None:
        if not self._is_taken:
            self.drop()
        self._is_taken, self._timer = False, None
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self._tidy)


def _is_used(buffer: bytearray) -> bool:
    try:
        buffer.pop()
    except BufferError:
        return True
    buffer.append(0)
    return False
