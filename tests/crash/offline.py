"""What is looked at, and done, while no server runs: on its database and its store directly."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.ext.asyncio import create_async_engine

from filestore.acts.groups import DEFAULT_DOMAIN
from filestore.blocks.header import encode
from filestore.blocks.port import BlockKey
from filestore.ids import new_generation
from filestore.meta import contents
from filestore.meta.database import Tx
from filestore.meta.fsck import StoredShape, adopt
from filestore.meta.tables import (
    audit_log,
    blocks,
    content_blocks,
    entries,
    gc_queue,
    groups,
    processes,
    quota_journal,
    uploads,
    versions,
)
from filestore.model import BlockState
from filestore.offline import working_on
from filestore.quota.verifying import verify_journal
from filestore.settings import Settings, load
from filestore.transfer.assembly import NEW_CONTENTS
from filestore_gc import Result
from filestore_gc.fsck_run import run_fsck
from filestore_gc.kinds import Ground
from filestore_gc.scrub import run_scrub
from tests.e2e.stage import Stage

_HOUR_US: Final = 3_600 * 1_000_000
"""Longer than a process may be silent."""


@asynccontextmanager
async def offline(stage: Stage) -> AsyncIterator["Offline"]:
    """Everything of the stage's server, which has ended, and had no last word if it was killed."""
    await let_silence_pass(stage)
    backend = stage.backend
    flags = {
        "data": stage.folder / "data",
        "database": backend.database,
        "blocks": backend.blocks,
    }
    settings = load(flags=flags, environ=backend.environment)
    async with working_on(settings) as ground:
        yield Offline(ground, settings)


async def let_silence_pass(stage: Stage) -> None:
    """The dead have been silent for so long that everybody takes them for dead.

    With SQLite that needs no time: there is one process.
    """
    if stage.backend.database is None:
        return
    engine = create_async_engine(stage.backend.database)
    async with engine.begin() as tx:
        await tx.execute(sa.update(processes).values(seen_at=processes.c.seen_at - _HOUR_US))
    await engine.dispose()


