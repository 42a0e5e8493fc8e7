"""Acts on running uploads: declare the length, reserve on, complete, end without a file.

Each is what one transaction does, under the upload's row lock. Upload and content change
state together, and the reservation goes with them: what is not ``open`` reserves nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from filestore.acts import tree
from filestore.acts.booking import book_completed, book_ended, book_upload
from filestore.errors import BadRequest, Json, LengthExceeded, TooLarge
from filestore.meta import contents, uploads
from filestore.meta.accounts import POOL_ID, hold
from filestore.meta.database import Tx
from filestore.meta.entries import Temporary
from filestore.meta.log import audit, emit
from filestore.meta.uploads import Upload
from filestore.model import (
    SYSTEM,
    Actor,
    Cause,
    ExpectedDigest,
    Protocol,
    UploadPart,
    UploadState,
)
from filestore.names import Name, parse_name, parse_path
from filestore.quota import ledger
from filestore.quota.refusal import room_of

HASH_OF_NOTHING: Final = {
    "blake3": bytes.fromhex("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    "sha256": bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
}
"""Digests of the empty string. Source: BLAKE3 test vectors; FIPS 180-4."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What uploads may take. Sizes in bytes, times in seconds."""

    max_size: int
    expire_s: int
    cap_s: int
    per_user: int
    per_group: int
    reserve_step: int


Guard = Callable[[Tx], Awaitable[None]]
"""Raises when what the client expects of the path does not hold in this transaction."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. ``name`` None: the upload's id becomes the name.

    ``guard`` is asked in the transaction that begins and in the one that completes. ``waits``:
    reaching its length does not complete the upload; a request that says so does.
    ``parts`` are the partial uploads of a final one, in order.
    Of a partial one name and folder count for nothing. ``idempotency_key`` is made by
    :mod:`filestore.acts.repeated`.
    """

    group_id: str
    domain_id: str
    user_id: str
    protocol: Protocol
    length: int | None
    folder: tree.Path = ()
    name: Name | None = None
    mime: str = "application/octet-stream"
    raw_metadata: str | None = None
    expected: ExpectedDigest = ExpectedDigest()
    guard: Guard | None = None
    waits: bool = False
    part: UploadPart | None = None
    raw_concat: str | None = None
    parts: Sequence[str] = ()
    idempotency_key: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether it is a partial upload, which no file comes of by itself."""
        return self.part is UploadPart.PARTIAL


def mismatch_of_nothing(expected: ExpectedDigest) -> tuple[str, bytes, bytes] | None:
    """(algorithm, expected, got) if an empty file is not what the client expects."""
    for algorithm, got in HASH_OF_NOTHING.items():
        wanted = getattr(expected, algorithm)
        if wanted is not None and wanted != got:
            return algorithm, wanted, got
    return None


def too_large(length: int | None, limits: Limits) -> TooLarge | None:
    """The error for an upload of this length; None: it may be so long."""
    if length is None or length <= limits.max_size:
        return None
    return TooLarge(what="the upload", got=length, limit=limits.max_size)


async def declare_length(tx: Tx, actor: Actor, upload: Upload, length: int, limits: Limits) -> None:
    """Fixes the length of an upload that began without one, and reserves all of it.

    The upload is locked by :func:`uploads.fence`. Saying the same length again is harmless.

    :raises BadRequest: another length was declared, or fewer bytes than have arrived.
    :raises QuotaExceeded: the group has no room; the length stays open.
    """
    if upload.length is not None:
        if upload.length != length:
            raise BadRequest(field="Upload-Length", reason=f"it is {upload.length} already")
        return
    if length < upload.offset:
        raise BadRequest(
            field="Upload-Length", reason=f"{upload.offset} bytes have arrived already"
        )
    if (refused := too_large(length, limits)) is not None:
        raise refused
    pool_id = await reserve_exactly(tx, actor, upload, length)
    await uploads.change(tx, upload, {"length": length, "reserved": length, "pool_id": pool_id})


async def expect(tx: Tx, upload: Upload, expected: ExpectedDigest) -> ExpectedDigest:
    """What the whole file must hash to, now that this is said of a locked, open upload, too.

    :raises BadRequest: another digest of the same kind was said before.
    """
    known = upload.expected
    for name, before, now in (
        ("blake3", known.blake3, expected.blake3),
        ("sha256", known.sha256, expected.sha256),
    ):
        if before is not None and now is not None and before != now:
            raise BadRequest(field=name, reason="another digest of the file was given before")
    merged = ExpectedDigest(known.blake3 or expected.blake3, known.sha256 or expected.sha256)
    if merged != known:
        values = {"expected_blake3": merged.blake3, "expected_sha256": merged.sha256}
        await uploads.change(tx, upload, values)
    return merged


async def reserve_on(tx: Tx, actor: Actor, upload: Upload, end: int, limits: Limits) -> int:
    """Reserves for bytes up to ``end`` of an upload of unknown length; how far it reaches now.

    Goes in steps, so that a stream does not touch the group's row for every batch; a last
    step is as small as it needs to be.

    :raises LengthExceeded: ``end`` is beyond the largest upload.
    :raises QuotaExceeded: not even ``end`` has room.
    """
    if end > limits.max_size:
        raise LengthExceeded(expected=limits.max_size, got=end)
    if end <= upload.reserved:
        return upload.reserved
    pool_id = await reserve_exactly(tx, actor, upload, end)
    await uploads.change(tx, upload, {"reserved": end, "pool_id": pool_id})
    return end


async def complete(
    tx: Tx, actor: Actor, upload: Upload, *, size: int, blake3: bytes | None
) -> None:
    """The upload becomes a version: O(1), and the only moment at which a file appears.

    The upload is locked; all its bytes are recorded or will be by this transaction.
    """
    await ledger.lock(tx, upload.group_id)
    await contents.complete(tx, upload.building, size=size, blake3=blake3)
    placed = await tree.place_version(
        tx,
        upload.group_id,
        (*parse_path(upload.folder), parse_name(upload.name)),
        content_id=upload.building,
        size=size,
        mime=upload.mime,
        author_id=upload.user_id,
        temporary=await _temporary(tx, upload),
    )
    await book_completed(tx, actor, upload, placed, size)
    await uploads.change(
        tx,
        upload,
        {
            "state": UploadState.DONE,
            "length": size,
            "byte_offset": size,
            "reserved": 0,
            "reserved_files": 0,
            "version_id": placed.version_id,
            "holder_id": None,
        },
    )
    await _tell_written(tx, actor, upload, placed, size)


async def _tell_written(
    tx: Tx, actor: Actor, upload: Upload, placed: tree.Placed, size: int
) -> None:
    shown = tree.shown_path(placed.path)
    version: dict[str, Json] = {"path": shown, "version": placed.version_id, "bytes": size}
    await audit(
        tx, actor, "file.write", group_id=upload.group_id, target=shown,
        after={"version": placed.version_id, "bytes": size},
    )  # fmt: skip
    told = {**version, "upload": upload.id}
    await emit(tx, "file.written", told, group_id=upload.group_id)
    if upload.pool_id is not None:
        await emit(tx, "file.temporary", version, group_id=upload.group_id)


async def end(
    tx: Tx, actor: Actor, upload: Upload, state: UploadState, *, failure: str | None = None
) -> None:
    """Ends an open upload without a file: its reservation is released, its content goes.

    The upload is locked and open. The epoch is raised, so whoever still holds it is fenced. Its
    key may begin another one. A final upload gives back to its parts what it took of them.
    """
    parts = await uploads.lock_taken_by(tx, upload.id) if upload.part is UploadPart.FINAL else []
    cause = Cause.EXPIRE if state is UploadState.EXPIRED else Cause.RELEASE
    await book_ended(tx, actor, upload, cause, parts)
    for part in parts:
        given = {"reserved": part.offset, "pool_id": upload.pool_id, "taken_by": None}
        await uploads.change(tx, part, given)
    await contents.abandon(tx, upload.building)
    await uploads.change(
        tx,
        upload,
        {
            "state": state,
            "failure": failure,
            "reserved": 0,
            "reserved_files": 0,
            "epoch": upload.epoch + 1,
            "holder_id": None,
            "idempotency_key": None,
        },
    )
    await audit(
        tx, actor, f"upload.{state}", group_id=upload.group_id, target=upload.id,
        before={"offset": upload.offset, "length": upload.length},
    )  # fmt: skip


async def expire_if_due(tx: Tx, upload: Upload) -> bool:
    """Whether a locked upload's time had run out; then it is ``expired`` now."""
    if upload.is_due:
        await end(tx, SYSTEM, upload, UploadState.EXPIRED)
        return True
    return False


