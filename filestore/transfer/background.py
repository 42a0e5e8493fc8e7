"""Work that nobody waits for: the digests of files that did not run through in one go."""

import asyncio
from functools import partial
from typing import Final

import structlog

from filestore.errors import FilestoreError, StoreError
from filestore.meta import contents
from filestore.transfer.engine import Engine
from filestore_chunker import FileHasher

INTERVAL_S: Final = 15.0
"""How often somebody looks for such work: files show their digest about that much later."""

_log: Final = structlog.get_logger("filestore.transfer")


async def run_forever(engine: Engine) -> None:
    """Does what is to do, then looks again after a while; an error waits for the next round."""
    while True:
        try:
            await hash_contents(engine)
        except FilestoreError as err:
            _log.warning("background.failed", error=str(err))
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
            async for piece in engine.hashing.stored(after, 0, size):
                await engine.workers.run(partial(state.update, piece))
        except StoreError as err:
            _log.warning("background.unreadable", content=after, error=str(err))
            continue
        await engine.db.transact(
            partial(contents.set_digest, content_id=after, blake3=state.digest())
        )
        done += 1
    return done
