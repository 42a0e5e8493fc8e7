"""Taking hold of an upload in the database: one transaction, after which nobody else writes to it.

The row's lock comes first. Whoever goes on raises the epoch, so that a holder that did not let go
is fenced, and removes what that one had only staged.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from filestore.acts import uploads as acts
from filestore.errors import (
    BadRequest,
    DatabaseUnavailable,
    FinalUpload,
    LengthExceeded,
    OffsetMismatch,
    TooLarge,
    UploadGone,
)
from filestore.meta import blocks, contents, uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor, ChunkerParams, ExpectedDigest, UploadPart, UploadState
from filestore.transfer.checksums import Checksum
from filestore.transfer.engine import Engine
from filestore.transfer.ingest import Completion
from filestore.transfer.source import ByteSource


@dataclass(frozen=True, slots=True)
class Piece:
    """What one request appends: where, the bytes, and what it says of them.

    ``announced`` is the body's Content-Length, ``length`` the upload's if it is said now,
    ``expected`` what the whole file must hash to, if that is. ``guard`` is asked in the
    transaction that completes the upload; ``on_recorded`` is told the durable offset after each
    batch and must not wait.
    """

    offset: int
    source: ByteSource
    announced: int | None = None
    length: int | None = None
    checksum: Checksum | None = None
    completion: Completion = Completion.AT_LENGTH
    expected: ExpectedDigest = ExpectedDigest()
    guard: acts.Guard | None = None
    on_recorded: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """``is_over``: the upload takes no more bytes, and its epoch is what it was. ``is_digest_new``:
    it is expected to have a digest of which nobody knew until now."""

    upload: Upload
    tail: list[tuple[int, int]]
    params: ChunkerParams
    is_over: bool = False
    is_digest_new: bool = False


class Claims:
    """Transactions on one upload each, for :meth:`.Neighbours.claim` or by themselves. ``params``
    cut the uploads that begin from now on."""

    def __init__(self, engine: Engine, params: ChunkerParams) -> None:
        self._engine = engine
        self._params = params

    def __repr__(self) -> str:
        return f"<Claims of {self._engine.process_id}>"

    async def take_over(self, actor: Actor, piece: Piece, tx: Tx, upload: Upload) -> Claim:
        """One transaction: raises the epoch, removes what was staged, reads offset and tail."""
        if upload.part is UploadPart.FINAL:
            raise FinalUpload()
        if upload.state is UploadState.DONE or await acts.expire_if_due(tx, upload):
            return Claim(await uploads.lock(tx, upload.id), [], self._params, is_over=True)
        if not upload.is_open or upload.is_whole_part:
            return Claim(upload, [], self._params, is_over=True)
        if piece.offset != upload.offset:
            raise OffsetMismatch(expected=upload.offset, got=piece.offset)
        await self._raise_epoch(tx, upload, holder_id=self._engine.process_id)
        upload = await uploads.lock(tx, upload.id)
        if piece.length is not None and not _ends_here(upload, piece):
            await acts.declare_length(tx, actor, upload, piece.length, self._engine.limits)
            upload = await uploads.lock(tx, upload.id)
        if piece.length is not None:
            upload = replace(upload, length=piece.length)
        is_new = bool(piece.expected) and piece.expected != upload.expected
        if is_new:
            upload = replace(upload, expected=await acts.expect(tx, upload, piece.expected))
        tail = await contents.provisional_rows(tx, upload.building)
        params = await contents.chunker_params(tx, upload.building)
        return Claim(upload, tail, params, is_digest_new=is_new)

    async def fence_off(self, tx: Tx, upload: Upload) -> Upload:
        """The upload, so that no holder that did not let go can move its offset any more."""
        if not upload.is_open or await acts.expire_if_due(tx, upload):
            return await uploads.lock(tx, upload.id)
        if upload.holder_id is None:
            return upload
        await self._raise_epoch(tx, upload, holder_id=None)
        return await uploads.lock(tx, upload.id)

    async def hold_final(self, upload_id: str, tx: Tx) -> Upload:
        """The final upload under a new epoch, for this process alone to build; or as it ended."""
        upload = await uploads.lock(tx, upload_id)
        if upload.is_open and not await acts.expire_if_due(tx, upload):
            await self._raise_epoch(tx, upload, holder_id=self._engine.process_id)
        return await uploads.lock(tx, upload_id)

    async def terminate(self, actor: Actor, tx: Tx, upload: Upload) -> bool:
        """Whether its time had run out, so that there was nothing to end any more."""
        if upload.state is UploadState.DONE:
            gone = {"state": UploadState.TERMINATED, "idempotency_key": None}
            await uploads.change(tx, upload, gone)
            return False
        if await acts.expire_if_due(tx, upload):
            return True
        await acts.end(tx, actor, present(upload), UploadState.TERMINATED)
        return False

    async def let_go(self, upload: Upload) -> None:
        """Says that nobody holds it. If that fails, the next request raises the epoch instead."""
        act = partial(uploads.let_go, upload_id=upload.id, epoch=upload.epoch)
        with contextlib.suppress(DatabaseUnavailable):
            await self._engine.db.transact(act, at_once=True)

    async def _raise_epoch(self, tx: Tx, upload: Upload, *, holder_id: str | None) -> None:
        staged = await contents.remove_rows(tx, upload.building, start=upload.offset)
        await blocks.enqueue(tx, staged, "unstaged")
        await uploads.change(
            tx, upload, {"epoch": upload.epoch + 1, "holder_id": holder_id, "wanted_epoch": None}
        )


def present(upload: Upload) -> Upload:
    """The upload, if it can be asked about.

    :raises UploadGone: it ended without a file, or was forgotten at its client's wish.
    """
    if upload.state in (UploadState.OPEN, UploadState.DONE):
        return upload
    raise UploadGone(state=upload.state)


def _ends_here(upload: Upload, piece: Piece) -> bool:
    """Whether the length that is said completes the upload as it stands.

    Then the length is not recorded before the transaction that completes it: an upload whose
    offset has reached its length is done, unless its client has yet to say so.
    """
    if piece.completion is Completion.LATER:
        return False
    return upload.length is None and piece.length == upload.offset


def check_announced(upload: Upload, piece: Piece, max_size: int) -> None:
    """Lets a body be read whose announced length the upload has room for.

    :raises LengthExceeded, TooLarge: it has none.
    """
    if piece.announced is None:
        return
    end = upload.offset + piece.announced
    if upload.length is not None and end > upload.length:
        raise LengthExceeded(expected=upload.length, got=end)
    if end > max_size:
        raise TooLarge(what="the upload", got=end, limit=max_size)


async def replayed(upload: Upload, piece: Piece) -> Upload:
    """Answers a request for an upload that is over: a lost final answer is given again."""
    present(upload)
    if piece.offset != upload.offset:
        raise OffsetMismatch(expected=upload.offset, got=piece.offset)
    if piece.length is not None and piece.length != upload.length:
        raise BadRequest(field="Upload-Length", reason=f"it is {upload.length} already")
    if piece.announced or await piece.source.read(1):
        raise LengthExceeded(expected=upload.offset, got=upload.offset + (piece.announced or 1))
    if piece.checksum is not None:
        piece.checksum.check_nothing()
    return upload
