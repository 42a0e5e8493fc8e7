"""Connections that bound how long a client may be silent, and refuse in our words.

aiohttp's own protocol answers what its parser refuses (a header of a megabyte, a broken
request line) in plain text, and lets a new connection be silent for as long as an idle one.
Both are changed here, on the one seam where aiohttp makes connections.
"""

import asyncio
import re
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from filestore.errors import BadHeader, BadRequest, FilestoreError, Internal
from filestore.http.middleware import TUS_RESUMABLE
from filestore.http.problems import from_aiohttp, problem_response
from filestore.ids import new_id
from filestore.model import KIB
from filestore.settings import Settings

LINGER_S = 1.0
"""How long an answer that came early waits for the client to stop sending. Closing at once
would reset the connection, and the client could lose the answer; long waiting reads for
nothing what the client still sends."""

READ_BUFFER = 16 * KIB
"""Bytes that are taken from a socket at once: three times this is what a connection holds of
a body that nobody reads. Bodies that are read fast get more."""


_DUPLICATE = re.compile(r"Duplicate '([A-Za-z-]{1,40})' header")
"""What aiohttp's parser says of a header that must be single."""


def set_window(
    transport: asyncio.BaseTransport, size: int, body: StreamReader | None = None
) -> None:
    """How many bytes are taken from a socket at once.

    asyncio takes 256 KiB, which aiohttp's buffer of 64 KiB answers with a pause each time, and
    which the heap keeps for each stalled client. Neither has a public way to say less.
    """
    transport.max_size = size  # type: ignore[attr-defined]
    if body is not None:
        body._low_water = size
        body._high_water = 2 * size


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_header_timer", "_header_timeout_s")

    def __init__(self, manager: web.Server, *, header_timeout_s: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self._header_timeout_s = header_timeout_s
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        set_window(transport, READ_BUFFER)
        self._header_timer = self._loop.call_later(self._header_timeout_s, self._close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; tells the handler that reads a body when its chunks are not well-formed.

        aiohttp only queues the error as the next request: the handler would wait for bytes that
        cannot come until its time is out.
        """
        super().data_received(data)
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        if isinstance(self._messages[-1][0], _ErrInfo) and request.content.exception() is None:
            self._lingering_time = 0.0  # nothing behind the break can be read
            request.content.set_exception(web.RequestPayloadError("the framing is broken"))

    def _close_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refused, or what no handler caught, as a problem document."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer was begun and cannot be finished")
        request_id = new_id("req")
        response = _problem(_from_parser(status, exc, request_id), request_id)
        response.force_close()
        return response


def _from_parser(status: int, exc: BaseException | None, request_id: str) -> FilestoreError:
    if status != 400:
        return Internal(request_id=request_id)
    kind = type(exc).__name__
    if kind == "LineTooLong":
        return BadHeader(header="line", reason="it is longer than this server takes")
    if kind == "InvalidHeader":
        return BadHeader(header="name or value", reason="it has characters that are not allowed")
    if found := _DUPLICATE.search(str(exc)):
        return BadHeader(header=found[1], reason="it is given more than once")
    return BadRequest(field="request", reason="it is not well-formed HTTP/1.1")


def _problem(error: FilestoreError, request_id: str) -> web.Response:
    """An answer outside of the application, so nothing else puts on it what all answers have."""
    response = problem_response(error, request_id=request_id)
    response.headers["X-Request-ID"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Tus-Resumable"] = TUS_RESUMABLE
    response.headers["Server"] = "filestore"
    return response


class _Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application on :class:`Connection`; made by :func:`make_runner`."""

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return _Server(
            _complete(plain.request_handler),
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=asyncio.get_running_loop(),
            **plain._kwargs,
        )


def _complete(answer: Any) -> Any:
    """Turns into documents the few refusals that aiohttp makes around all middlewares."""

    async def complete(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await answer(request)
        except web.HTTPException as err:
            if err.status < 400:
                raise
            return _problem(from_aiohttp(err, request), new_id("req"))
        return response

    return complete


def make_runner(app: web.Application, settings: Settings) -> Runner:
    """The runner that serves ``app``, with the limits that ``settings`` name.

    Bodies are not decompressed: offsets count the bytes that arrive. A handler is not cancelled
    when its client goes, because it still stores what came.
    """
    server = settings.server
    return Runner(
        app,
        handle_signals=False,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=False,
        header_timeout_s=server.header_timeout_s,
        keepalive_timeout=server.keepalive_s,
        lingering_time=LINGER_S,
        max_field_size=server.max_header_size,
        max_line_size=server.max_header_size,
        read_bufsize=READ_BUFFER,
        shutdown_timeout=server.shutdown_s,
    )
