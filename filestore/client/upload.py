"""One file's way up: begun once, continued as often as needed, finished once.

What makes two uploads the same: the server, the target, and the local file's path, device,
inode, size and time of change. While one is under way its record names the upload, so a killed
process goes on when it is repeated; the offset is always the server's. When it is done the
record keeps the target's ETag, so that a repetition finds "already there" as long as the target
still is that version. Without a record, a target of equal size and digest counts as well.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiofiles
import aiofiles.os

from filestore.client.files import FileFacts, Files
from filestore.client.local import file_digest, local_errors
from filestore.client.retry import RetryPolicy
from filestore.client.state import Record, TransferRecords
from filestore.client.tus import Uploads
from filestore.client.watcher import Watcher
from filestore.errors import (
    FilestoreError,
    LocalFile,
    NotFound,
    SourceChanged,
    Unreachable,
    UploadGone,
)

_WINDOW: Final = 4 << 20  # bytes per read: one thread hop each, and two of them in memory
_PIECE: Final = 1 << 19  # bytes per write to the socket: progress moves smoothly
_SILENCE_S: Final = 120  # the server takes no byte for this long: the connection is given up


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file shall be: ``folder`` without slashes at its ends, "" for the root."""

    group: str
    folder: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name

    def __str__(self) -> str:
        return f"{self.group}:/{self.path}"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that is there now. ``sent`` bytes went up in this run; 0 and ``was_there`` when
    nothing had to be done."""

    target: Target
    size: int
    etag: str
    sent: int
    resumed_at: int
    was_there: bool


@dataclass(frozen=True, slots=True)
class _State:
    """What must not change of a local file while it is sent."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int, path: Path) -> Self:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise LocalFile(path=str(path), reason="it is not a regular file")
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


class Upload:
    """One local file on its way to one target. Used once."""

    def __init__(
        self,
        source: Path,
        target: Target,
        uploads: Uploads,
        files: Files,
        records: TransferRecords,
    ) -> None:
        self._source = source.absolute()
        self._target = target
        self._uploads = uploads
        self._files = files
        self._records = records
        self._sent = 0

    async def run(
        self, *, server: str, verify: bool, retry: RetryPolicy, watcher: Watcher
    ) -> Uploaded:
        """Returns when the file is there. Safe to repeat, also after a kill.

        :raises SourceChanged: the local file changed meanwhile; the upload was ended.
        :raises BusyLocally: another process of this user uploads the same file there.
        :raises DigestMismatch: with ``verify``; the upload was ended. Safe to repeat.
        """
        with local_errors(self._source):
            async with aiofiles.open(self._source, "rb", buffering=0) as file:
                state = _State.of(file.fileno(), self._source)
                key = TransferRecords.key(
                    server,
                    *(self._target.group, self._target.path, str(self._source)),
                    *(state.device, state.inode, state.size, state.changed_ns),
                )
                with self._records.hold(key, self._source):
                    sending = _Sending(file.fileno(), state, self._source, watcher)
                    return await self._bring(key, sending, verify=verify, retry=retry)

    async def _bring(
        self, key: str, sending: "_Sending", *, verify: bool, retry: RetryPolicy
    ) -> Uploaded:
        """Decides what there is to do: nothing, go on, or begin."""
        record = self._records.load(key) or {}
        size = sending.state.size
        there = await self._already_there(record, size)
        if there is not None:
            self._records.save(key, {"etag": there.etag})
            return Uploaded(self._target, size, there.etag, 0, 0, was_there=True)
        upload, offset = await self._resume(record, size)
        if upload is None:
            upload = await self._create(size, verify=verify)
            self._records.save(key, {"upload": upload})
        sending.watcher.began(str(self._target), offset, size)
        try:
            await self._send(upload, offset, sending, retry)
        except FilestoreError as err:
            await self._give_up(key, upload, err)
            raise
        finally:
            sending.watcher.ended()
        facts = await self._files.facts(self._target.group, self._target.path)
        if facts.size == size:
            self._records.save(key, {"etag": facts.etag})
        else:  # somebody already put another version on top
            self._records.forget(key)
        return Uploaded(self._target, size, facts.etag, self._sent, offset, was_there=False)

    async def _already_there(self, record: Record, size: int) -> FileFacts | None:
        """The target's facts if it surely has these bytes.

        A record of an upload under way speaks against it: hashing the file would cost more
        than asking for the offset.
        """
        if "upload" in record:
            return None
        try:
            facts = await self._files.facts(self._target.group, self._target.path)
        except NotFound:
            return None
        if facts.size != size:
            return None
        if record.get("etag") == facts.etag:
            return facts
        if facts.blake3 is None:
            return None
        local = await asyncio.to_thread(file_digest, self._source, size)
        return facts if local == facts.blake3 else None

    async def _resume(self, record: Record, size: int) -> tuple[str | None, int]:
        """The upload of an earlier run and its offset, if it can go on."""
        upload = record.get("upload")
        if not isinstance(upload, str):
            return None, 0
        try:
            progress = await self._uploads.progress(upload)
            if progress.offset == size:  # done, when nobody was there to see it
                await self._files.facts(self._target.group, self._target.path)
        except (NotFound, UploadGone):
            return None, 0
        return (upload, progress.offset) if progress.length == size else (None, 0)

    async def _create(self, size: int, *, verify: bool) -> str:
        metadata = {"filename": self._target.name}
        if self._target.folder:
            metadata["path"] = self._target.folder
        if verify:
            digest = await asyncio.to_thread(file_digest, self._source, size)
            metadata["blake3"] = digest.hex()
        return await self._uploads.create(self._target.group, size, metadata)

    async def _send(
        self, upload: str, offset: int, sending: "_Sending", retry: RetryPolicy
    ) -> None:
        """Sends from ``offset`` to the end; after each break from where the server is."""
        attempts = retry.begin(sending.watcher.waits)
        is_known = True
        while offset < sending.state.size:
            before = offset
            try:
                if is_known:
                    is_known = False
                    offset = await sending.append(self._uploads, upload, offset)
                else:
                    offset = (await self._uploads.progress(upload)).offset
                is_known = True
                sending.watcher.moved(offset)
            except FilestoreError as err:
                if not err.spec.retryable:
                    raise
                await attempts.wait(err)
            if offset > before:
                attempts.progressed()
                self._sent += offset - before

    async def _give_up(self, key: str, upload: str, why: FilestoreError) -> None:
        """Keeps the record only where a repetition could go on."""
        if why.spec.retryable or why.code in _UPLOAD_LIVES:
            return
        self._records.forget(key)
        if isinstance(why, SourceChanged):
            # It would expire by itself: what ended the upload matters more than this.
            with contextlib.suppress(FilestoreError):
                await self._uploads.terminate(upload)


_UPLOAD_LIVES: Final = frozenset(("unauthenticated", "forbidden", "internal", "foreign-answer"))
"""Errors that are not for ever and leave the upload as it is, so its record is kept."""


class _Sending:
    """The local file, read in windows, as the body of one PATCH after the other.

    Reads name their position: a read that a broken request left behind in its thread can then
    not move the position under the next request.
    """

    def __init__(self, descriptor: int, state: _State, source: Path, watcher: Watcher) -> None:
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

    def _read(self, offset: int) -> bytes:
        window = os.pread(self._descriptor, _WINDOW, offset)
        if not window or _State.of(self._descriptor, self._source) != self.state:
            raise SourceChanged(path=str(self._source))
        return window