async def reserve_exactly(tx: Tx, actor: Actor, upload: Upload, size: int) -> str | None:
    """Reserves what is missing, or gives back what is too much, whatever the limit is now.

    The pool that holds the reservation from now on, if one does: an upload whose length was not
    known goes there as a whole when what comes would take the group beyond its soft limit.
    """
    grows = size - upload.reserved
    if grows > 0 and upload.pool_id is None and await _overflows(tx, upload, grows):
        await book_upload(tx, actor, upload, Cause.RELEASE, reserved=-upload.reserved)
        upload, grows = replace(upload, pool_id=POOL_ID), size
    cause = Cause.RESERVE if grows > 0 else Cause.RELEASE
    await book_upload(tx, actor, upload, cause, reserved=grows, within_limit=grows > 0)
    return upload.pool_id


async def _overflows(tx: Tx, upload: Upload, grows: int) -> bool:
    group = await hold(tx, upload.group_id)
    if group is None or not room_of(group).overflows:
        return False
    return room_of(group).is_beyond_soft(grows) and await hold(tx, POOL_ID) is not None


async def _temporary(tx: Tx, upload: Upload) -> Temporary | None:
    """How long the file stays, where a pool holds its reservation."""
    if upload.pool_id is None:
        return None
    pool = await hold(tx, upload.pool_id)
    assert pool is not None, "an account that holds a reservation is never removed"
    return Temporary(upload.pool_id, pool.trash_retention_s)
