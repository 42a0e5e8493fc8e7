"""tuspy and aiotus: the ways they have to upload."""

import io
from pathlib import Path
from typing import Any

import aiotus
import pytest
from yarl import URL

from tests.clients.conftest import Job, Source
from tests.clients.proxy import LOST, proxy_before
from tests.protocol.conftest import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 1024
SIZE = 900 * KIB
PIECE = 256 * KIB


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("whole", {}),
        ("chunked", {"chunk_size": PIECE}),
        ("checksum", {"upload_checksum": True, "chunk_size": PIECE}),
    ],
)
async def test_tuspy_uploads(
    site: Site, tmp_path: Path, is_async: bool, name: str, options: dict[str, Any]
) -> None:
    name = f"tuspy-{name}-{is_async}"
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    options = options | {"metadata": {"filename": name}}
    found = await job.tuspy(is_async=is_async, options=options)
    assert found["ok"] and found["offset"] == SIZE, found
    assert await site.content(name) == job.source.data


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_tuspy_goes_on_from_its_stored_address(
    site: Site, tmp_path: Path, is_async: bool
) -> None:
    name = f"tuspy-stored-{is_async}"
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    told = {
        "is_async": is_async,
        "options": {"chunk_size": PIECE, "metadata": {"filename": name}},
        "storage": str(tmp_path / "urls.json"),
    }
    first = await job.tuspy(**told, stop_at=PIECE)
    assert first["ok"] and first["offset"] == PIECE, first
    second = await job.tuspy(**told)
    assert (second["url"], second["begun_at"]) == (first["url"], PIECE), second
    assert await site.content(name) == job.source.data


async def test_tuspy_is_told_that_its_stored_upload_is_gone(site: Site, tmp_path: Path) -> None:
    job = Job(site, site.url, Source.make(tmp_path, SIZE))
    told = {
        "options": {"chunk_size": PIECE, "metadata": {"filename": "tuspy-gone"}},
        "storage": str(tmp_path / "urls.json"),
    }
    first = await job.tuspy(**told, stop_at=PIECE)
    assert (await site.tus("DELETE", URL(first["url"]).path)).status == 204
    second = await job.tuspy(**told)
    assert (second["ok"], second["status"]) == (False, 410), second
    assert await site.content("tuspy-gone") is None


async def test_tuspy_sends_empty_metadata(site: Site, tmp_path: Path) -> None:
    """Without any it sends the header with nothing in it; the id becomes the name."""
    job = Job(site, site.url, Source.make(tmp_path, 1000))
    found = await job.tuspy()
    assert found["ok"], found
    assert await site.content(found["url"].rpartition("/")[2]) == job.source.data


@pytest.mark.parametrize("status", [409, 423, 503, LOST])
async def test_tuspy_gets_over_what_passes(site: Site, tmp_path: Path, status: int) -> None:
    name = f"tuspy-fault-{status}"
    async with proxy_before(site.url) as proxy:
        proxy.faults.append(("PATCH", status))
        job = Job(site, proxy.url, Source.make(tmp_path, SIZE))
        options = {"metadata": {"filename": name}, "chunk_size": PIECE}
        retries = {"retries": 3, "retry_delay": 0}
        found = await job.tuspy(options=options | retries)
        assert found["ok"] and proxy.given == 1, found
    assert await site.content(name) == job.source.data


@pytest.mark.parametrize("size", [0, 1, SIZE])
async def test_aiotus_uploads(site: Site, size: int) -> None:
    name, data = f"aiotus-{size}", bytes(size)
    location = await aiotus.upload(
        f"{site.url}{site.collection}",
        io.BytesIO(data),
        {"filename": name.encode(), "filetype": b"application/x-test"},
        headers={"Authorization": f"Bearer {site.token}"},
        chunksize=PIECE,
    )
    assert location is not None
    assert await site.content(name) == data
    told = await aiotus.metadata(location, headers={"Authorization": f"Bearer {site.token}"})
    assert told is not None and told["filename"] == name.encode()


async def test_aiotus_uploads_parts_where_concatenation_is_advertised(site: Site) -> None:
    """Until then it gives up, and nothing is left."""
    offered = (await site.ask("OPTIONS", site.collection)).headers["tus-extension"].split(",")
    parts = [bytes([number]) * PIECE for number in range(4)]
    location = await aiotus.upload_multiple(
        f"{site.url}{site.collection}",
        [io.BytesIO(part) for part in parts],
        {"filename": b"aiotus-parts"},
        headers={"Authorization": f"Bearer {site.token}"},
        config=aiotus.RetryConfiguration(retry_attempts=1),
        chunksize=PIECE,
    )
    if "concatenation" in offered:
        assert location is not None
        assert await site.content("aiotus-parts") == b"".join(parts)
        return
    assert location is None
    assert await site.running() == {}
