"""Checksums of one request's body: the algorithms that are spoken, said once.

What OPTIONS advertises, what Upload-Checksum may name and what is hashed all come from
:data:`ALGORITHMS`. Hashing runs on worker threads and releases the GIL for buffers that are
worth it.
"""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from blake3 import blake3

from filestore.blocks.port import Buffer
from filestore.errors import ChecksumMismatch


class Hash(Protocol):
    """The running hash of a body whose bytes come in order."""

    def update(self, data: Buffer, /) -> object: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 as in Ethernet, gzip and zlib (polynomial 0x04C11DB7, reflected), big-endian.

    Source: ISO/IEC 8802-3, section 3.2.9; RFC 1952, section 8. CRC-32C is another function.
    """

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Four bytes, the most significant first."""
        return self._value.to_bytes(4, "big")


ALGORITHMS: Final[Mapping[str, Callable[[], Hash]]] = {
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "blake3": blake3,
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "crc32": Crc32,
}
"""By the names of ``Upload-Checksum``. tus requires sha1; md5 and crc32 find accidents only."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the body of one request must hash to."""

    algorithm: str
    digest: bytes

    def check(self, digest: bytes) -> None:
        """:raises ChecksumMismatch: the body hashes to ``digest``, which is another one."""
        if not hmac.compare_digest(digest, self.digest):
            raise ChecksumMismatch(algorithm=self.algorithm)

    def check_nothing(self) -> None:
        """:meth:`check` for a body without any bytes."""
        self.check(ALGORITHMS[self.algorithm]().digest())


def digest_size(algorithm: str) -> int:
    """Bytes of a digest."""
    return len(ALGORITHMS[algorithm]().digest())
