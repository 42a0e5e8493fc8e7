"""Parts of files over HTTP, and downloads that cannot be finished: cut, never padded."""

import asyncio
import contextlib
import email
import io
import random
import re
import socket
from collections.abc import AsyncIterator
from email.message import Message
from functools import partial
from pathlib import Path

import pytest
from yarl import URL

from filestore.app import Service
from filestore.meta import contents
from filestore.meta.contents import BlockRef
from filestore.model import MAX_INT
from filestore.settings import Settings, load
from filestore_gc.reaping import Reaper
from tests.http.api import Api
from tests.http.conftest import Cast

FILES = "/api/v1/groups/maths/files"
DATA = random.Random(4).randbytes(3_500_000)
SIZE = len(DATA)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return load(
        flags={
            "data": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "database": database_url,
            "server.shutdown_s": 1,
            "server.write_timeout_s": 1,
        }
    )


@pytest.fixture
async def etag(cast: Cast) -> str:
    """A file of several blocks is stored at ``big``."""
    headers = {"Content-Type": "text/plain"}
    made = await cast.member.put(f"{FILES}/big", data=io.BytesIO(DATA), headers=headers)
    assert made.status == 201
    return made.headers["ETag"]


@pytest.fixture
async def huge(cast: Cast) -> bytes:
    """A file that is larger than all buffers on the way to a client is stored at ``huge``."""
    data = random.Random(5).randbytes(24_000_000)
    await cast.admin.patch("/api/v1/groups/maths", {"quota_bytes": 10**9})
    assert (await cast.member.put(f"{FILES}/huge", data=io.BytesIO(data))).status == 201
    return data


async def test_a_range_is_given_to_the_byte(cast: Cast, etag: str) -> None:
    for first, last in ((0, 0), (5, 9), (1_000_000, 2_500_000), (SIZE - 1, SIZE + 50)):
        headers = {"Range": f"bytes={first}-{last}"}
        got = await cast.viewer.get(f"{FILES}/big", headers=headers)
        end = min(last + 1, SIZE)
        assert got.status == 206
        assert got.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
        assert got.headers["Content-Length"] == str(end - first)
        assert got.headers["ETag"] == etag
        assert got.body == DATA[first:end]
    tail = await cast.viewer.get(f"{FILES}/big", headers={"Range": "bytes=-100"})
    assert tail.body == DATA[-100:]


async def test_many_random_ranges_fit_together(cast: Cast, etag: str) -> None:
    cuts = sorted(random.Random(9).sample(range(1, SIZE), 12))
    received = b""
    for start, end in zip([0, *cuts], [*cuts, SIZE], strict=True):
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Range": etag}
        received += (await cast.viewer.get(f"{FILES}/big", headers=headers)).body
    assert received == DATA


