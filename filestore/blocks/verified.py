"""Reading blocks so that wrong bytes cannot leave the store."""

from functools import partial

from filestore.blocks.backend import BlockFetcher
from filestore.blocks.header import decode
from filestore.blocks.port import BlockKey


class VerifiedReader:
    """Gives plain bytes that have the block's hash, or an error."""

    def __init__(self, store: BlockFetcher) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<VerifiedReader of {self._store!r}>"

    async def get_block(self, key: BlockKey, size: int) -> memoryview:
        """The ``size`` plain bytes of a block, in one thread hop where the store reads in one.

        :raises BlockDamaged: other bytes lie there. A second read may show better ones.
        :raises BlockMissing: no object lies there. Permanent.
        :raises StoreUnavailable: safe to retry.
        """
        finish = partial(decode, expected_hash=key.hash, expected_size=size)
        return await self._store.fetch(key, finish)
