"""Digests of whole files in headers: ``Repr-Digest: sha-256=:…:``.

Source: RFC 9530, section 3 (Repr-Digest); RFC 8941, sections 3.2 and 3.3.5 (dictionaries of byte
sequences). ``blake3`` is not registered there; it is what the service itself knows of a file.
"""

import base64
import re
from typing import Final

from filestore.errors import BadHeader
from filestore.model import ExpectedDigest

HEADER: Final = "Repr-Digest"

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
    found: dict[str, bytes] = {}
    at, more = 0, value is not None
    while more:
        member = _MEMBER.match(value or "", at)
        if member is None:
            raise BadHeader(header=HEADER, reason="it is not a list such as sha-256=:BASE64:")
        if member[1] in _KNOWN:
            found[_KNOWN[member[1]]] = _decode(member[1], member[2])
        at, more = member.end(), member[3] == ","
    if value is not None and not found:
        raise BadHeader(header=HEADER, reason=f"none of {', '.join(_KNOWN)} is in it")
    return ExpectedDigest(**found)


def format_blake3(digest: bytes) -> str:
    """The value of Repr-Digest for a file that hashes to ``digest``."""
    return f"blake3=:{base64.b64encode(digest).decode('ascii')}:"


def _decode(algorithm: str, encoded: str) -> bytes:
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError as err:
        raise BadHeader(header=HEADER, reason=f"{algorithm} is not base64") from err
    if len(digest) != _SIZE:
        raise BadHeader(header=HEADER, reason=f"{algorithm} has not {_SIZE} bytes")
    return digest
