"""Recording a batch: the one transaction that makes live, pins, and moves the offset.

Only what this committed is acknowledged. The buffers of the batch are kept until then, so
whatever changed under it (a block reaped or collected, another process first with the same
bytes) is answered by placing again and recording again.

A block that became live here may be the twin of lost ones: then all files that refer to those
are healed behind the commit.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Final

from sqlalchemy.exc import IntegrityError

from filestore.blocks.port import Buffer
from filestore.errors import DatabaseUnavailable, UploadTakenOver
from filestore.failpoints import reached
from filestore.meta import blocks, contents, uploads
from filestore.meta.blocks import StoredBlock
from filestore.meta.database import Database, Tx, violates
from filestore.meta.healing import find_lost, heal
from filestore.meta.uploads import Upload
from filestore.transfer.placing import Placed, Placement, Placer

_ATTEMPTS: Final = 20
"""Tries of one batch. Each failure means that another process changed one of its blocks
between two statements; twenty in a row mean that something is broken."""

_HEAL_BATCHES: Final = 4
"""Transactions that one upload spends on healing one lost block: 2,000 references, some 50 ms.
A block that more refer to is healed by scrub and fsck; readers use its twin at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """A reference about to be written: where in the file, which block, and its bytes."""

    offset: int
    hash: bytes
    data: Buffer
    provisional: bool = False

    @property
    def size(self) -> int:
        return memoryview(self.data).nbytes

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in order. What is recorded already where they lie is a tail, and goes.

    ``offset`` is the upload's durable offset before the batch, ``new_offset`` after it: the
    same for rows that are only staged. Of a staged body the first block may lie apart from
    the others, and a tail may lie beyond the offset.
    """

    rows: Sequence[Row]
    offset: int
    new_offset: int
    is_staged: bool = False

    @property
    def start(self) -> int:
        return self.rows[0].offset if self.rows else self.new_offset

    def superseded(self) -> list[tuple[int, int]]:
        """The ranges [start, end) in which recorded rows go."""
        if not self.is_staged:
            return [(self.start, self.offset)] if self.start < self.offset else []
        spans: list[tuple[int, int]] = []
        for row in self.rows:
            if spans and spans[-1][1] == row.offset:
                spans[-1] = (spans[-1][0], row.end)
            else:
                spans.append((row.offset, row.end))
        return spans


Finish = Callable[[Tx, Upload], Awaitable[None]]
"""What else happens in the transaction of the last batch: the upload becomes a version."""


@dataclass(slots=True)
class _Lost:
    """A block of mine that another process was first to make live: mine is condemned."""

    losers: dict[bytes, Placed] = field(default_factory=dict)


class _Changed(Exception):
    """These blocks are no longer what they were when they were placed."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        super().__init__(f"{len(hashes)} blocks")
        self.hashes = hashes


class Recorder:
    """Records batches of uploads that the caller holds under an epoch."""

    def __init__(self, db: Database, placer: Placer, *, expire_s: int) -> None:
        self._db = db
        self._placer = placer
        self._expire_s = expire_s

    async def record(
        self,
        upload: Upload,
        batch: Batch,
        placement: Placement,
        *,
        finish: Finish | None = None,
    ) -> None:
        """Commits the batch; its placement is released whatever happens.

        :raises UploadTakenOver: the epoch or the offset is another's now; nothing is recorded.
        :raises UploadGone: the upload was ended; nothing is recorded.
        :raises StoreUnavailable: a block had to be stored again and could not be. Retryable.
        """
        lost = _Lost()
        try:
            for _ in range(_ATTEMPTS):
                try:
                    act = partial(self._act, upload, batch, placement, lost, finish)
                    healable = await self._db.transact(act, at_once=True)
                    reached("record.committed")
                    break
                except IntegrityError as err:
                    if not violates(err, "uq_blocks_live"):
                        raise
                    await self._yield_to_winners(placement, lost)
                except _Changed as err:
                    await self._place_again(batch, placement, err.hashes)
            else:
                raise DatabaseUnavailable(retry_after_s=5)
        finally:
            self._placer.release(placement)
        await self._heal(healable)

    async def _act(
        self,
        claim: Upload,
        batch: Batch,
        placement: Placement,
        lost: _Lost,
        finish: Finish | None,
        tx: Tx,
    ) -> list[int]:
        """The lost blocks that can be healed once this is committed."""
        upload = await uploads.fence(tx, claim.id, claim.epoch)
        if upload.offset != batch.offset:
            raise UploadTakenOver()
        if finish is not None:
            await finish(tx, upload)
        content_id = claim.building
        gone: list[int] = []
        for start, end in batch.superseded():
            gone += await contents.remove_rows(tx, content_id, start=start, end=end)
        losers = sorted(lost.losers.values(), key=lambda placed: placed.block_id)
        await blocks.enqueue(tx, [*gone, *(at.block_id for at in losers)], "superseded")
        for loser in losers:
            await blocks.condemn_uploading(tx, loser.block_id, loser.generation or "")
        await self._pin(tx, placement.blocks)
        rows = [
            (row.offset, row.size, placement.blocks[row.hash].block_id, row.provisional)
            for row in batch.rows
        ]
        await contents.add_rows(tx, content_id, rows)
        if finish is None:
            await uploads.change(
                tx,
                upload,
                {
                    "byte_offset": batch.new_offset,
                    "expires_at": uploads.slid_expiry(self._expire_s),
                },
            )
        mine = [key for key, at in placement.blocks.items() if at.generation is not None]
        reached("record.pinned")
        return await find_lost(tx, placement.domain, mine) if mine else []

    async def _heal(self, block_ids: Sequence[int]) -> None:
        """The batch is committed, and the answer has to say so, whatever becomes of this."""
        with contextlib.suppress(DatabaseUnavailable):
            for block_id in block_ids:
                await heal(self._db, block_id, max_batches=_HEAL_BATCHES)

    async def _pin(self, tx: Tx, placed: dict[bytes, Placed]) -> None:
        """Pins the known blocks by id, then makes mine live by hash."""
        known = [at.block_id for at in placed.values() if at.generation is None]
        mine = [
            StoredBlock(at.block_id, at.generation, at.stored_size, at.codec)
            for _, at in sorted(placed.items(), key=itemgetter(0))
            if at.generation is not None
        ]
        live = await blocks.pin_live(tx, known) | await blocks.make_live(tx, mine)
        changed = [key for key, at in placed.items() if at.block_id not in live]
        if changed:
            raise _Changed(changed)

    async def _yield_to_winners(self, placement: Placement, lost: _Lost) -> None:
        """Uses the blocks that others made live first; mine are condemned with the batch.

        A winner that is no longer live when we look is none: mine is tried again.
        """
        mine = {key: at for key, at in placement.blocks.items() if at.generation is not None}
        winners = await self._db.read(
            partial(blocks.find_live, domain_id=placement.domain, hashes=list(mine))
        )
        for key, block_id in winners.items():
            if block_id != mine[key].block_id:
                lost.losers[key] = mine[key]
                placement.blocks[key] = Placed(block_id)

    async def _place_again(
        self, batch: Batch, placement: Placement, hashes: Sequence[bytes]
    ) -> None:
        self._placer.forget(placement.domain, hashes)
        wanted = set(hashes)
        data = {row.hash: row.data for row in batch.rows if row.hash in wanted}
        again = await self._placer.place(placement.domain, data)
        placement.blocks.update(again.blocks)
        placement.flights += again.flights
