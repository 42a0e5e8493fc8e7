"""Damage on purpose: to objects through the store's own powers, to rows behind its back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from blake3 import blake3

from filestore.blocks.header import encode
from filestore.blocks.port import BlockKey
from filestore.ids import new_generation
from filestore.meta.healing import COLUMNS, KnownBlock, known
from filestore.meta.tables import (
    audit_log,
    blocks,
    content_blocks,
    contents,
    entries,
    events,
    versions,
)
from filestore.model import KIB
from filestore_gc.fsck import Fsck
from filestore_gc.fsck_plan import Terms
from filestore_gc.fsck_report import FsckReport, Kind
from filestore_gc.fsck_run import FsckRun, repairing
from filestore_gc.heal import key_of
from tests.contract.faulty import Fault
from tests.services.collecting import start
from tests.services.hot_path import DOMAIN, Process, Site, random_bytes, site_on
from tests.services.s3 import S3Service

AT_ONCE: Final = Terms(min_age_s=0)
"""Repairs that do not wait for orphans to grow old."""

FILE: Final = 20 * KIB
"""Bytes of a file with some ten blocks."""


@pytest.fixture(params=["sqlite-disk", "postgres-seaweedfs"])
def stored_site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """A site on real services, which is not entered yet."""
    database, _, blocks_name = request.param.partition("-")
    url = request.getfixturevalue(f"{database}_database")
    settings: dict[str, Any] = {}
    if blocks_name == "seaweedfs":
        service: S3Service = request.getfixturevalue("seaweedfs_service")
        settings = {
            "blocks": service.bucket_url(f"damage-{new_generation()}"),
            "s3__access_key": service.access_key,
            "s3__secret_key": service.secret_key,
        }
    return site_on(tmp_path, url, **settings)


@pytest.fixture
async def stored(stored_site: Site) -> AsyncIterator[Process]:
    """A process on real services, empty; database and store belong together."""
    async with stored_site:
        yield await start(stored_site)


@pytest.fixture
async def on_disk(sqlite_database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose blocks are files below ``tmp_path / "blocks"``."""
    async with site_on(tmp_path, sqlite_database) as site:
        yield site


async def fsck(process: Process, **options: Any) -> FsckReport:
    """A check by this process."""
    return await Fsck(process.db, process.store, **options).check()


async def repaired(process: Process, terms: Terms = AT_ONCE) -> FsckRun:
    """A repair by this process."""
    async for run in repairing(process.db, process.store, terms=terms):
        last = run
    return last


def kinds(report: FsckReport) -> dict[str, int]:
    """How much of what was found."""
    return {kind.value: count for kind, count in sorted(report.counts.items())}


async def check_clean(process: Process) -> FsckReport:
    """A check that finds nothing at all."""
    report = await fsck(process)
    assert (kinds(report), report.exit_code) == ({}, 0), report.to_text()
    assert report.result == "clean"
    return report


async def blocks_of(process: Process, content_id: int) -> list[KnownBlock]:
    """The blocks of a content, in its order."""
    query = (
        sa.select(*COLUMNS)
        .join(content_blocks, content_blocks.c.block_id == blocks.c.id)
        .where(content_blocks.c.content_id == content_id)
        .order_by(content_blocks.c.byte_offset)
    )
    return [known(row) for row in await process.all(query)]


async def block(process: Process, block_id: int) -> KnownBlock:
    """A block as its row is now."""
    (row,) = await process.all(sa.select(*COLUMNS).where(blocks.c.id == block_id))
    return known(row)


async def content_of(process: Process, name: str) -> int:
    """The content of the newest version of a file of that name, in any group."""
    query = (
        sa.select(versions.c.content_id)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(entries.c.name == name)
        .order_by(versions.c.number.desc())
        .limit(1)
    )
    return int(await process.one(query))


async def put_file(process: Process, name: str, seed: object, **request: Any) -> bytes:
    """Uploads a file of some ten blocks; its bytes."""
    data = random_bytes(FILE, seed)
    await process.upload(data, name, **request)
    return data


async def read_file(process: Process, name: str) -> bytes:
    """A file's bytes, as a download gives them."""
    content_id = await content_of(process, name)
    size = await process.one(sa.select(contents.c.size).where(contents.c.id == content_id))
    return await process.read(content_id, 0, size)


async def delete_object(process: Process, of: KnownBlock) -> None:
    await process.store.inner.remove([key_of(of)])


async def change_object(process: Process, of: KnownBlock, *, size: int | None = None) -> bytes:
    """Puts wrong bytes over an object: cut to ``size``, or with one bit another; what was there."""
    stored = await process.store.inner.get(key_of(of))
    wrong = stored[:size] if size is not None else stored[:-1] + bytes([stored[-1] ^ 1])
    await process.store.inner.put(key_of(of), [wrong])
    return stored


async def put_orphan(
    process: Process, data: bytes, *, domain: str = DOMAIN, stored: bytes | None = None
) -> BlockKey:
    """An object that no row names: the block ``data``, or ``stored`` under its name."""
    key = BlockKey(domain, blake3(data).digest(), new_generation())
    parts = encode(data, level=3).parts if stored is None else [stored]
    await process.store.inner.put(key, parts)
    return key


async def paths(process: Process, domain: str = DOMAIN) -> list[str]:
    """The paths of all objects."""
    return [found.path async for found in process.store.inner.walk(domain)]


async def aside(process: Process) -> list[str]:
    """The paths of all objects in quarantine."""
    return [found.path async for found in process.store.inner.walk_aside()]


async def told(process: Process, kind: str) -> list[Any]:
    """The events of a kind, in order."""
    query = sa.select(events).where(events.c.kind == kind).order_by(events.c.id)
    return list(await process.all(query))


async def audited(process: Process, act: str) -> list[Any]:
    """The acts of a kind in the audit log, in order."""
    query = sa.select(audit_log).where(audit_log.c.act == act).order_by(audit_log.c.id)
    return list(await process.all(query))


async def until_reached(fault: Fault, work: asyncio.Task[Any]) -> None:
    """Returns when the held call is made; fails if the work ends without it."""
    waiting = asyncio.create_task(fault.reached.wait())
    async with asyncio.timeout(10):
        await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert fault.reached.is_set(), f"no {fault.operation} number {fault.nth}"


def found(report: FsckReport, kind: Kind) -> list[str]:
    """The subjects of what was found of a kind."""
    return [finding.subject for finding in report.of(kind)]
