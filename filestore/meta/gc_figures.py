"""Sums over what is stored and what is on its way out: for guards, plans, reports, metrics.

Nothing here takes a lock or changes anything. What these cost is said at each.
"""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.gc_reaper import is_on_its_way_out, is_trash_due, is_unfinished
from filestore.meta.plans import unindexed
from filestore.meta.retention import due_versions, is_version_due
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    entries,
    gc_queue,
    groups,
    now_us,
    uploads,
    versions,
)
from filestore.meta.temporary import is_temporary_due
from filestore.meta.uploads import is_due, is_left_over
from filestore.model import BlockState, ContentState, EntryKind

_STORED = sa.func.coalesce(blocks.c.stored_size, blocks.c.size)


@dataclass(frozen=True, slots=True)
class StateFigures:
    """The blocks of one state: how many, their bytes in the store, since when the oldest."""

    state: BlockState
    blocks: int
    bytes: int
    oldest_at: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Blocks on their way out that are alike, and when the first and the last is looked at."""

    state: BlockState
    is_removed: bool
    attempts: int
    blocks: int
    bytes: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Unreleased:
    """Blocks that only contents refer to which the reaper will release, and why it will."""

    group_id: str | None
    reason: str
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ToReap:
    """How much there is for the reaper now."""

    uploads: int
    entries: int
    versions: int
    contents: int
    unfinished: int


async def clock(tx: Tx) -> int:
    """The database's time now."""
    return int(await tx.scalar(sa.select(now_us())) or 0)


async def state_figures(
    tx: Tx, states: Collection[BlockState] = tuple(BlockState)
) -> list[StateFigures]:
    """The blocks of each of the states that has any. ``live`` costs a walk over all blocks."""
    rows = await tx.execute(
        sa.select(
            blocks.c.state,
            sa.func.count().label("n"),
            sa.func.sum(_STORED).label("bytes"),
            sa.func.min(blocks.c.state_at).label("oldest"),
        )
        .where(blocks.c.state.in_(states))
        .group_by(blocks.c.state)
        .order_by(blocks.c.state)
    )
    return [StateFigures(BlockState(row.state), row.n, int(row.bytes), row.oldest) for row in rows]


async def queue_figures(tx: Tx) -> tuple[int, int | None]:
    """How many tasks the collector has, and since when the oldest waits."""
    query = sa.select(sa.func.count(), sa.func.min(gc_queue.c.queued_at)).select_from(gc_queue)
    count, oldest = (await tx.execute(query)).one()
    return count, oldest


async def waiting(tx: Tx) -> list[Waiting]:
    """What is on its way out. Costs a walk over the queue."""
    is_removed = gc_queue.c.removed_at.is_not(None)
    is_tried = sa.func.coalesce(sa.case((gc_queue.c.attempts > 0, 1)), 0)
    key = (blocks.c.state, is_removed, is_tried)
    rows = await tx.execute(
        sa.select(
            blocks.c.state,
            is_removed.label("is_removed"),
            is_tried.label("is_tried"),
            sa.func.count().label("n"),
            sa.func.sum(_STORED).label("bytes"),
            sa.func.min(gc_queue.c.not_before).label("first"),
            sa.func.max(gc_queue.c.not_before).label("last"),
        )
        .select_from(gc_queue.join(blocks, blocks.c.id == gc_queue.c.block_id))
        .where(is_on_its_way_out())
        .group_by(*key)
        .order_by(*key)
    )
    return [
        Waiting(
            BlockState(row.state),
            bool(row.is_removed),
            row.is_tried,
            row.n,
            int(row.bytes),
            row.first,
            row.last,
        )
        for row in rows
    ]


async def group_names(tx: Tx, ids: Collection[str]) -> dict[str, str]:
    """What groups are called, also deleted ones."""
    rows = await tx.execute(sa.select(groups.c.id, groups.c.name).where(groups.c.id.in_(ids)))
    return {row.id: row.name for row in rows}


async def has_contents_without_references(tx: Tx) -> bool:
    """Whether there are files with bytes and not one reference to a block in all the store."""
    is_full = sa.exists().where(contents.c.state == ContentState.COMPLETE, contents.c.size > 0)
    no_references = ~sa.exists(sa.select(content_blocks.c.content_id))
    return bool(await tx.scalar(sa.select(sa.and_(no_references, is_full))))


async def unexplained(tx: Tx, explained: Collection[str], *, more_than: int) -> int:
    """Live blocks in the queue that nothing refers to, for another reason than ``explained``.

    0 when they are not ``more_than`` that.
    """
    found = (
        sa.select(gc_queue.c.block_id)
        .join(blocks, blocks.c.id == gc_queue.c.block_id)
        .where(
            gc_queue.c.reason.not_in(explained),
            unindexed(blocks.c.state) == BlockState.LIVE,
            ~sa.exists().where(content_blocks.c.block_id == gc_queue.c.block_id),
        )
    )
    some = found.limit(more_than + 1).subquery()
    if (await tx.scalar(sa.select(sa.func.count()).select_from(some)) or 0) <= more_than:
        return 0
    return await tx.scalar(sa.select(sa.func.count()).select_from(found.subquery())) or 0


