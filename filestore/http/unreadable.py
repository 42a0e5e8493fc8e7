"""What aiohttp's parser refused, in our words: pure functions from its errors to ours.

Its errors say what was wrong and not where, so the name of a header that is too long is looked
up in the bytes that came.
"""

import re
from typing import Final

from aiohttp.http_exceptions import LineTooLong

from filestore.errors import (
    BadHeader,
    BadRequest,
    Busy,
    FilestoreError,
    HeaderTooLarge,
    Internal,
    UriTooLong,
)
from filestore.http.heads import TOTAL, HeadsTooLong, HeadTooLong

BUSY_RETRY_S: Final = 5
"""What a client is asked to wait for room: idle connections end within that, in a crowd."""

_DUPLICATE: Final = re.compile(r"Duplicate '([A-Za-z-]{1,40})' header")
"""What the parser says of a header that must be single."""

_HEADER_BEFORE: Final = re.compile(rb"(?:^|\n)([A-Za-z0-9-]{1,64}):[ \t]*\Z")
_METHOD_BEFORE: Final = re.compile(rb"(?:^|\n)[A-Z]{1,20} \Z")
_CUT: Final = b"..."  # what the parser puts behind the beginning of a line that is too long


def from_parser(
    status: int, exc: BaseException | None, head: bytes, *, request_id: str
) -> FilestoreError:
    """The error that the parser's ``exc`` means.

    ``head`` is what came of the unfinished header, its end at least; empty if that is not known.
    """
    if status != 400:
        return Internal(request_id=request_id)
    if isinstance(exc, HeadsTooLong):
        return Busy(what="bytes of headers", limit=TOTAL, retry_after_s=BUSY_RETRY_S)
    if isinstance(exc, HeadTooLong):
        return HeaderTooLarge(header="*", limit=exc.limit)
    if isinstance(exc, LineTooLong):
        return _too_long(exc, head)
    if type(exc).__name__ == "InvalidHeader":
        return BadHeader(header="name or value", reason="it has characters that are not allowed")
    if found := _DUPLICATE.search(str(exc)):
        return BadHeader(header=found[1], reason="it is given more than once")
    return BadRequest(field="request", reason="it is not well-formed HTTP/1.1")


def _too_long(exc: LineTooLong, head: bytes) -> FilestoreError:
    line, limit = exc.args[0], exc.args[1]
    begin = line.encode("latin-1", "replace") if isinstance(line, str) else bytes(line)
    before = head[: max(0, head.rfind(begin.removesuffix(_CUT)))]
    if _METHOD_BEFORE.search(before):
        return UriTooLong(limit=limit)
    found = _HEADER_BEFORE.search(before)
    name = "?" if found is None else found[1].decode("ascii")
    return HeaderTooLarge(header=name, limit=limit)