async def test_several_ranges_come_as_parts(cast: Cast, etag: str) -> None:
    spans = [(2_000_000, 2_000_009), (0, 4), (1_000_000, 1_200_000)]
    wanted = "bytes=" + ",".join(f"{first}-{last}" for first, last in spans)
    got = await cast.viewer.get(f"{FILES}/big", headers={"Range": wanted})
    assert got.status == 206
    assert len(got.body) == int(got.headers["Content-Length"])
    kind = got.headers["Content-Type"]
    assert re.fullmatch(r"multipart/byteranges; boundary=[0-9a-f]{32}", kind)
    parsed = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + got.body)
    for part, (first, last) in zip(parsed.walk(), [(0, 0), *spans], strict=True):
        if part.is_multipart():
            continue
        assert isinstance(part, Message)
        assert part["Content-Type"] == "text/plain"
        assert part["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    for first, last in spans:
        head = f"Content-Range: bytes {first}-{last}/{SIZE}\r\n\r\n".encode()
        start = got.body.index(head) + len(head)
        assert got.body[start : start + last - first + 1] == DATA[first : last + 1]


async def test_what_cannot_be_satisfied_says_how_long_the_file_is(cast: Cast, etag: str) -> None:
    many = "bytes=" + ",".join(f"{2 * number}-{2 * number}" for number in range(51))
    for wanted in (f"bytes={SIZE}-", "bytes=-0", many):
        got = await cast.viewer.get(f"{FILES}/big", headers={"Range": wanted})
        assert (got.status, got.code) == (416, "range-not-satisfiable")
        assert got.headers["Content-Range"] == f"bytes */{SIZE}"


async def test_a_range_that_is_none_gives_the_whole_file(cast: Cast, etag: str) -> None:
    for wanted in ("bytes=5", "lines=0-5", "bytes=9-5"):
        got = await cast.viewer.get(f"{FILES}/big", headers={"Range": wanted})
        assert (got.status, len(got.body)) == (200, SIZE)
    head = await cast.viewer.call("HEAD", f"{FILES}/big", headers={"Range": "bytes=0-4"})
    assert (head.status, head.headers["Content-Length"]) == (200, str(SIZE))


async def test_a_range_of_another_version_gives_the_whole_new_file(cast: Cast, etag: str) -> None:
    old = (await cast.viewer.call("HEAD", f"{FILES}/big")).headers["Last-Modified"]
    await cast.member.put(f"{FILES}/big", data=b"another one")
    for if_range in (etag, '"other"', f"W/{etag}"):
        headers = {"Range": "bytes=0-2", "If-Range": if_range}
        got = await cast.viewer.get(f"{FILES}/big", headers=headers)
        assert (got.status, got.body) == (200, b"another one")
    # Both versions are likely of one second, so their date names neither of them.
    new = (await cast.viewer.call("HEAD", f"{FILES}/big")).headers["Last-Modified"]
    headers = {"Range": "bytes=0-2", "If-Range": new}
    got = await cast.viewer.get(f"{FILES}/big", headers=headers)
    assert got.status == (200 if new == old else 206)


async def test_a_date_names_a_file_that_never_had_another_one(cast: Cast, etag: str) -> None:
    date = (await cast.viewer.call("HEAD", f"{FILES}/big")).headers["Last-Modified"]
    headers = {"Range": "bytes=0-2", "If-Range": date}
    got = await cast.viewer.get(f"{FILES}/big", headers=headers)
    assert (got.status, got.body) == (206, DATA[:3])


async def test_a_damaged_block_is_an_error_before_the_first_byte(
    cast: Cast, etag: str, service: Service
) -> None:
    refs = await _refs(service)
    _damage(service, refs[0])
    got = await cast.viewer.get(f"{FILES}/big")
    assert (got.status, got.code) == (500, "block-damaged")
    assert "ETag" not in got.headers
    behind = {"Range": f"bytes={refs[1].offset}-"}
    assert (await cast.viewer.get(f"{FILES}/big", headers=behind)).body == DATA[refs[1].offset :]


async def test_a_damaged_block_behind_the_first_cuts_the_connection(
    cast: Cast, etag: str, service: Service, api: Api
) -> None:
    refs = await _refs(service)
    _damage(service, refs[-1])
    async with _download(api, cast, "big") as (headers, reader):
        received = await _rest(reader)
    assert headers["content-length"] == str(SIZE)
    assert refs[0].size <= len(received) <= refs[-1].offset
    assert received == DATA[: len(received)]


async def test_a_file_that_is_deleted_for_good_meanwhile_ends_in_a_cut_connection(
    cast: Cast, huge: bytes, service: Service, api: Api
) -> None:
    async with _download(api, cast, "huge") as (headers, reader):
        assert headers["content-length"] == str(len(huge))
        received = await reader.readexactly(1000)
        refs = await _refs(service)
        assert (await cast.manager.delete(f"{FILES}/huge?permanent=true")).status == 204
        await Reaper(service.services.db, service.process_id).release_contents()
        for ref in refs:
            _block(service, ref).unlink()
        received += await _rest(reader)
    assert len(received) < len(huge)
    assert received == huge[: len(received)]
    assert (await cast.viewer.get(f"{FILES}/huge")).status == 404


async def test_a_client_that_takes_nothing_is_cut_off(
    cast: Cast, huge: bytes, service: Service, api: Api
) -> None:
    registry = service.services.metrics.registry
    async with _download(api, cast, "huge") as (_, reader):
        async with asyncio.timeout(20):
            while registry.get_sample_value("filestore_requests_running"):
                await cast.viewer.get("/healthz")
        received = await _rest(reader)
    assert len(received) < len(huge)
    assert received == huge[: len(received)]


@contextlib.asynccontextmanager
async def _download(
    api: Api, cast: Cast, name: str
) -> AsyncIterator[tuple[dict[str, str], asyncio.StreamReader]]:
    """The headers of a download, and its body, of which the client buffers next to nothing."""
    place = URL(api.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (place.host, place.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=8192)
        lines = (
            f"GET {FILES}/{name} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {cast.viewer.token}",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode())
        first, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        assert first == "HTTP/1.1 200 OK"
        pairs = [field.partition(": ") for field in fields if field]
        try:
            yield {name.lower(): value for name, _, value in pairs}, reader
        finally:
            writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, regularly or not."""
    received = bytearray()
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                received += data
    return bytes(received)


async def _refs(service: Service) -> list[BlockRef]:
    """Where the blocks of the only file lie."""
    look = partial(contents.refs_from, content_id=1, offset=0, end=MAX_INT, limit=100)
    refs = await service.services.db.read(look)
    assert len(refs) > 1
    return refs


def _block(service: Service, ref: BlockRef) -> Path:
    folder = service.settings.server.data / "blocks"
    return next(folder.rglob(f"{ref.hash.hex()}.{ref.generation}"))


def _damage(service: Service, ref: BlockRef) -> None:
    path = _block(service, ref)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
