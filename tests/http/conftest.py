"""The real service on a free port, on SQLite and on PostgreSQL, and people who use it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from filestore.app import ADMIN_TOKEN, Service, listening, make_service
from filestore.meta.database import open_database
from filestore.model import Role
from filestore.settings import Settings, load
from tests.http.api import Api
from tests.services.postgres import PostgresService

GROUP = "maths"


@pytest.fixture(scope="session")
def migrated(postgres_service: PostgresService) -> str:
    """The name of a database with the schema, to copy: a migration takes longer than a copy."""
    url = postgres_service.make_database()

    async def migrate() -> None:
        await (await open_database(url)).close()

    asyncio.run(migrate())
    return postgres_service.database_name(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/data/filestore.sqlite3"
        return
    server: PostgresService = request.getfixturevalue("postgres_service")
    url = server.make_database(template=request.getfixturevalue("migrated"))
    yield url
    server.drop_database(url)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """What the service of the test runs with; a module may override this."""
    return load(
        flags={
            "data": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "database": database_url,
            "server.shutdown_s": 1,
            "gc.interval_s": 86_400,  # nothing is collected unless a test asks
        }
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with make_service(settings) as made:
        yield made


@pytest.fixture
async def api(service: Service) -> AsyncIterator[Api]:
    """The service without any token."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(service))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Api(session, url)


@pytest.fixture
def admin(api: Api, settings: Settings) -> Api:
    """The first site admin, with the token of the first start."""
    return api.by((settings.server.data / ADMIN_TOKEN).read_text().strip())


@dataclass(frozen=True)
class Cast:
    """The group ``maths`` and one user of each role in it, and one of another group."""

    group: str
    admin: Api
    manager: Api
    member: Api
    viewer: Api
    outsider: Api


async def make_user(admin: Api, name: str, **wish: object) -> Api:
    """A new user with a token."""
    made = await admin.post("/api/v1/users", {"name": name})
    assert made.status == 201, made.body
    token = await admin.post("/api/v1/tokens", {"user": name, "name": "own", **wish})
    assert token.status == 201, token.body
    return admin.by(token.json["token"])


@pytest.fixture
async def cast(admin: Api) -> Cast:
    made = await admin.post("/api/v1/groups", {"name": GROUP, "quota_bytes": 10 * 2**20})
    assert (await admin.post("/api/v1/groups", {"name": "other"})).status == 201
    people = {}
    for role in Role:
        people[role.value] = await make_user(admin, f"{role}-{GROUP}")
        path = f"/api/v1/groups/{GROUP}/members/{role}-{GROUP}"
        assert (await admin.put(path, {"role": role})).status == 201
    outsider = await make_user(admin, "outsider")
    await admin.put("/api/v1/groups/other/members/outsider", {"role": "manager"})
    return Cast(made.json["id"], admin, outsider=outsider, **people)
