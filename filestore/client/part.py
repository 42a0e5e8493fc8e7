"""``NAME.part``: the file that grows beside a download's destination, and its digest.

A part is ours if this run made it, or if the record of an earlier run names its device and
inode. Any other file of that name is somebody's: it is neither written nor removed unless the
user says so. Links are not followed.
"""

import asyncio
import os
import stat
from pathlib import Path
from typing import BinaryIO, Self

from filestore.client.local import hash_prefix, open_regular
from filestore.errors import Json, LocalFile, TargetExists
from filestore_chunker import FileHasher


class Part:
    """An open part. Its methods block, but for :meth:`go_on`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self.hasher = FileHasher()

    @classmethod
    def open(cls, path: Path, identity: Json, *, replace: bool) -> Self:
        """The part that has this identity, or a new one.

        :raises TargetExists: there is one of another identity; with ``replace`` it is removed.
        """
        descriptor = None
        if identity is not None:
            descriptor = _open_known(path, identity)
        if descriptor is None:
            descriptor = _create(path, replace=replace)
        return cls(path, os.fdopen(descriptor, "r+b", buffering=0))

    @property
    def identity(self) -> Json:
        """What tells this part from every other file as long as it exists."""
        return _identity(os.fstat(self._file.fileno()))

    @property
    def size(self) -> int:
        """How many bytes of the file are kept so far; what lies behind them does not count."""
        return self.hasher.size

    async def go_on(self, at_most: int) -> None:
        """Keeps the bytes of an earlier run, which are hashed."""
        descriptor = self._file.fileno()
        there = os.fstat(descriptor).st_size
        if there <= at_most:
            self.hasher = await asyncio.to_thread(hash_prefix, descriptor, there, self._path)
            self._file.seek(there)

    def write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]
            self.hasher.update(piece)

    def empty(self) -> None:
        self._file.seek(0)
        self._file.truncate(0)
        self.hasher = FileHasher()

    def publish(self, destination: Path) -> None:
        """Gives the part its name, durably.

        :raises LocalFile: it is not at its place any more; nothing was renamed.
        """
        self._file.truncate(self.size)
        os.fsync(self._file.fileno())
        if not self._is_at_its_place():
            reason = "another program put a different file there meanwhile"
            raise LocalFile(path=str(self._path), reason=reason)
        os.replace(self._path, destination)
        folder = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        if self._is_at_its_place():
            self._path.unlink()

    def close(self) -> None:
        self._file.close()

    def _is_at_its_place(self) -> bool:
        try:
            return _identity(os.lstat(self._path)) == self.identity
        except FileNotFoundError:
            return False


def _open_known(path: Path, identity: Json) -> int | None:
    """The file at ``path`` if it has this identity."""
    try:
        if _identity(os.lstat(path)) != identity:
            return None
        descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
    except (OSError, LocalFile):
        return None  # what is in the way now, if anything, is said when a new one is made
    if _identity(os.fstat(descriptor)) == identity:
        return descriptor
    os.close(descriptor)
    return None


def _create(path: Path, *, replace: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError as err:
        if not replace:
            raise TargetExists(path=str(path)) from err
    if stat.S_ISDIR(os.lstat(path).st_mode):
        raise IsADirectoryError(21, "it is a folder", str(path))
    path.unlink(missing_ok=True)
    return os.open(path, flags, 0o666)


def _identity(info: os.stat_result) -> Json:
    return [info.st_dev, info.st_ino]
