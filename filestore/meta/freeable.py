"""What deleting a file or folder would free: sums over its references and the group's others.

For a group, only its own references count: whether others hold the same bytes is nothing that
it may learn. What the store itself would free is for site admins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.affected import find_places
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, content_blocks, entries, groups, uploads, versions
from filestore.model import UploadState

NAMED: Final = 20
"""Holders of the rest that are named, those that hold most first."""
_FEW: Final = 500
"""Entries that are named one by one in a statement."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Something in the group, outside the path, that refers to the same blocks. Bytes of them.

    ``path``: a file's, or a running upload's id. One block may be held by several.
    """

    path: str
    is_trashed: bool
    is_upload: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class GroupHolder:
    """Another group that refers to the same blocks, and bytes of them in the store."""

    group_id: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Freeable:
    """``quota``: bytes of all versions below that the group is charged for; ``unique``: of distinct
    blocks that nothing else in the group refers to; ``shared``: of the others."""

    quota: int
    versions: int
    unique: int
    shared: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class Physical:
    """What the store would free: bytes of objects that nothing else anywhere refers to; and
    bytes of those that something does refer to, by group."""

    freed: int
    kept: int
    groups: tuple[GroupHolder, ...]


async def find_freeable(tx: Tx, group_id: str, entry_id: str, *, named: int = NAMED) -> Freeable:
    """What removing an entry and all that lives below it would free, as the group sees it.

    Costs a walk over the references below the entry, and a look-up for each.
    """
    below = await _below(tx, entry_id)
    mine = _blocks_of(below)
    charged = sa.case((versions.c.pool_id.is_(None), versions.c.size), else_=0)
    unique, shared = await _split(tx, mine, below, mine.c.size, group_id)
    sums = (
        await tx.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(charged), 0).label("quota"),
                sa.func.count().label("n"),
            ).where(versions.c.entry_id.in_(sa.select(below.c.id)))
        )
    ).one()
    holders = await _holders(tx, group_id, mine, below, named) if shared else []
    return Freeable(int(sums.quota), sums.n, unique, shared, tuple(holders))


async def find_physical(tx: Tx, entry_id: str, *, named: int = NAMED) -> Physical:
    """What removing the entry would free in the store, whoever else refers to its blocks."""
    below = await _below(tx, entry_id)
    mine = _blocks_of(below)
    freed, kept = await _split(tx, mine, below, mine.c.stored_size, None)
    found = await _groups(tx, mine, below, named) if kept else []
    return Physical(freed, kept, tuple(found))


async def _below(tx: Tx, entry_id: str) -> sa.CTE:
    """The entry and what lives below it: what goes with it when it is removed.

    A few are named one by one: of a recursion the planner expects as many as there are
    entries, and would walk all tables for a single file.
    """
    top = sa.select(entries.c.id).where(entries.c.id == entry_id).cte("below", recursive=True)
    living = sa.and_(entries.c.parent_id == top.c.id, entries.c.deleted_at.is_(None))
    below = top.union(sa.select(entries.c.id).join(top, living))
    ids = list(await tx.scalars(sa.select(below.c.id).limit(_FEW + 1)))
    if len(ids) > _FEW:
        return below
    return sa.select(entries.c.id).where(entries.c.id.in_(ids)).cte("below")


def _blocks_of(below: sa.CTE) -> sa.CTE:
    """The distinct blocks of all versions of those entries."""
    held = sa.select(versions.c.content_id).where(versions.c.entry_id.in_(sa.select(below.c.id)))
    stored = sa.func.coalesce(blocks.c.stored_size, blocks.c.size).label("stored_size")
    return (
        sa.select(content_blocks.c.block_id, content_blocks.c.size, stored)
        .join(blocks, blocks.c.id == content_blocks.c.block_id)
        .where(content_blocks.c.content_id.in_(held))
        .distinct()
        .cte("mine")
    )


def _files(mine: sa.CTE, below: sa.CTE) -> sa.Select[Any]:
    """(block, group, name) of versions outside that refer to those blocks, each entry once.

    From the blocks to their references, and joined: asked for each block, or begun at the
    versions, it would cost a walk over the store.
    """
    kept = below.alias("kept")
    return (
        sa.select(content_blocks.c.block_id, entries.c.group_id, entries.c.id.label("name"))
        .join(versions, versions.c.content_id == content_blocks.c.content_id)
        .join(entries, entries.c.id == versions.c.entry_id)
        .outerjoin(kept, kept.c.id == entries.c.id)
        .where(content_blocks.c.block_id.in_(sa.select(mine.c.block_id)), kept.c.id.is_(None))
        .distinct()
    )


def _running(mine: sa.CTE) -> sa.Select[Any]:
    """(block, group, name) of running uploads that refer to those blocks."""
    is_its = sa.and_(
        uploads.c.content_id == content_blocks.c.content_id, uploads.c.state == UploadState.OPEN
    )
    return (
        sa.select(content_blocks.c.block_id, uploads.c.group_id, uploads.c.id.label("name"))
        .join(uploads, is_its)
        .where(content_blocks.c.block_id.in_(sa.select(mine.c.block_id)))
        .distinct()
    )


async def _split(
    tx: Tx, mine: sa.CTE, below: sa.CTE, size: sa.ColumnElement[int], group_id: str | None
) -> tuple[int, int]:
    """Bytes of those blocks that nothing else refers to, in a group or anywhere; and the rest."""
    files, running = _files(mine, below), _running(mine)
    if group_id is not None:
        files = files.where(entries.c.group_id == group_id)
        running = running.where(uploads.c.group_id == group_id)
    every = sa.union_all(files, running).subquery("every")
    held = sa.select(every.c.block_id).distinct().subquery("held")
    is_held = held.c.block_id.is_not(None)
    row = (
        await tx.execute(
            sa.select(
                _sum(size, ~is_held).label("free"), _sum(size, is_held).label("held")
            ).select_from(mine.outerjoin(held, held.c.block_id == mine.c.block_id))
        )
    ).one()
    return int(row.free), int(row.held)


async def _holders(tx: Tx, group_id: str, mine: sa.CTE, below: sa.CTE, named: int) -> list[Holder]:
    files = _files(mine, below).where(entries.c.group_id == group_id)
    running = _running(mine).where(uploads.c.group_id == group_id)
    most = await _most(tx, mine, files, named)
    places = await find_places(tx, [row.name for row in most])
    found = [
        Holder(place.path, place.is_trashed, False, int(row.bytes))
        for row in most
        if (place := places.get(row.name)) is not None
    ]
    rows = await _most(tx, mine, running, named)
    found += [Holder(row.name, False, True, int(row.bytes)) for row in rows]
    return sorted(found, key=lambda holder: (-holder.bytes, holder.path))[:named]


async def _most(tx: Tx, mine: sa.CTE, others: sa.Select[Any], named: int) -> Sequence[Any]:
    """Who of the others refers to most bytes of those blocks."""
    other = others.subquery("others")
    total = sa.func.sum(mine.c.size).label("bytes")
    query = (
        sa.select(other.c.name, total)
        .select_from(mine.join(other, other.c.block_id == mine.c.block_id))
        .group_by(other.c.name)
        .order_by(total.desc(), other.c.name)
    )
    return (await tx.execute(query.limit(named))).all()


async def _groups(tx: Tx, mine: sa.CTE, below: sa.CTE, named: int) -> list[GroupHolder]:
    """Groups, the entry's own too, that refer to those blocks from elsewhere."""
    every = sa.union_all(_files(mine, below), _running(mine)).subquery("every")
    held = sa.select(every.c.block_id, every.c.group_id).distinct().subquery("held")
    total = sa.func.sum(mine.c.stored_size).label("bytes")
    query = (
        sa.select(groups.c.id, groups.c.name, total)
        .select_from(
            mine.join(held, held.c.block_id == mine.c.block_id).join(
                groups, groups.c.id == held.c.group_id
            )
        )
        .group_by(groups.c.id, groups.c.name)
        .order_by(total.desc(), groups.c.id)
        .limit(named)
    )
    return [GroupHolder(row.id, row.name, int(row.bytes)) for row in await tx.execute(query)]


def _sum(column: sa.ColumnElement[int], clause: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((clause, column), else_=0)), 0)
