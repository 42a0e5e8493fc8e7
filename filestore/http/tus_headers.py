"""The headers of tus 1.0.0, read strictly. Pure functions; each refusal names the header.

Python's own readers are too kind: ``int()`` takes ``+5``, ``1_000`` and Arabic digits, and two
readers that differ in what they take disagree about where an upload stands.
Source: tus 1.0.0, the sections named below.
"""

import base64
import re
from collections.abc import Mapping
from typing import Final

from multidict import MultiMapping

from filestore.acts.repeated import client_key
from filestore.errors import BadHeader, TusVersion
from filestore.model import MAX_INT
from filestore.transfer.checksums import ALGORITHMS, Checksum, digest_size

VERSION: Final = "1.0.0"

EXTENSIONS: Final = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "termination",
    "expiration",
    "checksum",
    "concatenation",
)
"""What OPTIONS advertises: exactly what is built."""

BODY_TYPE: Final = "application/offset+octet-stream"

_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_KEY: Final = re.compile(r"[!-+\--~]+", re.ASCII)
_CHECKSUM: Final = re.compile(r"([^ ]+) ([A-Za-z0-9+/]+={0,2})", re.ASCII)

_KEY_OF_REQUEST: Final = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?", re.ASCII)

_MAX_METADATA: Final = 16 * 1024
"""Characters of Upload-Metadata: a path of 4,096 bytes and a name in base64, and as much again."""


def check_version(given: str | None) -> None:
    """Lets go on what speaks tus 1.0.0, exactly. Source: Core protocol, Tus-Resumable.

    :raises TusVersion: another version, or none; nothing may be processed.
    """
    if given != VERSION:
        raise TusVersion(supported=VERSION)


def parse_number(header: str, value: str) -> int:
    """A length or an offset: ASCII digits, at most 2**63 - 1. A header that is missing is empty.

    :raises BadHeader: anything else.
    """
    if not value:
        raise BadHeader(header=header, reason="it is missing or empty")
    if not _NUMBER.fullmatch(value) or int(value) > MAX_INT:
        raise BadHeader(header=header, reason="it is not a whole number in decimal digits")
    return int(value)


def parse_length(headers: Mapping[str, str]) -> int | None:
    """The length of a new upload; None when the client says it later.

    Source: Creation and Creation Defer Length.

    :raises BadHeader: neither header, both, or wrong values.
    """
    length, defer = headers.get("Upload-Length"), headers.get("Upload-Defer-Length")
    if length is not None and defer is not None:
        raise BadHeader(header="Upload-Defer-Length", reason="the length is given, too")
    if length is not None:
        return parse_number("Upload-Length", length)
    if defer is None:
        raise BadHeader(header="Upload-Length", reason="neither it nor Upload-Defer-Length is here")
    if defer != "1":
        raise BadHeader(header="Upload-Defer-Length", reason="only 1 is allowed")
    return None


def parse_key(headers: Mapping[str, str]) -> str | None:
    """The key that makes a creation safe to repeat, as it was sent; None: the client has none.

    Source: draft-ietf-httpapi-idempotency-key-header, section 2; it is not read as a structured
    field, so the quotes that the draft asks for belong to the key.

    :raises BadHeader: not 1 to 200 characters of ASCII that can be seen.
    """
    given = headers.get("Idempotency-Key")
    if given is None:
        return None
    if not _KEY_OF_REQUEST.fullmatch(given):
        raise BadHeader(header="Idempotency-Key", reason="it is not 1 to 200 characters of ASCII")
    return client_key(given)


def parse_metadata(value: str) -> dict[str, bytes]:
    """The pairs of Upload-Metadata; an empty header has none. Source: Creation, Upload-Metadata.

    :raises BadHeader: too long, a key that is empty, repeated or not ASCII, a value that is not
        base64 with its padding.
    """
    if len(value) > _MAX_METADATA:
        raise _bad_metadata(f"it is longer than {_MAX_METADATA} bytes")
    found: dict[str, bytes] = {}
    for pair in value.split(",") if value else ():
        key, _, encoded = pair.partition(" ")
        if not _KEY.fullmatch(key):
            raise _bad_metadata("a key is empty or has characters that are not allowed")
        if key in found:
            raise _bad_metadata(f"the key {key[:64]} is given more than once")
        try:
            found[key] = base64.b64decode(encoded, validate=True)
        except ValueError as err:
            raise _bad_metadata(f"the value of {key[:64]} is not base64") from err
    return found


def metadata_text(found: Mapping[str, bytes], key: str) -> str | None:
    """The value of ``key`` as text; None when it is missing or empty.

    :raises BadHeader: it is not UTF-8.
    """
    try:
        return found[key].decode() or None if key in found else None
    except UnicodeDecodeError as err:
        raise _bad_metadata(f"the value of {key} is not UTF-8") from err


def metadata_digest(found: Mapping[str, bytes], key: str) -> bytes | None:
    """The 32 bytes of the hexadecimal digest under ``key``; None when it is missing.

    :raises BadHeader: it is not 64 hexadecimal digits.
    """
    text = metadata_text(found, key)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text, re.ASCII):
        raise _bad_metadata(f"the value of {key} is not 64 hexadecimal digits")
    return bytes.fromhex(text)


def parse_checksum(headers: MultiMapping[str]) -> Checksum | None:
    """What the body must hash to, if the client says so. Source: Checksum, Upload-Checksum.

    :raises BadHeader: not ``ALGORITHM BASE64``, an unknown algorithm, a digest of another length,
        or one that is announced to come behind the body, where it cannot be read.
    """
    trailers = ",".join(headers.getall("Trailer", [])).lower().split(",")
    if "upload-checksum" in (name.strip() for name in trailers):
        raise BadHeader(header="Trailer", reason="Upload-Checksum must stand before the body")
    value = headers.get("Upload-Checksum")
    if value is None:
        return None
    match = _CHECKSUM.fullmatch(value)
    if match is None:
        raise BadHeader(header="Upload-Checksum", reason="it is not ALGORITHM and a base64 digest")
    algorithm, encoded = match[1], match[2]
    if algorithm not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise BadHeader(header="Upload-Checksum", reason=f"the algorithm is none of {known}")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError as err:
        raise BadHeader(header="Upload-Checksum", reason="the digest is not base64") from err
    if len(digest) != digest_size(algorithm):
        raise BadHeader(header="Upload-Checksum", reason=f"it is no digest of {algorithm}")
    return Checksum(algorithm, digest)


def _bad_metadata(reason: str) -> BadHeader:
    return BadHeader(header="Upload-Metadata", reason=reason)
