"""What names a block, and what a whole file hashes to: BLAKE3, and SHA-256 on request.

Hashes are raw bytes here; hex belongs to the edges. All of this releases the GIL for
buffers that are worth it, so it runs well on worker threads.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

HASH_SIZE: Final = 32
"""Bytes of a BLAKE3 digest. Source: BLAKE3 specification, section 2."""

Buffer = bytes | bytearray | memoryview


def block_hash(data: Buffer) -> bytes:
    """The name of a block: BLAKE3 of its plain bytes."""
    return blake3(data).digest()


def hash_blocks(blocks: Sequence[Buffer]) -> list[bytes]:
    """The names of many blocks, in order; for one hop to a worker thread."""
    return [blake3(block).digest() for block in blocks]


class FileHasher:
    """The running digest of a file whose bytes come in order. One thread at a time."""

    def __init__(self, *, with_sha256: bool = False) -> None:
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256() if with_sha256 else None
        self._size = 0

    def __repr__(self) -> str:
        return f"<FileHasher of {self._size} bytes>"

    @property
    def size(self) -> int:
        """How many bytes were hashed: where the next ones have to begin."""
        return self._size

    def update(self, data: Buffer) -> None:
        self._blake3.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self._size += memoryview(data).nbytes

    def digest(self) -> bytes:
        """BLAKE3 of what came so far; more may follow."""
        return self._blake3.digest()

    def sha256(self) -> bytes | None:
        """SHA-256 of what came so far, or None if it was not asked for."""
        return None if self._sha256 is None else self._sha256.digest()

    def copy(self) -> "FileHasher":
        """An independent hasher in the same state."""
        other = FileHasher()
        other._blake3 = self._blake3.copy()
        other._sha256 = None if self._sha256 is None else self._sha256.copy()
        other._size = self._size
        return other
