"""How much the store grows when it is given what it has."""

import pytest

from tests.e2e import tus
from tests.e2e.material import MIB, Material
from tests.e2e.stage import GROUP, OTHER_GROUP, SIZES, Stage, make_group, quota_of
from tests.http.api import Api

EDITS_PER_MIB = 20 / 128
"""Twenty edits in 128 MiB, and as dense in a smaller file."""


@pytest.mark.parametrize("size", SIZES)
async def test_the_same_file_again_adds_less_than_one_percent(stage: Stage, size: int) -> None:
    _, api = await stage.open()
    await make_group(api, OTHER_GROUP, 2 * size)
    material = Material("again", size)
    await tus.upload(api, GROUP, "first.bin", material)
    before = stage.backend.stored_bytes()
    assert before > 0.99 * size, "random bytes cannot shrink"

    await tus.upload(api, GROUP, "second.bin", material, piece=size // 3 + 1)
    await tus.upload(api, OTHER_GROUP, "third.bin", material)

    assert stage.backend.stored_bytes() - before < 0.01 * size
    for group, name in ((GROUP, "first.bin"), (GROUP, "second.bin"), (OTHER_GROUP, "third.bin")):
        await tus.assert_equal(api, group, name, material)
    assert await _bytes_of(api, GROUP) == (2 * size, size, size)
    assert await _bytes_of(api, OTHER_GROUP) == (size, size, 0)


@pytest.mark.parametrize(
    "size", [pytest.param(64 * MIB, id="small"), pytest.param(128 * MIB, marks=pytest.mark.e2e)]
)
async def test_an_edited_file_adds_little_more_than_its_edits(stage: Stage, size: int) -> None:
    _, api = await stage.open()
    material = Material("edited", size)
    edits = round(size / MIB * EDITS_PER_MIB)
    edited = material.edited("edits", in_front=1000, edits=edits)
    await tus.upload(api, GROUP, "before.bin", material)
    before = stage.backend.stored_bytes()

    await tus.upload(api, GROUP, "after.bin", edited)

    assert stage.backend.stored_bytes() - before < 0.35 * size
    await tus.assert_equal(api, GROUP, "before.bin", material)
    await tus.assert_equal(api, GROUP, "after.bin", edited)
    assert await quota_of(api) == (2 * size + 1000, 0)


async def _bytes_of(api: Api, group: str) -> tuple[int, int, int]:
    """(used, unique, shared) of a group: what it sees depends on its own files only."""
    reply = await api.get(f"/api/v1/groups/{group}/quota")
    found = reply.json
    return found["used_bytes"], found["unique_bytes"], found["shared_bytes"]
