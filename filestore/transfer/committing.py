"""The third stage's work: batches become rows, in order; the last one makes the file.

Without a checksum each batch moves the durable offset. With one, batches are *staged*: their
rows pin their blocks beyond the offset, and either one transaction moves the offset over all
of them or they are removed. The first block may begin before the offset, where the
acknowledged tail stands; it waits in memory for that transaction. It is one block at most.
"""

import asyncio
import contextlib
from functools import partial

from filestore.acts import uploads as acts
from filestore.acts.concatenating import finish_part
from filestore.errors import DigestMismatch, UploadGone, UploadTakenOver, Verifying
from filestore.failpoints import reached
from filestore.meta import blocks, contents, uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor, UploadPart, UploadState
from filestore.transfer.digests import Chase
from filestore.transfer.engine import Engine
from filestore.transfer.placing import Placement
from filestore.transfer.recording import Batch, Finish, Row
from filestore_chunker import FileHasher


class Committer:
    """Records what one request brings. ``offset`` is how far the upload is durable."""

    def __init__(
        self,
        engine: Engine,
        actor: Actor,
        upload: Upload,
        *,
        is_staged: bool,
        guard: acts.Guard | None = None,
    ) -> None:
        self._engine = engine
        self._actor = actor
        self._upload = upload
        self._is_staged = is_staged
        self._guard = guard
        self._early: list[tuple[Row, Placement]] = []
        self.offset = upload.offset

    def __repr__(self) -> str:
        return f"<Committer of {self._upload.id} at {self.offset}>"

    @property
    def early_size(self) -> int:
        """Bytes that wait in memory for the transaction that settles what is staged."""
        return sum(row.size for row, _ in self._early)

    async def add(self, rows: list[Row], placement: Placement, state: FileHasher | None) -> None:
        """Records a batch, or stages it. ``state`` is the file's digest at its end, if known."""
        if not self._is_staged:
            await self._commit(rows, placement, rows[-1].end)
            self._keep(state)
            final = [row.end for row in rows if not row.provisional]
            self._engine.digests.advance(self._upload.id, max(final, default=0))
            return
        early = [row for row in rows if row.offset < self.offset]
        if early:
            self._early += [(row, placement) for row in early]
            rows = rows[len(early) :]
        batch = Batch(rows, self.offset, self.offset, is_staged=True)
        await self._engine.recorder.record(self._upload, batch, _part(placement, rows))

    async def mend(self, rows: list[Row], placement: Placement) -> None:
        """Records rows instead of the acknowledged tail, which they have the bytes of. They are
        not staged: the offset stays where it is."""
        batch = Batch(rows, self.offset, self.offset)
        await self._engine.recorder.record(self._upload, batch, placement)

    async def settle(
        self, rows: list[Row], placement: Placement, end: int, state: FileHasher | None
    ) -> None:
        """Moves the offset over everything staged: the checksum was right."""
        await self._commit(*self._with_early(rows, placement), end)
        self._keep(state)

    async def finish(
        self, rows: list[Row], placement: Placement, end: int, hasher: FileHasher | None
    ) -> None:
        """Records the last batch and completes the upload, in one transaction.

        :raises DigestMismatch: the file is not what was expected; the upload has failed.
        :raises Verifying: the digest is still being computed; nothing of the batch is recorded.
        """
        try:
            digest = await self._verified(rows, end, hasher)
        except BaseException:
            self._engine.placer.release(placement)
            raise
        complete = partial(self._complete, end, digest)
        await self._commit(*self._with_early(rows, placement), end, complete)
        reached("complete.committed")
        self._engine.digests.forget(self._upload.id)
        self._engine.tails.drop(self._upload.id)

    async def unstage(self) -> None:
        """Removes what is staged; who took the upload over has done so already."""
        self._early = []
        if self._is_staged:
            with contextlib.suppress(UploadTakenOver, UploadGone):
                await self._engine.db.transact(self._remove_staged)

    async def fail(self, reason: str) -> None:
        """Ends the upload for good: nothing appears, the reservation is released."""

        async def act(tx: Tx) -> None:
            upload = await uploads.fence(tx, self._upload.id, self._upload.epoch)
            await acts.end(tx, self._actor, upload, UploadState.FAILED, failure=reason)

        await self._engine.db.transact(act)
        self._engine.digests.forget(self._upload.id)

    def chase(self, goal: int) -> Chase:
        """The task that hashes what is stored, for a digest whose state was lost."""
        stored = partial(self._engine.hashing.stored, self._upload.building)
        begin = partial(
            Chase,
            stored,
            self._engine.workers,
            with_sha256=self._upload.expected.sha256 is not None,
            goal=goal,
        )
        return self._engine.digests.chase(self._upload.id, begin)

    async def _commit(
        self, rows: list[Row], placement: Placement, end: int, finish: Finish | None = None
    ) -> None:
        batch = Batch(rows, self.offset, end, is_staged=self._is_staged)
        await self._engine.recorder.record(self._upload, batch, placement, finish=finish)
        self.offset = end

    async def _complete(self, size: int, blake3: bytes | None, tx: Tx, upload: Upload) -> None:
        if self._guard is not None:
            await self._guard(tx)
        if upload.part is UploadPart.PARTIAL:
            limits = self._engine.limits
            await finish_part(tx, self._actor, upload, size=size, limits=limits)
            return
        await acts.complete(tx, self._actor, upload, size=size, blake3=blake3)

    async def _remove_staged(self, tx: Tx) -> None:
        upload = await uploads.fence(tx, self._upload.id, self._upload.epoch)
        gone = await contents.remove_rows(tx, upload.building, start=upload.offset)
        await blocks.enqueue(tx, gone, "unstaged")

    def _with_early(self, rows: list[Row], placement: Placement) -> tuple[list[Row], Placement]:
        for row, placed in self._early:
            placement.blocks.setdefault(row.hash, placed.blocks[row.hash])
        rows = [row for row, _ in self._early] + rows
        return rows, placement

    def _keep(self, state: FileHasher | None) -> None:
        if state is not None:
            self._engine.digests.keep(self._upload.id, state)

    async def _verified(self, rows: list[Row], end: int, hasher: FileHasher | None) -> bytes | None:
        """The file's BLAKE3 if it is known by now; checked if a digest is expected."""
        expected = self._upload.expected
        if hasher is None and expected:
            hasher = await self._caught_up(rows, end)
        if hasher is None:
            return None
        for algorithm, wanted, got in (
            ("blake3", expected.blake3, hasher.digest()),
            ("sha256", expected.sha256, hasher.sha256()),
        ):
            if wanted is not None and wanted != got:
                await self.fail("digest-mismatch")
                raise DigestMismatch(
                    algorithm=algorithm, expected=wanted.hex(), got=(got or b"").hex()
                )
        return hasher.digest()

    async def _caught_up(self, rows: list[Row], end: int) -> FileHasher:
        """Hashes what is stored, then what is still in memory: nothing of it is recorded yet.

        What is acknowledged is waited for within a bound. What is staged came with this
        request and has to be hashed in it: repeated, it would be staged anew.
        """
        early = [row for row, _ in self._early]
        last = rows[0].offset if rows else end
        start = early[0].offset if early else min(last, self.offset)
        try:
            async with asyncio.timeout(self._engine.tuning.verify_wait_s):
                state = await self.chase(start).reach(start)
        except TimeoutError as err:
            raise Verifying(retry_after_s=5) from err
        await self._update(state, early)
        async for piece in self._engine.hashing.stored(self._upload.building, state.size, last):
            await self._engine.workers.run(partial(state.update, piece))
        await self._update(state, rows)
        return state

    async def _update(self, state: FileHasher, rows: list[Row]) -> None:
        for row in rows:
            await self._engine.workers.run(partial(state.update, row.data))


def _part(placement: Placement, rows: list[Row]) -> Placement:
    """The part of a placement that ``rows`` use; it takes the flights with it."""
    hashes = {row.hash for row in rows}
    flights, placement.flights = placement.flights, []
    placed = {key: at for key, at in placement.blocks.items() if key in hashes}
    return Placement(placement.domain, placed, flights)
