"""Creations that are asked twice: whose first answer was lost, and that must not count twice.

A key is the user's own. It stands for one upload as long as that is under way or done and still
remembered; one that ended without a file frees its key.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from filestore.acts.places import shown_path
from filestore.errors import IdempotencyMismatch, Json
from filestore.meta.uploads import Upload
from filestore.model import UploadPart

if TYPE_CHECKING:
    from filestore.acts.uploads import Request

_IMPLIED: Final = "final:"


def client_key(given: str) -> str:
    """The key of a creation that names it itself."""
    return f"key:{given}"


def final_key(group_id: str, raw_concat: str, raw_metadata: str | None) -> str:
    """The key of a final upload that names none: the same parts in the same order, with the same
    metadata, in the same group, are the same file.

    Clients of tus repeat such a request as it was. Who wants the file a second time says another
    ``Idempotency-Key``, or has removed the first (:func:`is_implied`).
    """
    told = "\0".join((group_id, raw_concat, raw_metadata or ""))
    return f"{_IMPLIED}{sha256(told.encode()).hexdigest()}"


def is_implied(key: str) -> bool:
    """Whether the client did not say that it repeats a request. Then a file that was removed is
    no answer: clients that find whole parts make the same request when they upload it again.
    """
    return key.startswith(_IMPLIED)


def check_same(found: Upload, request: "Request") -> None:
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
