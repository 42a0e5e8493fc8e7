"""What a connection may hold, and for how long, whatever its client does not do."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from filestore.app import Service, listening, make_service
from filestore.http import connection, heads
from filestore.http.body import RequestBody
from filestore.http.call import Call
from filestore.http.heads import HeadsTooLong, HeadTooLong, Room, Weight
from filestore.model import MIB
from filestore.settings import Settings, load
from tests.http.api import PROBLEM, RawConnection
from tests.http.skeleton import serving

POST = b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
TINY = 4096
"""A socket's buffers, so that little gets lost in them."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(
        flags={
            "data": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "server.write_timeout_s": 1,
            "server.max_connections": 2,
            "server.shutdown_s": 1,
        }
    )


@asynccontextmanager
async def _deaf(url: str) -> AsyncIterator[socket.socket]:
    """A client that has connected and never reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
        sock.setblocking(False)
        address = (URL(url).host, URL(url).port)
        await asyncio.get_running_loop().sock_connect(sock, address)
        yield sock


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  (a figure: there is no event to wait for)
            await asyncio.sleep(0.01)


def _open(service: Service) -> float:
    value = service.services.metrics.registry.get_sample_value("filestore_connections")
    assert value is not None
    return value


async def test_a_client_that_asks_and_never_reads_holds_no_connection_and_no_handler(
    service: Service,
) -> None:
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    async with listening(service) as url, _deaf(url) as deaf:
        await asyncio.get_running_loop().sock_sendall(deaf, request * 100)
        await _until(lambda: _open(service) == 1)
        await _until(lambda: _open(service) == 0)


async def test_the_last_bytes_of_a_closed_connection_are_not_waited_for_without_end(
    service: Service,
) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        transport = call.request.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TINY)
        return web.Response(body=bytes(60_000))

    async with serving(service, answer, write_timeout_s=0.2) as url, _deaf(url) as deaf:
        await asyncio.get_running_loop().sock_sendall(deaf, POST + b"Connection: close\r\n\r\n")
        await _until(lambda: _open(service) == 1)
        await _until(lambda: _open(service) == 0)


async def test_who_takes_an_answer_slowly_but_steadily_gets_all_of_it(service: Service) -> None:
    """The transport alone would see nothing of it: the kernel holds megabytes."""
    size = 12_000_000

    async def answer(call: Call) -> web.StreamResponse:
        return web.Response(body=bytes(size))

    async with serving(service, answer, write_timeout_s=0.4) as url, _deaf(url) as slow:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(slow, POST + b"Connection: close\r\n\r\n")
        received, rests = 0, 0
        while piece := await loop.sock_recv(slow, 65_536):
            received += len(piece)
            if received > size // 2 + rests * 65_536 and rests < 20:
                rests += 1
                await asyncio.sleep(0.05)
    assert received > size


async def test_a_connection_too_many_is_told_so_and_there_is_room_again_afterwards(
    service: Service,
) -> None:
    async with listening(service) as url:
        async with RawConnection(url) as first, RawConnection(url) as second:
            for raw in (first, second):
                await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await raw.head())[0] == 200
            async with RawConnection(url) as third:
                await third.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                status, headers = await third.head()
                document = json.loads(await third.body(headers))
                assert await third.reader.read() == b""
            assert (status, headers["connection"], headers["content-type"]) == (
                *(503, "close"),
                PROBLEM,
            )
            assert int(headers["retry-after"]) > 0
            assert document["type"].endswith(":busy") and document["limit"] == 2
            assert _open(service) == 2
        await _until(lambda: _open(service) == 0)
        async with RawConnection(url) as raw:
            await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.head())[0] == 200


PAGE = "https://app.example.org"


@asynccontextmanager
async def _crowded(tmp_path: Path, origins: str) -> AsyncIterator[str]:
    """A service with one connection, which is taken."""
    flags = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "server.shutdown_s": 1}
    flags |= {"server.max_connections": 1}
    flags |= {"server.cors_origins": origins} if origins else {}
    async with make_service(load(environ={}, flags=flags)) as service:
        async with listening(service) as url, RawConnection(url) as first:
            await first.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await first.head())[0] == 200
            yield url


@pytest.mark.parametrize(
    ("origins", "asking", "allowed"),
    [(PAGE, PAGE, PAGE), ("*", PAGE, "*"), (PAGE, "https://evil.example", None), ("", PAGE, None)],
)
async def test_a_page_that_may_ask_can_read_that_there_is_no_room(
    tmp_path: Path, origins: str, asking: str, allowed: str | None
) -> None:
    async with _crowded(tmp_path, origins) as url, RawConnection(url) as raw:
        await raw.send(b"PATCH /api/v1/uploads/x HTTP/1.1\r\nHost: x\r\nOrig")
        await raw.send(f"in: {asking}\r\nContent-Length: 9\r\n\r\n".encode())
        status, headers = await raw.head()
        document = json.loads(await raw.body(headers))
        assert await raw.reader.read() == b""
    assert (status, document["type"][-5:]) == (503, ":busy")
    assert headers.get("access-control-allow-origin") == allowed
    shown = headers.get("access-control-expose-headers", "")
    assert ("Retry-After" in shown) == (allowed is not None)
    vary = ["Accept-Language", *(["Origin"] if origins == PAGE else [])]
    assert headers["vary"] == ", ".join(vary)


async def test_a_preflight_without_room_is_answered_so_that_the_page_gets_to_the_503(
    tmp_path: Path,
) -> None:
    async with _crowded(tmp_path, PAGE) as url, RawConnection(url) as raw:
        lines = ["OPTIONS /api/v1/uploads/x HTTP/1.1", "Host: x", f"Origin: {PAGE}"]
        lines += ["Access-Control-Request-Method: PATCH", "", ""]
        await raw.send("\r\n".join(lines).encode())
        status, headers = await raw.head()
        assert await raw.reader.read() == b""
    assert (status, headers["connection"]) == (204, "close")
    assert headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in headers["access-control-allow-methods"]


async def test_who_is_silent_without_room_is_told_so_all_the_same(tmp_path: Path) -> None:
    async with _crowded(tmp_path, PAGE) as url, RawConnection(url) as raw:
        assert (await raw.head())[0] == 503


async def test_of_those_without_room_only_some_are_heard_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 3600)
    monkeypatch.setattr(heads, "HEARD_OUT", 1)
    async with _crowded(tmp_path, PAGE) as url, RawConnection(url) as silent:
        for _ in range(2):
            async with RawConnection(url) as raw:
                assert (await raw.head())[0] == 503
        await silent.send(f"GET / HTTP/1.1\r\nOrigin: {PAGE}\r\n\r\n".encode())
        assert (await silent.head())[1]["access-control-allow-origin"] == PAGE


async def test_a_head_without_end_is_not_kept_without_room(tmp_path: Path) -> None:
    async with _crowded(tmp_path, PAGE) as url, RawConnection(url) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 200_000)
        assert (await raw.head())[0] == 503


FIELD = b"X-Long: " + b"x" * 60_000 + b"\r\n"


async def test_headers_that_are_too_much_together_are_refused_and_read_no_further(
    service: Service,
) -> None:
    """Each is allowed by itself, and so is their number."""
    async with listening(service) as url, RawConnection(url) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + FIELD * 4)
        status, headers = await raw.head()
        document = json.loads(await raw.body(headers))
        assert await raw.reader.read() == b""
    assert (status, document["header"], document["limit"]) == (431, "*", 196_608)


async def test_headers_that_begin_behind_a_request_are_counted_too(service: Service) -> None:
    async with listening(service) as url, RawConnection(url) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers = await raw.head()
        await raw.body(headers)
        await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + FIELD * 3 + b"\r\n")
        status, headers = await raw.head()
        await raw.body(headers)
        assert status == 200
        await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + FIELD * 4)
        assert (await raw.head())[0] == 431


@pytest.mark.parametrize("last", [100, 200_000, 250_000])
async def test_the_end_of_a_body_is_no_header(
    service: Service, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    room = Room()
    monkeypatch.setattr(connection, "Room", lambda: room)

    async def answer(call: Call) -> web.StreamResponse:
        body, size = RequestBody(call), 0
        while piece := await body.read(MIB):
            size += len(piece)
        return web.Response(text=str(size))

    first = 10_000
    head = b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with serving(service, answer) as url, RawConnection(url) as raw:
        for _ in range(2):
            await raw.send(head % (first + last) + bytes(first))
            await asyncio.sleep(0.05)  # so that the rest comes in pieces of its own
            await raw.send(bytes(last))
            status, headers = await raw.head()
            assert (status, await raw.body(headers)) == (200, b"%d" % (first + last))
            assert repr(room) == repr(Room()), "a connection that is idle holds nothing"


@pytest.mark.parametrize("size", [16_500, 20_000, 150_000])
async def test_a_body_in_one_piece_with_its_header_is_none(
    service: Service, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Before its handler has begun, too: neither its bytes nor its time are those of a header."""
    room, timers = Room(), list[bool]()
    monkeypatch.setattr(connection, "Room", lambda: room)

    async def answer(call: Call) -> web.StreamResponse:
        body, taken = RequestBody(call), 0
        timers.append(call.request.protocol._header_timer is not None)  # type: ignore[attr-defined]
        while piece := await body.read(MIB):
            taken += len(piece)
        timers.append(call.request.protocol._header_timer is not None)  # type: ignore[attr-defined]
        return web.Response(text=str(taken))

    head = b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    async with serving(service, answer) as url, RawConnection(url) as raw:
        for _ in range(2):
            await raw.send(head + bytes(size))
            status, headers = await raw.head()
            assert (status, await raw.body(headers)) == (200, b"%d" % size)
            assert repr(room) == repr(Room())
    assert not any(timers)


