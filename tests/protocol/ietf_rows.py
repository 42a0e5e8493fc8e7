"""What a row of the draft's table is made of: requests, and what must be true of their answers.

``{file}``, ``{path}``, ``{upload}`` and ``{version}`` stand for a name that only this row has, the
address under it, the row's upload, and the version of the draft that is spoken.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PARTIAL: Final = "application/partial-upload"
FILE: Final = "{file}"
PATH: Final = "{path}"
UPLOAD: Final = "{upload}"
COLLECTION: Final = "{collection}"
IANA: Final = "https://iana.org/assignments/http-problem-types#"
LIMIT: Final = re.compile(r"max-size=4194304, min-size=0, (expires|max-age)=[0-9]+")

Value = str | re.Pattern[str] | None
"""What a field must be: exactly this, like this, or not there."""

Fields = Mapping[str, str | bytes | None]


@dataclass(frozen=True)
class Ask:
    """One request and its answer. ``speaks``: the value of the version's field; None: without.

    ``says``: members of the problem document. ``tells``: 104 came, with the upload's address.
    """

    method: str
    target: str
    status: int
    fields: Fields = field(default_factory=dict)
    body: bytes | None = None
    chunks: Sequence[bytes] | None = None
    has: Mapping[str, Value] = field(default_factory=dict)
    type: str | None = None
    says: Mapping[str, object] = field(default_factory=dict)
    tells: bool | None = None
    speaks: str | None = "{version}"
    by: str = "token"


@dataclass(frozen=True)
class Row:
    """One check. ``content``: what ``{file}`` must be at the end; None: there must be none.

    ``leaves``: whether the upload may be running at the end.
    """

    id: str
    title: str
    steps: Sequence[Ask]
    content: bytes | None = None
    leaves: bool = False

    @property
    def name(self) -> str:
        return f"{self.id}-{self.title.replace(' ', '-')}"


def row(
    id: str, title: str, *steps: Ask, content: bytes | None = None, leaves: bool = False
) -> Row:
    return Row(id, title, steps, content, leaves)


def put(status: int, complete: str | None, body: bytes | None = None, **more: object) -> Ask:
    """A creation at the file's path; ``more`` are fields of :class:`Ask`."""
    return _ask("PUT", PATH, status, {"Upload-Complete": complete}, body, more)


def post(status: int, complete: str | None, body: bytes | None = b"", **more: object) -> Ask:
    """A creation in the collection, of a file with the row's name."""
    named = {"Content-Disposition": f'inline; filename="{FILE}"'}
    return _ask("POST", COLLECTION, status, {"Upload-Complete": complete, **named}, body, more)


def patch(
    status: int, offset: object, complete: str | None, body: bytes = b"", **more: object
) -> Ask:
    fields = {"Upload-Complete": complete, "Content-Type": PARTIAL, "Upload-Offset": str(offset)}
    return _ask("PATCH", UPLOAD, status, fields, body, more)


def head(status: int, **has: Value) -> Ask:
    """HEAD of the upload; fields as ``upload_offset="3"``."""
    expected = {name.replace("_", "-"): value for name, value in has.items()}
    return Ask("HEAD", UPLOAD, status, has=expected)


def at(offset: int) -> Ask:
    """The upload stands at ``offset`` and is not complete."""
    return head(204, upload_offset=str(offset), upload_complete="?0")


GONE: Final = head(410, upload_offset=None, upload_complete=None)


def _ask(
    method: str,
    target: str,
    status: int,
    fields: Fields,
    body: bytes | None,
    more: dict[str, object],
) -> Ask:
    given = more.pop("fields", {})
    assert isinstance(given, dict)
    if "chunks" not in more:
        more["body"] = body
    return Ask(method, target, status, {**fields, **given}, **more)  # type: ignore[arg-type]


def length(size: object) -> dict[str, str]:
    return {"Upload-Length": str(size)}


def digest(field_name: str, data: bytes) -> dict[str, str]:
    """``field_name`` with the SHA-256 of ``data``."""
    encoded = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
    return {field_name: f"sha-256=:{encoded}:"}


HELLO: Final = b"hello world"
OPEN: Final[dict[str, Value]] = {"upload-complete": "?0", "upload-limit": LIMIT}
DONE: Final[dict[str, Value]] = {"upload-complete": "?1", "etag": re.compile('".+"')}
INCONSISTENT: Final = IANA + "inconsistent-upload-length"
MISMATCHING: Final = IANA + "mismatching-upload-offset"
