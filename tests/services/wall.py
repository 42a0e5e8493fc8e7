"""A wall between a service and its PostgreSQL, with a gate that tests open and close."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from yarl import URL

_SOCKET: Final = ".s.PGSQL.5432"
"""The name below its folder under which PostgreSQL's clients look for a server."""


class Wall:
    """Passes connections on to the server while it is open; none, and those cut, otherwise."""

    def __init__(self, server: Path) -> None:
        self._server = server / _SOCKET
        self._gate: asyncio.Server | None = None
        self._joined: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="fs-wall-"))

    def url(self, database_url: str) -> str:
        """The same database, behind the wall."""
        before, _, _ = database_url.partition("?")
        return f"{before}?{URL.build(query={'host': str(self.folder)}).query_string}"

    async def open(self) -> None:
        self._gate = await asyncio.start_unix_server(self._join, self.folder / _SOCKET)

    async def close(self) -> None:
        """Cuts every connection; new ones find nobody."""
        if self._gate is not None:
            self._gate.close()
            (self.folder / _SOCKET).unlink(missing_ok=True)
        for writer in self._joined.values():
            writer.transport.abort()
        self._gate = None

    async def remove(self) -> None:
        await self.close()
        await asyncio.gather(*(task for task in self._joined if task is not None))
        shutil.rmtree(self.folder)

    @contextlib.asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        await self.close()
        try:
            yield
        finally:
            await self.open()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._server)
        me = asyncio.current_task()
        self._joined[me] = writer
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, back))
                both.create_task(_pass_on(there, writer))
        finally:
            del self._joined[me]


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()
