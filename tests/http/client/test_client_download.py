"""Downloads against a server that breaks: what goes on, and what never gets its name."""

import asyncio
import base64
from pathlib import Path

import pytest
from aiohttp import web

from filestore.client import Client
from filestore.errors import DownloadDamaged, NotFound, TargetExists, Unreachable
from filestore_chunker import block_hash
from tests.http.client.breaking_server import DATA, MIB, Fake, broken, records, unavailable


async def download_half_then_break(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"ETag": '"1"', "Content-Length": str(len(DATA))})
    await response.prepare(request)
    await response.write(DATA[:MIB])
    await response.write(DATA[MIB : 2 * MIB])
    assert request.transport is not None
    request.transport.close()
    await asyncio.Event().wait()
    return response


async def test_a_download_goes_on_by_range_and_is_verified(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    fake.files["a"] = DATA
    fake.fail("GET", download_half_then_break, unavailable(2))
    done = await client.download("team", "a", tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA
    assert (done.is_verified, done.was_there) == (True, False)
    assert fake.count("GET") == 3
    assert not (tmp_path / "a.part").exists()


async def test_a_download_given_up_goes_on_in_the_next_process(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    fake.files["a"] = DATA
    fake.fail("GET", download_half_then_break, *[broken] * 20)
    with pytest.raises(Unreachable):
        await client.download("team", "a", tmp_path / "a")
    part = (tmp_path / "a.part").stat().st_size
    fake.faults.clear()
    done = await client.download("team", "a", tmp_path / "a")

    assert 0 < part == done.resumed_at
    assert done.received == len(DATA) - part
    assert (tmp_path / "a").read_bytes() == DATA


async def test_a_file_that_changes_between_two_parts_is_fetched_whole(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    async def replaced(request: web.Request) -> None:
        fake.files["a"], fake.etag = DATA[::-1], 2

    fake.files["a"] = DATA
    fake.fail("GET", download_half_then_break, replaced)
    done = await client.download("team", "a", tmp_path / "a")

    assert done.etag == '"2"'
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


async def test_wrong_bytes_are_discarded_and_never_get_the_name(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    async def damaged(request: web.Request) -> web.StreamResponse:
        digest = base64.b64encode(block_hash(DATA)).decode()
        headers = {"ETag": '"1"', "Repr-Digest": f"blake3=:{digest}:"}
        return web.Response(body=bytes(len(DATA)), headers=headers)

    fake.files["a"] = DATA
    fake.fail("GET", damaged)

    with pytest.raises(DownloadDamaged):
        await client.download("team", "a", tmp_path / "a")
    assert not (tmp_path / "a").exists() and not (tmp_path / "a.part").exists()
    assert records(tmp_path) == []
    await client.download("team", "a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA


async def test_a_part_of_unknown_origin_is_not_built_on(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    fake.files["a"] = DATA
    (tmp_path / "a.part").write_bytes(b"x" * (len(DATA) + 5))
    await client.download("team", "a", tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("digests", [True, False])
async def test_the_same_download_again_receives_nothing(
    client: Client, fake: Fake, tmp_path: Path, digests: bool
) -> None:
    fake.files["a"], fake.digests = DATA, digests
    await client.download("team", "a", tmp_path / "a")
    again = await client.download("team", "a", tmp_path / "a")

    assert again.was_there
    assert fake.count("GET") == 1


async def test_a_different_file_is_replaced_only_when_told(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    fake.files["a"] = DATA
    (tmp_path / "a").write_bytes(b"mine")

    with pytest.raises(TargetExists):
        await client.download("team", "a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
    await client.download("team", "a", tmp_path / "a", replace=True)
    assert (tmp_path / "a").read_bytes() == DATA


async def test_an_empty_file_is_downloaded(client: Client, fake: Fake, tmp_path: Path) -> None:
    fake.files["a"] = b""
    done = await client.download("team", "a", tmp_path / "a")

    assert (done.size, (tmp_path / "a").read_bytes()) == (0, b"")


async def test_a_file_that_is_not_there_leaves_nothing(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        await client.download("team", "a", tmp_path / "a")
    assert not (tmp_path / "a.part").exists()
