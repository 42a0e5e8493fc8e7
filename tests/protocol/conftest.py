"""One service for each pair of database and block store, for all tests of a file.

The service is shared because the tests are many and each needs only an upload of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import sqlalchemy as sa

from filestore.app import ADMIN_TOKEN, Service, listening, make_service
from filestore.meta.tables import uploads
from filestore.settings import Settings, load
from filestore_gc.reaping import Reaper
from tests.http.api import Api
from tests.http.conftest import make_user, migrated
from tests.protocol.wire import TIMEOUT_S, Answer, Headers, Wire, ask, connected
from tests.services.postgres import PostgresService
from tests.services.s3 import S3Service

__all__ = ["migrated"]

GROUP = "team"
QUOTA = 64 * 2**20
MAX_SIZE = 4 * 2**20
READ_TIMEOUT_S = 1


@dataclass(frozen=True)
class Site:
    """A running service with a group and users of it; requests are sent by ``token``."""

    service: Service
    url: str
    token: str
    other: str
    viewer: str
    manager: str
    outsider: str
    admin: Api
    group: str = GROUP

    @property
    def collection(self) -> str:
        return f"/api/v1/groups/{self.group}/uploads"

    @property
    def reaper(self) -> Reaper:
        return Reaper(self.service.services.db, self.service.process_id)

    def by(self, token: str) -> "Site":
        return replace(self, token=token)

    @property
    def bearer(self) -> tuple[str, str]:
        return "Authorization", f"Bearer {self.token}"

    async def ask(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        """One request of the user on a connection of its own."""
        return await ask(self.url, method, target, [self.bearer, *headers], body)

    async def tus(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        """:meth:`ask` with the version of the protocol."""
        return await self.ask(method, target, [("Tus-Resumable", "1.0.0"), *headers], body)

    async def create(self, length: int | None = None, headers: Headers = ()) -> str:
        """The address of a new upload."""
        size = ("Upload-Defer-Length", "1") if length is None else ("Upload-Length", str(length))
        made = await self.tus("POST", self.collection, [size, *headers])
        assert made.status == 201, made
        return made.location

    async def offset(self, upload: str) -> int:
        """What HEAD says, which waits for whoever is writing."""
        found = await self.tus("HEAD", upload)
        assert found.status == 200, found
        return int(found.headers["upload-offset"])

    async def patch(
        self, upload: str, offset: int, body: bytes = b"", headers: Headers = ()
    ) -> Answer:
        return await self.tus("PATCH", upload, [*self.piece(offset), *headers], body)

    @staticmethod
    def piece(offset: int) -> Headers:
        return [
            ("Upload-Offset", str(offset)),
            ("Content-Type", "application/offset+octet-stream"),
        ]

    async def begin_patch(
        self, wire: Wire, upload: str, offset: int, framing: tuple[str, str]
    ) -> None:
        """Sends the head of a PATCH; returns when the server holds the upload and reads."""
        headers = [self.bearer, ("Tus-Resumable", "1.0.0"), ("Expect", "100-continue")]
        await wire.head("PATCH", upload, [*headers, *self.piece(offset), framing])
        assert await wire.interim() == 100

    async def content(self, name: str) -> bytes | None:
        """The file's bytes; None if there is none."""
        answer = await self.ask("GET", f"/api/v1/groups/{self.group}/files/{name}")
        return answer.body if answer.status == 200 else None

    async def running(self) -> dict[str, int]:
        """The group's running uploads with their offsets; this disturbs none of them."""
        answer = await self.admin.get(f"{self.collection}?limit=1000")
        items = answer.json["items"]
        return {f"/api/v1/uploads/{item['id']}": item["offset"] for item in items}

    async def wait_for(self, upload: str, offset: int | None) -> None:
        """Returns when so many bytes are durable; None: when the upload runs no more."""
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.running()).get(upload) != offset:
                continue

    async def quota(self, group: str = "") -> tuple[int, int]:
        """Used and reserved bytes of a group."""
        found = (await self.admin.get(f"/api/v1/groups/{group or self.group}/quota")).json
        return found["used_bytes"], found["reserved_bytes"]

    async def small_group(self, name: str, quota: int) -> "Site":
        """The same service, with uploads to a new group of another quota."""
        made = await self.admin.post("/api/v1/groups", {"name": name, "quota_bytes": quota})
        assert made.status == 201, made
        path = f"/api/v1/groups/{name}/members/token"
        assert (await self.admin.put(path, {"role": "member"})).status == 201
        return replace(self, group=name)

    async def set_row(self, upload: str, **values: object) -> None:
        """Changes the upload's row: how tests let time pass."""
        upload_id = upload.rpartition("/")[2]
        statement = sa.update(uploads).where(uploads.c.id == upload_id).values(**values)
        await self.service.services.db.transact(lambda tx: tx.execute(statement))

    def connected(self) -> contextlib.AbstractAsyncContextManager[Wire]:
        return connected(self.url)


@pytest.fixture(scope="module", params=["sqlite-disk", "postgres-seaweedfs"])
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    data = tmp_path_factory.mktemp("data")
    flags: dict[str, object] = {
        "data": data,
        "listen": "127.0.0.1:0",
        "server.shutdown_s": 1,
        "gc.interval_s": 86_400,  # nothing is collected unless a test asks
        "server.read_timeout_s": READ_TIMEOUT_S,
        "uploads.max_size_bytes": MAX_SIZE,
        "server.cors_origins": ["https://app.example.org"],
    }
    if request.param == "sqlite-disk":
        yield load(flags=flags)
        return
    store: S3Service = request.getfixturevalue("seaweedfs_service")
    server: PostgresService = request.getfixturevalue("postgres_service")
    url = server.make_database(template=request.getfixturevalue("migrated"))
    flags |= {"database": url, "blocks": store.bucket_url(f"protocol-{data.name}")}
    flags |= {"s3.access_key": store.access_key, "s3.secret_key": store.secret_key}
    yield load(flags=flags)
    server.drop_database(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(make_service(settings))
        url = await stack.enter_async_context(listening(service))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        token = _read(settings.server.data / ADMIN_TOKEN)
        admin = Api(session, url, token)
        await admin.post("/api/v1/groups", {"name": GROUP, "quota_bytes": QUOTA})
        tokens = {}
        for name, role in {
            "token": "member",
            "other": "member",
            "viewer": "viewer",
            "manager": "manager",
        }.items():
            tokens[name] = (await make_user(admin, name)).token or ""
            path = f"/api/v1/groups/{GROUP}/members/{name}"
            assert (await admin.put(path, {"role": role})).status == 201
        tokens["outsider"] = (await make_user(admin, "outsider")).token or ""
        yield Site(service, url, admin=admin, **tokens)


def _read(path: Path) -> str:
    return path.read_text().strip()
