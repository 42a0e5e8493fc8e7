"""SIGTERM while many upload: everybody is told, what was read is kept, and it ends in time."""

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack

import pytest

from tests.e2e import backends, tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.outage import _program_of
from tests.e2e.stage import GROUP, Stage
from tests.http.api import Api
from tests.services.server import Server

MANY = 40
SENT = 300 * KIB
SHUTDOWN_S = 8


async def _crowd(stack: AsyncExitStack, api: Api, number: int) -> dict[str, tus.SlowPatch]:
    """Uploads that have sent some bytes and go on."""
    found = {}
    for at in range(number):
        material = Material(f"stopped {at}", MIB)
        upload = await tus.begin(api, GROUP, f"{at}.bin", material)
        patch = await stack.enter_async_context(tus.SlowPatch(api, upload, 0, MIB))
        await patch.feed(material, 0, SENT)
        found[upload] = patch
    return found


async def _stop(server: Server) -> tuple[int, float]:
    """The exit code, and how long it took."""
    began = time.monotonic()
    code = await asyncio.to_thread(server.stop)
    took_s = time.monotonic() - began
    sys.stderr.write(f"stopped in {took_s:.2f} s with {code}\n")
    return code, took_s


@pytest.mark.parametrize("backend", [backends.DISK], indirect=True)
async def test_who_is_sending_is_told_that_the_service_stops_and_goes_on_later(
    stage: Stage,
) -> None:
    server, api = await stage.open(settings={"server.shutdown_s": SHUTDOWN_S})
    async with AsyncExitStack() as stack:
        crowd = await _crowd(stack, api, MANY)
        recorded = {upload: await tus.listed_offset(api, GROUP, upload) or 0 for upload in crowd}
        code, _ = await _stop(server)
        for patch in crowd.values():
            status, headers = await patch.answer()
            assert (status, headers["connection"]) == (503, "close")
            assert int(headers["retry-after"]) > 0
    assert code == 0, server.tail()
    server.start()
    api = stage.admin(server)
    kept = {upload: await tus.offset_of(api, upload) for upload in crowd}
    assert all(recorded[upload] <= kept[upload] <= SENT for upload in crowd)
    assert sum(kept.values()) > MANY * SENT // 2, "what was read was flushed"
    for at, (upload, offset) in enumerate(list(kept.items())[:3]):
        material = Material(f"stopped {at}", MIB)
        assert (await tus.patch(api, upload, material, offset)).status == 204
        await tus.assert_equal(api, GROUP, f"{at}.bin", material)


@pytest.mark.needs("postgres", "seaweedfs")
@pytest.mark.parametrize("backend", [backends.SEAWEEDFS], indirect=True)
async def test_a_store_that_hangs_does_not_keep_the_service_from_ending(stage: Stage) -> None:
    """Nothing can be flushed then; all that was acknowledged is there afterwards."""
    server, api = await stage.open()
    material = Material("acknowledged", MIB)
    told = await tus.begin(api, GROUP, "told.bin", material)
    assert (await tus.patch(api, told, material, 0, SENT)).status == 204
    assert stage.backend.service is not None
    program = _program_of(stage.backend.service)
    async with AsyncExitStack() as stack:
        crowd = await _crowd(stack, api, MANY)
        os.kill(program, signal.SIGSTOP)
        try:
            _, took_s = await _stop(server)
        finally:
            os.kill(program, signal.SIGCONT)
    assert took_s < 10, "a request to the store alone may take a minute"
    server.start()
    api = stage.admin(server)
    assert await tus.offset_of(api, told) == SENT
    for upload in crowd:
        assert await tus.offset_of(api, upload) <= SENT
    assert (await tus.patch(api, told, material, SENT)).status == 204
    await tus.assert_equal(api, GROUP, "told.bin", material)
