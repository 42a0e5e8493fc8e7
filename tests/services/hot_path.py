"""The hot path below HTTP: several "processes" on one database and one block store.

A process here is what database and store can tell apart: a row in ``processes``, connections,
memory and threads of its own. So two of them in one test are as strange to each other as two
servers, but the test can stop each at any step.

``site`` is one on each pair of services; a :class:`Site` starts as many processes as its
database takes (SQLite: one at a time).
"""

import asyncio
import contextlib
import gc
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import sqlalchemy as sa

from filestore.acts.uploads import Request
from filestore.blocks.backend import Backend
from filestore.blocks.memory import MemoryStore
from filestore.blocks.open import guard_store, make_store
from filestore.blocks.retrying import RetryPolicy
from filestore.errors import FilestoreError
from filestore.meta.database import Database, Tx, open_database
from filestore.meta.entries import create_root
from filestore.meta.processes import insert_process
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    domains,
    gc_queue,
    groups,
    uploads,
    users,
)
from filestore.meta.uploads import Upload
from filestore.model import GIB, KIB, Actor, ChunkerParams, Protocol
from filestore.names import parse_name
from filestore.settings import Settings, load
from filestore.transfer.assembly import NEW_CONTENTS, HotPath, running_hot_path
from filestore.transfer.claiming import Piece
from filestore.transfer.source import ByteSource
from filestore_chunker import Cutter, Params, block_hash
from tests.contract.faulty import FaultyStore
from tests.services.books import Books, check_journal, read_books
from tests.services.needs import is_available, require
from tests.services.postgres import PostgresService
from tests.services.s3 import S3Service

T = TypeVar("T")

DOMAIN: Final = "default"
GROUP: Final = "grp_test"
USER: Final = "usr_test"
ACTOR: Final = Actor(USER, None, None)
QUOTA: Final = 10 * GIB

SMALL: Final = ChunkerParams(4 * KIB, 8 * KIB, 32 * KIB, 2)
"""Blocks of some 8 KiB, so that a small file has many."""

TINY: Final = ChunkerParams(64, 256, 1 * KIB, 2)
"""The smallest blocks that the scanner can cut."""


class Body:
    """The bytes of one request in pieces of ``step``; then it ends, or ``error`` is raised."""

    def __init__(
        self, data: bytes, step: int = 256 * KIB, *, error: FilestoreError | None = None
    ) -> None:
        self._data = memoryview(data)
        self._step = step
        self._error = error
        self.position = 0

    async def read(self, wanted: int) -> bytes:
        piece = bytes(self._data[self.position : self.position + self._step])
        self.position += len(piece)
        if not piece and self._error is not None:
            raise self._error
        return piece


class Held:
    """A body that gives ``first``, then waits for ``gate``, then gives ``rest`` and ends.

    ``waiting`` is set as soon as the server waits for what comes behind ``first``.
    """

    def __init__(self, first: bytes, rest: bytes = b"", step: int = 256 * KIB) -> None:
        self._first = Body(first, step)
        self._rest = Body(rest, step)
        self.waiting = asyncio.Event()
        self.gate = asyncio.Event()

    async def read(self, wanted: int) -> bytes:
        if piece := await self._first.read(wanted):
            return piece
        self.waiting.set()
        await self.gate.wait()
        return await self._rest.read(wanted)


@dataclass(frozen=True)
class BlockRow:
    """One reference of a content, as a test compares it."""

    offset: int
    size: int
    hash: bytes
    is_provisional: bool


def cut(data: bytes, params: ChunkerParams = NEW_CONTENTS) -> list[BlockRow]:
    """The references that a content with these bytes must have, however they came."""
    cutter = Cutter(Params(params.min_size, params.avg_size, params.max_size, params.level))
    cuts = [*cutter.feed(data), *cutter.finish()]
    return [BlockRow(cut.offset, cut.size, block_hash(cut.data), False) for cut in cuts]


