"""Names that people choose: of files and folders, and of groups, users and tokens.

A name is kept as it was given, and compared by its key. What could mislead somebody who reads
it, or a program that splits paths at it, is refused here, once, so nothing behind this module
has to ask again. What is merely unusual (emoji, colons, 200 letters of Korean) is allowed.

Invariants of every :class:`Name`: one segment (no ``/``), ``key`` is NFC and at most 255 bytes
of UTF-8, the text encodes as UTF-8, shows something, and does not reorder what stands beside it.

Source: Unicode TR36 (section 2.10, bidirectional spoofing; section 3.1, UTF-8), TR39 (section 5.4,
invisible characters), TR15 (NFC, NFKC), RFC 3986 (sections 2.1 and 3.3), RFC 6266, RFC 8187.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from filestore.errors import BadName
from filestore.ids import looks_like_id

MAX_NAME_BYTES: Final = 255
"""Bytes of one name: what ext4, XFS, APFS and NTFS take, so every download can be saved."""

MAX_PATH_BYTES: Final = 4096
"""Bytes of one path as given: PATH_MAX of Linux, so a downloaded tree can be opened."""

MAX_DEPTH: Final = 64
"""Segments of one path. Resolving costs one index look-up each."""

MAX_LABEL_CHARS: Final = 100
"""Characters of the name of a group, user or token: fits one line everywhere."""

MAX_FOLD_CHARS: Final = 255
"""Characters kept of a fold (one letter can fold to 18): at most 1,020 bytes, where a B-tree of
PostgreSQL takes 2,704."""

Rule = Literal[
    "empty", "dots", "slash", "backslash", "control", "bidi", "surrogate", "space", "invisible",
    "too-long", "too-deep", "path-too-long", "percent", "utf-8", "colon", "id",
]  # fmt: skip
"""Why a name was refused, for programs: stable words."""

_REASONS: Final[dict[Rule, str]] = {
    "empty": "a name must have at least one character",
    "dots": "'.' and '..' mean folders",
    "slash": "a name may not contain a slash",
    "backslash": "a name may not contain a backslash, which browsers and Windows take for a slash",
    "control": "it contains a control character or a line break",
    "bidi": "it contains a character that reverses the direction of the text around it",
    "surrogate": "it contains half of a surrogate pair, which is no character",
    "space": "a name may not begin or end with a space",
    "invisible": "it contains no visible character",
    "too-long": f"a name may have at most {MAX_NAME_BYTES} bytes in UTF-8",
    "too-deep": f"a path may have at most {MAX_DEPTH} parts",
    "path-too-long": f"a path may have at most {MAX_PATH_BYTES} bytes in UTF-8",
    "percent": "a percent sign in a URL must be followed by two hexadecimal digits",
    "utf-8": "it is not valid UTF-8",
    "colon": "a colon separates the group from the path",
    "id": "it looks like an id",
}

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""All of category Cc, and the two separators that many programs take for line ends."""

_BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides, isolates. The marks U+200E, U+200F and U+061C are allowed: Hebrew and
Arabic names carry them, and they reverse nothing. Source: UAX 9, section 2."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_BAD_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")

