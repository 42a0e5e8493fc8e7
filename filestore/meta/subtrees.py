"""Queries on an entry with all that lives below it, each one statement however large it is.

What was put into the trash by itself is no part of a living folder, nor is what lies below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.tables import entries, versions
from filestore.meta.versions import batched
from filestore.model import EntryKind


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a subtree reaches below its top: levels, and bytes of the longest path."""

    depth: int = 0
    path_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """An entry of a subtree as it is copied. ``content_id``, ``size`` and ``mime`` are those of
    a file's current version, None for folders."""

    id: str
    parent_id: str
    kind: EntryKind
    names: tuple[str, str, str]
    extent: Extent
    content_id: int | None
    size: int | None
    mime: str | None


async def extent_of(tx: Tx, entry_id: str) -> Extent:
    """How far what lives below an entry reaches. Costs a walk over it."""
    below = _below(tx, entry_id)
    row = (
        await tx.execute(sa.select(sa.func.max(below.c.depth), sa.func.max(below.c.path_bytes)))
    ).one()
    return Extent(int(row[0] or 0), int(row[1] or 0))


async def count_below(tx: Tx, entry_id: str, *, limit: int) -> int:
    """How many entries a subtree has, its top too; counts no further than ``limit``."""
    some = sa.select(_below(tx, entry_id).c.id).limit(limit).subquery("some")
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(some)) or 0)


async def nodes_below(tx: Tx, entry_id: str, *, limit: int) -> list[Node]:
    """The entries of a subtree, folders before what lies in them, at most ``limit`` of them.

    The top comes first.
    """
    some = sa.select(_below(tx, entry_id)).limit(limit).subquery("some")
    is_current = sa.and_(
        versions.c.entry_id == entries.c.id, versions.c.number == entries.c.current_number
    )
    query = (
        sa.select(
            entries, some.c.depth, some.c.path_bytes,
            versions.c.content_id, versions.c.size, versions.c.mime,
        )
        .select_from(
            some.join(entries, entries.c.id == some.c.id).outerjoin(versions, is_current)
        )
        .order_by(some.c.depth)
    )  # fmt: skip
    return [_node(row) for row in await tx.execute(query)]


async def hand_over(tx: Tx, ids: Sequence[str], group_id: str) -> list[str]:
    """Makes entries those of another group; the ids of the files among them."""
    files: list[str] = []
    for some in batched(ids):
        rows = await tx.execute(
            sa.update(entries)
            .where(entries.c.id.in_(some))
            .values(group_id=group_id)
            .returning(entries.c.id, entries.c.kind)
        )
        files += [row.id for row in rows if row.kind == EntryKind.FILE]
    return files


async def add_nodes(tx: Tx, group_id: str, nodes: Sequence[Node], ids: dict[str, str]) -> None:
    """Makes new entries like ``nodes``, whose parents come before them.

    ``ids`` says for each old id, the parents' too, which one is the new. A file has its first
    version already counted; :func:`add_first_versions` adds it.
    """
    if nodes:
        await tx.execute(
            sa.insert(entries),
            [
                {
                    "id": ids[node.id],
                    "group_id": group_id,
                    "parent_id": ids[node.parent_id],
                    "kind": node.kind,
                    "name": node.names[0],
                    "name_key": node.names[1],
                    "name_fold": node.names[2],
                    "last_number": 1 if node.kind is EntryKind.FILE else 0,
                    "current_number": 1 if node.kind is EntryKind.FILE else None,
                }
                for node in nodes
            ],
        )


async def add_first_versions(
    tx: Tx, nodes: Sequence[Node], ids: dict[str, str], author_id: str | None
) -> dict[str, str]:
    """Gives the new entries of the files among ``nodes`` their version. The contents are held.

    The id of each new version by that of its new entry.
    """
    rows = [
        {
            "id": new_id("ver"),
            "entry_id": ids[node.id],
            "number": 1,
            "content_id": node.content_id,
            "size": node.size,
            "mime": node.mime,
            "author_id": author_id,
        }
        for node in nodes
        if node.kind is EntryKind.FILE
    ]
    if rows:
        await tx.execute(sa.insert(versions), rows)
    return {str(row["entry_id"]): str(row["id"]) for row in rows}


def _below(tx: Tx, entry_id: str) -> sa.CTE:
    """(id, depth, path_bytes) of the entry and of all that lives below it, level by level."""
    zero = sa.literal(0)
    top = (
        sa.select(entries.c.id, zero.label("depth"), zero.label("path_bytes"))
        .where(entries.c.id == entry_id)
        .cte("below", recursive=True)
    )
    living = sa.and_(entries.c.parent_id == top.c.id, entries.c.deleted_at.is_(None))
    longer = top.c.path_bytes + 1 + _bytes(tx, entries.c.name)
    return top.union_all(sa.select(entries.c.id, top.c.depth + 1, longer).join(top, living))


def _bytes(tx: Tx, text: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    """How many bytes a text has in UTF-8, which both databases keep it in."""
    if tx.dialect.name == "postgresql":
        return sa.func.octet_length(text, type_=sa.Integer)
    return sa.func.length(sa.cast(text, sa.LargeBinary), type_=sa.Integer)


def _node(row: Any) -> Node:
    return Node(
        row.id,
        row.parent_id,
        EntryKind(row.kind),
        (row.name, row.name_key, row.name_fold),
        Extent(row.depth, row.path_bytes),
        row.content_id,
        row.size,
        row.mime,
    )
