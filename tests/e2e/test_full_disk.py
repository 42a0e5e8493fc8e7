"""The disk of the blocks is full: a small file system of its own, which root can make."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import backends, tus
from tests.e2e.material import MIB, Material
from tests.e2e.stage import GROUP, Stage, quota_of
from tests.http.api import Api
from tests.services.needs import require

DISK = 48 * MIB
SIZE = 24 * MIB

pytestmark = pytest.mark.parametrize("backend", [backends.DISK], indirect=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "filestore-test", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    require("tmpfs", done.returncode == 0)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("reserve", [0, 4 * MIB], ids=["no-reserve", "reserve"])
async def test_a_full_disk_refuses_and_forgets_nothing_and_works_again_with_room(
    stage: Stage, small_disk: Path, reserve: int
) -> None:
    filler = small_disk / "filler"
    settings = {"blocks.free_reserve_bytes": reserve}
    server, api = await stage.open(blocks=f"file:{small_disk}/blocks", settings=settings)
    Material("filler", DISK - 10 * MIB).write(filler)
    material = Material("too much", SIZE)
    upload = await tus.begin(api, GROUP, "late.bin", material)

    await _assert_full(api, upload, material, 0)
    offset = await tus.offset_of(api, upload)
    assert 0 <= offset < 10 * MIB
    assert await quota_of(api) == (0, SIZE)
    reply = await api.get("/readyz")
    assert (reply.status, reply.code) == (503, "not-ready")
    assert reply.json["reasons"] == {"store": "store-full"}
    await _assert_full(api, upload, material, offset)
    offset = await tus.offset_of(api, upload)
    listing = await api.get(f"/api/v1/groups/{GROUP}/tree/")
    assert listing.json["items"] == []

    filler.unlink()
    async with asyncio.timeout(10):
        while True:  # an answer holds for a second
            if (await api.get("/readyz")).status == 200:
                break
            await asyncio.sleep(0.1)
    assert (await tus.patch(api, upload, material, offset)).status == 204
    await tus.assert_equal(api, GROUP, "late.bin", material)
    assert await quota_of(api) == (SIZE, 0)
    assert "request.crashed" not in server.log


async def _assert_full(api: Api, upload: str, material: Material, begin: int) -> None:
    reply = await tus.patch(api, upload, material, begin)
    assert (reply.status, reply.code) == (503, "store-full"), reply.body
    assert int(reply.headers["Retry-After"]) > 0
