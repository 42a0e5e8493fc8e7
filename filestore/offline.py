"""Database and block store without a service, for commands that work on them directly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from filestore.attaching import join, make_backend
from filestore.errors import CannotStart
from filestore.meta.database import open_database
from filestore.settings import Settings
from filestore_gc import Scrubber, make_collector
from filestore_gc.auditing import Auditor
from filestore_gc.kinds import Ground


@contextlib.asynccontextmanager
async def working_on(settings: Settings) -> AsyncIterator[Ground]:
    """What work is done on, opened for the time of the block. The schema is brought up to date.

    Nothing is created: a database or a folder of blocks that is not there is a wrong path. With
    PostgreSQL servers may run meanwhile.

    :raises CannotStart: it is not there, or a server has the SQLite file.
    :raises BadSetting: what a setting names is not possible.
    :raises DatabaseUnavailable, StoreUnavailable: safe to retry.
    """
    await asyncio.to_thread(_check_there, settings)
    async with contextlib.AsyncExitStack() as stack:
        db = await open_database(settings.database_url, pool_size=settings.database.pool_size)
        stack.push_async_callback(db.close)
        process_id = await join(stack, db)
        store = make_backend(stack, settings, process_id)
        await store.open()
        collector = make_collector(settings, db, store, process_id)
        scrubber = Scrubber(db, store, process_id, settings)
        auditor = Auditor(db, store, process_id, settings)
        yield Ground(db, store, settings, collector, scrubber, auditor)


def _check_there(settings: Settings) -> None:
    _, is_sqlite, database = settings.database_url.partition("sqlite+aiosqlite:///")
    if is_sqlite and not Path(database).is_file():
        raise CannotStart(reason=f"there is no database {database}; is the path right?")
    _, is_folder, blocks = settings.blocks_url.partition("file:")
    if is_folder and not Path(blocks).is_dir():
        raise CannotStart(reason=f"there is no folder of blocks {blocks}; is the path right?")
