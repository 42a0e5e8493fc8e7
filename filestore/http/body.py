"""The body of an upload request as the hot path reads it.

aiohttp has no read timeout, raises different errors for a client that is gone, and drops what
it had received when the connection broke. Here a client must bring :data:`LEAST` bytes for each
``server.read_timeout_s`` that it is waited for, every break is
:class:`~filestore.transfer.source.Broken`, and what had arrived is handed out first.
"""

import asyncio
from typing import Final

from aiohttp import ClientError, StreamReader, web

from filestore.errors import RequestTimeout
from filestore.http.call import Call
from filestore.http.connection import READ_BUFFER, set_window
from filestore.model import KIB, MIB
from filestore.transfer.source import Broken

_WINDOWS: Final = ((4 * MIB, 256 * KIB), (256 * KIB, 64 * KIB), (0, READ_BUFFER))
"""From which size of the reader's buffer on how much is taken from the socket at once.

A wake-up costs some 0.06 ms. The budget has room for a few dozen of the largest buffers, so
what their sockets hold besides is small against it.
"""

LEAST: Final = KIB
"""Bytes that a client must bring within the read timeout: 17 bytes a second by default. Less would
let one byte a minute hold a connection and an upload for as long as somebody likes."""

_BROKEN: Final = (ConnectionError, ClientError, web.RequestPayloadError)


class BrokenFraming(Broken):
    """The chunks of the body are not well-formed; the client is still there to be told."""

    code = "bad-request"


class RequestBody:
    """Reads the body of ``call``'s request; tells a waiting client to send at the first read.

    So nothing has been sent yet when a request is refused before anybody reads.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._timeout_s = call.services.settings.server.read_timeout_s
        self._stream: StreamReader | None = None
        self._window = READ_BUFFER
        self._brought = 0
        self._waited_s = 0.0  # for these; the time in which nobody reads is not the client's

    def __repr__(self) -> str:
        return f"<RequestBody of {self._call!r}>"

    @property
    def announced(self) -> int | None:
        """How many bytes the client said it sends; None when it did not say (chunked)."""
        request = self._call.request
        if request.content_length is not None:
            return request.content_length
        return None if request.body_exists else 0

    async def read(self, wanted: int) -> bytes:
        """As :class:`~filestore.transfer.source.ByteSource` has it.

        :raises Broken: the client is gone, or the framing is broken.
        :raises RequestTimeout: too little came in the time that the settings allow.
        """
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._timeout_s - self._waited_s):
                if self._stream is None:
                    self._stream = await self._call.body()
                self._adapt(self._stream, wanted)
                piece = await self._stream.readany()
        except TimeoutError as err:
            raise RequestTimeout(seconds=round(self._timeout_s)) from err
        except _BROKEN as err:
            return self._rest(err)
        except RuntimeError as err:  # of a connection that was lost before the first read
            if self._call.request.transport is not None:
                raise
            return self._rest(err)
        self._note(len(piece), asyncio.get_running_loop().time() - began)
        return piece

    def _note(self, size: int, waited_s: float) -> None:
        """Counts what came and how long that took; enough of it gives the client new time."""
        self._brought += size
        self._waited_s += waited_s
        if self._brought >= LEAST:
            self._brought, self._waited_s = 0, 0.0

    def _adapt(self, stream: StreamReader, wanted: int) -> None:
        window = next(window for size, window in _WINDOWS if wanted >= size)
        transport = self._call.request.transport
        if window != self._window and transport is not None:
            self._window = window
            set_window(transport, window, stream)

    def _rest(self, err: Exception) -> bytes:
        """What arrived before the break, once; then the break.

        The public ways to read raise as soon as the connection is lost, so the buffer is read
        past them: up to twice the window, which the client has sent and need not send again.
        """
        if self._stream is not None and (rest := self._stream._read_nowait(-1)):
            return rest
        if isinstance(err, web.RequestPayloadError):
            raise BrokenFraming(field="body", reason="its framing is broken") from err
        raise Broken(seconds=0) from err
