"""Lists in pages: ``?limit=&after=`` gives ``{"items", "next"}``.

A page begins behind the last key of the one before (keyset), so rows that come or go meanwhile
neither repeat nor hide others, and the last page costs as much as the first. The cursor is
opaque: clients hand it back and read nothing into it.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

from pydantic import Field

from filestore.errors import BadRequest
from filestore.http.call import Digits, Query

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 100
MAX_CURSOR: Final = 8192

Key = str | int
T = TypeVar("T")


class Paging(Query):
    """How much of a list, and from where."""

    limit: Annotated[Digits, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    after: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None

    @property
    def wanted(self) -> int:
        """Rows to ask the database for: one more than shown tells whether more follow."""
        return self.limit + 1

    def key(self, *kinds: type[Key]) -> tuple[Key, ...] | None:
        """The last key of the page before, one value for each of ``kinds``; None: the start.

        :raises BadRequest: ``after`` is none that this list gave out.
        """
        if self.after is None:
            return None
        key = _decode(self.after)
        if key is None or [type(part) for part in key] != list(kinds):
            raise BadRequest(field="after", reason="it is not a value of next of this list")
        return tuple(key)

    def text_key(self) -> str | None:
        """:meth:`key` for a list that is ordered by one text."""
        key = self.key(str)
        return None if key is None else str(key[0])

    def cut(
        self, rows: Sequence[T], key_of: Callable[[T], Sequence[Key]]
    ) -> tuple[Sequence[T], str | None]:
        """The rows of this page and ``next``, from up to :attr:`wanted` rows."""
        if len(rows) <= self.limit:
            return rows, None
        shown = rows[: self.limit]
        return shown, _encode(key_of(shown[-1]))


def cursor_of(key: Sequence[Key] | None) -> str | None:
    """``next`` of a list that knows itself where its next page begins; None: it does not."""
    return None if key is None else _encode(key)


def _encode(key: Sequence[Key]) -> str:
    text = json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def _decode(cursor: str) -> list[Key] | None:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return key if isinstance(key, list) and not _is_hostile(key) else None


def _is_hostile(key: list[Key]) -> bool:
    """Whether a forged key holds what no database takes: NUL, half a surrogate, huge numbers."""
    for part in key:
        if isinstance(part, str) and ("\0" in part or not _is_encodable(part)):
            return True
        if isinstance(part, int) and abs(part) > 2**63 - 1:
            return True
    return False


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