class Offline:
    """The database and the store of a server that does not run."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        self._ground = ground
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Offline {self._ground!r}>"

    async def converge(self) -> int:
        """Heals and collects to the end; how many bytes that freed. Every block reads well."""
        scrubbed = await run_scrub(self._ground.db, self._ground.store, self._settings)
        assert scrubbed.is_good, scrubbed
        report = await self._ground.collector.run_once(grace_s=0)
        assert report.result in (Result.DONE, Result.NOTHING), report
        assert not report.alarms, report
        return report.bytes

    async def check(self) -> None:
        """Nothing is damaged, the store holds exactly what is referred to, all sums are right.

        It has converged before.
        """
        run = await run_fsck(self._ground.db, self._ground.store, self._settings)
        assert run.is_good and not run.before.counts, run.to_text()
        await self._check_store()
        await self._check_journals()

    async def remove_a_block(self, name: str, group: str) -> None:
        """Removes the object of a block of this file; nobody has noticed yet."""
        await self._ground.store.remove([await self._a_block(name, group)])

    async def flip_a_block(self, name: str, group: str) -> None:
        """Another bit in the object of a block of this file; nobody has noticed yet."""
        key = await self._a_block(name, group)
        stored = await self._ground.store.get(key)
        await self._ground.store.put(key, [stored[:-1] + bytes([stored[-1] ^ 1])])

    async def hide_a_block(self, name: str, group: str) -> None:
        """A block of this file was found lost; its object is back, of another size than said."""
        key = await self._a_block(name, group)
        stored = await self._ground.store.get(key)
        await self._ground.store.remove([key])
        found = await run_scrub(self._ground.db, self._ground.store, self._settings)
        assert found.lost == 1, found
        await self._ground.store.put(key, [stored])
        grown = sa.update(blocks).values(stored_size=blocks.c.stored_size + 1)
        grown = grown.where(blocks.c.hash == key.hash, blocks.c.generation == key.generation)
        await self._ground.db.transact(lambda tx: tx.execute(grown))

    async def leave_strangers(self) -> None:
        """What no act of the service leaves: an object without a row that holds no block, one
        that was set aside long ago, a block that nobody uses or queued, a content without an
        upload."""
        store = self._ground.store
        await store.put(_key(b"broken"), [b"broken"])
        old = _key(b"old")
        await store.put(old, [b"old"])
        await store.set_aside([old], "2001-01-01")
        unlisted = _key(b"unlisted")
        stored = encode(b"unlisted", level=3)
        await store.put(unlisted, stored.parts)
        shape = StoredShape(len(b"unlisted"), stored.stored_size, stored.codec)

        async def act(tx: Tx) -> None:
            name = (unlisted.hash, unlisted.generation)
            block_id = await adopt(tx, unlisted.domain, name, shape, keep_us=0)
            await tx.execute(sa.delete(gc_queue).where(gc_queue.c.block_id == block_id))
            await contents.create_all(tx, [unlisted.domain], NEW_CONTENTS)

        await self._ground.db.transact(act)

    async def _a_block(self, name: str, group: str) -> BlockKey:
        """The key of the first block of this file."""
        query = (
            sa.select(blocks)
            .join(content_blocks, content_blocks.c.block_id == blocks.c.id)
            .join(versions, versions.c.content_id == content_blocks.c.content_id)
            .join(entries, entries.c.id == versions.c.entry_id)
            .join(groups, groups.c.id == entries.c.group_id)
            .where(groups.c.name == group, entries.c.name == name)
        )
        row = (await self._all(query.order_by(content_blocks.c.byte_offset).limit(1)))[0]
        return BlockKey(row.domain_id, row.hash, row.generation)

    async def freed_by_collections(self) -> int:
        """Bytes that all collections until now freed together, as the audit log has them."""
        query = sa.select(audit_log.c.after).where(audit_log.c.act == "gc.run")
        reports = [json.loads(row.after) for row in await self._all(query)]
        return sum(report["bytes"] for report in reports)

    async def let_temporary_files_expire(self) -> None:
        """The time of every temporary file has run out."""
        is_temporary = versions.c.expires_at.is_not(None)
        expired = sa.update(versions).where(is_temporary).values(expires_at=1)
        await self._ground.db.transact(lambda tx: tx.execute(expired))

    async def let_uploads_expire(self) -> None:
        """The time of every unfinished upload has run out."""
        expired = sa.update(uploads).values(expires_at=uploads.c.expires_at - 48 * _HOUR_US)
        await self._ground.db.transact(lambda tx: tx.execute(expired))

    async def _check_store(self) -> None:
        is_used = sa.exists().where(content_blocks.c.block_id == blocks.c.id)
        wanted = await self._all(sa.select(blocks).where(is_used))
        assert {row.state for row in wanted} <= {BlockState.LIVE}
        others = await self._all(sa.select(blocks).where(~is_used))
        assert {row.state for row in others} <= {BlockState.DELETING}, "only tombstones are left"
        paths = {BlockKey(row.domain_id, row.hash, row.generation).path for row in wanted}
        store = self._ground.store
        found = {item.path for name in await store.domains() async for item in store.walk(name)}
        assert found == paths

    async def _check_journals(self) -> None:
        """Each group's counters are the sums of its journal. fsck compares them with the files."""
        columns = (quota_journal.c.seq, quota_journal.c.delta_used, quota_journal.c.delta_reserved)
        for group in await self._all(sa.select(groups)):
            mine = sa.select(*columns).where(quota_journal.c.group_id == group.id)
            rows = await self._all(mine.order_by(quota_journal.c.seq))
            assert [row.seq for row in rows] == list(range(1, group.journal_seq + 1)), group
            booked = sum(row.delta_used for row in rows), sum(row.delta_reserved for row in rows)
            assert booked == (group.used, group.reserved), group
        found = await verify_journal(self._ground.db, self._ground.store)
        assert found.is_good, found

    async def _all(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        return list(await self._ground.db.read(partial(_rows, query=query)))


def _key(data: bytes) -> BlockKey:
    """A key that was never used, of the block ``data``."""
    return BlockKey(DEFAULT_DOMAIN, blake3(data).digest(), new_generation())


async def _rows(tx: Tx, query: sa.Select[Any]) -> Any:
    return (await tx.execute(query)).all()
