"""Requests as bytes on a socket, and answers read as strictly as a careful client would.

Nothing here knows tus, so nothing can hide what the server sent: headers that came twice, a
body behind an answer to HEAD, an answer without an end.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from yarl import URL

TIMEOUT_S: Final = 20.0
"""Longer than anything here may take: a server that never answers fails the test, in the end."""

Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Answer:
    """A final answer, with the interim ones (100, 104) that came before it, and their fields."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: tuple[int, ...] = ()
    told: tuple[dict[str, str], ...] = ()

    @property
    def location(self) -> str:
        """The path of ``Location``, which is absolute."""
        return URL(self.headers["location"]).raw_path


class Wire:
    """One connection to the service."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._host = host

    async def head(
        self, method: str, target: str, headers: Headers = (), *, version: str = "1.1"
    ) -> None:
        """Sends the request line and the headers; nothing is added but Host."""
        lines = [
            f"{method} {target} HTTP/{version}".encode("latin-1"),
            b"Host: " + self._host.encode(),
        ]
        for name, value in headers:
            raw = value if isinstance(value, bytes) else value.encode("latin-1")
            lines.append(name.encode("latin-1") + b": " + raw)
        await self.send(b"\r\n".join([*lines, b"", b""]))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next final answer. What has no length is read to the end of the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            interim, told = [], []
            status, headers = await self._read_head()
            while status < 200:
                interim.append(status)
                told.append(headers)
                status, headers = await self._read_head()
            body = b""
            if method != "HEAD" and status not in (204, 304):
                length = headers.get("content-length")
                body = await (
                    self.reader.read() if length is None else self.reader.readexactly(int(length))
                )
            return Answer(status, headers, body, tuple(interim), tuple(told))

    async def interim(self) -> int:
        """The status of an interim answer."""
        async with asyncio.timeout(TIMEOUT_S):
            status, headers = await self._read_head()
            assert headers == {}, headers
            return status

    async def told(self) -> tuple[int, dict[str, str]]:
        """The status and the fields of an interim answer."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._read_head()

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, also if that is a reset."""
        received = bytearray()
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(1 << 16):
                    received += data
        return bytes(received)

    def reset(self) -> None:
        """Ends the connection as a crashed client does: with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _read_head(self) -> tuple[int, dict[str, str]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        assert first.startswith(("HTTP/1.1 ", "HTTP/1.0 ")), first  # 1.0: what no parser understood
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value.strip()
        return int(first.split()[1]), headers


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wire]:
    """A fresh connection, closed behind the block."""
    place = URL(url)
    assert place.host is not None and place.port is not None
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        yield Wire(reader, writer, f"{place.host}:{place.port}")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(
    url: str, method: str, target: str, headers: Headers = (), body: bytes | None = None
) -> Answer:
    """One request on a connection of its own. ``body`` brings its Content-Length along."""
    sent = list(headers)
    if body is not None:
        sent.append(("Content-Length", str(len(body))))
    async with connected(url) as wire:
        await wire.head(method, target, sent)
        if body:
            with contextlib.suppress(ConnectionError):
                await wire.send(body)
        return await wire.answer(method)


def chunked(*pieces: bytes) -> bytes:
    """Pieces as chunks, with the last one. Source: RFC 9112, section 7.1."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
