"""Uploads as the protocols see them: begin, append, ask, end; one session for all of them."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from sqlalchemy.exc import IntegrityError

from filestore.acts import uploads as acts
from filestore.acts.beginning import Wish
from filestore.acts.concatenating import begin_final
from filestore.acts.repeated import begun_before
from filestore.errors import (
    DatabaseUnavailable,
    DigestMismatch,
    FilestoreError,
    LengthMismatch,
    NotFound,
    Stopping,
    UploadGone,
    UploadTakenOver,
)
from filestore.failpoints import reached
from filestore.meta import uploads
from filestore.meta.database import Tx, violates
from filestore.meta.uploads import Upload
from filestore.model import Actor, ChunkerParams, UploadState
from filestore.transfer.admitting import Admitting
from filestore.transfer.claiming import Claim, Claims, Piece, check_announced, present, replayed
from filestore.transfer.concatenating import Concatenation
from filestore.transfer.engine import Engine
from filestore.transfer.holders import Holders, Turn
from filestore.transfer.ingest import Completion, Ingest
from filestore.transfer.neighbours import Neighbours
from filestore.transfer.source import ByteSource, End

_KEY_ATTEMPTS: Final = 3
"""Tries of a creation with a key: the second finds what was first, the third what came behind
one that has ended meanwhile."""


class Transfers:
    """The uploads of this process. Who may do what has been decided by the caller."""

    def __init__(self, engine: Engine, params: ChunkerParams) -> None:
        self._engine = engine
        self._params = params
        self._claims = Claims(engine, params)
        self._admitting = Admitting(engine.db, params, engine.limits)
        self._holders = Holders(engine.tuning.lock_wait_s)
        self.neighbours = Neighbours(engine.db, engine.process_id, self._holders)
        self._is_stopping = False

    async def begin(self, actor: Actor, request: acts.Request) -> Upload:
        """A new upload with its reservation; one of length 0 that waits for nothing is done when
        this returns.

        :raises TooLarge, QuotaExceeded, TooMany, Conflict: nothing was created.
        :raises DigestMismatch: the empty file is not what was expected; nothing was created.
        """
        wrong = acts.mismatch_of_nothing(request.expected)
        if request.length == 0 and not request.waits and wrong is not None:
            algorithm, wanted, got = wrong
            raise DigestMismatch(algorithm=algorithm, expected=wanted.hex(), got=got.hex())
        upload = await self._begun(request, partial(self._admitting.begin, Wish(actor, request)))
        reached("upload.created")
        return upload

    async def concatenate(self, actor: Actor, request: acts.Request) -> Upload:
        """The final upload of ``request.parts``, done: a file. Asked again, it goes on where it
        stood, or is given as it is. The request's guard is asked where the file appears.

        :raises BadHeader, TooLarge, QuotaExceeded, TooMany, Conflict: nothing was created.
        :raises IdempotencyMismatch: the key began another upload.
        :raises Verifying: repeat; the digest that is expected is still being computed.
        :raises DigestMismatch, TailLost: the upload has failed; the parts are what they were.
        :raises UploadTakenOver: the same request came again and goes on with it.
        :raises Stopping: repeat; what is built so far is kept.
        """
        act = partial(
            begin_final,
            actor=actor,
            request=request,
            params=self._params,
            limits=self._engine.limits,
        )
        upload = await self._begun(request, partial(self._engine.db.transact, act))
        reached("concat.begun")
        if not upload.is_open:
            return upload
        async with self._holders.turn(upload.id) as turn:
            upload = await self._engine.db.transact(partial(self._claims.hold_final, upload.id))
            if not upload.is_open:
                return present(upload)
            turn.epoch = upload.epoch
            concatenation = Concatenation(
                self._engine, actor, upload, request.parts, guard=request.guard
            )
            turn.on_ask(concatenation.leave)
            if self._is_stopping:
                concatenation.leave()
            try:
                await concatenation.run()
            finally:
                await self._claims.let_go(upload)
        if not concatenation.is_done:
            raise Stopping(retry_after_s=2) if self._is_stopping else UploadTakenOver()
        return await self.find(upload.id)

    async def _begun(self, request: acts.Request, begin: Callable[[], Awaitable[Upload]]) -> Upload:
        """What was begun under the request's key already, else what ``begin`` begins now.

        When another request with the same key is first at the same moment, the next look finds
        what that one began; also where that took the room which this one asks for.
        """
        if request.idempotency_key is None:
            return await begin()
        look = partial(begun_before, request=request)
        for _ in range(_KEY_ATTEMPTS):
            found = await self._engine.db.transact(look)
            if found is not None:
                return found
            try:
                return await begin()
            except IntegrityError as err:
                if not violates(err, "uq_uploads_idempotency_key"):
                    raise
            except FilestoreError:
                found = await self._engine.db.transact(look)
                if found is None:
                    raise
                return found
        raise DatabaseUnavailable(retry_after_s=5)

    async def find(self, upload_id: str) -> Upload:
        """The upload as it is recorded; disturbs nobody.

        :raises NotFound: there is no such upload.
        """
        upload = await self._engine.db.read(partial(uploads.find, upload_id=upload_id))
        if upload is None:
            raise NotFound(what="upload")
        return upload

    async def status(self, upload_id: str) -> Upload:
        """The upload with an offset at which the next append will be welcome.

        A request that is appending, here or in another process, saves what it has and ends first.

        :raises UploadGone: it expired, failed, or was terminated.
        """
        async with self._holders.turn(upload_id) as turn:
            upload = await self.find(upload_id)
            if upload.is_due or (upload.is_open and upload.holder_id is not None):
                upload = await self.neighbours.claim(upload_id, turn, self._claims.fence_off)
        return present(upload)

    async def append(self, actor: Actor, upload_id: str, piece: Piece) -> Upload:
        """Takes the bytes; the upload afterwards, done if they were the last.

        :raises FinalUpload: it is put together from others, and takes no bytes.
        :raises OffsetMismatch: they do not begin where the upload stands; nothing is taken.
        :raises LengthExceeded: more bytes than the upload has.
        :raises UploadGone: the upload is over.
        :raises UploadTakenOver: another request went on with it; what came before is kept.
        :raises RequestTimeout: the client was silent; what came before is kept.
        :raises Stopping: the server is; what came before is kept.
        """
        async with self._holders.turn(upload_id) as turn:
            claim = await self._claim(actor, upload_id, piece, turn)
            reached("upload.taken-over")
            if claim.is_over:
                return await replayed(claim.upload, piece)
            try:
                check_announced(claim.upload, piece, self._engine.limits.max_size)
                ingest = self._ingest(actor, claim, piece)
                await self._run(ingest, turn)
            finally:
                await self._claims.let_go(claim.upload)
        self._raise_end(ingest)
        return await self.find(upload_id)

    async def put(
        self,
        actor: Actor,
        request: acts.Request,
        source: ByteSource,
        *,
        guard: acts.Guard | None = None,
    ) -> Upload:
        """A whole file in one request: it appears, or nothing is left behind. ``guard`` is asked
        where it appears, in place of the request's.

        :raises LengthMismatch: the body ended before the length that was said.
        :raises FilestoreError: as for :meth:`append`; the upload is ended.
        """
        upload = await self.begin(actor, request)
        if not upload.is_open:
            return upload
        guard = guard or request.guard
        piece = Piece(0, source, completion=Completion.WITH_BODY, guard=guard)
        ingest = None
        async with self._holders.turn(upload.id) as turn:
            try:
                claim = await self._claim(actor, upload.id, piece, turn)
                ingest = self._ingest(actor, claim, piece, keeps_part=request.length is not None)
                await self._run(ingest, turn)
            finally:
                if ingest is None or not ingest.is_done:
                    await self._end(actor, upload.id)
        self._raise_end(ingest)
        if not ingest.is_done:
            raise LengthMismatch(expected=request.length, got=ingest.offset)
        return await self.find(upload.id)

    async def terminate(self, actor: Actor, upload_id: str) -> None:
        """Ends an open upload and frees its reservation; forgets a finished one, never its file.

        :raises UploadGone: it is over already.
        """
        async with self._holders.turn(upload_id) as turn:
            act = partial(self._claims.terminate, actor)
            was_due = await self.neighbours.claim(upload_id, turn, act)
            reached("upload.terminated")
        self._engine.digests.forget(upload_id)
        self._engine.tails.drop(upload_id)
        if was_due:
            raise UploadGone(state=UploadState.EXPIRED)

    async def close(self) -> None:
        """Ends what is beginning; who waits for it is cancelled."""
        await self._admitting.close()

    async def deactivate(self, actor: Actor, upload_id: str, failure: str) -> None:
        """Ends an open upload as failed: nobody can go on with it. One that is over stays so."""

        async def act(tx: Tx) -> None:
            upload = await uploads.lock(tx, upload_id)
            if upload.is_open:
                await acts.end(tx, actor, upload, UploadState.FAILED, failure=failure)

        async with self._holders.turn(upload_id):
            await self._engine.db.transact(act)
        self._engine.digests.forget(upload_id)
        self._engine.tails.drop(upload_id)

    def stop(self) -> None:
        """Asks every running request to save what it has; they end with ``Stopping``."""
        self._is_stopping = True
        self._holders.ask_all()

    def _ingest(
        self, actor: Actor, claim: Claim, piece: Piece, *, keeps_part: bool = True
    ) -> Ingest:
        return Ingest(
            self._engine,
            actor,
            claim.upload,
            piece.source,
            tail=claim.tail,
            params=claim.params,
            checksum=piece.checksum,
            completion=piece.completion,
            keeps_part=keeps_part,
            guard=piece.guard,
            on_recorded=piece.on_recorded,
        )

    async def _run(self, ingest: Ingest, turn: Turn) -> None:
        turn.on_ask(ingest.leave)
        if self._is_stopping:
            ingest.leave()
        await ingest.run()

    def _raise_end(self, ingest: Ingest) -> None:
        if ingest.is_done:
            return
        if ingest.error is not None:
            raise ingest.error
        if ingest.end is End.ASKED:
            raise Stopping(retry_after_s=2) if self._is_stopping else UploadTakenOver()

    async def _claim(self, actor: Actor, upload_id: str, piece: Piece, turn: Turn) -> Claim:
        """The upload, held by this turn unless it is over."""
        act = partial(self._claims.take_over, actor, piece)
        claim = await self.neighbours.claim(upload_id, turn, act)
        turn.epoch = claim.upload.epoch
        if claim.is_digest_new:
            self._engine.digests.forget(upload_id)  # they may lack the kind that is asked for
        return claim

    async def _end(self, actor: Actor, upload_id: str) -> None:
        """Ends an upload that nobody can go on with, if it is still open."""

        async def act(tx: Tx) -> None:
            upload = await uploads.lock(tx, upload_id)
            if upload.is_open:
                await acts.end(tx, actor, upload, UploadState.TERMINATED)

        await self._engine.db.transact(act)
