"""Connections that bound how long a client may be silent, and refuse in our words.

aiohttp's own protocol answers what its parser refuses (a header of a megabyte, a broken
request line) in plain text, and lets a new connection be silent for as long as an idle one.
Both are changed here, on the one seam where aiohttp makes connections.
"""

import asyncio
import contextlib
import fcntl
import struct
import termios
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from filestore.errors import Busy
from filestore.http.cors import Cors
from filestore.http.early import END_OF_HEAD, Head, early_problem, turned_away
from filestore.http.heads import BESIDE, Room, Weight
from filestore.http.override import overriding
from filestore.http.problems import from_aiohttp
from filestore.http.unreadable import BUSY_RETRY_S, from_parser
from filestore.ids import new_id
from filestore.model import KIB
from filestore.settings import Settings
from filestore.telemetry import Metrics

LINGER_S = 1.0
"""How long an answer that came early waits for the client to stop sending. Closing at once
would reset the connection, and the client could lose the answer; long waiting reads for
nothing what the client still sends."""

FLUSH_SHARE: Final = 0.8
"""Part of ``server.shutdown_s`` that running requests get, the rest closes everything. aiohttp
waits twice for as long as it is told: for handlers, then for those that it told to end."""

READ_BUFFER = 16 * KIB
"""Bytes that are taken from a socket at once: three times this is what a connection holds of
a body that nobody reads. Bodies that are read fast get more."""

_NAME_SIZE: Final = 256
"""Bytes kept of what stands before a header that is too long: its name, and spaces."""


WRITE_SIZE: Final = 64 * KIB
"""Bytes of an answer that a client must take within ``server.write_timeout_s``."""

METRICS: Final = web.AppKey("metrics", Metrics)
CORS: Final = web.AppKey("cors", Cors)


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


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the client has not taken yet, the kernel's included: up to 4 MiB of them hide
    from the transport what a slow client takes. Source: tcp(7), SIOCOUTQ."""
    held = bytearray(struct.calcsize("i"))
    with contextlib.suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
    return transport.get_write_buffer_size() + int(struct.unpack("i", held)[0])


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection, and all of a server together, may take."""

    header_timeout_s: float
    write_timeout_s: float
    connections: int
    header_size: int


