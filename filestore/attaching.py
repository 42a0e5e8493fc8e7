"""From settings to a store that may still be away: opening it, tying it to its database."""

import asyncio
import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from filestore.blocks.backend import Backend
from filestore.blocks.gated import GatedStore
from filestore.blocks.open import guard_store, make_store
from filestore.blocks.retrying import RetryPolicy
from filestore.errors import CannotStart, DatabaseUnavailable, StoreUnavailable
from filestore.meta.database import Database
from filestore.meta.instance import Instance, has_live_blocks
from filestore.meta.processes import end_process, insert_process, living_processes
from filestore.settings import Settings

ATTACH_S: Final = 5.0
"""How long to wait before a store that did not answer at the start is tried again."""

_log: Final = structlog.get_logger("filestore.app")


async def join(stack: contextlib.AsyncExitStack, db: Database) -> str:
    """The id of this process among those that work on the database; ``stack`` says good-bye.

    Without the good-bye the others wait for the silence, so that failing is no harm.
    """
    process_id = await db.transact(
        lambda tx: insert_process(tx, host=socket.gethostname(), pid=os.getpid())
    )

    async def leave() -> None:
        with contextlib.suppress(DatabaseUnavailable):
            await db.transact(lambda tx: end_process(tx, process_id))

    stack.push_async_callback(leave)
    return process_id


def make_backend(stack: contextlib.AsyncExitStack, settings: Settings, process_id: str) -> Backend:
    """The block store that the settings name, not open yet, with bounds and patience.

    ``stack`` closes it. :raises BadSetting: what the settings name is not possible.
    """
    threads = ThreadPoolExecutor(settings.transfer.threads, thread_name_prefix="filestore-store")
    stack.callback(threads.shutdown)
    access, secret = settings.s3.access_key, settings.s3.secret_key
    plain = make_store(
        settings.blocks_url,
        process_id=process_id,
        threads=threads,
        access_key=None if access is None else access.get_secret_value(),
        secret_key=None if secret is None else secret.get_secret_value(),
        connections=settings.blocks.max_puts + settings.blocks.max_gets,
        timeout_s=settings.blocks.request_timeout_s,
        reserve=settings.blocks.free_reserve_bytes,
    )
    stack.push_async_callback(plain.close)
    return guard_store(
        plain,
        max_puts=settings.blocks.max_puts,
        max_gets=settings.blocks.max_gets,
        policy=RetryPolicy(attempts=settings.blocks.retries + 1),
    )


class Attachment:
    """Opens a store and makes sure that it is this database's.

    ``gate`` is the store for everybody else, which refuses until then.
    """

    def __init__(self, db: Database, instance: Instance, store: Backend) -> None:
        self._db = db
        self._store = store
        self.gate = GatedStore(store)
        self._instance = instance
        self._is_done = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Attachment of {self._store!r}, {'done' if self._is_done.is_set() else 'not yet'}>"

    async def wait(self) -> None:
        """Returns when the store is there."""
        await self._is_done.wait()

    async def attempt(self) -> bool:
        """Whether the store is there now.

        :raises CannotStart: it is another database's.
        """
        try:
            await self._store.open()
            await self._tie()
            alive = await self._db.read(living_processes)
            await self._store.sweep(alive.__contains__)
        except StoreUnavailable as err:
            store = str(self._store)
            _log.error("store.unreachable", store=store, reason=str(err), again_in_s=ATTACH_S)
            return False
        self.gate.admit()
        self._is_done.set()
        return True

    async def keep_trying(self) -> None:
        """Returns when the store is there; at once when it is already.

        :raises CannotStart: it came up, and is another database's.
        """
        if self._is_done.is_set():
            return
        is_there = False
        while not is_there:
            await asyncio.sleep(ATTACH_S)
            is_there = await self.attempt()
        _log.info("store.reached", store=str(self._store))

    async def _tie(self) -> None:
        """Makes sure that store and database belong together.

        :raises CannotStart: the store carries another database's mark, or none where it must
            hold blocks: an unmounted disk, or the wrong folder or bucket.
        """
        store, instance = self._store, self._instance
        mark = await store.read_identity()
        if mark is None:
            if await self._db.read(has_live_blocks):
                raise CannotStart(
                    reason=f"the block store {store} carries no mark of a filestore, but the"
                    " database has blocks in it; is it the right one, and mounted?"
                )
            await store.write_identity(instance.store_id, instance.epoch)
        elif mark[0] != instance.store_id:
            raise CannotStart(
                reason=f"the block store {store} belongs to another database ({mark[0]}, this"
                f" one has {instance.store_id})"
            )
