"""Giving a file back: the bytes of a range, verified, read a little ahead of the client.

Nothing is locked and no transaction stays open: references are resolved by offset, a page at
a time. When a block is gone or damaged the reference is resolved again, because the tail of
an upload may just have been replaced, or the block healed under another generation. Wrong
bytes never leave, and missing ones are an error, never padding.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Final

from filestore.blocks.port import BlockKey
from filestore.blocks.verified import VerifiedReader
from filestore.errors import BlockDamaged, BlockMissing, FilestoreError
from filestore.meta import contents
from filestore.meta.contents import BlockRef
from filestore.meta.database import Database
from filestore.model import KIB
from filestore.transfer.budget import Grant, MemoryBudget

_SLOW_S: Final = 1.0
"""Who needs longer for a block is slow: it gets less than 1 MiB/s."""
_PAGE: Final = 64
"""References read at once: at 1 MiB each, 64 MiB of file for one query."""


@dataclass(slots=True)
class _Fetch:
    """A block on its way, and the memory that it may take."""

    ref: BlockRef
    task: "asyncio.Task[memoryview]"
    grant: Grant

    def drop(self) -> None:
        self.task.cancel()
        self.task.add_done_callback(_seen)
        self.grant.release()


class Egress:
    """Reads contents. ``read_ahead`` blocks are fetched while the client takes the first.

    Pieces are small, because a client of 64 KiB/s should take one in seconds.
    """

    def __init__(
        self,
        db: Database,
        reader: VerifiedReader,
        budget: MemoryBudget,
        *,
        read_ahead: int,
        piece_size: int = 128 * KIB,
    ) -> None:
        self._db = db
        self._reader = reader
        self._budget = budget
        self._read_ahead = read_ahead
        self._piece_size = piece_size

    @property
    def budget(self) -> MemoryBudget:
        """What all downloads of the process hold together."""
        return self._budget

    async def stored(
        self, content_id: int, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """The bytes [start, end) of a content, in pieces of at most ``piece_size``.

        A reader that is slow lets go of what it holds while others wait for memory, and reads
        the rest of the block again when its turn comes.

        :raises BlockMissing: the content is gone or has a gap; bytes given so far are right.
        :raises BlockDamaged: a block has wrong bytes, also at a second look.
        :raises StoreUnavailable: the store did not answer. Safe to go on from where it broke.
        :raises Overloaded: no memory for too long. Likewise.
        """
        fetches: deque[_Fetch] = deque()
        refs: deque[BlockRef] = deque()
        position, fetched, doubted = start, start, -1
        try:
            while position < end:
                while fetched < end and len(fetches) < self._read_ahead:
                    if not refs:
                        refs = await self._resolve(content_id, fetched, end)
                    grant = self._budget.take_now(refs[0].size)
                    if grant is None and fetches:  # who holds one does not wait for another
                        break
                    grant = grant or await self._budget.take(refs[0].size)
                    fetches.append(self._fetch(refs.popleft(), grant))
                    fetched = fetches[-1].ref.offset + fetches[-1].ref.size
                fetch = fetches.popleft()
                try:
                    data = await fetch.task
                    stop = min(end, fetch.ref.offset + fetch.ref.size)
                    began = time.monotonic()
                    while position < stop and not self._is_asked_to_let_go(began):
                        at = position - fetch.ref.offset
                        piece = data[at : min(at + self._piece_size, stop - fetch.ref.offset)]
                        position += len(piece)
                        yield piece
                    data = piece = memoryview(b"")  # they would keep the block
                    if position < stop:
                        fetched = position
                        refs.clear()
                        _drop_all(fetches)
                except (BlockDamaged, BlockMissing):
                    if doubted == position:
                        raise
                    doubted = fetched = position  # once more, with what its offset resolves to now
                    refs.clear()
                    _drop_all(fetches)
                finally:
                    fetch.drop()
        finally:
            _drop_all(fetches)

    def _is_asked_to_let_go(self, began: float) -> bool:
        return self._budget.is_wanted and time.monotonic() - began > _SLOW_S

    async def _resolve(self, content_id: int, offset: int, end: int) -> deque[BlockRef]:
        look = partial(
            contents.refs_from, content_id=content_id, offset=offset, end=end, limit=_PAGE
        )
        refs = await self._db.read(look)
        if not refs or not refs[0].offset <= offset < refs[0].offset + refs[0].size:
            raise BlockMissing()
        position = refs[0].offset
        for index, ref in enumerate(refs):
            if ref.offset != position:
                return deque(refs[:index])
            position += ref.size
        return deque(refs)

    def _fetch(self, ref: BlockRef, grant: Grant) -> _Fetch:
        key = BlockKey(ref.domain, ref.hash, ref.generation)
        return _Fetch(ref, asyncio.create_task(self._reader.get_block(key, ref.size)), grant)


def _drop_all(fetches: deque[_Fetch]) -> None:
    while fetches:
        fetches.pop().drop()


def _seen(task: "asyncio.Task[memoryview]") -> None:
    """Takes note of an error that nobody waits for any more."""
    if not task.cancelled() and isinstance(task.exception(), FilestoreError):
        return
