"""Clients that would take for ever, or have too much at once: all over plain sockets."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from filestore.settings import Settings, load
from tests.protocol.conftest import MAX_SIZE, READ_TIMEOUT_S, Site
from tests.protocol.rows import BODY_TYPE, named
from tests.protocol.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST = 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """No database decides anything here; few uploads may run."""
    folder: Path = tmp_path_factory.mktemp("data")
    return load(
        flags={
            "data": folder,
            "listen": "127.0.0.1:0",
            "server.shutdown_s": 1,
            "server.read_timeout_s": READ_TIMEOUT_S,
            "uploads.max_size_bytes": MAX_SIZE,
            "uploads.running_per_user": MOST,
            "uploads.running_per_group": MOST + 1,
        }
    )


async def _drip(wire: Wire, piece: bytes, ended: asyncio.Task[object]) -> int:
    """Sends a piece every now and then until the answer is there; how many were sent."""
    sent = 0
    while not ended.done():
        with contextlib.suppress(ConnectionError):
            await wire.send(piece)
            sent += len(piece)
        await asyncio.wait((ended,), timeout=READ_TIMEOUT_S / 10)
    return sent


async def test_a_body_that_drips_is_ended_and_kept(site: Site) -> None:
    """Never silent for long, and so far below any network that it is no use to anybody."""
    upload = await site.create(MAX_SIZE)
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(MAX_SIZE)))
        ended = asyncio.create_task(wire.answer("PATCH"))
        sent = await _drip(wire, b"x", ended)
        answer = await ended
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    offset = await site.offset(upload)
    assert 0 < offset <= sent
    assert (await site.tus("DELETE", upload)).status == 204


async def test_a_slow_body_that_still_brings_something_is_taken_to_its_end(site: Site) -> None:
    """2 KiB in each read timeout, and many times that timeout in all."""
    pieces, piece = 30, bytes(400)
    upload = await site.create(pieces * len(piece), list(named("slow").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(pieces * len(piece))))
        for _ in range(pieces):
            await wire.send(piece)
            await asyncio.sleep(READ_TIMEOUT_S / 10)
        assert (await wire.answer("PATCH")).status == 204
    assert await site.content("slow") == pieces * piece


@pytest.mark.parametrize("length", [None, 100_000])
async def test_a_body_of_chunks_without_end_is_refused_where_the_upload_ends(
    site: Site, length: int | None
) -> None:
    upload = await site.create(length)
    chunk = b"%x\r\n%s\r\n" % (65_536, bytes(65_536))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Transfer-Encoding", "chunked"))
        ended = asyncio.create_task(wire.answer("PATCH"))
        sent = 0
        while not ended.done() and sent < 4 * MAX_SIZE:
            with contextlib.suppress(ConnectionError):
                await wire.send(chunk)
            sent += len(chunk)
            await asyncio.wait((ended,), timeout=0.001)
        answer = await ended
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await wire.rest() == b""
    assert await site.offset(upload) <= (length or MAX_SIZE)
    assert (await site.tus("DELETE", upload)).status == 204


async def test_an_upload_too_many_is_told_to_come_again_and_there_is_room_when_one_ends(
    site: Site,
) -> None:
    mine = [await site.create(10) for _ in range(MOST)]
    other = site.by(site.other)
    others = await other.create(10)
    for asking, limit in ((site, MOST), (other, MOST + 1)):
        refused = await asking.tus("POST", site.collection, [("Upload-Length", "10")])
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 0
        told = json.loads(refused.body)
        assert (told["type"].rpartition(":")[2], told["limit"]) == ("too-many", limit)
        body = [("Upload-Length", "10"), ("Content-Type", BODY_TYPE)]
        refused = await asking.tus("POST", site.collection, body, bytes(10))
        assert refused.status == 429
    assert len(await site.running()) == MOST + 1
    assert (await site.tus("HEAD", mine[0])).status == 200, "never on a question"
    assert (await site.patch(mine[0], 0, bytes(10))).status == 204
    mine[0] = await site.create(10)
    for upload in mine:
        assert (await site.tus("DELETE", upload)).status == 204
    assert (await other.tus("DELETE", others)).status == 204


async def test_a_service_that_stops_says_so_to_who_is_sending_and_keeps_the_bytes(
    site: Site,
) -> None:
    upload = await site.create(MAX_SIZE)
    async with site.connected() as wire, site.connected() as late:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(MAX_SIZE)))
        await wire.send(bytes(700_000))
        await asyncio.sleep(READ_TIMEOUT_S / 10)
        site.service.services.transfers.stop()
        answer = await wire.answer("PATCH")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert int(answer.headers["retry-after"]) > 0
        offset = (await site.running())[upload]
        assert 0 < offset <= 700_000
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), ("Content-Length", "1000")]
        await late.head("PATCH", upload, [*headers, *site.piece(offset)])
        await late.send(bytes(100))
        assert (await late.answer("PATCH")).status == 503
    assert (await site.running())[upload] >= offset
