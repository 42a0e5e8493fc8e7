"""What a request had sent when its connection broke is handed out before the break is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from filestore.errors import RequestTimeout
from filestore.http.body import BrokenFraming, RequestBody
from filestore.http.call import Call, Services
from filestore.http.connection import make_runner
from filestore.http.routing import Access, Route
from filestore.settings import Settings, load
from filestore.transfer.source import Broken

SENT = b"x" * 30_000
Read = tuple[bytes, Exception | None]


@asynccontextmanager
async def _reading(
    settings: Settings, *, late: bool
) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Future[Read]]]:
    """A server that reads one body, ``late``: only when it has broken; its port, whether it
    has begun, and the outcome."""
    outcome: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()
    nothing: Any = None
    services = Services(settings, *([nothing] * 9))

    async def handle(request: web.Request) -> web.Response:
        body, received = RequestBody(Call(request, services, route)), b""
        begun.set()
        if late:
            with contextlib.suppress(ConnectionError, web.RequestPayloadError):
                await request.content.wait_eof()
        try:
            while piece := await body.read(1):
                received += piece
            outcome.set_result((received, None))
        except (Broken, RequestTimeout) as err:
            outcome.set_result((received, err))
        return web.Response()

    handler: Any = handle
    route = Route(
        method="PUT", path="/", handler=handler, access=Access.PUBLIC, summary="", responses={}
    )
    app = web.Application()
    app.router.add_put("/", handle)
    async with AsyncExitStack() as stack:
        runner = make_runner(app, settings)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1], begun, outcome


async def _send(port: int, framing: bytes, body: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    writer.write(body)
    await writer.drain()
    return writer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(flags={"data": tmp_path, "server.read_timeout_s": 1, "server.shutdown_s": 0})


@pytest.mark.parametrize("late", [False, True])
async def test_what_arrived_before_the_client_left_is_read_first(
    settings: Settings, late: bool
) -> None:
    async with _reading(settings, late=late) as (port, begun, outcome):
        writer = await _send(port, b"Content-Length: 100000", SENT)
        await begun.wait()
        writer.close()
        received, err = await asyncio.wait_for(outcome, 20)
    assert received == SENT
    assert type(err) is Broken


@pytest.mark.parametrize("late", [False, True])
async def test_what_arrived_before_the_chunks_broke_is_read_first(
    settings: Settings, late: bool
) -> None:
    async with _reading(settings, late=late) as (port, begun, outcome):
        writer = await _send(port, b"Transfer-Encoding: chunked", b"7530\r\n" + SENT + b"\r\n")
        await begun.wait()
        writer.write(b"not a length\r\n")
        received, err = await asyncio.wait_for(outcome, 20)
        writer.close()
    assert received == SENT
    assert type(err) is BrokenFraming


async def test_a_silent_client_ends_the_reading(settings: Settings) -> None:
    async with _reading(settings, late=False) as (port, begun, outcome):
        writer = await _send(port, b"Content-Length: 100000", SENT)
        await begun.wait()
        received, err = await asyncio.wait_for(outcome, 20)
        writer.close()
    assert received == SENT
    assert isinstance(err, RequestTimeout)
    assert err.members["seconds"] == 1
