"""Where the bytes of an upload request come from, and why they stop."""

from enum import StrEnum
from typing import Protocol

from filestore.errors import FilestoreError


class ByteSource(Protocol):
    """The body of one request."""

    async def read(self) -> bytes:
        """The next bytes, of any number; ``b""`` at the regular end of the body.

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
