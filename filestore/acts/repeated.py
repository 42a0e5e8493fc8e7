"""Creations that are asked twice: whose first answer was lost, and that must not count twice.

A key is the user's own. It stands for one upload as long as that is under way or done and still
remembered; one that ended without a file frees its key.
"""

from hashlib import sha256
from typing import Final

from filestore.acts.places import living_path, shown_path
from filestore.acts.uploads import Request, expire_if_due
from filestore.errors import IdempotencyMismatch, Json
from filestore.meta import entries, uploads
from filestore.meta.database import Tx
from filestore.meta.uploads import Upload
from filestore.model import UploadPart, UploadState

_IMPLIED: Final = "final:"


def client_key(given: str) -> str:
    """The key of a creation that names it itself."""
    return f"key:{given}"


def final_key(group_id: str, raw_concat: str, raw_metadata: str | None) -> str:
    """The key of a final upload that names none: the same parts in the same order, with the same
    metadata, in the same group, are the same file.

    Clients of tus repeat such a request as it was. Who wants the file a second time says another
    ``Idempotency-Key``, or has removed the first (:func:`begun_before`).
    """
    told = "\0".join((group_id, raw_concat, raw_metadata or ""))
    return f"{_IMPLIED}{sha256(told.encode()).hexdigest()}"


async def begun_before(tx: Tx, request: Request) -> Upload | None:
    """What this user began under the same key and what did not end without a file, its row
    locked; None: nothing.

    :raises IdempotencyMismatch: it was another upload.
    """
    if request.idempotency_key is None:
        return None
    found = await uploads.lock_by_key(tx, request.user_id, request.idempotency_key)
    if found is None:
        return None
    _check_same(found, request)
    if await expire_if_due(tx, found):
        return None
    if _is_implied(request.idempotency_key) and not await _is_worth_repeating(tx, found):
        await uploads.change(tx, found, {"idempotency_key": None})
        return None
    return found


def _is_implied(key: str) -> bool:
    """Whether the client did not say that it repeats a request. Then a file that was removed is
    no answer: clients that find whole parts make the same request when they upload it again.
    """
    return key.startswith(_IMPLIED)


async def _is_worth_repeating(tx: Tx, upload: Upload) -> bool:
    """Whether an upload goes on, or its file is there: neither removed nor in the trash."""
    if upload.state is not UploadState.DONE or upload.version_id is None:
        return True
    found = await entries.find_version(tx, upload.version_id)
    return found is not None and await living_path(tx, found[0].id) is not None


def _check_same(found: Upload, request: Request) -> None:
    """Lets go on what asks for the upload that its key began.

    A creation that left the length open leaves it open again, also when it was said meanwhile.
    A final upload has the length of its parts, whether that is said or not.

    :raises IdempotencyMismatch: something differs; names the first such thing.
    """
    name = found.id if request.name is None else request.name.given
    is_final = request.part is UploadPart.FINAL
    defers = found.is_deferred if is_final else request.length is None
    pairs: tuple[tuple[str, Json, Json], ...] = (
        ("group", request.group_id, found.group_id),
        ("protocol", request.protocol, found.protocol),
        ("Upload-Concat", request.raw_concat, found.raw_concat),
        ("Upload-Metadata", request.raw_metadata, found.raw_metadata),
        ("folder", shown_path(request.folder), found.folder),
        ("name", name, found.name),
        ("Upload-Defer-Length", int(defers), int(found.is_deferred)),
        ("length", found.length if request.length is None else request.length, found.length),
    )
    for field, got, expected in pairs:
        if got != expected:
            raise IdempotencyMismatch(field=field, got=got, expected=expected)
