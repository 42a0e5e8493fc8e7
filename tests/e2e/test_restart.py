"""The server is killed in the middle of a request; uploads go on at the next one."""

import pytest

from tests.e2e import tus
from tests.e2e.material import MIB, Material
from tests.e2e.stage import GROUP, SIZES, Stage, quota_of


@pytest.mark.parametrize("size", SIZES)
async def test_kill_9_in_a_patch_loses_nothing_acknowledged(stage: Stage, size: int) -> None:
    server, api = await stage.open()
    material = Material("killed", size)
    upload = await tus.begin(api, GROUP, "killed.bin", material)
    reply = await tus.patch(api, upload, material, 0, size // 4)
    assert reply.status == 204
    promised = int(reply.headers["Upload-Offset"])

    async with tus.SlowPatch(api, upload, promised, size - promised) as patch:
        await patch.feed(material, promised, size * 3 // 4)
        promised = await tus.wait_for_offset(api, GROUP, upload, size // 2)
        server.kill()
    server.start()
    api = stage.admin(server)

    offset = await tus.offset_of(api, upload)
    assert promised <= offset <= size * 3 // 4
    assert (await tus.patch(api, upload, material, offset)).status == 204
    await tus.assert_equal(api, GROUP, "killed.bin", material)
    assert await quota_of(api) == (size, 0)


async def test_a_stop_saves_what_arrived(stage: Stage) -> None:
    server, api = await stage.open()
    material = Material("stopped", 20 * MIB)
    upload = await tus.begin(api, GROUP, "stopped.bin", material)

    async with tus.SlowPatch(api, upload, 0, material.size) as patch:
        await patch.feed(material, 0, 15 * MIB + 1)
        await tus.wait_for_offset(api, GROUP, upload, 1)
        assert server.stop() == 0
        status, headers = await patch.answer()
    assert (status, "retry-after" in headers) == (503, True)
    server.start()
    api = stage.admin(server)

    assert await tus.offset_of(api, upload) == 15 * MIB + 1
    assert (await tus.patch(api, upload, material, 15 * MIB + 1)).status == 204
    await tus.assert_equal(api, GROUP, "stopped.bin", material)
