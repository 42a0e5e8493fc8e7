"""Queries that remove single versions of a file. Whoever calls them holds the file's row."""

from collections.abc import Sequence

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import versions


async def numbers_before(tx: Tx, entry_id: str, before: int, *, limit: int) -> list[int]:
    """The numbers of a file's versions below ``before``, oldest first."""
    rows = await tx.scalars(
        sa.select(versions.c.number)
        .where(versions.c.entry_id == entry_id, versions.c.number < before)
        .order_by(versions.c.number)
        .limit(limit)
    )
    return list(rows)


async def remove_numbers(tx: Tx, entry_id: str, numbers: Sequence[int]) -> tuple[int, list[int]]:
    """Removes versions: the bytes that went, and the content that each referred to."""
    rows = await tx.execute(
        sa.delete(versions)
        .where(versions.c.entry_id == entry_id, versions.c.number.in_(numbers))
        .returning(versions.c.size, versions.c.content_id)
    )
    gone = rows.all()
    return sum(row.size for row in gone), [row.content_id for row in gone]
