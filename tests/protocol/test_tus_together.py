"""Two requests for one upload at once: the newcomer wins, and bytes never interleave."""

import asyncio

import pytest

from tests.protocol.conftest import Site
from tests.protocol.rows import named

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 1_500_000
FIRST = b"1" * SIZE
SECOND = b"2" * SIZE


async def test_h8_head_during_a_patch_names_an_offset_that_the_next_patch_may_use(
    site: Site,
) -> None:
    upload = await site.create(SIZE, list(named("h8").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(SIZE)))
        await wire.send(FIRST[:800_000])
        found = await site.tus("HEAD", upload)
        assert found.status == 200
        offset = int(found.headers["upload-offset"])
        assert (await site.patch(upload, offset, SECOND[offset:])).status == 204
        robbed = await wire.answer("PATCH")
        assert (robbed.status, robbed.headers["connection"]) == (409, "close")
    assert await site.content("h8") == FIRST[:offset] + SECOND[offset:]


async def test_p14_of_two_patches_the_newcomer_goes_on_where_the_first_was(site: Site) -> None:
    upload = await site.create(SIZE, list(named("p14").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(SIZE)))
        await wire.send(FIRST[:800_000])
        answer = await site.patch(upload, 0, SECOND)
        offset = 0
        if answer.status == 409:
            offset = int(answer.headers["upload-offset"])
            assert 0 < offset <= 800_000
            answer = await site.patch(upload, offset, SECOND[offset:])
        assert answer.status == 204, answer
        assert (await wire.answer("PATCH")).status == 409
    assert await site.content("p14") == FIRST[:offset] + SECOND[offset:]


async def test_p14_many_at_the_same_offset_leave_the_bytes_of_whole_requests(site: Site) -> None:
    size, pieces = 10_000, [b"%d" % number * 10_000 for number in range(8)]
    upload = await site.create(size * 2, list(named("p14-many").items()))
    answers = await asyncio.gather(*(site.patch(upload, 0, piece) for piece in pieces))
    assert {answer.status for answer in answers} <= {204, 409}
    assert await site.offset(upload) == size
    assert (await site.patch(upload, size, b"x" * size)).status == 204
    content = await site.content("p14-many")
    assert content is not None
    assert content[:size] in pieces
    assert content[size:] == b"x" * size


async def test_t5_a_delete_interrupts_a_running_patch_and_frees_its_reservation(site: Site) -> None:
    _, before = await site.quota()
    upload = await site.create(SIZE, list(named("t5").items()))
    async with site.connected() as wire:
        await site.begin_patch(wire, upload, 0, ("Content-Length", str(SIZE)))
        await wire.send(FIRST[:800_000])
        assert (await site.tus("DELETE", upload)).status == 204
        assert (await wire.answer("PATCH")).status in (409, 410)
    assert (await site.tus("HEAD", upload)).status == 410
    assert await site.quota() == ((await site.quota())[0], before)
    assert await site.content("t5") is None
