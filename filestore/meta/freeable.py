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
    """``quota``: bytes of all versions below; ``unique``: of distinct blocks that nothing else
    in the group refers to; ``shared``: of the others."""

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
    below = _below(entry_id)
    mine = _blocks_of(below)
    is_held = _held_elsewhere(mine.c.block_id, group_id, below)
    split = sa.select(mine.c.size, is_held.label("is_held")).select_from(mine).subquery("split")
    row = (
        await tx.execute(
            sa.select(
                _sum(split.c.size, ~split.c.is_held).label("only_here"),
                _sum(split.c.size, split.c.is_held).label("shared"),
            )
        )
    ).one()
    sums = (
        await tx.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(versions.c.size), 0).label("quota"),
                sa.func.count().label("n"),
            ).where(versions.c.entry_id.in_(sa.select(below.c.id)))
        )
    ).one()
    holders = await _holders(tx, group_id, below, named) if row.shared else ()
    return Freeable(int(sums.quota), sums.n, int(row.only_here), int(row.shared), tuple(holders))


async def find_physical(tx: Tx, entry_id: str, *, named: int = NAMED) -> Physical:
    """What removing the entry would free in the store, whoever else refers to its blocks."""
    below = _below(entry_id)
    mine = _blocks_of(below)
    stored = sa.func.coalesce(blocks.c.stored_size, blocks.c.size)
    is_held = _held_elsewhere(mine.c.block_id, None, below)
    split = (
        sa.select(stored.label("size"), is_held.label("is_held"))
        .select_from(mine.join(blocks, blocks.c.id == mine.c.block_id))
        .subquery("split")
    )
    row = (
        await tx.execute(
            sa.select(
                _sum(split.c.size, ~split.c.is_held).label("freed"),
                _sum(split.c.size, split.c.is_held).label("kept"),
            )
        )
    ).one()
    found = await _groups(tx, below, named) if row.kept else ()
    return Physical(int(row.freed), int(row.kept), tuple(found))


def _below(entry_id: str) -> sa.CTE:
    """The entry and what lives below it: what goes with it when it is removed."""
    top = sa.select(entries.c.id).where(entries.c.id == entry_id).cte("below", recursive=True)
    living = sa.and_(entries.c.parent_id == top.c.id, entries.c.deleted_at.is_(None))
    return top.union(sa.select(entries.c.id).join(top, living))


def _blocks_of(below: sa.CTE) -> sa.Subquery:
    """The distinct blocks of all versions of those entries."""
    return (
        sa.select(content_blocks.c.block_id, content_blocks.c.size)
        .join(versions, versions.c.content_id == content_blocks.c.content_id)
        .where(versions.c.entry_id.in_(sa.select(below.c.id)))
        .distinct()
        .subquery("mine")
    )


def _others(below: sa.CTE) -> sa.Select[Any]:
    """References (block, size) of versions outside ``below``, with group and entry."""
    return (
        sa.select(
            content_blocks.c.block_id,
            content_blocks.c.size,
            entries.c.group_id,
            entries.c.id.label("entry_id"),
        )
        .join(versions, versions.c.content_id == content_blocks.c.content_id)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(entries.c.id.not_in(sa.select(below.c.id)))
    )


def _running() -> sa.Select[Any]:
    """References (block, size) of running uploads, with group and upload."""
    return (
        sa.select(
            content_blocks.c.block_id,
            content_blocks.c.size,
            uploads.c.group_id,
            uploads.c.id.label("upload_id"),
        )
        .join(uploads, uploads.c.content_id == content_blocks.c.content_id)
        .where(uploads.c.state == UploadState.OPEN)
    )


def _held_elsewhere(
    block_id: sa.ColumnElement[int], group_id: str | None, below: sa.CTE
) -> sa.ColumnElement[bool]:
    """Whether a version outside or a running upload refers to the block; in one group or any."""
    version = _others(below).where(content_blocks.c.block_id == block_id)
    upload = _running().where(content_blocks.c.block_id == block_id)
    if group_id is not None:
        version = version.where(entries.c.group_id == group_id)
        upload = upload.where(uploads.c.group_id == group_id)
    return sa.or_(version.exists(), upload.exists())


async def _holders(tx: Tx, group_id: str, below: sa.CTE, named: int) -> list[Holder]:
    mine = _blocks_of(below)
    other = _others(below).where(entries.c.group_id == group_id).distinct().subquery("other")
    running = _running().where(uploads.c.group_id == group_id).distinct().subquery("running")
    files = await _most(tx, mine, other, other.c.entry_id, named)
    begun = await _most(tx, mine, running, running.c.upload_id, named)
    places = await find_places(tx, [row.name for row in files])
    found = [
        Holder(place.path, place.is_trashed, False, int(row.bytes))
        for row in files
        if (place := places.get(row.name)) is not None
    ]
    found += [Holder(row.name, False, True, int(row.bytes)) for row in begun]
    return sorted(found, key=lambda holder: (-holder.bytes, holder.path))[:named]


async def _most(
    tx: Tx, mine: sa.Subquery, other: sa.Subquery, name: sa.ColumnElement[Any], named: int
) -> Sequence[Any]:
    """Who else refers to most bytes of those blocks."""
    total = sa.func.sum(other.c.size).label("bytes")
    query = (
        sa.select(name.label("name"), total)
        .select_from(mine.join(other, other.c.block_id == mine.c.block_id))
        .group_by(name)
        .order_by(total.desc(), name)
    )
    return (await tx.execute(query.limit(named))).all()


async def _groups(tx: Tx, below: sa.CTE, named: int) -> list[GroupHolder]:
    """Groups, the entry's own too, that refer to those blocks from elsewhere."""
    stored = sa.func.coalesce(blocks.c.stored_size, blocks.c.size)
    mine = _blocks_of(below)
    columns = ("block_id", "group_id")
    held = sa.union(
        *(
            sa.select(*(found.c[name] for name in columns))
            for found in (_others(below).subquery("other"), _running().subquery("running"))
        )
    ).subquery("held")
    total = sa.func.sum(stored).label("bytes")
    query = (
        sa.select(groups.c.id, groups.c.name, total)
        .select_from(
            mine.join(held, held.c.block_id == mine.c.block_id)
            .join(blocks, blocks.c.id == mine.c.block_id)
            .join(groups, groups.c.id == held.c.group_id)
        )
        .group_by(groups.c.id, groups.c.name)
        .order_by(total.desc(), groups.c.id)
        .limit(named)
    )
    return [GroupHolder(row.id, row.name, int(row.bytes)) for row in await tx.execute(query)]


def _sum(column: sa.ColumnElement[int], clause: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((clause, column), else_=0)), 0)
