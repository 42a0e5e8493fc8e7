"""What a row of the table is made of: requests, and what must be true of their answers."""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

BODY_TYPE: Final = "application/offset+octet-stream"
DATE: Final = re.compile(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT")
"""IMF-fixdate, as tus asks for it. Source: RFC 9110, section 5.6.7."""

UPLOAD: Final = "{upload}"
COLLECTION: Final = "{collection}"
UNKNOWN: Final = "/api/v1/uploads/upl_" + "0" * 26

Value = str | re.Pattern[str] | None
"""What a header must be: exactly this, like this, or not there."""

Fields = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Step:
    """One request and its answer. ``chunks``: the body is sent chunked, in these pieces.

    What a creation gave is ``{upload}`` in the steps behind it, and ``{NAME}`` if it is to be
    saved under a name; ``{url:NAME}`` is its absolute address, ``{origin}`` that of the service.
    """

    method: str
    target: str
    status: int
    headers: Sequence[tuple[str, str | bytes]] = ()
    body: bytes | None = None
    chunks: Sequence[bytes] | None = None
    has: Mapping[str, Value] = field(default_factory=dict)
    code: str | None = None
    version: str | None = "1.0.0"
    by: str | None = "token"
    save: str = ""


@dataclass(frozen=True)
class Row:
    """One check of the protocol. ``file`` and ``content``: what must be there at the end."""

    id: str
    title: str
    steps: Sequence[Step]
    file: str = ""
    content: bytes | None = None

    @property
    def name(self) -> str:
        return f"{self.id}-{self.title.replace(' ', '-')}"


def row(id: str, title: str, *steps: Step, file: str = "", content: bytes | None = None) -> Row:
    return Row(id, title, steps, file, content)


def post(status: int, fields: Fields | None = None, **more: object) -> Step:
    """A creation; ``more`` are fields of :class:`Step`."""
    return _step("POST", COLLECTION, status, fields, more)


def begin(status: int, length: int, body: bytes | None, fields: Fields | None = None) -> Step:
    """A creation with upload."""
    headers = {"Upload-Length": str(length), "Content-Type": BODY_TYPE, **(fields or {})}
    return _step("POST", COLLECTION, status, headers, {"body": body})


def patch(status: int, offset: object, body: bytes | None = b"", **more: object) -> Step:
    """A PATCH; ``fields`` among ``more`` replaces or adds headers, None takes one away."""
    fields = {"Upload-Offset": str(offset), "Content-Type": BODY_TYPE}
    given = more.pop("fields", {})
    assert isinstance(given, dict)
    merged = {name: value for name, value in (fields | given).items() if value is not None}
    if "chunks" not in more:
        more["body"] = body
    return _step("PATCH", UPLOAD, status, merged, more)


def head(status: int, target: str = UPLOAD, **more: object) -> Step:
    return _step("HEAD", target, status, None, more)


def at(offset: int) -> Step:
    """HEAD says that the upload stands at ``offset``."""
    return head(200, has={"upload-offset": str(offset)})


def delete(status: int, target: str = UPLOAD, **more: object) -> Step:
    return _step("DELETE", target, status, None, more)


def options(target: str = COLLECTION, **more: object) -> Step:
    return _step("OPTIONS", target, 204, None, {"by": None, "version": None, **more})


def other(
    method: str, target: str, status: int, fields: Fields | None = None, **more: object
) -> Step:
    return _step(method, target, status, fields, more)


def _step(
    method: str, target: str, status: int, fields: Fields | None, more: dict[str, object]
) -> Step:
    return Step(method, target, status, list((fields or {}).items()), **more)  # type: ignore[arg-type]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def named(name: str, **more: bytes) -> dict[str, str]:
    """Upload-Metadata with a file name, and maybe more."""
    pairs = {"filename": name.encode(), **more}
    return {"Upload-Metadata": ",".join(f"{key} {b64(value)}" for key, value in pairs.items())}


def partial(name: str, content: bytes) -> list[Step]:
    """A whole partial upload with these bytes, which is called ``name``."""
    fields = {"Upload-Concat": "partial", "Content-Type": BODY_TYPE, **length(len(content))}
    return [post(201, fields, body=content, save=name)]


def final(status: int, concat: str, fields: Fields | None = None, **more: object) -> Step:
    """A creation of a final upload; ``concat`` is what stands behind ``final;``."""
    return _step(
        "POST", COLLECTION, status, {"Upload-Concat": f"final;{concat}", **(fields or {})}, more
    )


def length(size: int, **fields: str) -> dict[str, str]:
    return {"Upload-Length": str(size), **fields}


def checksum(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    """Upload-Checksum of ``data``."""
    return {"Upload-Checksum": f"{algorithm} {b64(digest(data, algorithm))}"}


def digest(data: bytes, algorithm: str) -> bytes:
    """By other means than the service's."""
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return blake3(data).digest() if algorithm == "blake3" else hashlib.new(algorithm, data).digest()


HELLO = b"hello world"

DEFERRED = {"Upload-Defer-Length": "1"}

NOT_NUMBERS = (
    *("-1", "+5", "5.0", "1_000", "0x10", "five", "1e3", "9223372036854775808", "5, 5", "5;"),
    *("٣".encode(), b"\xff"),
)
"""What some reader of numbers takes and tus does not."""

GOOD_METADATA = (
    *("is_confidential", "k1 YQ==,k2", "k1 ,k2 YQ==", "binary /wD+", "nonlatin c8WCb8WEY2U="),
    "relativePath bnVsbA==,type dGV4dC9wbGFpbg==",
)
