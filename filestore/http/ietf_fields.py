"""The fields of resumable uploads for HTTP, read strictly. Pure functions.

A structured field that is malformed is as if it were not there: so the draft and RFC 9651 want
it, for a guess at what was meant would be another upload than the client's.

Source: draft-ietf-httpbis-resumable-upload, -05 (interop version 6) and -11 (8); RFC 9651,
sections 3.3 (items) and 4.2 (parsing).
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from multidict import MultiMapping

PARTIAL: Final = "application/partial-upload"
VERSION_FIELD: Final = "Upload-Draft-Interop-Version"

_KEY: Final = r"[a-z*][a-z0-9_.*-]*+"
_BARE: Final = "|".join(
    (
        r"-?[0-9]{1,12}\.[0-9]{1,3}",
        r"@?-?[0-9]{1,15}",
        r'"(?:[ !#-\[\]-~]|\\["\\])*+"',
        r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+",
        r":[A-Za-z0-9+/=]*+:",
        r"\?[01]",
        r'%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"',
    )
)
_PARAMETERS: Final = rf"(?:; *+{_KEY}(?:=(?:{_BARE}))?+)*+ *+"
"""Behind an item. They are read so that one with wrong ones counts as malformed, and ignored."""

_BOOLEAN: Final = re.compile(rf" *+\?([01]){_PARAMETERS}", re.ASCII)
_INTEGER: Final = re.compile(rf" *+(-?[0-9]{{1,15}}){_PARAMETERS}", re.ASCII)


class Interop(IntEnum):
    """The versions of the draft that are spoken; clients and server must speak the same one."""

    V6 = 6
    """-04 and -05: what Apple's URLSession and tus-js-client speak."""
    V8 = 8
    """-09 and later."""


def spoken(headers: MultiMapping[str]) -> Interop | None:
    """The version in which this request speaks; None: it is a request like any other.

    A request of tus is one, whatever else it says.
    """
    version = parse_integer(headers.get(VERSION_FIELD))
    if "Tus-Resumable" in headers or version not in tuple(Interop):
        return None
    return Interop(version)


def parse_boolean(value: str | None) -> bool | None:
    """An item that is a boolean; None when there is none or it is malformed."""
    found = _BOOLEAN.fullmatch(value or "")
    return None if found is None else found[1] == "1"


def parse_integer(value: str | None) -> int | None:
    """An item that is an integer; None when there is none or it is malformed."""
    found = _INTEGER.fullmatch(value or "")
    return None if found is None else int(found[1])


def parse_size(value: str | None) -> int | None:
    """:func:`parse_integer` for offsets and lengths, of which none is negative."""
    found = parse_integer(value)
    return None if found is None or found < 0 else found


def format_boolean(value: bool) -> str:
    return "?1" if value else "?0"


def format_limit(interop: Interop | None, max_size: int, left_s: int) -> str:
    """The value of Upload-Limit; ``left_s``: seconds in which an upload can go on."""
    age = "expires" if interop is Interop.V6 else "max-age"
    limits: Mapping[str, int] = {"max-size": max_size, "min-size": 0, age: max(left_s, 0)}
    return ", ".join(f"{key}={value}" for key, value in limits.items())
