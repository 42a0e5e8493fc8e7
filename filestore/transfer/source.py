"""Where the bytes of an upload request come from, and why they stop."""

from enum import StrEnum
from typing import Protocol

from filestore.errors import FilestoreError


class ByteSource(Protocol):
    """The body of one request."""

    async def read(self, wanted: int) -> bytes:
        """The next bytes, of any number; ``b""`` at the regular end of the body.

        ``wanted`` is the size of the buffer that they are for: it is large while the stream
        is fast and memory at ease, and then larger pieces are cheaper for all.

        :raises Broken: the client went away or the body is damaged; what came before counts.
        :raises RequestTimeout: the client was silent for too long; what came before counts.
        """
        ...


class Broken(FilestoreError):
    """The client is gone; nobody reads an answer."""

    code = "request-timeout"


class End(StrEnum):
    """Why an upload request stopped reading."""

    BODY = "body"
    BROKEN = "broken"
    ASKED = "asked"
    TOO_LONG = "too-long"
