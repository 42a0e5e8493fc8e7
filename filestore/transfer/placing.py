"""Getting blocks into the store: find the known, announce the new in rows, put objects.

A block is *placed* when it was live, or when its object is durable and its row says
``uploading``. Only the transaction that records a batch makes it live.

One PUT is in flight per hash and process: whoever comes second with the same bytes shares the
first one's row and object. Nobody waits for another's *recording*, only for the store, so
there are no cycles.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from filestore.blocks.deadline import put_deadline
from filestore.blocks.header import EncodedBlock, encode
from filestore.blocks.port import BlockKey, BlockWriter, Buffer
from filestore.errors import FilestoreError, StoreUnavailable
from filestore.failpoints import reached
from filestore.ids import new_generation
from filestore.meta import blocks
from filestore.meta.blocks import NewBlock
from filestore.meta.database import Database
from filestore.model import Codec
from filestore.transfer.workers import Workers

Sift = Callable[[dict[bytes, int]], Awaitable[dict[bytes, int]]]
"""Gives those of the live blocks (ids by hash) that may be relied on."""


async def rely_on_all(known: dict[bytes, int]) -> dict[bytes, int]:
    """A live block has its object."""
    return known


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a block is. ``generation`` is None if it was found live, else the row is uploading."""

    block_id: int
    generation: str | None = None
    stored_size: int = 0
    codec: Codec = Codec.PLAIN


@dataclass(slots=True)
class _Flight:
    """One PUT under way or done and not yet recorded, and how many batches use it."""

    generation: str
    done: "asyncio.Future[Placed]"
    users: int = 0


@dataclass(slots=True)
class Placement:
    """The blocks of one batch, by hash. Released when the batch is recorded or given up."""

    domain: str
    blocks: dict[bytes, Placed]
    flights: list[tuple[bytes, _Flight]] = field(default_factory=list)


class Placer:
    """Places blocks for all uploads of the process. ``deadline_s`` bounds each PUT. ``sift`` is
    asked which of the known blocks do without one."""

    def __init__(
        self,
        db: Database,
        store: BlockWriter,
        workers: Workers,
        *,
        process_id: str,
        deadline_s: float,
        zstd_level: int,
        sift: Sift = rely_on_all,
    ) -> None:
        self._db = db
        self._store = store
        self._workers = workers
        self._process_id = process_id
        self._deadline_s = deadline_s
        self._level = zstd_level
        self._sift = sift
        self._flights: dict[tuple[str, bytes], _Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Placer with {len(self._flights)} blocks in flight>"

    def begin(self, domain: str, data: dict[bytes, Buffer]) -> "asyncio.Task[Placement]":
        """:meth:`place` as a task, which somebody awaits or :meth:`give_up` ends."""
        task = asyncio.create_task(self.place(domain, data))
        self._own(task)
        return task

    async def place(self, domain: str, data: dict[bytes, Buffer]) -> Placement:
        """Places blocks given by hash. The buffers stay unchanged until this returns or raises.

        Cancelling leaves PUTs that others share under way; rows that nobody records are
        found by the reaper.

        :raises StoreUnavailable: some are placed, some not. Safe to repeat.
        :raises StoreFull: likewise.
        """
        look = partial(blocks.find_live, domain_id=domain, hashes=list(data))
        known = await self._sift(await self._db.read(look))
        placement = Placement(domain, {key: Placed(block_id) for key, block_id in known.items()})
        mine: dict[bytes, _Flight] = {}
        for key in data:
            if key in known:
                continue
            flight = self._flights.get((domain, key))
            if flight is None:
                flight = _Flight(new_generation(), asyncio.get_running_loop().create_future())
                self._flights[domain, key] = mine[key] = flight
            flight.users += 1
            placement.flights.append((key, flight))
        if mine:
            self._own(asyncio.create_task(self._launch(domain, data, mine)))
        try:
            for key, flight in placement.flights:
                placement.blocks[key] = await asyncio.shield(flight.done)
        except BaseException:
            self.release(placement)
            raise
        return placement

    def release(self, placement: Placement) -> None:
        """The batch is recorded or given up; again is harmless."""
        for key, flight in placement.flights:
            flight.users -= 1
            if flight.users == 0 and self._flights.get((placement.domain, key)) is flight:
                del self._flights[placement.domain, key]
        placement.flights = []

    def give_up(self, placing: "asyncio.Task[Placement]") -> None:
        """Nobody will use what this task places."""

        def drop(task: "asyncio.Task[Placement]") -> None:
            if not task.cancelled() and task.exception() is None:
                self.release(task.result())

        placing.cancel()
        placing.add_done_callback(drop)

    def forget(self, domain: str, hashes: Sequence[bytes]) -> None:
        """These rows are gone: whoever comes next stores the block anew."""
        for key in hashes:
            self._flights.pop((domain, key), None)

    async def close(self) -> None:
        """Ends what is under way; rows left behind are the reaper's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _own(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _launch(
        self, domain: str, data: dict[bytes, Buffer], flights: dict[bytes, _Flight]
    ) -> None:
        """Rows first, then objects; each flight ends with its block or with the error."""
        give_up_at = time.monotonic() + self._deadline_s
        try:
            ids = await self._announce(domain, data, flights)
            reached("place.rows")
            await asyncio.gather(
                *(
                    self._put(domain, key, data[key], flights[key], ids[key], give_up_at)
                    for key in flights
                )
            )
        except BaseException as err:
            for key, flight in flights.items():
                self._fail(domain, key, flight, err)
            if not isinstance(err, FilestoreError):
                raise

    async def _announce(
        self, domain: str, data: dict[bytes, Buffer], flights: dict[bytes, _Flight]
    ) -> dict[bytes, int]:
        news = [
            NewBlock(key, memoryview(data[key]).nbytes, flight.generation)
            for key, flight in flights.items()
        ]
        ids = await self._db.transact(
            partial(
                blocks.insert_uploading,
                domain_id=domain,
                process_id=self._process_id,
                news=news,
                deadline_s=self._deadline_s,
            ),
            at_once=True,
        )
        return dict(zip(flights, ids, strict=True))

    async def _put(
        self,
        domain: str,
        key: bytes,
        data: Buffer,
        flight: _Flight,
        block_id: int,
        give_up_at: float,
    ) -> None:
        put_deadline.set(give_up_at)  # gather gave this coroutine a context of its own
        try:
            encoded: EncodedBlock = await self._workers.run(
                partial(encode, data, level=self._level)
            )
            await self._store.put(BlockKey(domain, key, flight.generation), encoded.parts)
            reached("place.object")
        except FilestoreError as err:
            self._fail(domain, key, flight, err)
            return
        placed = Placed(block_id, flight.generation, encoded.stored_size, encoded.codec)
        if not flight.done.done():
            flight.done.set_result(placed)

    def _fail(self, domain: str, key: bytes, flight: _Flight, err: BaseException) -> None:
        if self._flights.get((domain, key)) is flight:
            del self._flights[domain, key]
        if flight.done.done():
            return
        if not isinstance(err, FilestoreError):
            err = StoreUnavailable(reason="storing was interrupted", retry_after_s=5)
        flight.done.set_exception(err)
        with contextlib.suppress(FilestoreError):
            flight.done.result()  # marks it as seen: a flight may have lost all its users
