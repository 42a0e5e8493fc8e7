"""The tus 1.0.0 requests of an upload: creation, offset, bytes, termination.

Source: tus resumable upload protocol 1.0.0, core protocol, creation, termination.
"""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from filestore.client.transport import (
    API,
    ResponseHeaders,
    Transport,
    segments,
)
from filestore.errors import ForeignAnswer

_VERSION: Final = {"Tus-Resumable": "1.0.0"}
_BODY_TYPE: Final = "application/offset+octet-stream"
_LOCATION: Final = re.compile(re.escape(API) + r"(uploads/[A-Za-z0-9_.~-]+)/?$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is: the durable offset, and the length (None: not known yet).

    ``blake3`` is what the whole file must hash to, if who began the upload said so.
    """

    offset: int
    length: int | None
    blake3: bytes | None


class Uploads:
    """tus requests. An upload is named by its path below the API, ``uploads/upl_…``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, group: str, length: int, metadata: Mapping[str, str]) -> str:
        """A new upload of ``length`` bytes; one of 0 bytes is complete at once.

        Not repeated when the answer is lost: the reservation of an upload that nobody knows of
        is held until it expires.
        """
        headers = {
            **_VERSION,
            "Upload-Length": str(length),
            "Upload-Metadata": ",".join(f"{key} {_b64(text)}" for key, text in metadata.items()),
        }
        path = f"groups/{segments(group)}/uploads"
        answer = await self._transport.call("POST", path, headers=headers)
        # Only the path is taken: a server behind a proxy may not know its own origin, and the
        # token must not go anywhere else.
        match = _LOCATION.search(answer.headers.get("Location", ""))
        if match is None:
            raise ForeignAnswer(status=answer.status, reason="Location names no upload")
        return match[1]

    async def progress(self, upload: str) -> Progress:
        """Where to go on. The server waits until a request that is under way has let go.

        :raises NotFound: the server does not know the upload, or it is somebody else's.
        :raises Forbidden: it is another member's, or the right to write is gone.
        :raises UploadGone: it ended; begin a new one.
        """
        answer = await self._transport.call("HEAD", upload, headers=_VERSION)
        length = answer.headers.get("Upload-Length")
        return Progress(
            _number(answer.headers, "Upload-Offset"),
            None if length is None else _number(answer.headers, "Upload-Length"),
            _blake3_of(answer.headers.get("Upload-Metadata", "")),
        )

    async def append(
        self, upload: str, offset: int, size: int, body: AsyncIterator[bytes | memoryview]
    ) -> int:
        """Sends ``size`` bytes of ``body`` in one request; gives the new durable offset.

        One attempt. After any error the offset is unknown: ask :meth:`progress`.
        """
        headers = {
            **_VERSION,
            "Upload-Offset": str(offset),
            "Content-Type": _BODY_TYPE,
            "Content-Length": str(size),
        }
        async with self._transport.send("PATCH", upload, headers=headers, data=body) as response:
            return _number(response.headers, "Upload-Offset")

    async def terminate(self, upload: str) -> None:
        """Ends the upload and frees its reservation; a finished file stays."""
        await self._transport.call("DELETE", upload, headers=_VERSION)


def _number(headers: ResponseHeaders, name: str) -> int:
    text = headers.get(name, "")
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        raise ForeignAnswer(status=0, reason=f"header {name} is missing or no number")
    return int(text)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _blake3_of(metadata: str) -> bytes | None:
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "blake3":
            try:
                return bytes.fromhex(base64.b64decode(value, validate=True).decode("ascii"))
            except ValueError:
                return None
    return None