_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point, which show nothing. Source: DerivedCoreProperties of Unicode 16."""

_SHOWN_CHARS: Final = 60
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
"""What a ``filename*`` holds unescaped beside letters and digits. Source: RFC 8187, 3.2.1."""


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a file or folder, checked.

    ``given`` is shown and downloaded; ``key`` (its NFC form) is unique in a folder, so names
    that differ only in normalization are one; ``fold`` (cut at 255 characters) finds names that
    people or case-blind file systems take for the same.
    """

    given: str
    key: str
    fold: str

    def __str__(self) -> str:
        return self.given


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a group, user or token, checked. ``key`` is what must be unique."""

    given: str
    key: str

    def __str__(self) -> str:
        return self.given


def parse_name(text: str) -> Name:
    """One name, not percent-encoded.

    :raises BadName: permanent; member ``rule`` is a :data:`Rule`.
    """
    if len(text) > MAX_PATH_BYTES:  # before anything whose cost grows faster than the text
        raise _refused(text, "too-long")
    _check_text(text)
    key = unicodedata.normalize("NFC", text)
    if len(key.encode()) > MAX_NAME_BYTES:
        raise _refused(text, "too-long")
    return Name(text, key, fold(text)[:MAX_FOLD_CHARS])


def parse_path(text: str) -> tuple[Name, ...]:
    """The names of a decoded path, from a JSON body or from upload metadata.

    One slash in front and one behind are allowed (``/folder/``). No names: the root folder.

    :raises BadName: permanent; nothing of the path may be used.
    """
    inner = text.removeprefix("/").removesuffix("/")
    if not inner and text in ("", "/"):
        return ()
    return _parse_segments(inner, inner.split("/"))


def split_path(raw_path: str) -> tuple[Name, ...]:
    """The names of a raw URL path, still percent-encoded, below its fixed part.

    Splits first and decodes each segment exactly once, so ``%2F`` cannot make a segment and
    ``%252F`` stays the three letters ``%2F``. Bytes that a client left unencoded count as they
    are. No slash in front or behind; an empty path is the root folder.

    :raises BadName: permanent; nothing of the path may be used. Source: RFC 3986, 2.1 and 2.4.
    """
    if not raw_path:
        return ()
    if len(raw_path) > 3 * MAX_PATH_BYTES:  # every byte percent-encoded
        raise _refused(raw_path, "path-too-long")
    segments = [_decode(segment) for segment in raw_path.split("/")]
    return _parse_segments("/".join(segments), segments)


def check_label(text: str, what: str) -> Label:
    """The name of a group, user or token; ``what`` says which, for the message.

    Besides what no name may be, it has no colon (``GROUP:/PATH``) and does not look like an id,
    because both may stand in the same place.

    :raises BadName: permanent.
    """
    if len(text) > MAX_LABEL_CHARS:
        reason = f"the name of a {what} may have at most {MAX_LABEL_CHARS} characters"
        raise BadName(name=shown(text), reason=reason, rule="too-long")
    _check_text(text)
    key = fold(text)
    if ":" in text:
        raise _refused(text, "colon")
    if looks_like_id(text) or looks_like_id(key):
        raise _refused(text, "id")
    return Label(text, key)


def fold(text: str) -> str:
    """``text`` without what does not matter to a reader: case, width, invisible characters.

    NFKC_Casefold, except that the tables are those of the Python that runs. Two texts with one
    fold may differ; two with different folds may still look alike (TR39 confusables do).
    Source: The Unicode Standard, section 3.13, definition D146 and R5.
    """
    bare = _IGNORABLE.sub("", text)
    folded = unicodedata.normalize("NFD", bare).casefold()
    folded = unicodedata.normalize("NFKD", folded).casefold()
    return unicodedata.normalize("NFKC", _IGNORABLE.sub("", folded))


def shown(text: str) -> str:
    """``text`` as an error may show it: nothing invisible or unprintable, at most 60 characters."""
    start = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text[:_SHOWN_CHARS]
    )
    return start if len(text) <= _SHOWN_CHARS else f"{start}…"


def content_disposition(name: str, *, inline: bool) -> str:
    """The value of ``Content-Disposition`` for a file called ``name``; always ASCII.

    ``filename*`` has the exact name. ``filename`` is for clients that do not know it: letters
    without their marks, and ``_`` for everything that some client misreads inside quotes
    (quotes, backslashes, percent signs, semicolons, control characters), so no name can end
    the header or add a parameter.
    Source: RFC 6266, section 4.3 and appendix D; RFC 8187, section 3.2.
    """
    plain = unicodedata.normalize("NFKD", name)
    fallback = "".join(
        char if " " <= char <= "~" and char not in '"\\%;' else "_"
        for char in plain
        if not unicodedata.combining(char)
    )
    exact = quote(name, safe=_ATTR_CHARS, errors="replace")
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{exact}"


def _parse_segments(path: str, segments: list[str]) -> tuple[Name, ...]:
    if len(path) > MAX_PATH_BYTES or len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        raise _refused(path, "path-too-long")
    if len(segments) > MAX_DEPTH:
        raise _refused(path, "too-deep")
    return tuple(parse_name(segment) for segment in segments)


def _decode(segment: str) -> str:
    if _BAD_PERCENT.search(segment):
        raise _refused(segment, "percent")
    try:
        # Undecodable bytes of a request line arrive as lone surrogates (PEP 383).
        return unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError as err:
        raise _refused(segment, "utf-8") from err


def _check_text(text: str) -> None:
    """What holds for every chosen name; in this order, so that the gravest reason is named."""
    if not text:
        raise _refused(text, "empty")
    if text in (".", ".."):
        raise _refused(text, "dots")
    if "/" in text:
        raise _refused(text, "slash")
    if "\\" in text:
        raise _refused(text, "backslash")
    patterns: list[tuple[Rule, re.Pattern[str]]] = [
        ("control", _CONTROLS),
        ("bidi", _BIDI),
        ("surrogate", _SURROGATES),
    ]
    for rule, pattern in patterns:
        if pattern.search(text):
            raise _refused(text, rule)
    if text != text.strip():
        raise _refused(text, "space")
    if not _IGNORABLE.sub("", text).strip():
        raise _refused(text, "invisible")


def _refused(text: str, rule: Rule) -> BadName:
    return BadName(name=shown(text), reason=_REASONS[rule], rule=rule)
