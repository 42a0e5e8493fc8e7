"""Takes note of what is downloaded, beside the downloads: they wait for it and fail of it never.

A version that was read within a day costs nothing: its row, which the download has read anyway,
says so. Others are remembered in memory, each once, and written together, at most once in
:data:`INTERVAL_S`. What a crash takes from there is noted at the next download.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from filestore.errors import FilestoreError
from filestore.meta.database import Database
from filestore.meta.downloads import FRESH_US, note_downloads

INTERVAL_S: Final = 20.0
"""On SQLite, whose one writer uploads need too, one short transaction in this time."""
MOST: Final = 5_000
"""Versions that are remembered, some 500 KB; more than that are read in no 20 s by one process.
Beyond, they wait for their next download."""
_BATCH: Final = 500

_log: Final = structlog.get_logger("filestore.transfer")


class Downloaded:
    """What was downloaded since it was last written down. ``clock`` gives seconds since the epoch:
    against the database's it may be wrong by hours, where a day is meant."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._waiting: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Downloaded: {len(self._waiting)} to be written>"

    def note(self, version_id: str, last_at: int | None) -> None:
        """Remembers that a version is being read; ``last_at`` is what its row says, in µs."""
        is_fresh = last_at is not None and last_at > self._clock() * 1e6 - FRESH_US
        if not is_fresh and len(self._waiting) < MOST:
            self._waiting[version_id] = None

    async def flush(self) -> int:
        """Writes what is remembered; how many versions that was news of. What fails stays.

        :raises DatabaseUnavailable: no answer. Safe to repeat.
        """
        noted = 0
        while some := sorted(self._waiting)[:_BATCH]:
            noted += await self._db.transact(lambda tx, some=some: note_downloads(tx, some))  # type: ignore[misc]
            for version_id in some:
                self._waiting.pop(version_id, None)
        return noted

    async def _keep_flushing(self) -> None:
        """It owns its errors: they wait for the next round, and a defect is said loudly."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.flush()
            except FilestoreError as err:
                _log.warning("downloads.not_noted", error=str(err))
            except Exception:
                _log.exception("downloads.crashed", again_in_s=INTERVAL_S)


@asynccontextmanager
async def running_downloaded(db: Database) -> AsyncIterator[Downloaded]:
    """Takes notes while the block runs, and writes the last at its end, if the database answers."""
    downloaded = Downloaded(db)
    task = asyncio.create_task(downloaded._keep_flushing())
    try:
        yield downloaded
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(FilestoreError):  # nobody is to be told, and nothing depends on it
            await downloaded.flush()
