"""Giving a file back: the bytes of a range, verified, read a little ahead of the client.

Nothing is locked and no transaction stays open: references are resolved by offset, a page at
a time. When a block is gone or damaged the reference is resolved again, because the tail of
an upload may just have been replaced, or the block healed under another generation. Wrong
bytes never leave, and missing ones are an error, never padding.
"""

import asyncio
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
from filestore.transfer.budget import Grant, MemoryBudget

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
    """Reads contents. ``read_ahead`` blocks are fetched while the client takes the first."""

    def __init__(
        self, db: Database, reader: VerifiedReader, budget: MemoryBudget, *, read_ahead: int
    ) -> None:
        self._db = db
        self._reader = reader
        self._budget = budget
        self._read_ahead = read_ahead

    async def stored(
        self, content_id: int, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """The bytes [start, end) of a content, in pieces of at most one block.

        :raises BlockMissing: the content is gone or has a gap; bytes given so far are right.
        :raises BlockDamaged: a block has wrong bytes, also at a second look.
        :raises StoreUnavailable: the store did not answer. Safe to go on from where it broke.
        """
        fetches: deque[_Fetch] = deque()
        refs: deque[BlockRef] = deque()
        position, fetched, doubted = start, start, -1
        try:
            while position < end:
                while fetched < end and self._wants_more(fetches):
                    if not refs:
                        refs = await self._resolve(content_id, fetched, end)
                    fetches.append(await self._fetch(refs.popleft()))
                    fetched = fetches[-1].ref.offset + fetches[-1].ref.size
                fetch = fetches.popleft()
                try:
                    data = await fetch.task
                    piece = data[position - fetch.ref.offset : end - fetch.ref.offset]
                    position = fetch.ref.offset + fetch.ref.size
                    yield piece
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

    def _wants_more(self, fetches: deque[_Fetch]) -> bool:
        """Reads ahead only while memory is at ease; one block is always under way."""
        if not fetches:
            return True
        return len(fetches) < self._read_ahead and not self._budget.is_short

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

    async def _fetch(self, ref: BlockRef) -> _Fetch:
        grant = await self._budget.take(ref.size)
        key = BlockKey(ref.domain, ref.hash, ref.generation)
        return _Fetch(ref, asyncio.create_task(self._reader.get_block(key, ref.size)), grant)


def _drop_all(fetches: deque[_Fetch]) -> None:
    while fetches:
        fetches.pop().drop()


def _seen(task: "asyncio.Task[memoryview]") -> None:
    """Takes note of an error that nobody waits for any more."""
    if not task.cancelled() and isinstance(task.exception(), FilestoreError):
        return
