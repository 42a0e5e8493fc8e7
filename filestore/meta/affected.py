"""Which files contents belong to: for reports of damage, and the groups that must know."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from filestore.errors import Json
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, content_blocks, entries, uploads, versions
from filestore.meta.versions import batched
from filestore.model import BlockState, EntryKind, UploadState

NAMED: Final = 20
"""Files of one group that a report names; all are counted."""

ContentIds = Collection[int] | sa.Select[Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry lies in its group's tree, and whether it or a folder above is trashed."""

    path: str
    is_trashed: bool


@dataclass(frozen=True, slots=True)
class AffectedFile:
    """One version of a file, or a running upload: its path is its id, its version None."""

    group_id: str
    path: str
    version: int | None
    is_current: bool
    is_trashed: bool

    def to_json(self) -> dict[str, Json]:
        return {
            "path": self.path,
            "version": self.version,
            "current": self.is_current,
            "trashed": self.is_trashed,
        }


@dataclass(frozen=True, slots=True)
class Affected:
    """How many versions and uploads of each group, by its id; some of them by name."""

    counts: dict[str, int] = field(default_factory=dict)
    files: tuple[AffectedFile, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def of_group(self, group_id: str) -> list[AffectedFile]:
        return [file for file in self.files if file.group_id == group_id]


async def find_affected(tx: Tx, content_ids: ContentIds, *, named: int = NAMED) -> Affected:
    """The files of these contents, all versions and the trash included, and running uploads.

    Costs a look-up for each version; of each group the paths of ``named`` are looked up.
    """
    found = await _versions(tx, content_ids, named)
    running = await _uploads(tx, content_ids, named)
    counts: dict[str, int] = {}
    for row in (*found, *running):
        if row.place == 1:
            counts[row.group_id] = counts.get(row.group_id, 0) + row.count_in_group
    places = await find_places(tx, sorted({row.entry_id for row in found}))
    files = []
    for row in found:
        place = places.get(row.entry_id, Place("", False))
        files.append(
            AffectedFile(
                row.group_id, place.path, row.number, bool(row.is_current), place.is_trashed
            )
        )
    files += [AffectedFile(row.group_id, row.id, None, False, False) for row in running]
    return Affected(counts, tuple(files))


async def affected_by_block(tx: Tx, block_id: int) -> Affected:
    """The files and uploads that refer to a block."""
    concerned = sa.select(content_blocks.c.content_id)
    return await find_affected(tx, concerned.where(content_blocks.c.block_id == block_id))


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A version that cannot be read whole now. ``id``: the version's."""

    id: str
    file: AffectedFile
    size: int


async def find_damaged(tx: Tx, group_id: str, *, after: str, limit: int) -> list[DamagedFile]:
    """Versions of a group with a block that is lost and has no live twin, by id behind ``after``.

    The trash included. Costs a look-up for each reference to a lost block.
    """
    twin = blocks.alias("twin")
    has_twin = sa.exists().where(
        twin.c.domain_id == blocks.c.domain_id,
        twin.c.hash == blocks.c.hash,
        twin.c.state == BlockState.LIVE,
    )
    damaged = (
        sa.select(content_blocks.c.content_id)
        .join(blocks, blocks.c.id == content_blocks.c.block_id)
        .where(blocks.c.state == BlockState.LOST, ~has_twin)
    )
    query = (
        sa.select(
            versions.c.id,
            versions.c.entry_id,
            versions.c.number,
            versions.c.size,
            (versions.c.number == entries.c.current_number).label("is_current"),
        )
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(entries.c.group_id == group_id, versions.c.id > after)
        .where(versions.c.content_id.in_(damaged))
        .order_by(versions.c.id)
        .limit(limit)
    )
    rows = (await tx.execute(query)).all()
    places = await find_places(tx, sorted({row.entry_id for row in rows}))
    found = []
    for row in rows:
        place = places.get(row.entry_id, Place("", False))
        at = (group_id, place.path, row.number, bool(row.is_current), place.is_trashed)
        found.append(DamagedFile(row.id, AffectedFile(*at), row.size))
    return found


async def find_places(tx: Tx, entry_ids: Sequence[str]) -> dict[str, Place]:
    """Where these entries lie, by id. Costs a look-up for each folder above each."""
    names: dict[str, list[str]] = {entry_id: [] for entry_id in entry_ids}
    trashed: set[str] = set()
    for some in batched(entry_ids):
        for row in await tx.execute(_upwards(some)):
            names[row.top].append(row.name)
            if row.deleted_at is not None:
                trashed.add(row.top)
    return {
        top: Place("/" + "/".join(parts), top in trashed) for top, parts in names.items() if parts
    }


def _upwards(entry_ids: Sequence[str]) -> sa.Select[Any]:
    """The names from below the root down to each entry, in that order."""
    columns = (entries.c.parent_id, entries.c.name, entries.c.kind, entries.c.deleted_at)
    at = (
        sa.select(entries.c.id.label("top"), *columns, sa.literal(0).label("depth"))
        .where(entries.c.id.in_(entry_ids))
        .cte("up", recursive=True)
    )
    up = at.union_all(
        sa.select(at.c.top, *columns, at.c.depth + 1).join(at, entries.c.id == at.c.parent_id)
    )
    shown = sa.select(up.c.top, up.c.name, up.c.deleted_at).where(up.c.kind != EntryKind.ROOT)
    return shown.order_by(up.c.top, up.c.depth.desc())


async def _versions(tx: Tx, content_ids: ContentIds, named: int) -> Sequence[sa.Row[Any]]:
    of_group = entries.c.group_id
    ranked = (
        sa.select(
            of_group,
            versions.c.entry_id,
            versions.c.number,
            (versions.c.number == entries.c.current_number).label("is_current"),
            _place(of_group, versions.c.id).label("place"),
            _count(of_group).label("count_in_group"),
        )
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(versions.c.content_id.in_(content_ids))
        .subquery("ranked")
    )
    return await _first(tx, ranked, named)


async def _uploads(tx: Tx, content_ids: ContentIds, named: int) -> Sequence[sa.Row[Any]]:
    of_group = uploads.c.group_id
    ranked = (
        sa.select(
            of_group,
            uploads.c.id,
            _place(of_group, uploads.c.id).label("place"),
            _count(of_group).label("count_in_group"),
        )
        .where(uploads.c.content_id.in_(content_ids), uploads.c.state == UploadState.OPEN)
        .subquery("ranked")
    )
    return await _first(tx, ranked, named)


async def _first(tx: Tx, ranked: sa.Subquery, named: int) -> Sequence[sa.Row[Any]]:
    query = sa.select(ranked).where(ranked.c.place <= named)
    return (await tx.execute(query.order_by(ranked.c.group_id, ranked.c.place))).all()


def _place(group: sa.ColumnElement[str], order: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.func.row_number().over(partition_by=group, order_by=order)


def _count(group: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.func.count().over(partition_by=group)
