"""Queries that remove versions, and what they say of those that went."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import versions

_BATCH: Final = 500
"""Ids in one statement, far below the 32,766 parameters that both databases allow."""


def batched(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """``ids`` in the same order, in pieces that fit one statement."""
    return (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH))


_COLUMNS: Final = (
    *(versions.c.id, versions.c.entry_id, versions.c.content_id, versions.c.size),
    *(versions.c.mime, versions.c.author_id, versions.c.pool_id),
)


@dataclass(frozen=True, slots=True)
class Gone:
    """A version that leaves its group: what the books and the collector have to know of it.

    ``pool_id``: the account that was charged in place of the group.
    """

    id: str
    entry_id: str
    content_id: int
    size: int
    mime: str
    author_id: str | None
    pool_id: str | None


async def numbers_before(tx: Tx, entry_id: str, before: int, *, limit: int) -> list[int]:
    """The numbers of a file's versions below ``before``, oldest first."""
    rows = await tx.scalars(
        sa.select(versions.c.number)
        .where(versions.c.entry_id == entry_id, versions.c.number < before)
        .order_by(versions.c.number)
        .limit(limit)
    )
    return list(rows)


async def remove_numbers(tx: Tx, entry_id: str, numbers: Sequence[int]) -> list[Gone]:
    """Removes versions of a file whose row the caller holds."""
    is_meant = (versions.c.entry_id == entry_id, versions.c.number.in_(numbers))
    return await remove_where(tx, *is_meant)


async def remove_all_of(tx: Tx, entry_ids: Sequence[str]) -> list[Gone]:
    """Removes all versions of entries that the caller holds."""
    gone: list[Gone] = []
    for ids in batched(entry_ids):
        gone += await remove_where(tx, versions.c.entry_id.in_(ids))
    return gone


async def versions_of_all(tx: Tx, entry_ids: Sequence[str]) -> list[Gone]:
    """All versions of entries that the caller holds, as if they had gone."""
    found: list[Gone] = []
    for ids in batched(entry_ids):
        query = sa.select(*_COLUMNS).where(versions.c.entry_id.in_(ids))
        found += [_gone(row) for row in await tx.execute(query)]
    return found


async def remove_where(tx: Tx, *clauses: sa.ColumnElement[bool]) -> list[Gone]:
    """Removes versions; what is told of them is what the statement itself removed."""
    rows = await tx.execute(sa.delete(versions).where(*clauses).returning(*_COLUMNS))
    return [_gone(row) for row in rows]


def _gone(row: Any) -> Gone:
    return Gone(
        row.id, row.entry_id, row.content_id, row.size, row.mime, row.author_id, row.pool_id
    )
