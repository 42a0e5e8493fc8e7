"""Two server processes on one database and one store."""

import asyncio
import random
from collections import Counter

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e import backends, tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, SIZES, Stage, quota_of
from tests.http.api import Api

pytestmark = pytest.mark.parametrize("backend", backends.SHARED, indirect=True)
ROUNDS = (
    pytest.param(50, id="few"),
    pytest.param(200, id="many", marks=pytest.mark.e2e),
)


@pytest.mark.parametrize("size", SIZES)
async def test_an_upload_goes_on_elsewhere_and_its_holder_is_fenced(
    stage: Stage, size: int
) -> None:
    _, first = await stage.open()
    second = await _second(stage)
    material, wrong = Material("moved", size), Material("fenced", size)
    upload = await tus.begin(first, GROUP, "moved.bin", material)

    async with tus.SlowPatch(first, upload, 0, size) as patch:
        await patch.feed(material, 0, size // 2)
        promised = await tus.wait_for_offset(second, GROUP, upload, size // 4)
        offset = await tus.offset_of(second, upload)
        assert promised <= offset <= size // 2
        await _feed_what_is_taken(patch, wrong, size // 2, size)
        await _assert_refused(patch)
    assert await tus.offset_of(second, upload) == offset
    assert await quota_of(second) == (0, size)

    assert (await tus.patch(second, upload, material, offset)).status == 204
    for api in (first, second):
        await tus.assert_equal(api, GROUP, "moved.bin", material)
    versions = await second.get(f"/api/v1/groups/{GROUP}/versions/moved.bin")
    assert len(versions.json["items"]) == 1
    assert await quota_of(first) == (size, 0)


async def test_a_holder_that_is_behind_cannot_finish_the_upload(stage: Stage) -> None:
    _, first = await stage.open()
    second = await _second(stage)
    material, wrong = Material("won", 8 * MIB), Material("behind", 8 * MIB)
    upload = await tus.begin(first, GROUP, "won.bin", material)

    async with tus.SlowPatch(first, upload, 0, material.size) as patch:
        await patch.feed(wrong, 0, 6 * MIB)
        await tus.wait_for_offset(second, GROUP, upload, 1)
        offset = await tus.offset_of(second, upload)
        await tus.patch(second, upload, wrong, offset)
        await _feed_what_is_taken(patch, material, 6 * MIB, material.size)
        await _assert_refused(patch)

    await tus.assert_equal(first, GROUP, "won.bin", wrong)
    assert await quota_of(first) == (material.size, 0)


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_both_upload_the_same_new_bytes_and_each_block_is_live_once(
    stage: Stage, rounds: int
) -> None:
    _, first = await stage.open()
    second = await _second(stage)
    dice, total = random.Random(rounds), 0
    for number in range(rounds):
        material = Material(f"round {number}", dice.randrange(1, 200 * KIB))
        total += 2 * material.size
        await asyncio.gather(
            _upload(first, f"{number}-a.bin", material),
            _upload(second, f"{number}-b.bin", material),
        )
        for name in (f"{number}-a.bin", f"{number}-b.bin"):
            await tus.assert_equal(first, GROUP, name, material)

    states, live = await _blocks(stage)
    assert (set(live.values()), len(live)) == ({1}, rounds)
    assert states["uploading"] == 0, states
    assert await quota_of(second) == (total, 0)


async def _second(stage: Stage) -> Api:
    """Another server on the same backend."""
    server = stage.server()
    server.start()
    return stage.admin(server)


async def _feed_what_is_taken(
    patch: tus.SlowPatch, material: Material, begin: int, end: int
) -> None:
    """Sends bytes to a server that may have closed the connection already."""
    try:
        await patch.feed(material, begin, end)
    except ConnectionError:
        return


async def _assert_refused(patch: tus.SlowPatch) -> None:
    """The answer is an error, or the connection was broken; never a success."""
    try:
        status, _ = await patch.answer()
    except ConnectionError:
        return
    assert status in (409, 410), status


async def _upload(api: Api, name: str, material: Material) -> None:
    """Every other file by tus in one request, the rest by PUT."""
    body = material.read(0, material.size)
    if material.size % 2:
        headers = {"Content-Type": "application/octet-stream"}
        path = f"/api/v1/groups/{GROUP}/files/{name}"
        reply = await api.call("PUT", path, data=body, headers=headers)
    else:
        upload = await tus.begin(api, GROUP, name, material)
        reply = await tus.patch(api, upload, material, 0)
    assert reply.status in (201, 204), (reply.status, reply.body)


async def _blocks(stage: Stage) -> tuple[Counter[str], Counter[bytes]]:
    """How many blocks there are in each state, and how often each hash is live."""
    assert stage.backend.database is not None
    engine = create_async_engine(stage.backend.database)
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.text("SELECT hash, state FROM blocks"))).all()
    await engine.dispose()
    live = Counter(bytes(row.hash) for row in rows if row.state == "live")
    return Counter(str(row.state) for row in rows), live
