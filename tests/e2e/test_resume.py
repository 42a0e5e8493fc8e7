"""Large files from clients that others wrote, which die on the way and go on."""

import asyncio
import base64
import random
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import aiotus
import pytest

from tests.e2e import tus
from tests.e2e.curl import Curl, kill, kill_when_read
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, SIZES, Stage, quota_of
from tests.http.api import Api
from tests.services.server import Server

pytestmark = pytest.mark.parametrize("size", SIZES)
NAME = "big.bin"


async def test_tuspy_dies_twice_and_resumes(stage: Stage, size: int) -> None:
    server, api = await stage.open()
    material = Material("tuspy", size)
    file, piece = material.write(stage.folder / NAME), size // 6
    reached = 0
    for death in (1, size // 2):
        process = await _tuspy(server, file, piece)
        begin, end = await _offsets_until(process, death)
        assert begin >= reached, "an acknowledged offset went back"
        upload = await tus.only_running(api, GROUP)
        reached = await tus.wait_for_offset(api, GROUP, upload, end + 1)
        await kill(process)
    process = await _tuspy(server, file, piece)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    offsets = [int(line) for line in out.split()]
    assert reached <= offsets[0] < offsets[-1] == size
    await _assert_whole_and_ranges(api, material)


async def test_curl_dies_twice_and_resumes(stage: Stage, size: int) -> None:
    _, api = await stage.open()
    material = Material("curl", size)
    curl = Curl(api, stage.folder)
    metadata = f"filename {base64.b64encode(NAME.encode()).decode()}"
    upload = await curl.create(GROUP, size, metadata)

    half = material.write(stage.folder / "half", 0, size // 2)
    process = await curl.begin_patch(upload, 0, "-T", str(half), "--limit-rate", str(size // 2))
    await kill_when_read(process, size // 4)
    first = await curl.offset(upload)
    assert 0 < first < size // 2

    process = await curl.begin_patch(upload, first, "-T", "-")
    assert process.stdin is not None
    for sent in material.pieces(first, first + size // 4):
        process.stdin.write(sent)
        await process.stdin.drain()
    await kill(process)
    second = await curl.offset(upload)
    assert first < second <= first + size // 4

    middle = (second + size) // 2
    piece = material.write(stage.folder / "piece", second, middle)
    assert await curl.patch(upload, second, piece) == middle
    piece = material.write(stage.folder / "piece", middle, size)
    assert await curl.patch(upload, middle, piece) == size
    await _assert_whole_and_ranges(api, material)


async def test_aiotus_which_takes_no_relative_location_uploads(stage: Stage, size: int) -> None:
    server, api = await stage.open()
    size //= 4  # many small requests
    material = Material("aiotus", size)
    file = material.write(stage.folder / NAME)
    with file.open("rb") as source:
        location = await aiotus.upload(
            f"{server.url}/api/v1/groups/{GROUP}/uploads",
            source,
            {"filename": NAME.encode()},
            headers={"Authorization": f"Bearer {server.admin_token}"},
            chunksize=MIB,  # aiohttp warns of larger ones, which it sends at once
        )
    assert location is not None
    assert await tus.offset_of(api, location.path) == size
    await _assert_whole_and_ranges(api, material)


async def _tuspy(server: Server, file: Path, piece: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("tuspy_upload.py"))),
        *(f"{server.url}/api/v1/groups/{GROUP}/uploads", server.admin_token, str(file)),
        *(str(file.with_name("tuspy.json")), str(piece)),
        stdout=PIPE,
        stderr=PIPE,
    )


async def _offsets_until(process: Process, death: int) -> tuple[int, int]:
    """The first offset that tuspy tells, and the first one at or beyond ``death``."""
    assert process.stdout is not None
    offsets: list[int] = []
    while not offsets or offsets[-1] < death:
        line = await process.stdout.readline()
        assert line, "tuspy ended too early"
        offsets.append(int(line))
    return offsets[0], offsets[-1]


async def _assert_whole_and_ranges(api: Api, material: Material) -> None:
    """The file equals ``material`` however it is asked for, and is charged once."""
    size, dice = material.size, random.Random(material.seed)
    await tus.assert_equal(api, GROUP, NAME, material)
    for begin, end in ((0, 1), (size - 1, size), (size // 3, size // 3 + 5 * MIB)):
        await tus.assert_range_equal(api, GROUP, NAME, material, begin, end)
    begins = sorted(dice.sample(range(0, size - MIB, 2 * MIB), 5))
    several = [(begin, begin + dice.randrange(1, 300 * KIB)) for begin in begins]
    await tus.assert_ranges_equal(api, GROUP, NAME, material, several)
    assert await quota_of(api) == (size, 0)
