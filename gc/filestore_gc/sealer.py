"""Seals the journals of the quotas while the service runs, one process at a time.

    async with running_sealer(settings, db, store, process_id) as sealer:    # runs by itself, too
        await sealer.run_once()

It looks every few seconds with a read, and takes the lease only when something is due: a row that
waits for ``journal.seal_interval_s``, or ``journal.seal_rows`` of one group. Nothing rests on the
lease: of two that seal the same rows one is refused by the database.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from filestore.blocks.port import StoreMarks
from filestore.errors import FilestoreError
from filestore.meta import journal
from filestore.meta.database import Database
from filestore.meta.turns import in_background
from filestore.quota.sealing import Gap, Unreadable, mark_seals, seal_next
from filestore.settings import Settings
from filestore_gc.lease import Lease, TakenOver, Turn
from filestore_gc.stopping import end

SEAL: Final = "seal"
"""The name of the lease."""
LOOK_S: Final = 5.0
"""Between two looks, at most: 1,000 rows of a hot group come within seconds."""
GROUPS: Final = 500
"""Groups of one look; the rest comes with the next."""

_log: Final = structlog.get_logger("filestore.seal")


class Sealer:
    """Seals the journals of one database; any number of them may exist."""

    def __init__(
        self,
        db: Database,
        store: StoreMarks,
        process_id: str,
        settings: Settings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._store = store
        self._rows = settings.journal.seal_rows
        self._interval_s = settings.journal.seal_interval_s
        self._lease = Lease(db, process_id, name=SEAL)
        self._sleep = sleep
        self._broken: set[str] = set()

    def __repr__(self) -> str:
        return f"<Sealer, {self._lease!r}, {len(self._broken)} journals broken>"

    async def run_once(self) -> int:
        """Seals all that there is, and puts the heads outside; says how many seals were made.

        :raises StoreUnavailable, StoreFull: what is not marked is marked next time.
        :raises DatabaseUnavailable: safe to repeat.
        """
        async with self._lease.at_once() as turn:
            return await self._work(turn, older_than_us=0)

    async def run_if_due(self) -> int:
        """The same of what is due; 0 when nothing is, or another process is at work."""
        older_than_us = self._interval_s * 1_000_000
        due = partial(journal.due, rows=self._rows, older_than_us=older_than_us, limit=GROUPS)
        waiting = set(await self._db.read(due)) - self._broken
        if not waiting and not await self._db.read(partial(journal.unmarked, limit=1)):
            return 0
        async with self._lease.if_due(0) as turn:
            if turn is None:
                return 0
            with contextlib.suppress(TakenOver):
                return await self._work(turn, older_than_us=older_than_us)
        return 0

    async def run_forever(self) -> None:
        """Runs by itself, again and again; after an error it rests for one interval."""
        while True:
            rest_s = min(LOOK_S, self._interval_s)
            try:
                await self.run_if_due()
            except FilestoreError as err:
                _log.warning("seal.failed", error=str(err))
                rest_s = self._interval_s
            except Exception:
                _log.exception("seal.crashed")  # a defect, which must not end it for ever
                rest_s = self._interval_s
            await self._sleep(rest_s)

    @in_background
    async def _work(self, turn: Turn, *, older_than_us: int) -> int:
        due = partial(journal.due, rows=self._rows, older_than_us=older_than_us, limit=GROUPS)
        made = 0
        for group_id in await self._db.read(due):
            await turn.keep()
            made += await self._seal(turn, group_id)
        while await mark_seals(self._db, self._store):
            await turn.keep()
        turn.result = "done"
        return made

    async def _seal(self, turn: Turn, group_id: str) -> int:
        """Seals a group's rows to the end; a journal that is broken is told once."""
        made = 0
        try:
            while (seal := await seal_next(self._db, group_id, limit=self._rows)) is not None:
                made += 1
                if seal.last_seq - seal.first_seq + 1 < self._rows:
                    break  # the end; else a group in use would be sealed row by row
                await turn.keep()
        except (Gap, Unreadable) as err:
            if group_id not in self._broken:
                self._broken.add(group_id)
                advice = "filestore quota verify-journal says more"
                _log.error("journal.broken", group=group_id, reason=str(err), advice=advice)
        return made


@contextlib.asynccontextmanager
async def running_sealer(
    settings: Settings, db: Database, store: StoreMarks, process_id: str
) -> AsyncIterator[Sealer]:
    """A sealer that also runs by itself while the block runs."""
    sealer = Sealer(db, store, process_id, settings)
    background = asyncio.create_task(sealer.run_forever())
    try:
        yield sealer
    finally:
        await end(background)
