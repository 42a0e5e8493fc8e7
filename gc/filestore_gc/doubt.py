"""Which known blocks an upload may rely on while database and store are not of the same age.

A database that was restored from a backup may call a block live whose object was collected since.
Who then uploads the same bytes must not be told that they are safe: until fsck has brought both
together, a known block is read before anybody refers to it, and what cannot be read becomes lost.
"""

from functools import partial
from typing import Final

import structlog

from filestore.blocks.verified import VerifiedReader
from filestore.meta.database import Database
from filestore.meta.healing import find_block
from filestore.model import BlockState
from filestore_gc.heal import HealStore, find_fault, find_problem, lose

_log: Final = structlog.get_logger("filestore.gc")


class Doubt:
    """Of one process, and of one database and store. Ends when their ages are the same, for good:
    a database is restored while no process works on it."""

    def __init__(self, db: Database, store: HealStore) -> None:
        self._db = db
        self._store = store
        self._reader = VerifiedReader(store)
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Doubt, {'over' if self._is_over else 'perhaps'}>"

    async def sift(self, known: dict[bytes, int]) -> dict[bytes, int]:
        """Those of the live blocks (ids by hash) that may be relied on: without doubt all of them.

        :raises StoreUnavailable: it cannot be told. Safe to repeat.
        """
        if self._is_over or not known or await self._is_resolved():
            return known
        return {hash: id for hash, id in known.items() if await self._is_well(id)}

    async def _is_resolved(self) -> bool:
        self._is_over = await find_problem(self._db, self._store) is None
        return self._is_over

    async def _is_well(self, block_id: int) -> bool:
        block = await self._db.read(partial(find_block, block_id=block_id))
        if block is None or block.state is not BlockState.LIVE:
            return False
        fault = await find_fault(self._reader, block)
        if fault is None:
            return True
        if await lose(self._db, self._store, block, fault) is not None:
            _log.error("doubt.block_lost", block=block.name, fault=fault)
        return False
