"""One file's way down: into ``NAME.part``, continued as often as needed, verified, renamed.

The record of a download under way keeps which file ``NAME.part`` is, and the ETag that the bytes
in it belong to; those of another ETag are dropped. A part that no record names is not ours, and
is left alone. The record of a finished one keeps the ETag and the local file's inode, size and
time of change, so that a repetition finds "already there".
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from filestore.client.files import FileFacts, Files
from filestore.client.local import file_digest, local_errors, why_not_regular
from filestore.client.part import Part
from filestore.client.retry import RetryPolicy
from filestore.client.state import Record, TransferRecords
from filestore.client.watcher import Watcher
from filestore.errors import (
    DownloadDamaged,
    FilestoreError,
    ForeignAnswer,
    LocalFile,
    TargetExists,
    Unreachable,
)

_WINDOW: Final = 4 << 20  # bytes per write: one thread hop for writing and hashing


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is here now. ``received`` bytes came in this run; ``is_verified`` when the
    server named a digest to compare with (it may not have hashed a very new file yet)."""

    destination: Path
    size: int
    etag: str
    received: int
    resumed_at: int
    was_there: bool
    is_verified: bool


class Download:
    """One file on its way to one local path. Used once."""

    def __init__(
        self, group: str, path: str, destination: Path, files: Files, records: TransferRecords
    ) -> None:
        self._group = group
        self._path = path
        self._destination = destination = destination.absolute()
        self._part = destination.with_name(destination.name + ".part")
        self._files = files
        self._records = records

    async def run(
        self, *, server: str, replace: bool, retry: RetryPolicy, watcher: Watcher
    ) -> Downloaded:
        """Returns when the file is durably there. Safe to repeat, also after a kill.

        :raises TargetExists: a file is there that is not known to be this one, or a part that
            no earlier run of this download made.
        :raises DownloadDamaged: the bytes have another digest; they were discarded.
        :raises BusyLocally: another process of this user downloads to the same place.
        """
        key = TransferRecords.key(server, self._group, self._path, str(self._destination))
        with local_errors(self._destination), self._records.hold(key, self._destination):
            self._check_folder()
            facts = await self._files.facts(self._group, self._path)
            record = self._records.load(key) or {}
            if self._destination.exists() and await self._is_same(facts, record):
                self._records.save(key, self._finished(facts))
                return self._outcome(facts, 0, 0, was_there=True)
            self._may_write(replace)
            identity = record.get("part")
            part = await asyncio.to_thread(Part.open, self._part, identity, replace=replace)
            try:
                if record.get("part_etag") == facts.etag:
                    await part.go_on(facts.size)
                facts, begun_at = await self._fetch(key, facts, part, retry, watcher)
                self._may_write(replace)  # it may have come while the bytes did
                await asyncio.to_thread(part.publish, self._destination)
            finally:
                await asyncio.to_thread(part.close)
            self._records.save(key, self._finished(facts))
            return self._outcome(facts, facts.size - begun_at, begun_at, was_there=False)

    def _outcome(
        self, facts: FileFacts, received: int, begun_at: int, *, was_there: bool
    ) -> Downloaded:
        return Downloaded(
            destination=self._destination,
            size=facts.size,
            etag=facts.etag,
            received=received,
            resumed_at=begun_at,
            was_there=was_there,
            is_verified=facts.blake3 is not None,
        )

    def _check_folder(self) -> None:
        if not self._destination.parent.is_dir():
            reason = "there is no such folder"
            raise LocalFile(path=str(self._destination.parent), reason=reason)

    def _may_write(self, replace: bool) -> None:
        if not os.path.lexists(self._destination):
            return
        if not replace and not self._destination.is_dir():
            raise TargetExists(path=str(self._destination))
        if self._destination.exists():
            reason = why_not_regular(self._destination.stat().st_mode)
            if reason is not None:  # renaming over it would take a device away
                raise LocalFile(path=str(self._destination), reason=reason)

    async def _is_same(self, facts: FileFacts, record: Record) -> bool:
        """Whether the local file surely is the one on the server."""
        if not self._destination.is_file() or self._destination.stat().st_size != facts.size:
            return False
        if record == self._finished(facts):
            return True
        if facts.blake3 is None:
            return False
        return await asyncio.to_thread(file_digest, self._destination, facts.size) == facts.blake3

    def _finished(self, facts: FileFacts) -> Record:
        info = self._destination.stat()
        return {"etag": facts.etag, "inode": info.st_ino, "changed_ns": info.st_mtime_ns}

    async def _fetch(
        self, key: str, facts: FileFacts, part: Part, retry: RetryPolicy, watcher: Watcher
    ) -> tuple[FileFacts, int]:
        """Fills ``NAME.part``; gives the facts of what is in it, and where this run began."""
        begun_at = part.size
        watcher.began(self._destination.name, begun_at, facts.size)
        try:
            attempts = retry.begin(watcher.waits)
            while True:
                self._records.save(key, {"part_etag": facts.etag, "part": part.identity})
                before = part.size
                try:
                    facts = await self._receive(part, facts, watcher)
                    if part.size == facts.size:
                        break
                except FilestoreError as err:
                    if part.size > before:
                        attempts.progressed()
                    if not err.spec.retryable:
                        raise
                    await attempts.wait(err)
            await self._verify(key, part, facts)
        finally:
            watcher.ended()
        return facts, min(begun_at, facts.size)

    async def _receive(self, part: Part, facts: FileFacts, watcher: Watcher) -> FileFacts:
        """One request for what is missing. The facts that come back are of the version sent:
        when the file changed meanwhile, the part is emptied and holds the new one."""
        if part.size == facts.size:
            return facts
        async with self._files.open(
            self._group, self._path, offset=part.size, etag=facts.etag
        ) as response:
            sent = FileFacts.of(response.status, response.headers)
            if response.status == 206 and not is_range(
                response, part.size, sent.etag == facts.etag
            ):
                raise ForeignAnswer(status=206, reason="it is not the range that was asked for")
            if response.status != 206 and (part.size or sent.etag != facts.etag):
                await asyncio.to_thread(part.empty)
            if sent.etag != facts.etag:
                return sent  # the record has to name it before any byte of it is kept
            async for pieces in windows(response):
                await asyncio.to_thread(part.write, pieces)
                watcher.moved(part.size)
        if part.size < sent.size:
            raise Unreachable(url="The server", reason="it closed before the end of the file")
        return sent

    async def _verify(self, key: str, part: Part, facts: FileFacts) -> None:
        got = part.hasher.digest()
        if facts.blake3 is None or got == facts.blake3:
            return
        await asyncio.to_thread(part.discard)
        self._records.forget(key)
        raise DownloadDamaged(
            path=str(self._destination),
            algorithm="BLAKE3",
            got=got.hex(),
            expected=facts.blake3.hex(),
        )


def is_range(response: aiohttp.ClientResponse, offset: int, is_same: bool) -> bool:
    """Whether a partial answer has the bytes from ``offset`` on of the file asked for."""
    return is_same and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


async def windows(response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
    """What arrives, gathered so that a hop to a thread is worth it."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size >= _WINDOW:
                yield pieces
                pieces, size = [], 0
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        if pieces:
            yield pieces  # what came before the break counts
        raise
    if pieces:
        yield pieces
