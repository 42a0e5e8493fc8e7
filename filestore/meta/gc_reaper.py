"""What has ended without anybody saying so: the reaper's queries.

Candidates are read without a lock. Whether one still is what it was is asked again by the
statement, or under the lock, that changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from filestore.meta.blocks import enqueue, named
from filestore.meta.database import Tx
from filestore.meta.plans import among, unindexed
from filestore.meta.processes import SILENCE_S, is_alive
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    entries,
    gc_queue,
    groups,
    now_us,
    processes,
    uploads,
)
from filestore.model import BlockState, ContentState

RELEASED: Final = "released"
"""Why blocks are queued: a content that was let go referred to them."""
UNFINISHED: Final = "unfinished"
"""Why blocks are queued: they were announced and never became live."""
FOUND: Final = "found"
"""Why blocks are queued: they are condemned or deleting, and nobody had them on a list."""

_AS_INDEXED: Final[sa.BindParameter[list[str]]] = sa.bindparam(
    "as_indexed",
    [BlockState.CONDEMNED, BlockState.DELETING, BlockState.LOST],
    expanding=True,
    literal_execute=True,
)
"""The states of a partial index in the words of its definition, which SQLite compares."""


def is_trash_due() -> sa.ColumnElement[bool]:
    """That a row of ``entries`` joined with ``groups`` lies in the trash longer than it may."""
    kept_us = groups.c.trash_retention_s * sa.literal(1_000_000, sa.BigInteger)
    return sa.and_(entries.c.deleted_at.is_not(None), entries.c.deleted_at + kept_us <= now_us())


async def due_trash(tx: Tx, *, after: str, limit: int) -> list[tuple[str, str]]:
    """(entry, group) of what lies in the trash too long, behind entry ``after``, by id."""
    rows = await tx.execute(
        sa.select(entries.c.id, entries.c.group_id)
        .join(groups, groups.c.id == entries.c.group_id)
        .where(is_trash_due(), unindexed(entries.c.id) > after)
        .order_by(unindexed(entries.c.id))
        .limit(limit)
    )
    return [(row.id, row.group_id) for row in rows]


async def is_still_due(tx: Tx, entry_id: str) -> bool:
    """Whether the entry lies in the trash too long now; the caller holds the group's root."""
    query = sa.select(entries.c.id).join(groups, groups.c.id == entries.c.group_id)
    return await tx.scalar(query.where(entries.c.id == entry_id, is_trash_due())) is not None


async def deleting_contents(tx: Tx, *, after: int, limit: int) -> list[int]:
    """Numbers of contents that nobody wants any more, behind ``after``, in order."""
    rows = await tx.scalars(
        sa.select(contents.c.id)
        .where(contents.c.state == ContentState.DELETING, contents.c.id > after)
        .order_by(contents.c.id)
        .limit(limit)
    )
    return list(rows)


@dataclass(frozen=True, slots=True)
class Removed:
    """What one batch took from a content: how many references, and whether there are more."""

    references: int
    is_more: bool


async def release_batch(tx: Tx, content_id: int, *, limit: int) -> Removed:
    """Takes up to ``limit`` references from a content that is ``deleting``, queues their blocks.

    The content's own row goes with its last reference. Nothing happens to a content that is
    not deleting, or that somebody else is at work on.
    """
    locked = await tx.scalar(
        sa.select(contents.c.id)
        .where(contents.c.id == content_id, contents.c.state == ContentState.DELETING)
        .with_for_update(skip_locked=True)
    )
    if locked is None:
        return Removed(0, False)
    batch = (
        sa.select(content_blocks.c.byte_offset)
        .where(content_blocks.c.content_id == content_id)
        .order_by(content_blocks.c.byte_offset)
        .limit(limit)
    )
    rows = await tx.scalars(
        sa.delete(content_blocks)
        .where(content_blocks.c.content_id == content_id, content_blocks.c.byte_offset.in_(batch))
        .returning(content_blocks.c.block_id)
    )
    freed = list(rows)
    brought_by = sa.select(uploads.c.group_id).where(uploads.c.content_id == content_id).limit(1)
    await enqueue(tx, freed, RELEASED, group_id=await tx.scalar(brought_by))
    if len(freed) == limit:
        return Removed(limit, True)
    await tx.execute(sa.delete(contents).where(contents.c.id == content_id))
    return Removed(len(freed), False)


def is_unfinished(process_id: str, *, alone: bool) -> sa.ColumnElement[bool]:
    """That a row of ``blocks`` is ``uploading`` and nobody will send its object any more.

    Its time is over twice, or its process is dead: all but ``process_id`` are when that is
    ``alone``.
    """
    twice = blocks.c.deadline_at + (blocks.c.deadline_at - blocks.c.created_at)
    lives = sa.exists().where(processes.c.id == blocks.c.process_id, is_alive(SILENCE_S))
    orphaned = blocks.c.process_id != process_id
    return sa.and_(
        blocks.c.state == BlockState.UPLOADING,
        sa.or_(twice <= now_us(), orphaned if alone else sa.and_(orphaned, ~lives)),
    )


async def unfinished(tx: Tx, process_id: str, *, alone: bool, after: int, limit: int) -> list[int]:
    """Blocks behind ``after`` that were announced and will never be live, by id."""
    rows = await tx.scalars(
        sa.select(blocks.c.id)
        .where(is_unfinished(process_id, alone=alone), unindexed(blocks.c.id) > after)
        .order_by(unindexed(blocks.c.id))
        .limit(limit)
    )
    return list(rows)


async def condemn_unfinished(tx: Tx, ids: Sequence[int], process_id: str, *, alone: bool) -> int:
    """Condemns and queues those of the blocks that still are unfinished; how many.

    One that is just becoming live is left alone. Its task does no harm: the collector finds
    the block in use, or uploading, and forgets the task.
    """
    await enqueue(tx, ids, UNFINISHED)
    statement = sa.select(blocks.c.id, blocks.c.generation).where(
        among(blocks.c.id, ids), is_unfinished(process_id, alone=alone)
    )
    statement = statement.order_by(blocks.c.id).with_for_update(of=blocks, skip_locked=True)
    held = {row.id: row.generation for row in await tx.execute(statement)}
    if not held:
        return 0
    changed = await tx.execute(
        sa.update(blocks)
        .where(named(held), blocks.c.state == BlockState.UPLOADING)
        .values(state=BlockState.CONDEMNED, state_at=now_us())
    )
    return changed.rowcount


def is_on_its_way_out() -> sa.ColumnElement[bool]:
    """That a row of ``blocks`` is condemned or deleting."""
    is_out = blocks.c.state.in_([BlockState.CONDEMNED, BlockState.DELETING])
    return sa.and_(is_out, blocks.c.state.in_(_AS_INDEXED))


async def unlisted(tx: Tx, *, after: int, limit: int) -> list[int]:
    """Blocks behind ``after`` that are on their way out and have no task. Costs a walk over
    all that are on their way out."""
    rows = await tx.scalars(
        sa.select(blocks.c.id)
        .where(
            is_on_its_way_out(),
            unindexed(blocks.c.id) > after,
            ~sa.exists().where(gc_queue.c.block_id == blocks.c.id),
        )
        .order_by(unindexed(blocks.c.id))
        .limit(limit)
    )
    return list(rows)
