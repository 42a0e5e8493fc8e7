"""Files of a group by their path: what is there, and its bytes."""

import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from filestore.client.transport import (
    ResponseHeaders,
    Transport,
    segments,
    tree_path,
)
from filestore.errors import ForeignAnswer
from filestore_chunker import HASH_SIZE

_BLAKE3: Final = re.compile(r"(?:^|,)\s*blake3=:([A-Za-z0-9+/]+={0,2}):", re.ASCII)
"""The member of Repr-Digest that filestore sends. Source: RFC 9530, section 3."""

_ONE_BYTE: Final = {"Range": "bytes=0-0"}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the server says of a file. ``etag`` is quoted, as in the header; ``blake3`` is None
    while the server has not hashed the whole file yet."""

    size: int
    etag: str
    blake3: bytes | None

    @classmethod
    def of(cls, status: int, headers: ResponseHeaders) -> Self:
        """:raises ForeignAnswer: the length or the ETag is missing."""
        length, etag = headers.get("Content-Length", ""), headers.get("ETag", "")
        whole = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", headers.get("Content-Range", ""))
        size = whole[1] if whole else length
        if not re.fullmatch(r"[0-9]{1,19}", size, re.ASCII) or not etag:
            raise ForeignAnswer(status=status, reason="length or ETag of the file is missing")
        return cls(int(size), etag, _blake3_of(headers.get("Repr-Digest", "")))


class Files:
    """``/api/v1/groups/{group}/files/{path}``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def facts(self, group: str, path: str) -> FileFacts:
        """Size, ETag and digest of the newest version.

        :raises NotFound: there is no file.
        """
        try:
            answer = await self._transport.call("HEAD", _path(group, path))
        except ForeignAnswer:  # answers to HEAD have no body, so this one said no reason
            async with self._transport.send("GET", _path(group, path), headers=_ONE_BYTE):
                raise
        return FileFacts.of(answer.status, answer.headers)

    @asynccontextmanager
    async def open(
        self, group: str, path: str, *, offset: int = 0, etag: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The file's bytes from ``offset`` on, unread: status 206.

        With ``etag`` only if the file is still that one; else all of the new file: status 200.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and etag:
            headers["If-Range"] = etag
        async with self._transport.send("GET", _path(group, path), headers=headers) as response:
            yield response


def _path(group: str, path: str) -> str:
    return f"groups/{segments(group)}/files/{tree_path(path)}"


def _blake3_of(repr_digest: str) -> bytes | None:
    match = _BLAKE3.search(repr_digest)
    if match is None:
        return None
    try:
        digest = base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None
    return digest if len(digest) == HASH_SIZE else None
