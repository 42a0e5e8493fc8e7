"""What a client that is silent, or sends a lot, may cost: bounded time, bounded memory."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.e2e import backends, tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, SIZES, Stage, quota_of

SILENCE_S = 1
MEMORY_BUDGET = 64 * MIB
SMALL_BUDGET = 32 * MIB
STALLED = 60
"""Uploads of 900 KiB: 53 MiB together, more than the small budget."""

WAIT_S = 15
"""Far below the 60 s after which a silent client is let go."""

BARE_MEMORY = 160 * MIB
"""What the process takes without any transfer: 105 MiB of modules, and room to differ."""


@pytest.mark.parametrize("backend", [backends.DISK], indirect=True)
async def test_a_silent_client_is_let_go_in_time_and_its_bytes_are_kept(stage: Stage) -> None:
    _, api = await stage.open(settings={"server.read_timeout_s": SILENCE_S})
    material = Material("silent", 3 * MIB)
    upload = await tus.begin(api, GROUP, "silent.bin", material)
    sent = MIB + 17

    async with tus.SlowPatch(api, upload, 0, material.size) as patch:
        await patch.feed(material, 0, sent)
        began = time.monotonic()
        status, headers = await patch.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert time.monotonic() - began < SILENCE_S + 10
    assert await tus.offset_of(api, upload) == sent

    assert (await tus.patch(api, upload, material, sent)).status == 204
    await tus.assert_equal(api, GROUP, "silent.bin", material)


@pytest.mark.parametrize("backend", [backends.DISK, backends.ALL[-1]], indirect=True)
@pytest.mark.parametrize("size", SIZES)
async def test_memory_does_not_grow_with_the_size_of_a_file(stage: Stage, size: int) -> None:
    server, api = await stage.open(settings={"transfer.memory_budget_bytes": MEMORY_BUDGET})
    before = server.peak_memory
    material = Material("large", 2 * size)

    await tus.upload(api, GROUP, "large.bin", material)
    await tus.assert_equal(api, GROUP, "large.bin", material)

    assert server.peak_memory < BARE_MEMORY + MEMORY_BUDGET, f"{before} before"


@pytest.mark.parametrize("backend", [backends.DISK], indirect=True)
async def test_memory_does_not_grow_with_the_number_of_stalled_uploads(stage: Stage) -> None:
    server, api = await stage.open(settings={"transfer.memory_budget_bytes": SMALL_BUDGET})
    sent = 900 * KIB
    materials = [Material(f"stalled {number}", MIB) for number in range(STALLED)]
    uploads = [await tus.begin(api, GROUP, f"{item.seed}.bin", item) for item in materials]
    async with AsyncExitStack() as stack:
        patches = [
            await stack.enter_async_context(tus.SlowPatch(api, upload, 0, MIB))
            for upload in uploads
        ]
        for patch, material in zip(patches, materials, strict=True):
            await patch.feed(material, 0, sent)
        for patch, material in zip(patches, materials, strict=True):
            await patch.feed(material, sent, MIB)
            assert (await patch.answer())[0] == 204

    assert server.peak_memory < BARE_MEMORY + 2 * SMALL_BUDGET  # twice: holes in the heap
    assert await quota_of(api) == (STALLED * MIB, 0)
    for material in materials[:: STALLED // 5]:
        await tus.assert_equal(api, GROUP, f"{material.seed}.bin", material)


@pytest.mark.parametrize("backend", [backends.DISK], indirect=True)
async def test_fast_uploads_that_stall_do_not_keep_others_waiting(stage: Stage) -> None:
    _, api = await stage.open(settings={"transfer.memory_budget_bytes": SMALL_BUDGET})
    materials = [Material(f"fast {number}", 32 * MIB) for number in range(4)]
    uploads = [await tus.begin(api, GROUP, f"{item.seed}.bin", item) for item in materials]
    async with AsyncExitStack() as stack:
        for upload, material in zip(uploads, materials, strict=True):
            patch = await stack.enter_async_context(tus.SlowPatch(api, upload, 0, 32 * MIB))
            await patch.feed(material, 0, 20 * MIB)
        other = Material("other", 2 * MIB)
        async with asyncio.timeout(WAIT_S):
            await tus.upload(api, GROUP, "other.bin", other)
    await tus.assert_equal(api, GROUP, "other.bin", other)
