"""Acts on partial and final uploads. Source: tus 1.0.0, Concatenation.

A partial upload appears nowhere in the tree. Whole, it stays open: it keeps its reservation and
its references until a final one needs them, and expires like any other. A final one takes over
the reservations of its parts in the transaction that begins it; what a final before has taken
is reserved anew, for each file is charged for all its bytes. A final one that ends without a file
gives back to its parts what it took, and parts end with the file that took them over: what they
hold in the store is always charged to somebody.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.engine import Row

from filestore.acts.beginning import New, Wish, named, open_door, row_of
from filestore.acts.booking import book_taken_over
from filestore.acts.uploads import Limits, Request, reserve_exactly, too_large
from filestore.errors import BadHeader, FilestoreError, NotFound, TooMany
from filestore.meta import accounts, contents, uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import Actor, ChunkerParams, UploadPart
from filestore.quota.admission import Verdict
from filestore.quota.refusal import refusal_of

MAX_PARTS: Final = 1000
"""Partial uploads in one final one, each counted as often as it is named."""

HEADER: Final = "Upload-Concat"


async def finish_part(tx: Tx, actor: Actor, upload: Upload, *, size: int, limits: Limits) -> None:
    """A partial upload has all its bytes. It reserves exactly these from now on.

    The upload is locked; all its bytes are recorded or will be by this transaction.
    """
    pool_id = await reserve_exactly(tx, actor, upload, size)
    await contents.settle_rows(tx, upload.building)
    values = {"length": size, "byte_offset": size, "reserved": size, "pool_id": pool_id}
    await uploads.change(tx, upload, {**values, "expires_at": uploads.slid_expiry(limits.expire_s)})


async def begin_final(
    tx: Tx, actor: Actor, request: Request, *, params: ChunkerParams, limits: Limits
) -> Upload:
    """A new final upload of ``request.parts``, with the reservations of these and no bytes yet.

    :raises BadHeader: there is no such partial upload of this user in this group, or it lacks
        bytes, or the length that the client says is another one.
    :raises TooLarge: together they are longer than any file may be.
    :raises QuotaExceeded: the group has no room for what has to be reserved anew; or its kin.
    :raises TooMany: the user has too many final uploads that are not done.
    :raises Conflict: the path cannot hold a file.
    :raises NotFound: the group is gone.
    """
    held = await uploads.lock_all(tx, set(request.parts))
    size = sum(_checked(held.get(part), part, request).offset for part in request.parts)
    if (refused := too_large(size, limits)) is not None:
        raise refused
    if request.length not in (None, size):
        raise BadHeader(header="Upload-Length", reason=f"the parts have {size} bytes together")
    group = await accounts.hold(tx, request.group_id)
    if group is None:
        raise NotFound(what="group")
    await _check_count(tx, request, limits)
    wish = Wish(actor, replace(request, length=size))
    (new,) = await named(tx, request.group_id, [wish])
    if isinstance(new, FilestoreError):
        raise new
    new.account_id = await _admit(tx, group, new, held.values())
    left_over = await uploads.left_over_among(tx, held)
    for part in held.values():
        values: dict[str, Any] = {"expires_at": uploads.slid_expiry(limits.expire_s)}
        if part.reserved or part.id in left_over:
            values |= {"reserved": 0, "taken_by": new.id}
        await uploads.change(tx, part, values)
    (content_id,) = await contents.create_all(tx, [request.domain_id], params)
    row = row_of(new, content_id)
    (upload,) = await uploads.insert_all(tx, [row], expire_s=limits.expire_s, cap_s=limits.cap_s)
    await book_taken_over(tx, actor, upload, held.values())
    return upload


async def _admit(tx: Tx, group: Row[Any], new: New, parts: Iterable[Upload]) -> str:
    """The account for a file, which needs as many bytes more as its parts have not reserved there.

    Asked before much is written; what is posted in the end decides.
    """
    user_id, size = new.wish.request.user_id, new.wish.request.length or 0
    reserved = Counter[str | None]()
    for part in parts:
        reserved[part.pool_id] += part.reserved
    grows, in_pool = size - reserved[None], size - reserved[accounts.POOL_ID]
    door = await open_door(tx, group, {user_id}, grows)
    verdict = door.admit(user_id, grows, int(new.brings_file), in_pool=in_pool)
    if verdict.is_refusal:
        needed = in_pool if verdict is Verdict.NO_POOL else grows
        raise refusal_of(door, verdict, user_id, needed)
    return accounts.POOL_ID if verdict is Verdict.POOL else str(group.id)


async def parts_of(tx: Tx, parts: Sequence[str]) -> list[tuple[int, int]]:
    """(content, size) of each part, in order.

    :raises BadHeader: one of them ended meanwhile.
    """
    found = await uploads.find_all(tx, set(parts))
    listed = []
    for part in parts:
        upload = found.get(part)
        if upload is None or upload.content_id is None or upload.length is None:
            raise part_ended(part)
        listed.append((upload.content_id, upload.length))
    return listed


def part_ended(part: str) -> BadHeader:
    """The error for a part that was whole and is no more."""
    return BadHeader(header=HEADER, reason=f"the partial upload {part} ended meanwhile")


def _checked(upload: Upload | None, named: str, request: Request) -> Upload:
    """The part, if it can be one. Who may not know of an upload is told what all others are."""
    is_mine = (
        upload is not None
        and upload.user_id == request.user_id
        and upload.group_id == request.group_id
    )
    if upload is None or not is_mine or not upload.is_open or upload.is_due:
        raise BadHeader(
            header=HEADER, reason=f"{named} is no upload of yours in this group, or it has ended"
        )
    if upload.part is not UploadPart.PARTIAL or upload.domain_id != request.domain_id:
        raise BadHeader(header=HEADER, reason=f"{named} is no partial upload")
    if not upload.is_whole_part:
        raise BadHeader(header=HEADER, reason=f"{named} does not have all its bytes yet")
    return upload


async def _check_count(tx: Tx, request: Request, limits: Limits) -> None:
    """Parts count already, so a file of many parts must not fail for being one more."""
    if await uploads.count_finals(tx, request.user_id) >= limits.per_user:
        raise TooMany(what="final uploads of one user", limit=limits.per_user, retry_after_s=60)
