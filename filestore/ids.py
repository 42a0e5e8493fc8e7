"""Names that are made, never chosen: ids, block generations, access tokens.

Every id is its kind's prefix and 128 random bits, so ids are opaque, cannot be guessed,
and are never reused. A name that a person chooses may not look like an id
(:func:`looks_like_id`), so ``{g}`` in a path can be either.
"""

import hashlib
import re
import secrets
import zlib
from typing import Final, Literal

Kind = Literal[
    "grp", "usr", "tok", "ent", "ver", "cnt", "upl", "prc", "sto", "job", "req", "evt", "whk"
]

KINDS: Final[dict[Kind, str]] = {
    "grp": "group",
    "usr": "user",
    "tok": "token",
    "ent": "entry",
    "ver": "version",
    "cnt": "content",
    "upl": "upload",
    "prc": "process",
    "sto": "store",
    "job": "job",
    "req": "request",
    "evt": "event",
    "whk": "webhook",
}

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, lower case
_ID_DIGITS: Final = 26  # ceil(128 bits / 5 bits)
_ID_SHAPE: Final = re.compile(rf"(?:{'|'.join(KINDS)})_[0-9a-z]{{26}}", re.ASCII)

TOKEN_PREFIX: Final = "fst_"  # noqa: S105  (a prefix, no secret)
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_RANDOM: Final = 32  # 32 base62 digits: 190 bits
_TOKEN_CHECK: Final = 6  # 6 base62 digits hold a CRC-32
_TOKEN_INSIDE: Final = re.compile(r"fst_[0-9A-Za-z]{38,}", re.ASCII)
_TOKEN_SHAPE: Final = re.compile(r"fst_[0-9A-Za-z]{38}", re.ASCII)


def new_id(kind: Kind) -> str:
    """A fresh id such as ``grp_2v9…``: 128 random bits behind its kind."""
    number = secrets.randbits(128)
    digits = [_ALPHABET[(number >> shift) & 31] for shift in range(0, 5 * _ID_DIGITS, 5)]
    return f"{kind}_{''.join(reversed(digits))}"


def is_id(kind: Kind, text: str) -> bool:
    """Whether ``text`` has the shape of an id of ``kind``."""
    return text.startswith(f"{kind}_") and _ID_SHAPE.fullmatch(text) is not None


def looks_like_id(text: str) -> bool:
    """Whether ``text`` could be mistaken for an id, and so must not be a chosen name."""
    return _ID_SHAPE.fullmatch(text.casefold()) is not None


def new_generation() -> str:
    """16 hex digits, 64 random bits: what makes every object key unique for ever."""
    return secrets.token_hex(8)


def new_token() -> str:
    """A fresh access token: ``fst_``, 32 random base62 digits, and 6 that check them.

    The fixed prefix and the checksum let secret scanners find leaked tokens without
    false alarms. Source: the format GitHub introduced for its tokens in 2021.
    """
    body = "".join(secrets.choice(_BASE62) for _ in range(_TOKEN_RANDOM))
    return TOKEN_PREFIX + body + _check_digits(body)


def is_token(text: str) -> bool:
    """Whether ``text`` has the shape and checksum of a token. Says nothing of its rights."""
    if _TOKEN_SHAPE.fullmatch(text) is None:
        return False
    body = text[len(TOKEN_PREFIX) : -_TOKEN_CHECK]
    return secrets.compare_digest(text[-_TOKEN_CHECK:], _check_digits(body))


def hide_tokens(text: str) -> str:
    """``text`` with a mark in the place of each access token; for what people read or keep."""
    return _TOKEN_INSIDE.sub(f"{TOKEN_PREFIX}…", text)


def token_hash(token: str) -> bytes:
    """What is stored of a token: its SHA-256.

    A token carries 190 random bits, so a slow password hash would add cost and no safety.
    """
    return hashlib.sha256(token.encode("ascii")).digest()


def _check_digits(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(_TOKEN_CHECK):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))
