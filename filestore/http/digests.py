"""Digests in headers: ``sha-256=:…:`` of whole files (Repr-Digest) and bodies (Content-Digest).

Source: RFC 9530, sections 2 to 4; RFC 8941, sections 3.2 and 3.3.5 (dictionaries of byte
sequences). ``blake3`` is not registered there; it is what the service itself knows of a file.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final

from filestore.errors import BadHeader
from filestore.model import ExpectedDigest
from filestore.transfer.checksums import Checksum

HEADER: Final = "Repr-Digest"
CONTENT: Final = "Content-Digest"
WANTED: Final = "Want-Repr-Digest"

_MEMBER: Final = re.compile(
    r"[ \t]*+([a-z*][a-z0-9_.*-]*+)=:([A-Za-z0-9+/]*+={0,2}):[ \t]*+(,|$)", re.ASCII
)
_KNOWN: Final = {"sha-256": "sha256", "blake3": "blake3"}
_SIZE: Final = 32


def parse_expected(value: str | None) -> ExpectedDigest:
    """What the client says the whole file hashes to; nothing without the header.

    :raises BadHeader: not well-formed, or no digest that could be checked: the client would
        take for verified what nobody looked at.
    """
    found = _parse(HEADER, value, tuple(_KNOWN))
    return ExpectedDigest(**{_KNOWN[name]: digest for name, digest in found.items()})


def parse_content(value: str | None) -> Checksum | None:
    """What the client says the body of this request hashes to; None without the header.

    :raises BadHeader: as for :func:`parse_expected`; only sha-256 is checked.
    """
    found = _parse(CONTENT, value, ("sha-256",))
    return Checksum("sha256", found["sha-256"]) if found else None


def format_blake3(digest: bytes) -> str:
    """The value of Repr-Digest for a file that hashes to ``digest``."""
    return _member("blake3", digest)


def format_known(*, blake3: bytes | None, sha256: bytes | None) -> str | None:
    """The value of Repr-Digest with all that is known of a file; None when nothing is."""
    known = {"sha-256": sha256, "blake3": blake3}
    return ", ".join(_member(name, digest) for name, digest in known.items() if digest) or None


def _member(name: str, digest: bytes) -> str:
    return f"{name}=:{base64.b64encode(digest).decode('ascii')}:"


def _parse(header: str, value: str | None, known: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at, more = 0, value is not None
    while more:
        member = _MEMBER.match(value or "", at)
        if member is None:
            raise BadHeader(header=header, reason="it is not a list such as sha-256=:BASE64:")
        if member[1] in known:
            found[member[1]] = _decode(header, member[1], member[2])
        at, more = member.end(), member[3] == ","
    if value is not None and not found:
        raise BadHeader(header=header, reason=f"none of {', '.join(known)} is in it")
    return found


def _decode(header: str, algorithm: str, encoded: str) -> bytes:
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError as err:
        raise BadHeader(header=header, reason=f"{algorithm} is not base64") from err
    if len(digest) != _SIZE:
        raise BadHeader(header=header, reason=f"{algorithm} has not {_SIZE} bytes")
    return digest
