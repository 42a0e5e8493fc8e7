"""One file's way down into something that only goes forward, such as standard output.

There is no second try at what was written: a file that changes on the server meanwhile, or that
turns out to be damaged at its end, is an error, and the reader has to throw away what it has.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filestore.client.download import Downloaded, is_range, windows
from filestore.client.files import FileFacts, Files
from filestore.client.local import local_errors
from filestore.client.retry import RetryPolicy
from filestore.client.watcher import Watcher
from filestore.errors import ClientFailed, FilestoreError, ForeignAnswer, Unreachable
from filestore_chunker import FileHasher

STANDARD_OUTPUT: Final = Path("-")
Write = Callable[[bytes], object]
"""Takes all of the bytes before it returns; may block."""


class Stream:
    """One file on its way into one sink. Used once."""

    def __init__(self, group: str, path: str, write: Write, files: Files) -> None:
        self._group = group
        self._path = path
        self._write = write
        self._files = files
        self._hasher = FileHasher()

    async def run(self, *, retry: RetryPolicy, watcher: Watcher) -> Downloaded:
        """Returns when all bytes are written and right; goes on by itself after a break.

        :raises ClientFailed: what was written is not the file.
        """
        facts = await self._files.facts(self._group, self._path)
        attempts = retry.begin(watcher.waits)
        watcher.began(self._path.rpartition("/")[2], 0, facts.size)
        try:
            while self._hasher.size < facts.size:
                before = self._hasher.size
                try:
                    await self._receive(facts, watcher)
                except FilestoreError as err:
                    if self._hasher.size > before:
                        attempts.progressed()
                    if not err.spec.retryable:
                        raise
                    await attempts.wait(err)
        finally:
            watcher.ended()
        self._verify(facts)
        return Downloaded(
            destination=STANDARD_OUTPUT,
            size=facts.size,
            etag=facts.etag,
            received=facts.size,
            resumed_at=0,
            was_there=False,
            is_verified=facts.blake3 is not None,
        )

    async def _receive(self, facts: FileFacts, watcher: Watcher) -> None:
        offset = self._hasher.size
        async with self._files.open(
            self._group, self._path, offset=offset, etag=facts.etag
        ) as response:
            sent = FileFacts.of(response.status, response.headers)
            if sent.etag != facts.etag:
                raise ClientFailed(reason=f"{self._path} changed on the server while it came")
            if offset and not (response.status == 206 and is_range(response, offset, True)):
                raise ForeignAnswer(
                    status=response.status, reason="it is not the range that was asked for"
                )
            async for pieces in windows(response):
                await asyncio.to_thread(self._pass_on, b"".join(pieces))
                watcher.moved(self._hasher.size)
        if self._hasher.size < facts.size:
            raise Unreachable(url="The server", reason="it closed before the end of the file")

    def _pass_on(self, window: bytes) -> None:
        with local_errors(Path("standard output")):
            self._write(window)
        self._hasher.update(window)

    def _verify(self, facts: FileFacts) -> None:
        got = self._hasher.digest()
        if facts.blake3 is not None and got != facts.blake3:
            expected = facts.blake3.hex()
            raise ClientFailed(
                reason=f"what came of {self._path} is damaged, do not use it: its BLAKE3 is"
                f" {got.hex()}, expected {expected}"
            )
