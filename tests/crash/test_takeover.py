"""Two processes and one upload, and one of them dies: the holder, or the newcomer.

And a service of several workers of which one is killed, again and again. What was acknowledged
stays, the other goes on, and nothing is left behind that the next collection does not find.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.crash.acting import BROKEN
from tests.crash.offline import let_silence_pass, offline
from tests.e2e import backends, tus
from tests.e2e.material import MIB, Material
from tests.e2e.stage import GROUP, Stage, quota_of
from tests.http.api import Api
from tests.services.server import Server

pytestmark = [
    pytest.mark.needs("postgres", "seaweedfs"),
    pytest.mark.parametrize("backend", [backends.SEAWEEDFS], indirect=True),
]

SIZE = 12 * MIB
SENT = 8 * MIB
LOCK_WAIT_S = 3
ROUNDS = 2
SETTINGS = {"transfer.lock_wait_s": LOCK_WAIT_S, "gc.interval_s": 86_400}


@asynccontextmanager
async def _held(api: Api, upload: str, material: Material) -> AsyncIterator[int]:
    """Somebody holds the upload at ``api`` and has sent much; the offset that is recorded."""
    async with tus.SlowPatch(api, upload, 0, material.size) as patch:
        await patch.feed(material, 0, SENT)
        yield await tus.wait_for_offset(api, GROUP, upload, 1)


async def _pair(stage: Stage) -> tuple[Server, Server, Api, Api]:
    first, api = await stage.open(settings=SETTINGS)
    second = stage.server(settings=SETTINGS)
    second.start()
    return first, second, api, stage.admin(second)


async def _check_clean(stage: Stage, servers: list[Server]) -> None:
    for server in servers:
        if server.is_running:
            server.stop()
    await let_silence_pass(stage)
    async with offline(stage) as store:
        await store.converge()
        await store.check()


async def test_a_holder_that_is_killed_while_a_newcomer_asks_loses_nothing_acknowledged(
    stage: Stage,
) -> None:
    first, second, there, here = await _pair(stage)
    for number in range(ROUNDS):
        material = Material(f"holder {number}", SIZE)
        upload = await tus.begin(here, GROUP, f"{number}.bin", material)
        async with _held(there, upload, material) as promised:
            os.kill(first.pid, signal.SIGSTOP)  # it cannot answer who asks
            asking = asyncio.create_task(tus.offset_of(here, upload))
            done, _ = await asyncio.wait((asking,), timeout=LOCK_WAIT_S / 3)
            assert not done, "it did not wait for the holder"
            first.kill()
        found = await asking
        assert promised <= found <= SENT
        assert (await tus.patch(here, upload, material, found)).status == 204
        await tus.assert_equal(here, GROUP, f"{number}.bin", material)
        first.start()
        there = stage.admin(first)
    assert await quota_of(here) == (ROUNDS * SIZE, 0)
    await _check_clean(stage, [first, second])


async def test_a_holder_that_wakes_up_after_it_was_robbed_changes_nothing(stage: Stage) -> None:
    first, second, there, here = await _pair(stage)
    material, other = Material("slept", SIZE), Material("other", SIZE)
    upload = await tus.begin(here, GROUP, "slept.bin", material)
    async with _held(there, upload, material) as promised:
        os.kill(first.pid, signal.SIGSTOP)
        found = await tus.offset_of(here, upload)
        assert promised <= found
        half = await tus.patch(here, upload, other, found, found + MIB)
        assert half.status == 204
        os.kill(first.pid, signal.SIGCONT)
        assert await tus.offset_of(there, upload) == found + MIB
    assert (await tus.patch(there, upload, other, found + MIB)).status == 204
    assert await quota_of(here) == (SIZE, 0)
    await _check_clean(stage, [first, second])


async def test_a_newcomer_that_is_killed_when_it_has_raised_the_epoch_leaves_it_usable(
    stage: Stage,
) -> None:
    first, second, there, here = await _pair(stage)
    for number in range(ROUNDS):
        material = Material(f"newcomer {number}", SIZE)
        upload = await tus.begin(there, GROUP, f"{number}.bin", material)
        second.kill()
        second.failpoint = "upload.taken-over:1"
        second.start()
        here = stage.admin(second)
        async with _held(there, upload, material) as promised:
            asked = asyncio.create_task(tus.patch(here, upload, material, SENT, SENT + MIB))
            with contextlib.suppress(*BROKEN):
                reply = await asked  # what was saved is not all that was sent, perhaps
                assert reply.status == 409
                offset = int(reply.headers["Upload-Offset"])
                await tus.patch(here, upload, material, offset)
        second.wait()
        found = await tus.offset_of(there, upload)
        assert promised <= found <= SENT
        assert (await tus.patch(there, upload, material, found)).status == 204
        await tus.assert_equal(there, GROUP, f"{number}.bin", material)
    second.failpoint = ""
    assert await quota_of(there) == (ROUNDS * SIZE, 0)
    await _check_clean(stage, [first, second])


async def test_uploads_go_on_at_another_worker_when_one_is_killed(stage: Stage) -> None:
    stage.kind = Server  # workers are started by one that is no fork
    server, api = await stage.open(settings=SETTINGS | {"server.workers": 2})
    materials = [Material(f"worker {number}", SIZE) for number in range(4)]
    uploads = [await tus.begin(api, GROUP, f"{item.seed}.bin", item) for item in materials]
    told = dict.fromkeys(uploads, 0)
    for number in range(ROUNDS):
        both = zip(uploads, materials, strict=True)
        work = asyncio.gather(*(_go_on(api, upload, item, told) for upload, item in both))
        await asyncio.wait((work,), timeout=0.2)
        os.kill(_workers(server)[number % 2], signal.SIGKILL if number % 2 else signal.SIGTERM)
        await work
        for upload in uploads:
            offset = await _patiently_offset(api, upload)
            assert told[upload] <= offset <= SIZE
            told[upload] = offset
    for upload, material in zip(uploads, materials, strict=True):
        while told[upload] < SIZE:
            await _go_on(api, upload, material, told, end=SIZE)
        await tus.assert_equal(api, GROUP, f"{material.seed}.bin", material)
    assert await quota_of(api) == (4 * SIZE, 0)
    await _check_clean(stage, [server])


async def _go_on(
    api: Api, upload: str, material: Material, told: dict[str, int], *, end: int | None = None
) -> None:
    """One piece more; a broken request is no promise."""
    offset = await _patiently_offset(api, upload)
    end = min(offset + SIZE // ROUNDS // 2, SIZE) if end is None else end
    with contextlib.suppress(*BROKEN):
        reply = await tus.patch(api, upload, material, offset, end)
        if reply.status == 204:
            told[upload] = max(told[upload], int(reply.headers["Upload-Offset"]))


async def _patiently_offset(api: Api, upload: str) -> int:
    """What HEAD says, asked again when the worker that had the connection died."""
    while True:
        with contextlib.suppress(*BROKEN):
            return await tus.offset_of(api, upload)


def _workers(server: Server) -> list[int]:
    """The processes that the service started to serve."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
            if int(fields[1]) == server.pid and b"spawn_main" in command:
                found.append(int(status.parent.name))
    return sorted(found)