async def count_live(tx: Tx) -> int:
    """How many blocks the store holds. Costs a walk over all blocks."""
    query = sa.select(sa.func.count()).where(blocks.c.state == BlockState.LIVE)
    return await tx.scalar(query) or 0


async def to_reap(tx: Tx, process_id: str, *, alone: bool) -> ToReap:
    """What the reaper would find now."""

    async def count(query: sa.Select[int]) -> int:
        return await tx.scalar(query) or 0

    number = sa.select(sa.func.count())
    trash = number.select_from(entries.join(groups, groups.c.id == entries.c.group_id))
    return ToReap(
        uploads=await count(number.where(_is_upload_due())),
        entries=await count(trash.where(is_trash_due())),
        versions=await count(number.select_from(due_versions()).where(is_version_due()))
        + await count(number.where(is_temporary_due())),
        contents=await count(number.where(contents.c.state == ContentState.DELETING)),
        unfinished=await count(number.where(is_unfinished(process_id, alone=alone))),
    )


async def unreleased(tx: Tx) -> list[Unreleased]:
    """What the reaper would let go, by group and reason.

    Costs a walk over the references of what would be released. The group is the one whose
    upload brought the bytes.
    """
    ended = _ended_contents()
    block_id = unindexed(content_blocks.c.block_id)
    other = content_blocks.alias("other")
    is_kept = sa.exists().where(
        other.c.block_id == content_blocks.c.block_id,
        other.c.content_id.not_in(sa.select(ended.c.content_id)),
    )
    each = (
        sa.select(
            block_id.label("block_id"),
            sa.func.min(ended.c.reason).label("reason"),
            sa.func.min(uploads.c.group_id).label("group_id"),
        )
        .select_from(
            content_blocks.join(ended, ended.c.content_id == content_blocks.c.content_id).outerjoin(
                uploads, uploads.c.content_id == content_blocks.c.content_id
            )
        )
        .where(~is_kept)
        .group_by(block_id)
        .subquery("each_block")
    )
    rows = await tx.execute(
        sa.select(
            each.c.group_id,
            each.c.reason,
            sa.func.count().label("n"),
            sa.func.sum(_STORED).label("bytes"),
        )
        .select_from(each.join(blocks, blocks.c.id == each.c.block_id))
        .group_by(each.c.group_id, each.c.reason)
        .order_by(each.c.group_id, each.c.reason)
    )
    return [Unreleased(row.group_id, row.reason, row.n, int(row.bytes)) for row in rows]


def _ended_contents() -> sa.CTE:
    """(content_id, reason) of contents that are released, or will be by the next reaper."""
    released = sa.select(
        contents.c.id.label("content_id"), sa.literal("released").label("reason")
    ).where(contents.c.state == ContentState.DELETING)
    expired = sa.select(uploads.c.content_id, sa.literal("expired")).where(_is_upload_due())
    going = _going_versions()
    elsewhere = versions.alias("elsewhere")
    is_kept = sa.exists().where(
        elsewhere.c.content_id == going.c.content_id,
        elsewhere.c.id.not_in(sa.select(going.c.id)),
    )
    unversioned = (
        sa.select(going.c.content_id, sa.func.max(going.c.reason))
        .where(~is_kept)
        .group_by(going.c.content_id)
    )
    return sa.union_all(released, expired, unversioned).cte("ended")


def _going_versions() -> sa.CTE:
    """(id, content_id, reason) of versions that the reaper removes, some for two reasons."""
    rotten = _rotten_entries()
    trashed = sa.select(versions.c.id, versions.c.content_id, sa.literal("trash").label("reason"))
    replaced = sa.select(versions.c.id, versions.c.content_id, sa.literal("retention"))
    expired = sa.select(versions.c.id, versions.c.content_id, sa.literal("temporary"))
    return sa.union_all(
        trashed.where(versions.c.entry_id.in_(sa.select(rotten.c.id))),
        replaced.select_from(due_versions()).where(is_version_due()),
        expired.where(is_temporary_due()),
    ).cte("going")


def _rotten_entries() -> sa.CTE:
    """What lies in the trash too long, and what lives below it: what was put into the trash by
    itself has a time of its own."""
    top = (
        sa.select(entries.c.id)
        .join(groups, groups.c.id == entries.c.group_id)
        .where(is_trash_due(), entries.c.kind != EntryKind.ROOT)
        .cte("rotten", recursive=True)
    )
    below = sa.and_(entries.c.parent_id == top.c.id, entries.c.deleted_at.is_(None))
    return top.union(sa.select(entries.c.id).join(top, below))


def _is_upload_due() -> sa.ColumnElement[bool]:
    """Two questions, each with an index of its own; SQLite would answer an OR by none."""
    either = sa.union_all(
        sa.select(uploads.c.id).where(is_due()), sa.select(uploads.c.id).where(is_left_over())
    )
    return uploads.c.id.in_(either)


async def newest_block(tx: Tx) -> int:
    """The highest id of a block; 0: there is none. Ids are given in the order of coming."""
    return int(await tx.scalar(sa.select(sa.func.max(blocks.c.id))) or 0)
