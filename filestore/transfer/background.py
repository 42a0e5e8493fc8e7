"""Work that nobody waits for: the digests of files that did not run through in one go."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from filestore.errors import FilestoreError, StoreError, StoreUnavailable
from filestore.meta import contents
from filestore.transfer.engine import Engine
from filestore_chunker import FileHasher

INTERVAL_S: Final = 15.0
"""How often somebody looks for such work: files show their digest about that much later."""
FIRST_PAUSE_S: Final = 60.0
"""Before a content that could not be read is tried again; doubled each time."""
LONGEST_PAUSE_S: Final = 86_400.0
"""A damaged file is then read once a day: it may be healed by an upload of the same bytes."""
MAX_PAUSED: Final = 100_000
"""Contents that are remembered as unreadable, some 10 MB: beyond, the oldest is tried sooner."""

_log: Final = structlog.get_logger("filestore.transfer")


async def run_forever(engine: Engine) -> None:
    """Does what is to do, then looks again after a while, until it is cancelled.

    It owns its errors: an expected one waits for the next round; an unexpected one is a defect,
    which is said loudly and must not end the work for ever.
    """
    pauses = Pauses()
    while True:
        try:
            await hash_contents(engine, pauses)
        except FilestoreError as err:
            _log.warning("background.failed", error=str(err))
        except Exception:
            _log.exception("background.crashed", again_in_s=INTERVAL_S)
        await asyncio.sleep(INTERVAL_S)


class Pauses:
    """Which contents could not be read, and when each may be tried again. In memory only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Pauses of {len(self._until)} contents>"

    def is_paused(self, content_id: int) -> bool:
        until, _ = self._until.get(content_id, (float("-inf"), 0.0))
        return self._clock() < until

    def pause(self, content_id: int) -> float:
        """It could not be read: how many seconds it is left alone now."""
        _, before = self._until.pop(content_id, (0.0, FIRST_PAUSE_S / 2))
        pause_s = min(2 * before, LONGEST_PAUSE_S)
        self._until[content_id] = (self._clock() + pause_s, pause_s)
        while len(self._until) > MAX_PAUSED:
            self._until.popitem(last=False)
        return pause_s

    def forget(self, content_id: int) -> None:
        """It could be read."""
        self._until.pop(content_id, None)


async def hash_contents(engine: Engine, pauses: Pauses | None = None) -> int:
    """Computes the missing BLAKE3 of complete contents from the store; how many.

    A content that cannot be read is left alone for a while, longer each time; fsck and scrub
    report it. One whose pause is not over is not looked at.

    :raises StoreUnavailable: the store does not answer, which says nothing of any content.
    """
    pauses = pauses or Pauses()
    done, after = 0, 0
    while (found := await engine.db.read(partial(contents.next_unhashed, after=after))) is not None:
        after, size = found
        if not pauses.is_paused(after):
            done += await _hash(engine, after, size, pauses)
    return done


async def _hash(engine: Engine, content_id: int, size: int, pauses: Pauses) -> bool:
    """Whether the content's digest is known now."""
    state = FileHasher()
    try:
        async for piece in engine.hashing.stored(content_id, 0, size):
            await engine.workers.run(partial(state.update, piece))
    except StoreUnavailable:
        raise
    except StoreError as err:
        pause_s = pauses.pause(content_id)
        _log.warning(
            "background.unreadable", content=content_id, error=str(err), again_in_s=pause_s
        )
        return False
    pauses.forget(content_id)
    await engine.db.transact(
        partial(contents.set_digest, content_id=content_id, blake3=state.digest())
    )
    return True
