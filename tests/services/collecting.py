"""Collectors beside the hot path: time that passes at will, and the two oracles.

Whatever happens: everything that is referred to exists and reads equal; and once a collection
moves nothing any more, everything that is stored is referred to.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from filestore.acts import tree
from filestore.blocks.header import decode
from filestore.blocks.memory import MemoryStore
from filestore.blocks.port import BlockKey
from filestore.meta.database import Tx
from filestore.meta.instance import find_instance, insert_instance
from filestore.meta.tables import (
    audit_log,
    blocks,
    content_blocks,
    contents,
    entries,
    gc_queue,
    leases,
    processes,
    uploads,
    versions,
)
from filestore.model import KIB, ChunkerParams
from filestore.names import parse_name
from filestore_gc import Collector, Tuning
from tests.services.hot_path import ACTOR, GROUP, Process, Site

_WAITERS: Final = (
    sa.select(sa.column("pid", sa.Integer))
    .select_from(sa.text("pg_stat_activity"))
    .where(sa.text("datname = current_database() AND wait_event_type = 'Lock'"))
)

TINY: Final = ChunkerParams(KIB, 2 * KIB, 8 * KIB, 2)
"""Blocks of some 2 KiB: a file of 20 KiB has ten."""

DAY_S: Final = 86_400
_TIMES: Final = (
    (blocks, ("created_at", "state_at", "deadline_at")),
    (gc_queue, ("queued_at", "not_before", "removed_at")),
    (uploads, ("expires_at", "expires_cap_at")),
    (entries, ("deleted_at",)),
    (versions, ("superseded_at",)),
    (leases, ("taken_at", "ended_at")),
)


async def start(site: Site, **settings: object) -> Process:
    """A process of the site, with small blocks; database and store belong together."""
    process = await site.start(params=TINY, **settings)
    instance = await process.db.read(find_instance)
    if instance is None:
        instance = await process.transact(insert_instance)
        await process.store.write_identity(instance.store_id, instance.epoch)
    return process


def collector_of(process: Process, **tuning: Any) -> Collector:
    """A collector in the process, which runs when it is asked."""
    return Collector(
        process.db, process.store, process.id, Tuning(**{"removals_per_s": 1e6} | tuning)
    )


async def pass_time(process: Process, seconds: float, *, of_processes: bool = False) -> None:
    """Everything in the database becomes so much older; processes only on request."""
    by = int(seconds * 1_000_000)
    tables = (*_TIMES, (processes, ("seen_at",))) if of_processes else _TIMES

    async def act(tx: Tx) -> None:
        for table, names in tables:
            await tx.execute(sa.update(table).values({name: table.c[name] - by for name in names}))

    await process.db.transact(act)


async def delete(process: Process, name: str, group: str = GROUP) -> None:
    """Removes a file past the trash."""
    await process.transact(tree.remove, ACTOR, group, (parse_name(name),))


async def put_in_trash(process: Process, name: str) -> str:
    """Moves a file to the trash; the id of its entry."""
    return (await process.transact(tree.put_in_trash, ACTOR, GROUP, (parse_name(name),))).id


def objects(process: Process) -> set[str]:
    """The paths of all objects in a store that is in memory."""
    store = process.store.inner
    assert isinstance(store, MemoryStore)
    return set(store.objects)


async def block_rows(process: Process) -> Sequence[sa.Row[Any]]:
    """All rows of blocks with their tasks, by id."""
    query = sa.select(
        blocks, gc_queue.c.not_before, gc_queue.c.attempts, gc_queue.c.reason,
        gc_queue.c.removed_at, gc_queue.c.group_id,
    )  # fmt: skip
    return await process.all(query.outerjoin(gc_queue).order_by(blocks.c.id))


async def acts(process: Process, prefix: str = "gc.") -> list[str]:
    """The collector's acts in the audit log, in order."""
    query = sa.select(audit_log.c.act).where(audit_log.c.act.startswith(prefix))
    return [row.act for row in await process.all(query.order_by(audit_log.c.id))]


async def check_everything_referenced_reads(process: Process) -> int:
    """Every reference is to a live block whose object is there and right; how many there are."""
    rows = await process.all(
        sa.select(blocks, content_blocks.c.byte_offset)
        .join(content_blocks, content_blocks.c.block_id == blocks.c.id)
        .join(contents, contents.c.id == content_blocks.c.content_id)
        .where(contents.c.state != "deleting")
    )
    for row in rows:
        assert row.state == "live", row
        stored = await process.store.inner.get(BlockKey(row.domain_id, row.hash, row.generation))
        decode(stored, expected_hash=row.hash, expected_size=row.size)
    return len(rows)


async def check_everything_stored_is_referenced(process: Process) -> None:
    """Every object is of a live block that something refers to; nothing else is on its way out
    but tombstones."""
    rows = await process.all(
        sa.select(blocks).where(sa.exists().where(content_blocks.c.block_id == blocks.c.id))
    )
    paths = {BlockKey(row.domain_id, row.hash, row.generation).path for row in rows}
    assert objects(process) == paths
    for row in await block_rows(process):
        assert row.state == "live" or (row.state == "deleting" and row.removed_at), row


async def until_waiting(process: Process) -> None:
    """Returns when some transaction of this PostgreSQL database waits for a lock."""
    async with asyncio.timeout(10):
        while not await process.all(_WAITERS):
            pass
