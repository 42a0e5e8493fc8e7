"""Local files: their digest, and what goes wrong with them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filestore.errors import LocalFile, SourceChanged
from filestore_chunker import FileHasher

_WINDOW: Final = 4 << 20


def hash_prefix(path: Path, size: int) -> FileHasher:
    """A hasher that has seen the first ``size`` bytes of a file. Blocks.

    :raises SourceChanged: the file is shorter.
    """
    hasher = FileHasher()
    with path.open("rb", buffering=0) as file:
        while hasher.size < size:
            window = file.read(min(_WINDOW, size - hasher.size))
            if not window:
                raise SourceChanged(path=str(path))
            hasher.update(window)
    return hasher


def file_digest(path: Path, size: int) -> bytes:
    """BLAKE3 of the first ``size`` bytes of a file. Blocks."""
    return hash_prefix(path, size).digest()


@contextlib.contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Turns an :class:`OSError` inside into :class:`LocalFile`, with the path it is about."""
    try:
        yield
    except OSError as err:
        reason = (err.strerror or str(err) or type(err).__name__).rstrip(".")
        name = err.filename if isinstance(err.filename, str) else str(path)
        raise LocalFile(path=name, reason=reason) from err
