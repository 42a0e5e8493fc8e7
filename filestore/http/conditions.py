"""Conditional requests: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range.

Pure functions. Source: RFC 9110, sections 8.8.3 (entity tags), 13.1 and 13.2.2 (precedence).
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from filestore.errors import BadHeader, PreconditionFailed

_ITEM: Final = re.compile(r'[ \t]*+((?:W/)?"[!#-~\x80-\U0010ffff]*+")?+[ \t]*+(,|$)')
"""One tag of a list, or none between two commas; takes time in proportion to its length."""

WEAK: Final = "W/"


@dataclass(frozen=True, slots=True)
class Validators:
    """What a representation is known by. ``modified_s``: whole seconds since the epoch."""

    etag: str
    modified_s: int

    @property
    def last_modified(self) -> str:
        return format_datetime(dt.datetime.fromtimestamp(self.modified_s, dt.UTC), usegmt=True)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one request. Tag lists are None when the header is missing, and hold
    ``*`` for any; dates are None when missing or not to be understood."""

    match: frozenset[str] | None
    none_match: frozenset[str] | None
    modified_since: int | None
    unmodified_since: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Conditions":
        """:raises BadHeader: a list of tags is not well-formed."""
        return cls(
            match=_tags(headers, "If-Match"),
            none_match=_tags(headers, "If-None-Match"),
            modified_since=_date(headers.get("If-Modified-Since")),
            unmodified_since=_date(headers.get("If-Unmodified-Since")),
        )

    def __bool__(self) -> bool:
        return self != Conditions(None, None, None, None)

    def check_write(self, found: Validators | None) -> None:
        """Lets a change of the representation go on. ``found``: None when there is none yet.

        :raises PreconditionFailed: names the header that does not hold.
        """
        self._check_match(found)
        if self.none_match is not None and self._is_named(found):
            raise PreconditionFailed(header="If-None-Match")

    def check_read(self, found: Validators) -> bool:
        """Whether the client's copy is still good, so that 304 is the answer.

        :raises PreconditionFailed: names the header that does not hold.
        """
        self._check_match(found)
        if self.none_match is not None:
            return self._is_named(found)
        return self.modified_since is not None and found.modified_s <= self.modified_since

    def _check_match(self, found: Validators | None) -> None:
        if self.match is not None:
            if found is None or not self.match & {"*", found.etag}:
                raise PreconditionFailed(header="If-Match")
        elif (
            found is not None
            and self.unmodified_since is not None
            and found.modified_s > self.unmodified_since
        ):
            raise PreconditionFailed(header="If-Unmodified-Since")

    def _is_named(self, found: Validators | None) -> bool:
        """Compares weakly: ``W/"x"`` names ``"x"``."""
        if found is None or self.none_match is None:
            return False
        return bool(self.none_match & {"*", found.etag, WEAK + found.etag})


def range_applies(value: str | None, found: Validators, *, is_date_strong: bool) -> bool:
    """Whether Range counts under If-Range: the client's part belongs to this representation.

    A date names a representation only if nothing else was there in the same second.
    """
    if value is None:
        return True
    if value.startswith(('"', WEAK)):
        return value == found.etag
    return is_date_strong and _date(value) == found.modified_s


def _tags(headers: Mapping[str, str], name: str) -> frozenset[str] | None:
    value = headers.get(name)
    if value is None:
        return None
    if value.strip() == "*":
        return frozenset("*")
    found, at, more = set(), 0, True
    while more:
        item = _ITEM.match(value, at)
        if item is None:
            raise BadHeader(header=name, reason='it is not * or a list of tags such as "cnt_…"')
        found.add(item[1])
        at, more = item.end(), item[2] == ","
    return frozenset(tag for tag in found if tag)


def _date(value: str | None) -> int | None:
    """A date in any of the three forms of RFC 9110, 5.6.7; None when it is none of them."""
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return int(at.replace(tzinfo=at.tzinfo or dt.UTC).timestamp())
