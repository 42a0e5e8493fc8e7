"""``GET`` and ``HEAD`` of a file: whole, in ranges, or not at all when the client has it.

What a group stored is hostile to whoever opens it in a browser: it is saved, not shown, except
for a few harmless types on request, and never runs scripts. Bytes are verified before they
leave. What cannot be read is an error before the first byte and a cut connection behind it:
never padding, never an end that looks regular.

Source: RFC 9110, sections 13, 14 and 15.3.7; RFC 9530 (Repr-Digest).
"""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from filestore.acts import browse
from filestore.acts.tree import Path
from filestore.errors import NotFound
from filestore.http.call import Call, Digits, Query
from filestore.http.conditions import Conditions, Validators, range_applies
from filestore.http.connection import WRITE_SIZE
from filestore.http.digests import HEADER as REPR_DIGEST
from filestore.http.digests import format_blake3
from filestore.http.media_types import may_be_inline
from filestore.http.ranges import Span, parse_range
from filestore.http.tree import quoted
from filestore.meta import entries
from filestore.meta.database import Tx
from filestore.meta.entries import Version
from filestore.model import MAX_INT
from filestore.names import content_disposition, split_path

_US: Final = 1_000_000
_Bytes = bytes | memoryview


class FileQuery(Query):
    """``version``: an older one. ``inline``: to be shown, where that is safe."""

    version: Annotated[Digits, Field(ge=1, le=MAX_INT)] | None = None
    inline: Literal["true", "false"] = "false"


@dataclass(frozen=True, slots=True)
class _File:
    """A version of a file that is asked for, and how it may be shown."""

    name: str
    version: Version
    is_inline: bool
    is_date_strong: bool

    @property
    def validators(self) -> Validators:
        return Validators(quoted(self.version), self.version.created_at // _US)


@dataclass(frozen=True, slots=True)
class _Part:
    """One stretch of the file with what stands before it in a multipart answer."""

    span: Span
    head: bytes = b""


async def get_file(call: Call) -> web.StreamResponse:
    """The bytes of a file, or of the ranges of it that were asked for."""
    file = await _find(call)
    headers = call.request.headers
    if Conditions.of(headers).check_read(file.validators):
        return web.Response(status=304, headers=_headers(file))
    wanted = headers.get("Range")
    spans = None
    if wanted is not None and range_applies(
        headers.get("If-Range"), file.validators, is_date_strong=file.is_date_strong
    ):
        spans = parse_range(wanted, file.version.size)
    response, parts, end = _prepare(file, spans)
    return await _send(call, response, _bytes(call, file.version, parts, end), file.version)


async def head_file(call: Call) -> web.StreamResponse:
    """The headers that ``GET`` would have without Range."""
    file = await _find(call)
    if Conditions.of(call.request.headers).check_read(file.validators):
        return web.Response(status=304, headers=_headers(file))
    response, _, _ = _prepare(file, None)
    return response


async def _find(call: Call) -> _File:
    query = call.query(FileQuery)
    look = partial(
        _look,
        group_id=call.group.id,
        path=split_path(call.raw_tail()),
        number=query.version,
        is_by_date=not call.request.headers.get("If-Range", '"').startswith(('"', "W/")),
    )
    name, version, is_date_strong = await call.services.db.read(look)
    is_inline = query.inline == "true" and may_be_inline(version.mime)
    return _File(name, version, is_inline, is_date_strong)


async def _look(
    tx: Tx, group_id: str, path: Path, number: int | None, *, is_by_date: bool
) -> tuple[str, Version, bool]:
    """Name and version of a file; and whether its date names no other version, if that matters."""
    found = await browse.file_at(tx, group_id, path, number)
    if found.version is None:
        raise NotFound(what="file")
    is_date_strong = False
    if is_by_date:
        before = await entries.versions_of(tx, found.entry.id, before=found.version.number, limit=1)
        second = found.version.created_at // _US
        is_date_strong = not before or before[0].created_at // _US < second
    return found.entry.name, found.version, is_date_strong


def _headers(file: _File) -> dict[str, str]:
    """What 200, 206 and 304 have in common."""
    headers = {
        "ETag": file.validators.etag,
        "Last-Modified": file.validators.last_modified,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(file.name, inline=file.is_inline),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if file.version.blake3 is not None:
        headers[REPR_DIGEST] = format_blake3(file.version.blake3)
    return headers


def _prepare(
    file: _File, spans: list[Span] | None
) -> tuple[web.StreamResponse, Sequence[_Part], bytes]:
    """The answer with its headers, the parts of its body, and what ends it."""
    size, mime = file.version.size, file.version.mime
    response = web.StreamResponse(status=200 if spans is None else 206, headers=_headers(file))
    response.headers["Content-Type"] = mime
    if spans is None:
        parts, end = [_Part(Span(0, size))] if size else [], b""
    elif len(spans) == 1:
        response.headers["Content-Range"] = spans[0].content_range(size)
        parts, end = [_Part(spans[0])], b""
    else:
        boundary = secrets.token_hex(16)
        response.headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        parts = [
            _Part(
                span,
                f"\r\n--{boundary}\r\nContent-Type: {mime}\r\n"
                f"Content-Range: {span.content_range(size)}\r\n\r\n".encode(),
            )
            for span in spans
        ]
        end = f"\r\n--{boundary}--\r\n".encode()
    response.content_length = sum(len(part.head) + part.span.size for part in parts) + len(end)
    return response, parts, end


async def _bytes(
    call: Call, version: Version, parts: Sequence[_Part], end: bytes
) -> AsyncGenerator[_Bytes, None]:
    """The body in pieces. The first piece comes only when stored bytes are at hand."""
    for part in parts:
        head = part.head
        stored = call.services.egress.stored(version.content_id, part.span.start, part.span.end)
        async with aclosing(stored) as pieces:
            async for piece in pieces:
                if head:
                    yield head
                    head = b""
                yield piece
    if end:
        yield end


async def _send(
    call: Call,
    response: web.StreamResponse,
    body: AsyncGenerator[_Bytes, None],
    version: Version,
) -> web.StreamResponse:
    """Sends the answer; nothing of it before its first bytes are there."""
    async with aclosing(body):
        first = await anext(body, b"")
        await response.prepare(call.request)
        call.services.downloaded.note(version.id, version.downloaded_at)
        await write_piece(response, first)
        async for piece in body:
            await write_piece(response, piece)
        await response.write_eof()
    return response


async def write_piece(response: web.StreamResponse, piece: _Bytes) -> None:
    """Hands over no more at a time than a client must take before its connection is cut.

    :raises ConnectionError: the client is gone, or took too little for too long.
    """
    view = memoryview(piece)
    for at in range(0, len(view), WRITE_SIZE):
        await response.write(view[at : at + WRITE_SIZE])