async def test_a_body_that_nobody_reads_is_no_header_either(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room()
    monkeypatch.setattr(connection, "Room", lambda: room)

    async def answer(call: Call) -> web.StreamResponse:
        return web.Response(status=403, text="no")

    async with serving(service, answer) as url, RawConnection(url) as raw:
        await raw.send(b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n")
        status, headers = await raw.head()
        assert (status, await raw.body(headers)) == (403, b"no")
        for _ in range(3):
            await raw.send(bytes(100_000))
            await asyncio.sleep(0.05)
            assert repr(room) == repr(Room())


async def test_headers_behind_requests_that_wait_are_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, go, begun = Room(), asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(connection, "Room", lambda: room)

    async def answer(call: Call) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return web.Response(text="ok")

    async with serving(service, answer) as url, RawConnection(url) as raw:
        await raw.send((POST + b"\r\n") * 2)
        await begun.wait()
        await raw.send(POST + FIELD * 2)
        await _until(lambda: room._left < Room()._left - len(FIELD))
        await raw.send(FIELD * 2)
        go.set()
        for expected in (200, 200, 431):
            status, headers = await raw.head()
            assert (status, bool(await raw.body(headers))) == (expected, True)


async def test_unfinished_headers_of_all_connections_share_one_room() -> None:
    room = Room(1000)
    first, second = Weight(room, 700), Weight(room, 700)
    assert first.grow(600) is None
    assert isinstance(second.grow(600), HeadsTooLong)
    assert second.grow(400) is None
    assert isinstance(second.grow(1), HeadsTooLong)
    first.drop()
    assert isinstance(second.grow(400), HeadTooLong)
    second.drop()
    assert repr(room) == "<Room for 1000 bytes>"


async def test_who_finds_no_room_for_headers_is_told_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(90_000)
    monkeypatch.setattr(connection, "Room", lambda: room)
    async with listening(service) as url, RawConnection(url) as first, RawConnection(url) as second:
        await first.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + FIELD)
        await _until(lambda: room._left < 30_000)
        await second.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + FIELD)
        status, headers = await second.head()
        document = json.loads(await second.body(headers))
        assert (status, document["type"][-5:]) == (503, ":busy")
        assert int(headers["retry-after"]) > 0
        await first.send(b"\r\n")
        assert (await first.head())[0] == 200
