"""Whole-file digests: kept beside the stream, caught up from the store when they were lost.

The running state of a digest lives in the memory of the process that received the bytes, by
upload. Another process, or this one after a restart, has to hash the stored bytes again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from filestore.errors import UploadTakenOver
from filestore.transfer.workers import Workers
from filestore_chunker import FileHasher

_KEPT: Final = 4096
"""Digest states kept: about 2 KiB each."""

CHASES: Final = 1024
"""Chases kept that wait for more: some 10 KiB each. Who needs one that is gone begins again."""

StoredBytes = Callable[[int, int], AsyncIterator[memoryview]]
"""Gives the stored bytes of a content in [start, end)."""


class DigestKeeper:
    """Remembers how far each upload is hashed, the most recent first."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, FileHasher] = OrderedDict()
        self._chases: dict[str, Chase] = {}

    def __repr__(self) -> str:
        return f"<DigestKeeper of {len(self._states)} states, {len(self._chases)} chases>"

    def at(self, upload_id: str, offset: int) -> FileHasher | None:
        """A state that has hashed exactly the first ``offset`` bytes, or None."""
        state = self._states.get(upload_id)
        return state.copy() if state is not None and state.size == offset else None

    def keep(self, upload_id: str, state: FileHasher) -> None:
        self._states[upload_id] = state
        self._states.move_to_end(upload_id)
        while len(self._states) > _KEPT:
            self._states.popitem(last=False)

    def chase(self, upload_id: str, begin: Callable[[], "Chase"]) -> "Chase":
        """The one that hashes this upload's stored bytes, begun if there is none."""
        chase = self._chases.get(upload_id)
        if chase is None or chase.has_failed:
            self._drop_idle()
            chase = self._chases[upload_id] = begin()
        return chase

    def _drop_idle(self) -> None:
        """Of uploads that expire, or that another process completes, nothing is heard here."""
        extra = len(self._chases) - CHASES
        if extra < 0:
            return
        idle = [upload_id for upload_id, chase in self._chases.items() if chase.is_idle]
        for upload_id in idle[: extra + 1]:
            self._chases.pop(upload_id).stop()

    def advance(self, upload_id: str, offset: int) -> None:
        """Lets the upload's chase, if there is one, go on up to ``offset``, which is final."""
        chase = self._chases.get(upload_id)
        if chase is not None:
            chase.advance(offset)

    def forget(self, upload_id: str) -> None:
        """The upload is over."""
        self._states.pop(upload_id, None)
        chase = self._chases.pop(upload_id, None)
        if chase is not None:
            chase.stop()

    async def close(self) -> None:
        tasks = [chase.task for chase in self._chases.values()]
        for upload_id in list(self._chases):
            self.forget(upload_id)
        await asyncio.gather(*tasks, return_exceptions=True)


class Chase:
    """Hashes an upload's stored bytes from the beginning, while more of them are recorded.

    It outlives the request that began it, so a client that was told to repeat finds it
    further on.
    """

    def __init__(
        self, stored: StoredBytes, workers: Workers, *, with_sha256: bool, goal: int
    ) -> None:
        self._stored = stored
        self._workers = workers
        self._state = FileHasher(with_sha256=with_sha256)
        self._goal = goal
        self._waiters = 0
        self._more = asyncio.Event()
        self._reached = asyncio.Event()
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(_seen)

    @property
    def has_failed(self) -> bool:
        return self.task.done()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for it, and it for more."""
        return self.task.done() or (self._state.size >= self._goal and not self._waiters)

    def advance(self, offset: int) -> None:
        """More is stored and final, up to ``offset``."""
        self._goal = max(self._goal, offset)
        self._more.set()

    async def reach(self, offset: int) -> FileHasher:
        """The state at ``offset``, as soon as all before it is hashed.

        Cancelling (a time-out) leaves the chase running.

        :raises StoreError: stored bytes could not be read.
        :raises UploadTakenOver: somebody else has ended the upload, or went on with it.
        """
        self.advance(offset)
        while self._state.size < offset:
            await self._await_more()
        if self._state.size != offset:
            raise AssertionError(f"hashed {self._state.size} bytes, asked for {offset}")
        return self._state.copy()

    async def _await_more(self) -> None:
        self._reached.clear()
        waiting = asyncio.create_task(self._reached.wait())
        self._waiters += 1
        try:
            await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters -= 1
            waiting.cancel()
        if self.task.cancelled():  # else it would look as if the request had been
            raise UploadTakenOver()
        if self.task.done():
            self.task.result()

    def stop(self) -> None:
        self.task.cancel()

    async def _run(self) -> None:
        while True:
            async for piece in self._stored(self._state.size, self._goal):
                await self._workers.run(partial(self._state.update, piece))
            self._more.clear()
            self._reached.set()
            if self._state.size >= self._goal:
                await self._more.wait()


def _seen(task: "asyncio.Task[None]") -> None:
    """Takes note of an error that nobody waits for; who does is told by :meth:`Chase.reach`."""
    if not task.cancelled():
        task.exception()
