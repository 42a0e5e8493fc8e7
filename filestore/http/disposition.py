"""The file name in a Content-Disposition that a client sends with an upload.

The name comes out as it was written; whether it is allowed is decided where all names are.
Source: RFC 6266, section 4.1; RFC 8187, section 3.2 (``filename*``).
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from filestore.errors import BadHeader

HEADER: Final = "Content-Disposition"

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105  (a grammar's word)
_QUOTED: Final = r'"((?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*+)"'
_TYPE: Final = re.compile(rf"\s*+({_TOKEN})\s*+(?:;|$)", re.ASCII)
_PARAMETER: Final = re.compile(
    rf"\s*+({_TOKEN})\s*+=\s*+(?:{_QUOTED}|({_TOKEN}))\s*+(;|$)\s*+", re.ASCII
)
_EXTENDED: Final = re.compile(
    r"utf-8'[A-Za-z0-9-]*+'((?:[!#$&+.^_`|~0-9A-Za-z-]|%[0-9A-Fa-f]{2})++)", re.IGNORECASE
)
_PAIR: Final = re.compile(r"\\(.)")


def parse_filename(value: str | None) -> str | None:
    """The name, ``filename*`` before ``filename``; None when the header names none.

    :raises BadHeader: it is not well-formed, or names two files: guessing could overwrite one.
    """
    if value is None:
        return None
    begin = _TYPE.match(value)
    if begin is None:
        raise _bad("it does not begin with a type such as attachment")
    found = _parameters(value, begin.end())
    extended = found.get("filename*")
    if extended is None:
        return found.get("filename")
    return _decode(extended)


def _parameters(value: str, at: int) -> dict[str, str]:
    found: dict[str, str] = {}
    while at < len(value):
        parameter = _PARAMETER.match(value, at)
        if parameter is None:
            raise _bad("its parameters are not NAME=VALUE with semicolons between")
        name = parameter[1].lower()
        if name in found:
            raise _bad(f"{name[:32]} is given more than once")
        found[name] = parameter[3] or _PAIR.sub(r"\1", parameter[2] or "")
        at = parameter.end()
    return found


def _decode(extended: str) -> str:
    match = _EXTENDED.fullmatch(extended)
    if match is None:
        raise _bad("filename* is not UTF-8''NAME, percent-encoded")
    try:
        return unquote_to_bytes(match[1]).decode()
    except UnicodeDecodeError as err:
        raise _bad("filename* is not UTF-8") from err


def _bad(reason: str) -> BadHeader:
    return BadHeader(header=HEADER, reason=reason)
