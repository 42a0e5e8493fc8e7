"""What the OpenAPI document says about headers and refusals, once each; routes name them.

Source: tus 1.0.0 (the Upload- and Tus- headers); RFC 9110, sections 8 and 13 to 15; RFC 9530.
"""

from dataclasses import dataclass
from typing import Any, Final

from filestore.errors import CATALOG
from filestore.transfer.checksums import ALGORITHMS


@dataclass(frozen=True, slots=True)
class Header:
    """One header of requests or answers: what it says, and the schema of its value."""

    description: str
    schema: dict[str, Any]

    def as_parameter(self, name: str, *, required: bool) -> dict[str, Any]:
        """As a parameter of an operation."""
        return {
            "name": name,
            "in": "header",
            "required": required,
            "description": self.description,
            "schema": self.schema,
        }

    def as_answer(self) -> dict[str, Any]:
        """As a header of a response."""
        return {"description": self.description, "schema": self.schema}


_TEXT: Final[dict[str, Any]] = {"type": "string"}
_BYTES: Final[dict[str, Any]] = {"type": "integer", "format": "int64", "minimum": 0}

HEADERS: Final[dict[str, Header]] = {
    "Tus-Resumable": Header("The version of tus.", {"const": "1.0.0"}),
    "Tus-Version": Header("The versions of tus that are spoken.", _TEXT),
    "Tus-Extension": Header("The extensions of tus that are spoken.", _TEXT),
    "Tus-Max-Size": Header("Bytes of the largest upload.", _BYTES),
    "Tus-Checksum-Algorithm": Header("Algorithms for Upload-Checksum.", _TEXT),
    "Upload-Length": Header(
        "Bytes of the whole upload. At creation either it or Upload-Defer-Length.", _BYTES
    ),
    "Upload-Defer-Length": Header("1: the length is said later.", {"const": "1"}),
    "Upload-Offset": Header("Bytes that are stored, or where the body begins.", _BYTES),
    "Upload-Expires": Header("Until when an upload can go on without progress.", _TEXT),
    "Upload-Metadata": Header(
        "Pairs of a key and a value in base64, with commas between. Read are `filename` (else"
        " `name`; without both the upload's id is the name), `path` (the folder, made when"
        " missing), `filetype` (a media type; without it the ending of the name tells), and"
        " `blake3` or `sha256` (the expected digest of the whole file, 64 hexadecimal digits)."
        " Other keys are kept and given back.",
        _TEXT,
    ),
    "Upload-Draft-Interop-Version": Header(
        "The version of the IETF draft on resumable uploads that is spoken: 6 or 8. With another"
        " one, or none, the fields of the draft are ignored.",
        {"enum": ["6", "8"]},
    ),
    "Upload-Complete": Header(
        "IETF: `?1`: this is the rest of the file; `?0`: more follows. In an answer `?1`: it is"
        " that of the file; `?0`: the upload can go on.",
        {"enum": ["?0", "?1"]},
    ),
    "Upload-Limit": Header(
        "IETF: the largest size in bytes and for how many seconds an upload can go on.", _TEXT
    ),
    "Content-Digest": Header(
        "`sha-256` of the body of this request, as a byte sequence; a body that does not have it"
        " is discarded (400).",
        _TEXT,
    ),
    "Upload-Checksum": Header(
        f"One of {', '.join(f'`{name}`' for name in ALGORITHMS)}, a space, and the digest of the"
        " body in base64 (`crc32`: that of zlib, 4 bytes, the most significant first); a body that"
        " does not have it is discarded (460).",
        _TEXT,
    ),
    "Upload-Concat": Header(
        "`partial`: a part of a file, which appears nowhere. `final;` and the addresses of partial"
        " uploads of the same user in the same group, absolute or from the root of the host, with"
        " blanks between: the file that they make in this order. At most 1,000, together no longer"
        " than `server.max_header_size` (128 KiB: 1,000 absolute ones of up to 130 characters).",
        _TEXT,
    ),
    "Idempotency-Key": Header(
        "1 to 200 characters. The same creation with the same key of the same user is answered with"
        " the upload that the first one began; another one is refused (422). A final upload"
        " without a key has one made of Upload-Concat and Upload-Metadata.",
        _TEXT,
    ),
    "Location": Header("The address of what was created.", _TEXT),
    "Range": Header("One range of bytes or several: `bytes=0-99,200-`.", _TEXT),
    "If-Range": Header("Range counts only while this ETag or date holds.", _TEXT),
    "If-Match": Header("Only if the file has one of these ETags; `*`: only if it is there.", _TEXT),
    "If-None-Match": Header(
        "Only if the file has none of these ETags; `*`: only if it is not there.", _TEXT
    ),
    "If-Modified-Since": Header("Only if the file changed after this date.", _TEXT),
    "If-Unmodified-Since": Header("Only if the file did not change after this date.", _TEXT),
    "Repr-Digest": Header(
        "`sha-256` or `blake3` of the whole file, as a byte sequence: `sha-256=:…:`. In a request"
        " it is what the file must have (422); answers have the BLAKE3 once it is known.",
        _TEXT,
    ),
    "Want-Repr-Digest": Header(
        "Whatever it says, the answer that a file was written has Repr-Digest with all digests of"
        " it that are known.",
        _TEXT,
    ),
    "ETag": Header("Names the bytes of this version; of equal ones the bytes are equal.", _TEXT),
    "Last-Modified": Header("When this version was made.", _TEXT),
    "Content-Range": Header("Which bytes of how many these are.", _TEXT),
    "Accept-Ranges": Header("`bytes`.", _TEXT),
    "Content-Disposition": Header(
        "The name to save the file under; IETF: with which an upload begins.", _TEXT
    ),
    "Retry-After": Header("Seconds to wait before the same request may succeed.", _BYTES),
}

REFUSALS: Final = {
    400: "BadRequest",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    412: "PreconditionFailed",
    413: "TooLarge",
    415: "UnsupportedMediaType",
    416: "RangeNotSatisfiable",
    422: "DigestMismatch",
    423: "Locked",
    429: "TooMany",
    460: "ChecksumMismatch",
    503: "Unavailable",
}
"""The names of the answers that refuse, by status."""

WRITING: Final = (409, 413, 422, 429, 503)
"""What may refuse bytes, whatever the protocol."""


def describe_refusal(status: int) -> str:
    """The codes that a refusal of this status may have, with their titles."""
    codes = {code: spec for code, spec in CATALOG.items() if spec.status == status}
    return "; ".join(f"{code}: {spec.title['en']}" for code, spec in sorted(codes.items()))
