"""One file's way up: begun once, continued as often as needed, finished once.

What makes two uploads the same: the server, the user, the target, and the local file's path,
device, inode, size and time of change. While one is under way its record names the upload, so a
killed process goes on when it is repeated; the offset is always the server's. When it is done
the record keeps the target's ETag, so that a repetition finds "already there" as long as the
target still is that version. Without a record, a target of equal size and digest counts as well.

Without a record, an upload of the same user to the same place that was begun elsewhere is gone
on with, if it was begun with a digest and the local file has it. One that was begun for a local
file which has changed since is ended, so that it does not reserve for nobody.
"""

import asyncio
import contextlib
import mimetypes
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiofiles
import aiofiles.os

from filestore.client.damage import Damage
from filestore.client.files import FileFacts, Files
from filestore.client.identity import Identify, Identity
from filestore.client.local import local_errors, open_regular
from filestore.client.retry import RetryPolicy
from filestore.client.sending import FileState, Sending
from filestore.client.state import Record, TransferRecords
from filestore.client.tree import Tree
from filestore.client.tus import Uploads
from filestore.client.watcher import Watcher
from filestore.errors import (
    BadName,
    FilestoreError,
    Forbidden,
    Json,
    NotFound,
    QuotaExceeded,
    SourceChanged,
    UploadGone,
)
from filestore.model import Protocol
from filestore.names import parse_name, parse_path

_WORTH_A_LOOK: Final = 1 << 20
"""Bytes below which nobody asks whether an upload was begun elsewhere: of a folder with many
small files, each would cost a request more, and there is next to nothing to win."""


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
class UploadPorts:
    """What an upload needs of its client."""

    uploads: Uploads
    files: Files
    tree: Tree
    damage: Damage
    records: TransferRecords


