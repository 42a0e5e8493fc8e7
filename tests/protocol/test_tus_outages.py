"""The database or the block store goes away: told as such, for a while, and nothing is lost.

To HEAD above all: clients take any 4xx there for "the upload is gone" and begin at byte 0.
"""

import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from filestore.settings import Settings, load
from tests.protocol.conftest import Site
from tests.protocol.rows import BODY_TYPE, named
from tests.services.postgres import PostgresService
from tests.services.wall import Wall

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA = random.Random(8).randbytes(1_500_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wall(postgres_service: PostgresService) -> AsyncIterator[Wall]:
    made = Wall(postgres_service.socket_dir)
    await made.open()
    yield made
    await made.remove()


@pytest.fixture(scope="module")
def settings(
    postgres_service: PostgresService,
    migrated: str,
    wall: Wall,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """PostgreSQL behind a wall, and a folder: both can go away while the service runs."""
    url = postgres_service.make_database(template=migrated)
    yield load(
        flags={
            "data": tmp_path_factory.mktemp("data"),
            "listen": "127.0.0.1:0",
            "database": wall.url(url),
            "server.shutdown_s": 1,
            "blocks.retries": 0,
        }
    )
    postgres_service.drop_database(url)


async def test_h9_without_its_database_the_service_says_later_and_never_gone(
    site: Site, wall: Wall
) -> None:
    upload = await site.create(len(DATA), list(named("h9").items()))
    assert (await site.patch(upload, 0, DATA[:700_000])).status == 204
    async with wall.closed():
        for _ in range(3):
            head = await site.tus("HEAD", upload)
            assert (head.status, head.body) == (503, b"")
            assert "upload-offset" not in head.headers
            assert int(head.headers["retry-after"]) > 0
            for answer in (
                await site.patch(upload, 700_000, DATA[700_000:]),
                await site.tus("DELETE", upload),
                await site.tus("POST", site.collection, [("Upload-Length", "5")]),
                await site.ask("GET", f"/api/v1/groups/{site.group}/files/h9"),
            ):
                assert answer.status == 503, answer
                assert int(answer.headers["retry-after"]) > 0
    assert await site.offset(upload) == 700_000
    assert (await site.patch(upload, 700_000, DATA[700_000:])).status == 204
    assert await site.content("h9") == DATA


async def test_without_its_store_the_service_says_later_and_the_upload_goes_on(
    site: Site, settings: Settings
) -> None:
    data = random.Random(9).randbytes(1_500_000)  # blocks that are known would not be stored
    upload = await site.create(len(data), list(named("store").items()))
    assert (await site.patch(upload, 0, data[:700_000])).status == 204
    blocks = settings.server.data / "blocks"
    away = blocks.rename(blocks.with_name("away"))
    try:
        refused = await site.patch(upload, 700_000, data[700_000:])
        assert refused.status == 503, refused
        assert int(refused.headers["retry-after"]) > 0
        assert await site.offset(upload) == 700_000
        headers = [("Upload-Length", "1000"), ("Content-Type", BODY_TYPE)]
        made = await site.tus("POST", site.collection, headers, data[:1000])
        assert (made.status, made.headers["upload-offset"]) == (201, "0")
    finally:
        away.rename(blocks)
    assert (await site.patch(upload, 700_000, data[700_000:])).status == 204
    assert await site.content("store") == data
    assert (await site.patch(made.location, 0, data[:1000])).status == 204
