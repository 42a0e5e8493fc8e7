"""Which versions of files are not kept any more, by the rule of their group.

A group keeps the newest ``versions_keep`` versions of a file, and those that were replaced
less than ``versions_keep_s`` seconds ago. 0 says that there is no such rule; without any rule
all versions stay. The current version always stays.
"""

from typing import Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import entries, groups, now_us, versions
from filestore.meta.versions import Gone, remove_where

_HAS_RULE: Final = sa.or_(groups.c.versions_keep > 0, groups.c.versions_keep_s > 0)


def is_version_due() -> sa.ColumnElement[bool]:
    """That a row of ``versions`` joined with ``entries`` and ``groups`` is not kept any more.

    Numbers may have gaps: versions are removed by hand, and temporary ones expire. So the newer
    ones are counted, where the numbers alone do not say that they are too few.
    """
    kept_us = groups.c.versions_keep_s * sa.literal(1_000_000, sa.BigInteger)
    newer = versions.alias("newer")
    newer_ones = (
        sa.select(sa.func.count())
        .where(newer.c.entry_id == versions.c.entry_id, newer.c.number > versions.c.number)
        .correlate(versions)
        .scalar_subquery()
    )
    is_beyond = sa.and_(
        versions.c.number <= entries.c.last_number - groups.c.versions_keep,
        newer_ones >= groups.c.versions_keep,
    )
    is_old = versions.c.superseded_at + kept_us <= now_us()
    return sa.and_(
        _HAS_RULE,
        versions.c.superseded_at.is_not(None),
        versions.c.number < entries.c.current_number,
        sa.or_(groups.c.versions_keep == 0, is_beyond),
        sa.or_(groups.c.versions_keep_s == 0, is_old),
    )


def due_versions() -> sa.Join:
    """What :func:`is_version_due` is asked of."""
    joined = versions.join(entries, entries.c.id == versions.c.entry_id)
    return joined.join(groups, groups.c.id == entries.c.group_id)


async def due_files(tx: Tx, *, after: str, limit: int) -> list[tuple[str, str]]:
    """(entry, group) of files behind entry ``after`` with versions that are not kept, by id.

    Costs a walk over the versions that were replaced, where any group has a rule.
    """
    if await tx.scalar(sa.select(groups.c.id).where(_HAS_RULE).limit(1)) is None:
        return []
    rows = await tx.execute(
        sa.select(entries.c.id, entries.c.group_id)
        .select_from(due_versions())
        .where(is_version_due(), entries.c.id > after)
        .distinct()
        .order_by(entries.c.id)
        .limit(limit)
    )
    return [(row.id, row.group_id) for row in rows]


async def remove_due(tx: Tx, entry_id: str, *, limit: int) -> list[Gone]:
    """Removes the oldest versions of a file that are not kept, up to ``limit``.

    The caller holds the group's row and the entry, so neither rule nor numbers move.
    """
    some = (
        sa.select(versions.c.id)
        .select_from(due_versions())
        .where(is_version_due(), versions.c.entry_id == entry_id)
        .order_by(versions.c.number)
        .limit(limit)
    )
    return await remove_where(tx, versions.c.id.in_(some))