@dataclass
class Process:
    """One running process. ``store`` is its own way to the shared store, which can fail."""

    id: str
    db: Database
    store: FaultyStore
    hot: HotPath

    async def begin(
        self, length: int | None, name: str = "file", *, group: str = GROUP, **request: Any
    ) -> Upload:
        """A new upload by the usual user."""
        wish: dict[str, Any] = {"folder": (), "protocol": Protocol.TUS} | request
        domain = wish.pop("domain", DOMAIN)
        return await self.hot.transfers.begin(
            ACTOR,
            Request(group, domain, USER, length=length, name=parse_name(name), **wish),
        )

    async def append(
        self, upload: Upload | str, offset: int, body: bytes | ByteSource, **piece: Any
    ) -> Upload:
        """Sends the bytes in one request."""
        upload_id = upload if isinstance(upload, str) else upload.id
        source = Body(body) if isinstance(body, bytes) else body
        return await self.hot.transfers.append(ACTOR, upload_id, Piece(offset, source, **piece))

    async def upload(self, data: bytes, name: str = "file", **request: Any) -> Upload:
        """A whole file in one request after its creation."""
        upload = await self.begin(len(data), name, **request)
        return upload if upload.state == "done" else await self.append(upload, 0, data)

    async def look(self, upload: Upload | str) -> Upload:
        """The upload as it is recorded."""
        return await self.hot.transfers.find(upload if isinstance(upload, str) else upload.id)

    async def read(self, content_id: int, start: int, end: int) -> bytes:
        """The bytes of a content, as a download gives them."""
        stored = self.hot.egress.stored(content_id, start, end)
        return b"".join([bytes(piece) async for piece in stored])

    async def rows(self, content_id: int) -> list[BlockRow]:
        """The references of a content, in order."""
        query = (
            sa.select(content_blocks, blocks.c.hash)
            .join(blocks, blocks.c.id == content_blocks.c.block_id)
            .where(content_blocks.c.content_id == content_id)
            .order_by(content_blocks.c.byte_offset)
        )
        return [
            BlockRow(row.byte_offset, row.size, row.hash, row.provisional)
            for row in await self.all(query)
        ]

    async def all(self, query: sa.Select[Any] | sa.TextClause) -> Sequence[sa.Row[Any]]:
        """The rows that a query finds, in a transaction of its own."""

        async def look(tx: Tx) -> Sequence[sa.Row[Any]]:
            rows: Sequence[sa.Row[Any]] = (await tx.execute(query)).all()
            return rows

        return await self.db.read(look)

    async def one(self, query: sa.Select[Any] | sa.TextClause) -> Any:
        """The only value that a query finds."""
        ((value,),) = await self.all(query)
        return value

    async def change(self, statement: sa.sql.base.Executable) -> None:
        """Changes rows behind the service's back."""

        async def act(tx: Tx) -> None:
            await tx.execute(statement)

        await self.db.transact(act)

    async def transact(self, act: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """An act, whose first argument is the transaction."""
        return await self.db.transact(lambda tx: act(tx, *args, **options))

    async def counters(self, group: str = GROUP) -> Books:
        """What the group's row says, and what its versions and uploads sum up to."""
        return await self.db.read(lambda tx: read_books(tx, group))

    async def check_books(self, group: str = GROUP) -> Books:
        """The counters, after holding them against the rows and the journal."""
        found = await self.counters(group)
        assert found.agree, found
        await self.db.read(lambda tx: check_journal(tx, group, found))
        return found

    async def queued(self) -> set[int]:
        """Ids of the blocks that the collector was asked to look at."""
        return {row.block_id for row in await self.all(sa.select(gc_queue.c.block_id))}

    async def block_states(self) -> dict[str, int]:
        """How many blocks there are in each state."""
        query = sa.select(blocks.c.state, sa.func.count().label("n")).group_by(blocks.c.state)
        return {row.state: row.n for row in await self.all(query)}

    async def _threads_let_go(self) -> None:
        """A thread has bytes in hand until it ends, also when nobody waits for it any more;
        errors have frames, in cycles with their tasks."""
        tries = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                self.hot.engine.buffers.drop()
                while self.hot.engine.budget.used:
                    if tries % 40 == 20:  # rarely: it walks through all that pytest holds
                        gc.collect()
                    tries += 1
                    await asyncio.sleep(0.005)
                    self.hot.engine.buffers.drop()

    async def check_rest(self) -> None:
        """Nothing is under way: no memory held, no block in flight, nobody holds an upload."""
        await _settled()
        engine = self.hot.engine
        await self._threads_let_go()
        assert engine.budget.used == 0, engine.budget
        assert "with 0 blocks" in repr(engine.placer), engine.placer
        assert "of 0 uploads" in repr(self.hot.transfers._holders)
        held = await self.all(sa.select(uploads.c.id).where(uploads.c.holder_id == self.id))
        assert not held

    async def check_references(self) -> None:
        """Every reference is to a live block, and every live block is referenced or queued."""
        wrong = (
            sa.select(content_blocks.c.content_id, blocks.c.state)
            .join(blocks, blocks.c.id == content_blocks.c.block_id)
            .where(blocks.c.state != "live")
        )
        assert await self.all(wrong) == []
        orphans = sa.select(blocks.c.id).where(
            blocks.c.state.in_(["live", "condemned"]),
            ~sa.exists().where(content_blocks.c.block_id == blocks.c.id),
            ~sa.exists().where(gc_queue.c.block_id == blocks.c.id),
        )
        assert await self.all(orphans) == []


@dataclass
class Site:
    """One database and one block store. ``start`` gives a process on them."""

    database_url: str
    settings: Settings
    store: Backend | None = None
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _stacks: dict[str, contextlib.AsyncExitStack] = field(default_factory=dict)

    async def __aenter__(self) -> "Site":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stack.aclose()

    async def start(self, *, params: ChunkerParams = NEW_CONTENTS, **overrides: object) -> Process:
        """A process, running until it is stopped or the site ends; ``overrides`` of settings
        are named ``section__key``."""
        stack = contextlib.AsyncExitStack()
        self.stack.push_async_callback(stack.aclose)
        db = await open_database(self.database_url, pool_size=self.settings.database.pool_size)
        stack.push_async_callback(db.close)
        process_id = await db.transact(_seed)
        settings = _changed(self.settings, overrides)
        store = FaultyStore(await self._open_store(stack, settings, process_id))
        running = running_hot_path(settings, db, store, process_id, params=params)
        hot = await stack.enter_async_context(running)
        self._stacks[process_id] = stack
        return Process(process_id, db, store, hot)

    async def beside(
        self, first: Process, *, params: ChunkerParams = NEW_CONTENTS, **overrides: object
    ) -> Process:
        """Another hot path in the same process of the database: on SQLite there is only one."""
        stack = contextlib.AsyncExitStack()
        self.stack.push_async_callback(stack.aclose)
        process_id = await first.db.transact(_seed)
        settings = _changed(self.settings, overrides)
        store = FaultyStore(first.store.inner)
        running = running_hot_path(settings, first.db, store, process_id, params=params)
        hot = await stack.enter_async_context(running)
        self._stacks[process_id] = stack
        return Process(process_id, first.db, store, hot)

    async def stop(self, process: Process) -> None:
        """Ends a process; its row stays, as if it still lived."""
        await self._stacks.pop(process.id).aclose()

    async def _open_store(
        self, stack: contextlib.AsyncExitStack, settings: Settings, process_id: str
    ) -> Backend:
        if self.store is not None:
            return self.store
        threads = ThreadPoolExecutor(4)
        stack.callback(threads.shutdown)
        access, secret = settings.s3.access_key, settings.s3.secret_key
        plain = make_store(
            settings.blocks_url,
            process_id=process_id,
            threads=threads,
            access_key=None if access is None else access.get_secret_value(),
            secret_key=None if secret is None else secret.get_secret_value(),
        )
        stack.push_async_callback(plain.close)
        await plain.open()
        return guard_store(plain, max_puts=16, max_gets=16, policy=RetryPolicy(attempts=3))


def random_bytes(size: int, seed: object = 0) -> bytes:
    """The same bytes for the same seed, which nothing compresses."""
    return random.Random(f"{seed}").randbytes(size)


def site_on(
    folder: Path, database_url: str, *, store: Backend | None = None, **settings: object
) -> Site:
    """A site whose data lie in ``folder``."""
    flags = {name.replace("__", "."): value for name, value in settings.items()}
    loaded = load(environ={}, flags={"data": folder, "database": database_url, **flags})
    return Site(database_url, loaded, store)


def sqlite_site(folder: Path, *, in_memory: bool = True, **settings: object) -> Site:
    """SQLite in a folder; blocks in memory, or in the folder too."""
    url = f"sqlite+aiosqlite:///{folder}/filestore.sqlite3"
    return site_on(folder, url, store=MemoryStore() if in_memory else None, **settings)


async def add_group(
    tx: Tx, group_id: str, *, quota: int = QUOTA, domain: str = DOMAIN, retention_s: int = 60
) -> None:
    """One more group, with its root."""
    await tx.execute(
        groups.insert().values(
            id=group_id,
            name=group_id,
            name_key=group_id,
            domain_id=domain,
            quota_limit=quota,
            trash_retention_s=retention_s,
        )
    )
    await create_root(tx, group_id)


async def set_limit(process: Process, limit: int, group: str = GROUP) -> None:
    """A new quota of the group."""
    await process.change(sa.update(groups).where(groups.c.id == group).values(quota_limit=limit))


async def used_by(process: Process, group: str = GROUP) -> tuple[int, int]:
    """(used, reserved) of the group."""
    found = await process.counters(group)
    return found.used, found.reserved


async def content_state(process: Process, content_id: int) -> str | None:
    """The state of a content; None when its row is gone."""
    found = await process.all(sa.select(contents.c.state).where(contents.c.id == content_id))
    return str(found[0].state) if found else None


@pytest.fixture(scope="session")
def migrated_database(postgres_service: PostgresService) -> str:
    """The name of a database with the schema: copying it takes 30 ms, migrating 300."""
    url = postgres_service.make_database()

    async def migrate() -> None:
        await (await open_database(url)).close()

    asyncio.run(migrate())
    return postgres_service.database_name(url)


@pytest.fixture
def postgres_database(postgres_service: PostgresService, migrated_database: str) -> Iterator[str]:
    """The URL of a fresh database that has the schema."""
    url = postgres_service.make_database(template=migrated_database)
    yield url
    postgres_service.drop_database(url)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, for the same reason."""
    path = tmp_path_factory.mktemp("schema") / "filestore.sqlite3"

    async def migrate() -> None:
        await (await open_database(f"sqlite+aiosqlite:///{path}")).close()

    asyncio.run(migrate())
    return path


@pytest.fixture
def sqlite_database(migrated_file: Path, tmp_path: Path) -> str:
    """The URL of a fresh SQLite file that has the schema."""
    path = tmp_path / "filestore.sqlite3"
    shutil.copyfile(migrated_file, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgres"])
def any_database(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture
async def any_site(any_database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site on each kind of database; its blocks lie in memory."""
    async with site_on(tmp_path, any_database, store=MemoryStore()) as made:
        yield made


@pytest.fixture(params=["sqlite-disk", "postgres-disk", "postgres-seaweedfs", "postgres-minio"])
def real_site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """A site on each pair of real services, which the test enters itself."""
    database, _, blocks_name = request.param.partition("-")
    settings: dict[str, Any] = {}
    if blocks_name != "disk":
        require(blocks_name, is_available(blocks_name))
        service: S3Service = request.getfixturevalue(f"{blocks_name}_service")
        settings = {
            "blocks": service.bucket_url(f"hot-path-{random.randrange(10**12)}"),
            "s3__access_key": service.access_key,
            "s3__secret_key": service.secret_key,
        }
    url = f"sqlite+aiosqlite:///{tmp_path}/filestore.sqlite3"
    if database == "postgres":
        url = request.getfixturevalue("postgres_database")
    return site_on(tmp_path, url, **settings)


@pytest.fixture
async def site(real_site: Site) -> AsyncIterator[Site]:
    """A site on each pair of real services."""
    async with real_site:
        yield real_site


@pytest.fixture
async def hot_path(site: Site) -> Process:
    """One process on each pair of real services."""
    return await site.start()


@pytest.fixture
async def memory_site(sqlite_database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site on SQLite with blocks in memory: for what no database decides."""
    async with site_on(tmp_path, sqlite_database, store=MemoryStore()) as made:
        yield made


@pytest.fixture
async def postgres_site(postgres_database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site on PostgreSQL with blocks in memory: for races, which are between rows."""
    async with site_on(tmp_path, postgres_database, store=MemoryStore()) as made:
        yield made


@pytest.fixture
async def no_lost_errors() -> AsyncIterator[None]:
    """Fails a test in which an error reached nobody, such as that of a forgotten task."""
    lost: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: lost.append(repr(context)))
    yield
    gc.collect()
    await _settled()
    assert lost == []


async def _seed(tx: Tx) -> str:
    """A process's row; the first process of a site also makes the group and its user."""
    if await tx.scalar(sa.select(sa.func.count()).select_from(domains)) == 0:
        await tx.execute(domains.insert().values(id=DOMAIN))
        await tx.execute(users.insert().values(id=USER, name="tester", name_key="tester"))
        await add_group(tx, GROUP)
    return await insert_process(tx, host="test", pid=1)


def _changed(settings: Settings, overrides: dict[str, object]) -> Settings:
    for name, value in overrides.items():
        section, _, key = name.partition("__")
        part = getattr(settings, section).model_copy(update={key: value})
        settings = settings.model_copy(update={section: part})
    return settings


async def _settled() -> None:
    """Lets callbacks run that were due already."""
    for _ in range(5):
        await asyncio.sleep(0)
