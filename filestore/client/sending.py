"""The local file of an upload: what must not change of it, its digest, and its bytes on the way."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiofiles.os

from filestore.client.local import hash_prefix
from filestore.client.tus import Uploads
from filestore.client.watcher import Watcher
from filestore.errors import FilestoreError, Json, SourceChanged, Unreachable

_WINDOW: Final = 4 << 20  # bytes per read: one thread hop each, and two of them in memory
_PIECE: Final = 1 << 19  # bytes per write to the socket: progress moves smoothly
_SILENCE_S: Final = 120  # the server takes no byte for this long: the connection is given up


@dataclass(frozen=True, slots=True)
class FileState:
    """What must not change of a local file while it is sent."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @property
    def record(self) -> Json:
        return [self.device, self.inode, self.size, self.changed_ns]

    @classmethod
    def of(cls, descriptor: int) -> Self:
        info = os.fstat(descriptor)
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


class Sending:
    """The local file, read in windows, as the body of one PATCH after the other.

    Reads name their position: a read that a broken request left behind in its thread can then
    not move the position under the next request.
    """

    def __init__(self, descriptor: int, state: FileState, source: Path, watcher: Watcher) -> None:
        self._descriptor = descriptor
        self._source = source
        self._read_at: Callable[[int], Awaitable[bytes]] = aiofiles.os.wrap(self._read)
        self._failure: FilestoreError | OSError | None = None
        self.state = state
        self.watcher = watcher

    async def append(self, uploads: Uploads, upload: str, offset: int) -> int:
        """One PATCH with all that is left; gives the new offset.

        :raises SourceChanged: noticed before the last window left, so the upload is not done.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_SILENCE_S) as patience:

                def alive() -> None:
                    patience.reschedule(loop.time() + _SILENCE_S)

                body = self._body(offset, alive)
                return await uploads.append(upload, offset, self.state.size - offset, body)
        except TimeoutError as err:
            raise Unreachable(url="The server", reason="it takes no bytes") from err
        except FilestoreError:
            if self._failure is not None:  # what broke the request off was here, not there
                raise self._failure from None
            raise

    async def _body(self, offset: int, alive: Callable[[], None]) -> AsyncIterator[memoryview]:
        try:
            while offset < self.state.size:
                window = memoryview(await self._read_at(offset))
                for at in range(0, len(window), _PIECE):
                    piece = window[at : at + _PIECE]
                    yield piece
                    offset += len(piece)
                    alive()
                    self.watcher.moved(offset)
        except (FilestoreError, OSError) as err:
            self._failure = err
            raise

    def digest(self) -> bytes:
        """BLAKE3 of the whole file. Blocks.

        :raises SourceChanged: it was not the same file before and after.
        """
        digest = hash_prefix(self._descriptor, self.state.size, self._source).digest()
        if FileState.of(self._descriptor) != self.state:
            raise SourceChanged(path=str(self._source))
        return digest

    def _read(self, offset: int) -> bytes:
        window = os.pread(self._descriptor, _WINDOW, offset)
        if not window or FileState.of(self._descriptor) != self.state:
            raise SourceChanged(path=str(self._source))
        return window
