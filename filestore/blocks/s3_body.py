"""A block on its way to the S3 service: sized, in pieces, without a copy of the whole."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from filestore.blocks.deadline import refuse_if_late
from filestore.blocks.port import Buffer
from filestore.model import KIB

_PIECE_SIZE: Final = 256 * KIB
"""What is handed to the transport at once. It copies what the kernel does not take at once."""


class BlockBody(Payload):
    """The concatenation of ``parts`` as a request body with a Content-Length.

    Looks at the deadline when its first byte is about to be sent, which may be much later
    than the request was made: connections are waited for, and aiohttp sends a request
    again when it finds that a kept connection was closed.
    """

    def __init__(self, parts: Sequence[Buffer], deadline: float | None) -> None:
        super().__init__(parts, content_type="application/octet-stream")
        self._views = [memoryview(part).cast("B") for part in parts]
        self._size = sum(view.nbytes for view in self._views)
        self._deadline = deadline

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a block is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        refuse_if_late(self._deadline)
        for piece in self._pieces():
            await writer.write(piece)

    def sha256(self) -> str:
        """The hex digest that the signature covers. Costs 0.6 ms per MiB, without the GIL."""
        digest = hashlib.sha256()
        for view in self._views:
            digest.update(view)
        return digest.hexdigest()

    def _pieces(self) -> Iterator[memoryview]:
        for view in self._views:
            for start in range(0, view.nbytes, _PIECE_SIZE):
                yield view[start : start + _PIECE_SIZE]