class Upload:
    """One local file on its way to one target. Used once."""

    def __init__(
        self, source: Path, target: Target, ports: UploadPorts, media_type: str | None = None
    ) -> None:
        self._source = source.absolute()
        self._target = target
        self._media_type = media_type or guessed_media_type(target.name)
        self._uploads = ports.uploads
        self._files = ports.files
        self._tree = ports.tree
        self._damage = ports.damage
        self._records = ports.records
        self._digest: bytes | None = None
        self._sent = 0

    async def run(
        self, *, server: str, identify: Identify, verify: bool, retry: RetryPolicy, watcher: Watcher
    ) -> Uploaded:
        """Returns when the file is there. Safe to repeat, also after a kill.

        The server is asked for nothing, not even by ``identify``, before source and target are
        known to be possible.

        :raises LocalFile: the source is no regular file, or cannot be read.
        :raises BadName: the target's name is not allowed; nothing was sent.
        :raises SourceChanged: the local file changed meanwhile; the upload was ended.
        :raises BusyLocally: another process of this user uploads the same file there.
        :raises DigestMismatch: with ``verify``; the upload was ended. Safe to repeat.
        :raises QuotaExceeded: with the members ``group`` and ``path`` beside the server's.
        """
        _check(self._target)
        with local_errors(self._source):
            async with aiofiles.open(self._source, "rb", buffering=0, opener=open_regular) as file:
                state = FileState.of(file.fileno())
                user = await identify()
                key = TransferRecords.key(
                    *(server, user.key, self._target.group, self._target.path),
                    os.fsencode(self._source).hex(),
                )
                with self._records.hold(key, self._source):
                    sending = Sending(file.fileno(), state, self._source, watcher)
                    try:
                        return await self._bring(key, sending, user, verify=verify, retry=retry)
                    except QuotaExceeded as err:
                        err.members.update(group=self._target.group, path=f"/{self._target.path}")
                        raise

    async def _bring(
        self, key: str, sending: Sending, user: Identity, *, verify: bool, retry: RetryPolicy
    ) -> Uploaded:
        """Decides what there is to do: nothing, go on, or begin."""
        size, file = sending.state.size, sending.state.record
        record = self._records.load(key) or {}
        is_same_file = record.get("file") == file
        stale = None if is_same_file else record.get("upload")
        record = record if is_same_file else {}
        there = await self._already_there(record, sending)
        if there is not None:
            await self._end(stale)
            self._records.save(key, {"etag": there.etag, "file": file})
            return Uploaded(self._target, size, there.etag, 0, 0, was_there=True)
        upload, offset = await self._resume(record, size)
        if upload is None:
            upload, offset = await self._adopt(user, sending, ended=stale)
        if upload != stale:
            await self._end(stale)  # first, because the next one may need what it reserves
        if upload is None:
            upload = await self._create(sending, verify=verify)
        self._records.save(key, {"upload": upload, "file": file})
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
            self._records.save(key, {"etag": facts.etag, "file": file})
        else:  # somebody already put another version on top
            self._records.forget(key)
        return Uploaded(self._target, size, facts.etag, self._sent, offset, was_there=False)

    async def _already_there(self, record: Record, sending: Sending) -> FileFacts | None:
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
        if facts.size != sending.state.size:
            return None
        if await self._damage.has(self._target.group, self._target.path):
            return None  # sent again, the same bytes heal it
        if record.get("etag") == facts.etag:
            return facts
        if facts.blake3 is None:
            return None
        return facts if await self._local_digest(sending) == facts.blake3 else None

    async def _resume(self, record: Record, size: int) -> tuple[str | None, int]:
        """The upload of an earlier run and its offset, if it can go on."""
        upload = record.get("upload")
        if not isinstance(upload, str):
            return None, 0
        try:
            progress = await self._uploads.progress(upload)
            if progress.offset == size:  # done, when nobody was there to see it
                await self._files.facts(self._target.group, self._target.path)
        except (NotFound, UploadGone, Forbidden):
            return None, 0
        return (upload, progress.offset) if progress.length == size else (None, 0)

    async def _adopt(
        self, user: Identity, sending: Sending, *, ended: Json
    ) -> tuple[str | None, int]:
        """An upload that this user began elsewhere, if it certainly is of the same file.

        ``ended`` is one that will be ended if it is not adopted.
        """
        for upload in await self._candidates(user, sending.state.size):
            try:
                progress = await self._uploads.progress(upload)
            except (NotFound, UploadGone, Forbidden):
                continue
            if progress.blake3 is None:
                if upload != ended:
                    upload_id = upload.rpartition("/")[2]
                    sending.watcher.begins_anew(str(self._target), upload_id)
            elif progress.blake3 == await self._local_digest(sending):
                return upload, progress.offset
        return None, 0

    async def _candidates(self, user: Identity, size: int) -> list[str]:
        """Running uploads of this user to this place, of this size."""
        if user.user_id is None or size < _WORTH_A_LOOK:
            return []
        wanted = {
            "user_id": user.user_id,
            "path": _comparable(self._target.path),
            "length": size,
            "protocol": Protocol.TUS.value,
        }
        found: list[str] = []
        with contextlib.suppress(Forbidden):  # a token that may write and not read
            async for item in self._tree.uploads(self._target.group):
                seen = {**item, "path": _comparable(str(item.get("path")))}
                if wanted.items() <= seen.items():
                    found.append(f"uploads/{item.get('id')}")
        return found

    async def _create(self, sending: Sending, *, verify: bool) -> str:
        metadata = {"filename": self._target.name}
        if self._target.folder:
            metadata["path"] = self._target.folder
        if self._media_type is not None:
            metadata["filetype"] = self._media_type
        if verify:
            await self._local_digest(sending)
        if self._digest is not None:
            metadata["blake3"] = self._digest.hex()
        return await self._uploads.create(self._target.group, sending.state.size, metadata)

    async def _local_digest(self, sending: Sending) -> bytes:
        if self._digest is None:
            self._digest = await asyncio.to_thread(sending.digest)
        return self._digest

    async def _end(self, upload: Json) -> None:
        """Ends an upload that nobody will go on with; it would expire by itself, too."""
        if isinstance(upload, str):
            with contextlib.suppress(NotFound, UploadGone, Forbidden):
                await self._uploads.terminate(upload)

    async def _send(self, upload: str, offset: int, sending: Sending, retry: RetryPolicy) -> None:
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


def _check(target: Target) -> None:
    """:raises BadName: no server would take this name."""
    try:
        target.path.encode()
    except UnicodeEncodeError as err:  # local names are bytes; PEP 383 made surrogates of them
        with contextlib.suppress(UnicodeEncodeError):  # it came from elsewhere; see below
            name = os.fsencode(target.path).decode(errors="backslashreplace")
            raise BadName(name=name, reason="its bytes are no valid UTF-8", rule="utf-8") from err
    parse_path(target.folder)
    parse_name(target.name)


def guessed_media_type(name: str) -> str | None:
    """What the name's extension stands for; of a compressed file, the compression."""
    kind, coding = mimetypes.guess_type(name)
    return kind if coding is None else _COMPRESSED.get(coding)


_COMPRESSED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}


def _comparable(path: str) -> str:
    return unicodedata.normalize("NFC", path.strip("/"))
