"""One upload request: receive > cut > hash > deduplicate > store > record.

Three stages run at the same time and hand on bounded work: *read* (:mod:`.reading`) drains
the socket, *cut* (:mod:`.slicing`) makes one hop to a worker thread per buffer, *record*
(:mod:`.committing`) commits batches in order while the blocks of the next are on their way to
the store.

What was received before the client went away, or before another request asked for the upload,
is kept: the bytes behind the last cut are stored as the provisional tail (:mod:`.tail`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from filestore.acts import uploads as acts
from filestore.errors import (
    FilestoreError,
    LengthExceeded,
    QuotaExceeded,
    TailLost,
)
from filestore.meta import uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor, ChunkerParams
from filestore.transfer.budget import Grant
from filestore.transfer.checksums import Checksum as Checksum
from filestore.transfer.committing import Committer
from filestore.transfer.engine import Engine
from filestore.transfer.failing import leaves, let_go_of_frames
from filestore.transfer.placing import Placement
from filestore.transfer.reading import Filled, Reader
from filestore.transfer.recording import Row
from filestore.transfer.slicing import Slicer
from filestore.transfer.source import ByteSource, End
from filestore_chunker import FileHasher


class Completion(StrEnum):
    """What makes the upload complete, as one request sees it."""

    AT_LENGTH = "at-length"
    """Its last byte."""
    WITH_BODY = "with-body"
    """Its last byte; where no length is known, the regular end of the body."""
    LATER = "later"
    """Nothing in this request, also if it brings the last byte."""


@dataclass(slots=True)
class _Work:
    """A batch on its way to being recorded, up to ``end``."""

    rows: list[Row]
    end: int
    placing: "asyncio.Task[Placement] | None" = None
    state: FileHasher | None = None
    grant: Grant | None = None
    is_settling: bool = False
    is_mending: bool = False
    is_last: bool = False


class _Discard(Exception):
    """A body with a checksum broke off: nothing of it can be verified, so nothing is kept."""


class Ingest:
    """Takes the body of one request into an upload that the caller holds under its epoch.

    ``keeps_part`` False: of a body that does not complete the upload, the end is not kept: nobody
    can go on. ``on_recorded`` is told the durable offset after each batch; it must not wait.
    """

    def __init__(
        self,
        engine: Engine,
        actor: Actor,
        upload: Upload,
        source: ByteSource,
        *,
        tail: list[tuple[int, int]],
        params: ChunkerParams,
        checksum: Checksum | None = None,
        completion: Completion = Completion.AT_LENGTH,
        keeps_part: bool = True,
        guard: acts.Guard | None = None,
        on_recorded: Callable[[int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._actor = actor
        self._upload = upload
        self._checksum = checksum
        self._ends_with_body = completion is Completion.WITH_BODY and upload.length is None
        self._goal = None if completion is Completion.LATER else upload.length
        self._keeps_part = keeps_part
        self._on_recorded = on_recorded
        algorithm = None if checksum is None else checksum.algorithm
        self._slicer = Slicer(engine, upload, params, tail, body_algorithm=algorithm)
        self._committer = Committer(
            engine, actor, upload, is_staged=checksum is not None, guard=guard
        )
        top = engine.limits.max_size if upload.length is None else upload.length
        self._reader = Reader(
            source,
            engine.budget,
            limit=top - upload.offset,
            smallest=engine.tuning.buffer_min,
            largest=engine.tuning.buffer_max,
            buffers=engine.buffers,
            room=self._room,
            beside=lambda: self._slicer.unloaded_size,
        )
        self._works: asyncio.Queue[_Work | None] = asyncio.Queue(engine.tuning.batches_in_flight)
        self._held = Grant(engine.budget)
        self._early = Grant(engine.budget)
        self._last: _Work | None = None  # what reaches the length waits for the body's end
        self._reserved = upload.reserved
        self._wants_flush = False
        self.is_done = False
        self.end: End | None = None

    def __repr__(self) -> str:
        return f"<Ingest of {self._upload.id}: {self.offset} of {self._slicer.position} recorded>"

    @property
    def error(self) -> FilestoreError | None:
        """What broke the body off, if it was not its regular end."""
        return self._reader.error

    @property
    def offset(self) -> int:
        """How far the upload is durably recorded."""
        return self._committer.offset

    def leave(self) -> None:
        """Asks to stop reading, save what came, and let go. Returns at once."""
        self._reader.ask()

    async def run(self) -> None:
        """Takes the body; afterwards ``offset``, ``is_done`` and ``end`` say how far it came.

        :raises LengthExceeded: more bytes than welcome; nothing of the last batch is kept.
        :raises ChecksumMismatch: nothing of the body is kept.
        :raises DigestMismatch: the whole file is not what was expected; the upload has failed.
        :raises Verifying: repeat; the last batch is not recorded, all before it is.
        :raises TailLost: stored bytes of the upload are lost; it has failed.
        :raises UploadTakenOver: fenced; what is not in ``offset`` was not kept.
        :raises QuotaExceeded: an upload of unknown length outgrew the group's room.
        :raises StoreUnavailable: what is not in ``offset`` was not kept; the client repeats it.
        """
        budget = self._engine.budget
        budget.register(self, self._could_give_back, self._ask_flush)
        if self._upload.expected and self._slicer.hasher is None:
            self._committer.chase(self._slicer.tail_start)
        try:
            await self._run_stages()
        except _Discard:
            await self._committer.unstage()
        except TailLost:
            await self._committer.fail("tail-lost")
            raise
        except FilestoreError:
            await self._committer.unstage()
            raise
        finally:
            budget.unregister(self)
            self._give_up()

    async def _run_stages(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reader.run())
                group.create_task(self._cut_all())
                group.create_task(self._record_all())
        except BaseExceptionGroup as errors:
            found = leaves(errors)
            let_go_of_frames(errors, *found)
            ours = [error for error in found if isinstance(error, FilestoreError | _Discard)]
            raise (ours or found)[0] from None

    async def _cut_all(self) -> None:
        end: End | None = None
        while end is None:
            filled = await self._reader.queue.get()
            end = filled.end
            try:
                await self._take(filled)
            except BaseException:
                filled.release()
                raise
        await self._take_end(end)
        await self._works.put(None)

    def _room(self, handed: int) -> int | None:
        """Bytes behind ``handed`` ones for which the tail is not needed; None: it is in memory.

        The last byte of the upload needs it.
        """
        position = self._upload.offset + handed
        room = self._slicer.room_at(position)
        return room if room is None or self._goal is None else min(room, self._goal - 1 - position)

    async def _take(self, filled: Filled) -> None:
        if filled.size:
            await self._reserve(self._slicer.position + filled.size)
            if filled.beside or self._slicer.has_to_load(filled.size) or self._has_to_stage():
                await self._load(filled)
            rows = await self._slicer.take(filled.data)
            self._held.set(self._slicer.held_size)
            self._engine.budget.touch(self)
            if rows:
                grant, filled.grant = filled.grant or Grant(self._engine.budget), None
                grant.set(self._charged(rows))
                work = _Work(rows, rows[-1].end, grant=grant)
                if work.end == self._goal:
                    self._last = work
                else:
                    await self._submit(work)
        filled.release()
        if self._wants_flush and filled.end is None:
            await self._let_go()

    def _has_to_stage(self) -> bool:
        return self._checksum is not None and self._slicer.unloaded_size > 0

    async def _load(self, filled: Filled) -> None:
        """Reads the tail back. It may have cuts that nobody looked for while memory was short."""
        rows = await self._slicer.load()
        if filled.grant is not None:
            filled.grant.set(filled.grant.size - 2 * filled.beside)
        self._held.set(self._slicer.held_size)
        if rows:
            grant = Grant(self._engine.budget)
            grant.set(self._charged(rows))
            await self._submit(_Work(rows, rows[-1].end, grant=grant, is_mending=True))

    async def _take_end(self, end: End) -> None:
        self.end = end
        if end is End.TOO_LONG:
            top = self._upload.length or self._engine.limits.max_size
            raise LengthExceeded(expected=top, got=top + 1)
        if self._checksum is not None:
            self._verify_body(self._checksum, end)
        position = self._slicer.position
        if position == self._goal or (self._ends_with_body and end is End.BODY):
            await self._load_last()
            last = self._last or _Work([], position)
            last.rows += await self._slicer.finish()
            last.is_last = True
            await self._submit(last)
        elif self._keeps_part:
            rows, start, pending = await self._slicer.flush()
            is_settling = self._checksum is not None
            await self._submit(_Work(rows, position, is_settling=is_settling))
            await self._works.join()
            if pending:
                self._engine.tails.keep(self._upload.id, start, pending)

    def _verify_body(self, checksum: Checksum, end: End) -> None:
        if end is not End.BODY:
            raise _Discard
        checksum.check(self._slicer.body_digest)

    async def _load_last(self) -> None:
        """Makes sure that the tail is in memory for the end of the file."""
        if not self._slicer.unloaded_size:
            return
        if self._goal is None:
            await self._save()  # who waits for memory holds nothing
        grant = await self._engine.budget.take(2 * self._slicer.unloaded_size)
        try:
            await self._load(Filled(bytearray()))
        finally:
            grant.release()

    async def _let_go(self) -> None:
        """Saves the bytes behind the last cut and gives their memory back; unless they are the
        last: the end of the body comes at once."""
        if self._slicer.position != self._goal:
            await self._save()
        self._wants_flush = False
        self._engine.budget.settled(self)

    async def _save(self) -> None:
        rows, _, _ = await self._slicer.flush()
        await self._submit(_Work(rows, self._slicer.position))
        await self._works.join()
        self._slicer.drop()
        self._held.release()

    async def _submit(self, work: _Work) -> None:
        """Begins to place a batch and queues it for recording, in order."""
        if not work.rows and not work.is_last and not work.is_settling:
            return
        if work.rows:
            data = {row.hash: row.data for row in work.rows}
            work.placing = self._engine.placer.begin(str(self._upload.domain_id), data)
        work.state = self._slicer.state_at(work.end)
        try:
            await self._works.put(work)
        except asyncio.CancelledError:
            self._drop(work)
            raise

    def _charged(self, rows: list[Row]) -> int:
        """Bytes of these rows that are not in a buffer which is charged already."""
        return sum(
            row.size
            for row in rows
            if not (isinstance(row.data, memoryview) and self._engine.buffers.has(row.data))
        )

    async def _reserve(self, end: int) -> None:
        """Sets quota aside for an upload of unknown length before its bytes are stored."""
        if self._upload.length is not None or end <= self._reserved:
            return
        step = min(end + self._engine.limits.reserve_step, self._engine.limits.max_size)
        try:
            self._reserved = await self._engine.db.transact(partial(self._reserve_to, step))
        except QuotaExceeded:
            self._reserved = await self._engine.db.transact(partial(self._reserve_to, end))

    async def _reserve_to(self, end: int, tx: Tx) -> int:
        upload = await uploads.fence(tx, self._upload.id, self._upload.epoch)
        return await acts.reserve_on(tx, self._actor, upload, end, self._engine.limits)

    async def _record_all(self) -> None:
        while (work := await self._works.get()) is not None:
            try:
                await self._record(work)
            finally:
                self._drop(work)
            self._works.task_done()

    async def _record(self, work: _Work) -> None:
        placement = Placement(str(self._upload.domain_id), {})
        if work.placing is not None:
            placement = await work.placing
        if work.is_last:
            await self._committer.finish(work.rows, placement, work.end, self._slicer.hasher)
            self.is_done = True
            return
        if work.is_mending:
            await self._committer.mend(work.rows, placement)
        elif work.is_settling:
            await self._committer.settle(work.rows, placement, work.end, work.state)
        else:
            await self._committer.add(work.rows, placement, work.state)
            self._early.set(self._committer.early_size)
        if self._on_recorded is not None:
            self._on_recorded(self.offset)

    def _could_give_back(self) -> int:
        """The bytes behind the last cut can be stored, and what is being read handed on."""
        is_whole = self._slicer.position == self._goal
        return 0 if is_whole else self._held.size + self._reader.held_size

    def _ask_flush(self) -> None:
        self._wants_flush = True
        self._reader.nudge()

    def _give_up(self) -> None:
        """Returns the memory and the placements of what was not recorded."""
        self._held.release()
        self._early.release()
        if self._last is not None:
            self._drop(self._last)
        while not self._reader.queue.empty():
            self._reader.queue.get_nowait().release()
        while not self._works.empty():
            work = self._works.get_nowait()
            if work is not None:
                self._drop(work)

    def _drop(self, work: _Work) -> None:
        """Returns a batch's memory and placement; harmless behind its recording."""
        work.rows.clear()
        if work.grant is not None:
            work.grant.release()
        if work.placing is not None:
            self._engine.placer.give_up(work.placing)
