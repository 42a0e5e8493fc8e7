"""Media types: what a file claims to be, and what a browser may show of it.

Source: RFC 9110, section 8.3.1; RFC 6838, section 4.2 (lengths).
"""

import re
from typing import Final

from filestore.errors import BadHeader

OCTETS: Final = "application/octet-stream"

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,127}"  # noqa: S105  (a pattern, no secret)
_QUOTED: Final = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_MEDIA_TYPE: Final = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*", re.ASCII
)
_MAX_CHARS: Final = 255

_INLINE: Final = frozenset(
    {
        "text/plain",
        *("image/png", "image/jpeg", "image/gif", "image/webp"),
        *("audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/webm", "audio/flac"),
        *("video/mp4", "video/webm", "video/ogg"),
    }
)
"""Types that no browser runs scripts from. Never HTML, SVG, XML or PDF."""


def parse_media_type(header: str, value: str) -> str:
    """``value`` if it is a media type, with its parameters; nothing at all is just bytes.

    :raises BadHeader: something else stands in ``header``.
    """
    value = value.strip(" \t")
    if not value:
        return OCTETS
    if len(value) > _MAX_CHARS or not _MEDIA_TYPE.fullmatch(value):
        raise BadHeader(header=header, reason="it is not a media type such as text/plain")
    return value


def essence(value: str) -> str:
    """A media type without its parameters, in lower case."""
    return value.partition(";")[0].strip(" \t").lower()


def may_be_inline(value: str) -> bool:
    """Whether a browser may show a file of this type instead of saving it."""
    return essence(value) in _INLINE
