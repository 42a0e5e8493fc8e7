"""Work that nobody waits for: digests of files that did not run through, uploads that expired,
the references of contents that were released.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from filestore.errors import FilestoreError, StoreError
from filestore.meta import blocks, contents
from filestore.meta.database import Tx
from filestore.transfer.engine import Engine
from filestore.transfer.service import Transfers
from filestore_chunker import FileHasher

INTERVAL_S: Final = 15.0
"""How often somebody looks for such work: files show their digest about that much later."""
_RELEASE_BATCH: Final = 1000
"""References removed in one transaction: a few milliseconds."""

_log: Final = structlog.get_logger("filestore.transfer")


async def run_forever(engine: Engine, transfers: Transfers) -> None:
    """Does what is to do, then looks again after a while; an error waits for the next round."""
    rounds: dict[str, Callable[[], Awaitable[object]]] = {
        "expire": transfers.expire_due,
        "release": partial(release_contents, engine),
        "hash": partial(hash_contents, engine),
    }
    while True:
        for name, work in rounds.items():
            try:
                await work()
            except FilestoreError as err:
                _log.warning("background.failed", work=name, error=str(err))
        await asyncio.sleep(INTERVAL_S)


async def hash_contents(engine: Engine) -> int:
    """Computes the missing BLAKE3 of complete contents from the store; how many.

    A content that cannot be read is left for the next time; fsck and scrub report it.
    """
    done, after = 0, 0
    while (found := await engine.db.read(partial(contents.next_unhashed, after=after))) is not None:
        after, size = found
        state = FileHasher()
        try:
            async for piece in engine.egress.stored(after, 0, size):
                await engine.workers.run(partial(state.update, piece))
        except StoreError as err:
            _log.warning("background.unreadable", content=after, error=str(err))
            continue
        await engine.db.transact(
            partial(contents.set_digest, content_id=after, blake3=state.digest())
        )
        done += 1
    return done


async def release_contents(engine: Engine) -> int:
    """Removes the references of contents that are ``deleting`` and queues their blocks.

    One short transaction a batch, so a content of any size never holds a lock for long.
    """
    freed = 0
    while (rows := await engine.db.transact(_release_batch)) > 0:
        freed += rows
    return freed


async def _release_batch(tx: Tx) -> int:
    rows, block_ids = await contents.remove_released(tx, limit=_RELEASE_BATCH)
    await blocks.enqueue(tx, block_ids, "released")
    return rows