class Connection(RequestHandler):
    """One client's connection. What it sends and what it does not take are both bounded.

    The deadline of writing lies here, below all handlers: an answer of any kind, also one that
    aiohttp makes by itself, ends when the client takes less than :data:`WRITE_SIZE` of it in
    ``write_timeout_s``, and so does a closed connection whose last bytes nobody takes.
    """

    __slots__ = (
        "_cors",
        "_head",
        "_header_timer",
        "_is_counted",
        "_is_heard_out",
        "_is_refused",
        "_is_turned_away",
        "_limits",
        "_metrics",
        "_payload",
        "_room",
        "_unsent",
        "_weight",
        "_wire",
        "_write_timer",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        limits: Limits,
        room: Room,
        metrics: Metrics | None,
        cors: Cors | None,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._cors = cors
        self._limits = limits
        self._metrics = metrics
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None
        self._unsent = 0
        self._is_counted = False
        self._is_heard_out = False
        self._is_refused = False
        self._is_turned_away = False
        self._head = b""
        self._payload: StreamReader | None = None
        self._room = room
        self._weight = Weight(room, limits.header_size + BESIDE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) and self._manager is not None
        self._wire = transport
        if len(self._manager.connections) >= self._limits.connections:
            self._turn_away(transport)
            return
        super().connection_made(transport)
        if self._metrics is not None:
            self._metrics.connections.inc()
            self._is_counted = True
        set_window(transport, READ_BUFFER)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._header_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._metrics is not None and self._is_counted:
            self._metrics.connections.dec()
        if self._is_heard_out:
            self._room.heard()
        self._wire = None
        self._weight.drop()
        super().connection_lost(exc)

    async def start(self) -> None:
        """Answers requests until the connection is to end; then its last bytes have an end, too."""
        try:
            await super().start()
        finally:
            self._watch_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None and not self._is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    def _is_closing(self) -> bool:
        return self._wire is None or self._wire.is_closing()

    def _watch_writing(self) -> None:
        """Begins to look how much the client takes, unless that is done already."""
        if self._wire is None or self._write_timer is not None:
            return
        self._unsent = _unsent(self._wire)
        timeout_s = self._limits.write_timeout_s
        self._write_timer = self._loop.call_later(timeout_s, self._cut_if_stuck)

    def _cut_if_stuck(self) -> None:
        assert self._wire is not None
        self._write_timer = None
        if self._unsent - _unsent(self._wire) >= WRITE_SIZE:
            self._watch_writing()
        else:
            self._wire.abort()

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Answers that there is no room, where pages may ask as soon as it is known whose."""
        self._force_close = True
        self._is_turned_away = True
        if self._metrics is not None:
            self._metrics.connections_refused.inc()
        set_window(transport, READ_BUFFER)
        if self._cors is not None and self._cors.is_on and self._room.hear_out():
            self._is_heard_out = True
            self._header_timer = self._loop.call_later(LINGER_S, self._refuse, transport)
        else:
            self._refuse(transport)

    def _refuse(self, transport: asyncio.Transport) -> None:
        """What the client sends afterwards is read and dropped for a moment: closing at once
        would reset the connection, and the answer could be lost."""
        if self._write_timer is not None or transport.is_closing():
            return
        limit = self._limits.connections
        error = Busy(what="connections", limit=limit, retry_after_s=BUSY_RETRY_S)
        transport.write(turned_away(error, Head(self._head), self._cors))
        transport.write_eof()
        self._head = b""
        self._write_timer = self._loop.call_later(LINGER_S, transport.abort)

    def _hear_out(self, data: bytes) -> None:
        """Takes what a client sends for whom there is no room: its head, or as much of it as
        says who asks."""
        if self._write_timer is None and self._wire is not None:
            self._head += data
            if END_OF_HEAD in self._head or len(self._head) >= READ_BUFFER:
                self._refuse(self._wire)

    def data_received(self, data: bytes) -> None:
        """Parses; tells the handler that reads a body when its chunks are not well-formed.

        aiohttp only queues the error as the next request: the handler would wait for bytes that
        cannot come until its time is out.
        """
        if self._is_turned_away:
            self._hear_out(data)
            return
        if self._is_refused:
            return
        count, was_body = self._request_count, self._is_in_body()
        is_head = self._current_request is None and not was_body
        head = self._head + data if is_head else b""
        super().data_received(data)
        request = self._current_request
        if self._request_count > count:
            self._payload = self._messages[-1][1]
        if was_body or self._request_count > count:
            self._weight.drop()  # at most this piece has a bit of the next header at its end
        else:
            self._weigh(len(data))
        if was_body and not self._is_in_body() and self._wire is not None:
            set_window(self._wire, READ_BUFFER)
        is_broken = bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)
        self._is_refused |= is_broken and request is None  # its name is looked for in the head
        if is_broken or not (self._messages or request or self._is_in_body()):
            self._head = head[-self._limits.header_size - len(data) - _NAME_SIZE :]
        else:
            self._head = b""
        self._await_head(has_begun=bool(self._head.strip(b"\r\n")))
        if request is None or not is_broken or request.content.is_eof():
            return
        if request.content.exception() is None:
            self._lingering_time = 0.0  # nothing behind the break can be read
            request.content.set_exception(web.RequestPayloadError("the framing is broken"))

    def _is_in_body(self) -> bool:
        """Whether what comes next belongs to the body of the last request that was parsed, also
        when nobody has taken that up yet, or nobody wants its body any more."""
        return self._payload is not None and not self._payload.is_eof()

    def _weigh(self, size: int) -> None:
        """Counts so many bytes of a header, and refuses what is too much of it. Behind that
        nothing is read: the parser would keep it."""
        if (error := self._weight.grow(size)) is None:
            return
        self._is_refused = True
        refused = _ErrInfo(status=400, exc=error, message=error.message)
        self._messages.append((refused, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _await_head(self, *, has_begun: bool = True) -> None:
        """Gives a header that has begun its time, counted from its first byte; that of the first
        request from the beginning of the connection. aiohttp only bounds idle connections."""
        if not has_begun:
            if self._header_timer is not None and self._head == b"":
                self._header_timer.cancel()
                self._header_timer = None
        elif self._header_timer is None:
            timeout_s = self._limits.header_timeout_s
            self._header_timer = self._loop.call_later(timeout_s, self.force_close)

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
        error = from_parser(status, exc, self._head, request_id=request_id)
        head = Head(self._head) if self._head else Head.of(request)
        response = early_problem(error, head, self._cors, request_id=request_id)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application on :class:`Connection`; made by :func:`make_runner`."""

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        cors = self.app.get(CORS)
        return _Server(
            _complete(plain.request_handler, cors),
            request_factory=overriding(plain.request_factory),
            handler_cancellation=plain.handler_cancellation,
            loop=asyncio.get_running_loop(),
            **{**plain._kwargs, "metrics": self.app.get(METRICS), "cors": cors, "room": Room()},
        )


def _complete(answer: Any, cors: Cors | None) -> Any:
    """Turns into documents the few refusals that aiohttp makes around all middlewares."""

    async def complete(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await answer(request)
        except web.HTTPException as err:
            if err.status < 400:
                raise
            return early_problem(from_aiohttp(err, request), Head.of(request), cors)
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
        limits=Limits(
            header_timeout_s=server.header_timeout_s,
            write_timeout_s=server.write_timeout_s,
            connections=server.max_connections,
            header_size=server.max_header_size,
        ),
        keepalive_timeout=server.keepalive_s,
        lingering_time=LINGER_S,
        max_field_size=server.max_header_size,
        max_line_size=server.max_header_size,
        read_bufsize=READ_BUFFER,
        shutdown_timeout=server.shutdown_s * FLUSH_SHARE / 2,
    )
