"""Queries that go from entries up to the root of their group: what they lie in, and their paths."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import entries
from filestore.meta.versions import batched
from filestore.model import EntryKind


async def ancestors(tx: Tx, entry_id: str) -> list[str]:
    """The ids from an entry up to the root, itself first."""
    up = _up_from(entry_id)
    return list(await tx.scalars(sa.select(up.c.id).order_by(up.c.depth)))


async def path_of(tx: Tx, entry_id: str) -> list[str]:
    """The names from below the root down to an entry, which comes last."""
    up = _up_from(entry_id)
    below_root = sa.select(up.c.name).where(up.c.parent_id.is_not(None))
    return list(await tx.scalars(below_root.order_by(up.c.depth.desc())))


def _up_from(entry_id: str) -> sa.CTE:
    """An entry (``depth`` 0) and all that it lies in, up to the root."""
    columns = (entries.c.id, entries.c.parent_id, entries.c.name)
    at = (
        sa.select(*columns, sa.literal(0).label("depth"))
        .where(entries.c.id == entry_id)
        .cte("up", recursive=True)
    )
    above = sa.select(*columns, at.c.depth + 1).join(at, entries.c.id == at.c.parent_id)
    return at.union_all(above)


async def paths_of(tx: Tx, ids: Sequence[str]) -> dict[str, str]:
    """The path of each entry, as people see it; in the trash, the one at which it lay before.

    Costs a step for each level above each of them.
    """
    paths: dict[str, str] = {}
    for some in batched(ids):
        names: dict[str, list[str]] = {}
        for row in await tx.execute(_upwards(some)):
            is_top = row.deleted_path is not None
            names.setdefault(row.of, []).append(row.deleted_path if is_top else f"/{row.name}")
        paths |= {of: "".join(reversed(parts)) for of, parts in names.items()}
    return paths


def _upwards(ids: Sequence[str]) -> sa.Select[Any]:
    """(of, name, deleted_path) of entries and of what they lie in, up to what is in the trash by
    itself or lies in the root; each entry before what it lies in."""
    columns = (entries.c.parent_id, entries.c.name, entries.c.deleted_path, entries.c.kind)
    at = (
        sa.select(entries.c.id.label("of"), *columns, sa.literal(0).label("depth"))
        .where(entries.c.id.in_(ids))
        .cte("up", recursive=True)
    )
    above = sa.and_(entries.c.id == at.c.parent_id, at.c.deleted_path.is_(None))
    up = at.union_all(sa.select(at.c.of, *columns, at.c.depth + 1).join(at, above))
    return (
        sa.select(up.c.of, up.c.name, up.c.deleted_path)
        .where(up.c.kind != EntryKind.ROOT)
        .order_by(up.c.of, up.c.depth)
    )
