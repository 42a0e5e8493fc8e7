"""Downloads against a server that breaks: what goes on, and what never gets its name."""

import asyncio
import base64
import io
import os
from pathlib import Path

import pytest
from aiohttp import web

from filestore.client import Client
from filestore.errors import (
    ClientFailed,
    DownloadDamaged,
    LocalFile,
    NotFound,
    TargetExists,
    Unreachable,
)
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


@pytest.mark.parametrize("kind", ["file", "link", "swapped"])
async def test_a_part_that_is_not_ours_is_left_alone_unless_told(
    client: Client, fake: Fake, tmp_path: Path, kind: str
) -> None:
    fake.files["a"] = DATA
    theirs, part = tmp_path / "theirs", tmp_path / "a.part"
    theirs.write_bytes(b"precious")
    if kind == "file":
        part.hardlink_to(theirs)
    elif kind == "link":
        part.symlink_to(theirs)
    else:  # the record names another file than the one that is there now
        fake.fail("GET", download_half_then_break, *[broken] * 20)
        with pytest.raises(Unreachable):
            await client.download("team", "a", tmp_path / "a")
        fake.faults.clear()
        part.rename(tmp_path / "kept")
        part.hardlink_to(theirs)

    with pytest.raises(TargetExists, match=r"a\.part exists"):
        await client.download("team", "a", tmp_path / "a")
    assert (part.read_bytes(), (tmp_path / "a").exists()) == (b"precious", False)
    await client.download("team", "a", tmp_path / "a", replace=True)
    assert (tmp_path / "a").read_bytes() == DATA
    assert not (tmp_path / "a").is_symlink()
    assert theirs.read_bytes() == b"precious"


async def test_a_part_that_is_swapped_meanwhile_never_gets_the_name(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    async def somebody_swaps(request: web.Request) -> None:
        (tmp_path / "a.part").unlink()
        (tmp_path / "a.part").write_bytes(b"precious")

    fake.files["a"] = DATA
    fake.fail("GET", somebody_swaps)

    with pytest.raises(LocalFile, match="different file there"):
        await client.download("team", "a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.part").read_bytes() == b"precious"


@pytest.mark.parametrize("where", ["nodir/x", "pipe"])
async def test_a_place_that_cannot_hold_a_file_is_refused_at_once(
    client: Client, fake: Fake, tmp_path: Path, where: str
) -> None:
    fake.files["a"] = DATA
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(LocalFile, match=r"no such folder|it is a pipe"):
        await client.download("team", "a", tmp_path / where, replace=True)
    assert fake.count("GET") == 0
    assert (tmp_path / "pipe").is_fifo() and not (tmp_path / "nodir").exists()


async def test_a_stream_goes_on_after_a_break_and_is_verified_at_its_end(
    client: Client, fake: Fake
) -> None:
    async def replaced(request: web.Request) -> None:
        fake.etag = 2

    fake.files["a"], out = DATA, io.BytesIO()
    fake.fail("GET", download_half_then_break, unavailable(2))
    done = await client.stream("team", "a", out.write)

    assert (out.getvalue() == DATA, done.size, done.is_verified) == (True, len(DATA), True)
    fake.fail("GET", download_half_then_break, replaced)
    with pytest.raises(ClientFailed, match="changed on the server"):
        await client.stream("team", "a", out.write)


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
