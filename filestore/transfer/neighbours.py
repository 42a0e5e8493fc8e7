"""The other server processes: what they want of our holders, and what we want of theirs.

A newcomer writes into the upload's row that the holder of this epoch should let go, and sends a
notice. The holder's process asks its holder, which saves what it has, frees the row and sends a
notice back. Notices only make it fast: both sides also look by themselves.

On SQLite there is one process, and none of this.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, TypeVar

import structlog

from filestore.errors import DatabaseUnavailable
from filestore.meta import uploads
from filestore.meta.database import Database, Tx
from filestore.meta.notices import Listener
from filestore.meta.processes import seems_alive
from filestore.meta.uploads import Upload
from filestore.transfer.holders import Holders, Turn
from filestore.transfer.holding import Seen, Step, next_step

T = TypeVar("T")

LOOK_S: Final = 0.5
"""How often either side looks when it hears nothing: twice this is what a lost notice costs, far
below the bound of waiting (5 s). A process that holds nothing does not look."""

_log: Final = structlog.get_logger("filestore.transfer")


class Neighbours:
    """Takes turns with other processes. ``run`` must be running for others to be heard."""

    def __init__(self, db: Database, process_id: str, holders: Holders) -> None:
        self._db = db
        self._process_id = process_id
        self._holders = holders
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._look_now = asyncio.Event()
        self.listener = Listener(db, self._hear, self._look_now.set)

    def __repr__(self) -> str:
        return f"<Neighbours of {self._process_id}, {len(self._waiting)} uploads waited for>"

    async def claim(
        self, upload_id: str, turn: Turn, act: Callable[[Tx, Upload], Awaitable[T]]
    ) -> T:
        """What ``act`` gives with the locked upload, once no other process holds it, or when
        ``turn`` has waited long enough: then ``act`` has to fence the holder off.

        Cancelled while it waits, it has changed nothing but that the holder was asked.
        """
        with self._awaited(upload_id) as freed:
            while True:
                freed.clear()
                attempt = partial(self._if_free, upload_id, turn, act)
                is_free, answer = await self._db.transact(attempt, at_once=True)
                if is_free:
                    assert answer is not None
                    return answer[0]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, turn.left_s)):
                        await freed.wait()

    async def run(self) -> None:
        """Hears what others want of this process, until it is cancelled."""
        if self._db.is_sqlite:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.listener.run())
            tasks.create_task(self._keep_looking())

    async def look(self) -> None:
        """Asks the holders here that others have asked for.

        :raises DatabaseUnavailable: no answer.
        """
        if self._holders.is_idle:
            return
        for upload_id, epoch in await self._db.read(
            partial(uploads.wanted, holder_id=self._process_id)
        ):
            self._holders.ask(upload_id, epoch)

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):  # wait_for may lose a cancellation (3.11)
                    await self._look_now.wait()
            self._look_now.clear()
            try:
                await self.look()
            except DatabaseUnavailable:
                continue  # it is looked again in a moment
            except Exception:  # a defect, which must not make this process deaf for ever
                _log.exception("neighbours.crashed", again_in_s=LOOK_S)

    async def _if_free(
        self, upload_id: str, turn: Turn, act: Callable[[Tx, Upload], Awaitable[T]], tx: Tx
    ) -> tuple[bool, tuple[T] | None]:
        upload = await uploads.lock(tx, upload_id)
        step = next_step(await self._seen(tx, upload), self._process_id, is_late=not turn.left_s)
        if step is Step.GO:
            return True, (await act(tx, upload),)
        if step is Step.ASK:
            await uploads.ask(tx, upload)
        return False, None

    async def _seen(self, tx: Tx, upload: Upload) -> Seen:
        is_others = upload.is_open and upload.holder_id not in (None, self._process_id)
        is_alive = (
            is_others and not self._db.is_sqlite and await seems_alive(tx, str(upload.holder_id))
        )
        return Seen(upload.epoch, upload.holder_id, upload.wanted_epoch, upload.is_open, is_alive)

    def _hear(self, text: str) -> None:
        kind, _, about = text.partition(" ")
        upload_id, _, epoch = about.partition(" ")
        if kind == uploads.WANTED:
            self._holders.ask(upload_id, int(epoch))
        elif kind == uploads.FREED:
            for event in self._waiting.get(upload_id, ()):
                event.set()

    @contextlib.contextmanager
    def _awaited(self, upload_id: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting[upload_id].add(event)
        try:
            yield event
        finally:
            self._waiting[upload_id].discard(event)
            if not self._waiting[upload_id]:
                del self._waiting[upload_id]
