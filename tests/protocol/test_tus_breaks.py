"""Connections that break, fall silent, or lie about their body: what came before is kept."""

import asyncio
import random

import pytest

from tests.protocol.conftest import Site
from tests.protocol.rows import checksum, named
from tests.protocol.wire import chunked

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA = random.Random(6).randbytes(1_500_000)
PART = 700_000
"""Where connections break: behind the first cut of a block, and not at one."""


async def test_p6_what_a_client_sent_before_it_left_is_kept(site: Site) -> None:
    upload = await site.create(len(DATA), list(named("p6-fin").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(len(DATA))))
        await wire.send(DATA[:PART])
    await site.wait_for(upload, PART)
    assert (await site.patch(upload, PART, DATA[PART:])).status == 204
    assert await site.content("p6-fin") == DATA


async def test_p6_what_a_client_sent_before_it_crashed_is_a_gapless_beginning(site: Site) -> None:
    """RST drops what the kernel had not handed over, so less than all may be there."""
    upload = await site.create(len(DATA), list(named("p6-rst").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(len(DATA))))
        await wire.send(DATA[:PART])
        wire.reset()
    offset = await site.offset(upload)
    assert 0 <= offset <= PART
    assert (await site.patch(upload, offset, DATA[offset:])).status == 204
    assert await site.content("p6-rst") == DATA


async def test_p6_whole_chunks_before_a_break_are_kept(site: Site) -> None:
    upload = await site.create(len(DATA), list(named("p6-chunks").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Transfer-Encoding", "chunked"))
        await wire.send(chunked(DATA[:PART])[: -len(b"0\r\n\r\n")] + b"fff\r\nabc")
    await site.wait_for(upload, PART + 3)


async def test_p6_a_silent_client_is_told_so_in_bounded_time_and_loses_nothing(site: Site) -> None:
    upload = await site.create(len(DATA), list(named("p6-silent").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(len(DATA))))
        await wire.send(DATA[:PART])
        answer = await wire.answer("PATCH")
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert await wire.rest() == b""
    assert await site.offset(upload) == PART
    assert (await site.patch(upload, PART, DATA[PART:])).status == 204
    assert await site.content("p6-silent") == DATA


async def test_p6_a_body_with_broken_chunks_is_refused_at_once_and_kept_up_to_there(
    site: Site,
) -> None:
    upload = await site.create(10)
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Transfer-Encoding", "chunked"))
        await wire.send(b"5\r\nhello\r\nnot a number\r\nxx\r\n")
        answer = await wire.answer("PATCH")
        assert answer.status == 400, answer
        assert await wire.rest() == b""
    assert await site.offset(upload) == 5


async def test_p12_a_lost_last_answer_does_not_lose_or_repeat_the_file(site: Site) -> None:
    upload = await site.create(len(DATA), list(named("p12").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(len(DATA))))
        await wire.send(DATA)
    await site.wait_for(upload, None)
    assert await site.offset(upload) == len(DATA)
    again = await site.patch(upload, 0, DATA)
    assert (again.status, again.headers["upload-offset"]) == (409, str(len(DATA)))
    assert await site.content("p12") == DATA
    versions = await site.admin.get(f"/api/v1/groups/{site.group}/versions/p12")
    assert [item["number"] for item in versions.json["items"]] == [1]


async def test_k9_a_break_under_a_checksum_keeps_nothing(site: Site) -> None:
    upload = await site.create(len(DATA), list(named("k9").items()))
    assert (await site.patch(upload, 0, DATA[:1000])).status == 204
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), *site.piece(1000)]
        headers += [("Content-Length", str(len(DATA) - 1000)), *checksum(DATA[1000:]).items()]
        await wire.head("PATCH", upload, headers)
        await wire.send(DATA[1000:PART])
    assert await site.offset(upload) == 1000
    rest = DATA[1000:]
    answer = await site.patch(upload, 1000, rest, list(checksum(rest).items()))
    assert answer.status == 204, answer
    assert await site.content("k9") == DATA


async def test_k9_a_silent_client_under_a_checksum_keeps_nothing(site: Site) -> None:
    upload = await site.create(20)
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), *site.piece(0)]
        headers += [("Content-Length", "20"), *checksum(bytes(20)).items()]
        await wire.head("PATCH", upload, headers)
        await wire.send(bytes(10))
        assert (await wire.answer("PATCH")).status == 408
    assert await site.offset(upload) == 0


async def test_w9_a_creation_that_breaks_keeps_what_came_and_expires(site: Site) -> None:
    before = set(await site.running())
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), ("Upload-Length", "2000")]
        headers += [("Content-Type", "application/offset+octet-stream"), ("Content-Length", "2000")]
        await wire.head("POST", site.collection, headers)
        await wire.send(DATA[:500])
    async with asyncio.timeout(20):
        while not (made := set(await site.running()) - before):
            continue
    upload = made.pop()
    await site.wait_for(upload, 500)
    await site.set_row(upload, expires_at=0)
    assert (await site.tus("HEAD", upload)).status == 410
    assert upload not in await site.running()


async def test_w10_a_creation_whose_body_stops_names_the_offset_to_go_on_at(site: Site) -> None:
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), ("Upload-Length", "2000")]
        headers += [("Content-Type", "application/offset+octet-stream"), ("Content-Length", "2000")]
        headers += named("w10").items()
        await wire.head("POST", site.collection, headers)
        await wire.send(DATA[:500])
        answer = await wire.answer("POST")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "500")
    assert answer.headers["connection"] == "close"
    upload = answer.location
    assert (await site.patch(upload, 500, DATA[500:2000])).status == 204
    assert await site.content("w10") == DATA[:2000]
