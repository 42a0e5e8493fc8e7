"""Local files: how they are opened, their digest, and what goes wrong with them."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filestore.errors import LocalFile, SourceChanged
from filestore_chunker import FileHasher

_WINDOW: Final = 4 << 20

_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, opened without ever waiting.

    Something else is not even opened, if that can be helped: the opening of a pipe waits for its
    other end, that of a device may do something to it.

    :raises LocalFile: it is no regular file.
    """
    _check(path, os.stat(path, follow_symlinks=not flags & os.O_NOFOLLOW).st_mode)
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        _check(path, os.fstat(descriptor).st_mode)  # it may have become another one meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def why_not_regular(mode: int) -> str | None:
    """What keeps a thing with this mode from being read as a file; None: nothing does."""
    if stat.S_ISREG(mode):
        return None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
    return f"it is {kind}, not a regular file"


def hash_prefix(descriptor: int, size: int, path: Path) -> FileHasher:
    """A hasher that has seen the first ``size`` bytes of an open file. Blocks.

    :raises SourceChanged: the file, which ``path`` names, is shorter.
    """
    hasher = FileHasher()
    while hasher.size < size:
        window = os.pread(descriptor, min(_WINDOW, size - hasher.size), hasher.size)
        if not window:
            raise SourceChanged(path=str(path))
        hasher.update(window)
    return hasher


def file_digest(path: Path, size: int) -> bytes:
    """BLAKE3 of the first ``size`` bytes of a file. Blocks."""
    descriptor = open_regular(path)
    try:
        return hash_prefix(descriptor, size, path).digest()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Turns an :class:`OSError` inside into :class:`LocalFile`, with the path it is about."""
    try:
        yield
    except OSError as err:
        reason = (err.strerror or str(err) or type(err).__name__).rstrip(".")
        name = err.filename if isinstance(err.filename, str) else str(path)
        raise LocalFile(path=name, reason=reason) from err


def _check(path: str | Path, mode: int) -> None:
    if reason := why_not_regular(mode):
        raise LocalFile(path=str(path), reason=reason)
