"""Many groups at once: found by names and ids in two statements, and locked in one order."""

from collections.abc import Sequence

import sqlalchemy as sa

from filestore.errors import BadName
from filestore.ids import is_id
from filestore.meta.database import Tx
from filestore.meta.groups import Group, group_of, is_living_group
from filestore.meta.tables import groups
from filestore.meta.versions import batched
from filestore.names import check_label


async def find_by_refs(tx: Tx, refs: Sequence[str], *, lock: bool = False) -> dict[str, Group]:
    """The living groups with these names or ids, by the reference; those that there are.

    On request their rows are locked FOR NO KEY UPDATE, by id: the order of all locks.
    """
    keys = {ref: _key(ref) for ref in refs}
    ids: dict[str, str] = {ref: ref for ref in refs if is_id("grp", ref)}
    named = sorted({key for key in keys.values() if key is not None})
    by_key: dict[str, str] = {}
    for some in batched(named):
        query = sa.select(groups.c.id, groups.c.name_key).where(
            groups.c.name_key.in_(some), is_living_group()
        )
        by_key |= {row.name_key: row.id for row in await tx.execute(query)}
    ids |= {ref: by_key[key] for ref, key in keys.items() if key is not None and key in by_key}
    found: dict[str, Group] = {}
    for some in batched(sorted(set(ids.values()))):
        rows = (
            sa.select(groups).where(groups.c.id.in_(some), is_living_group()).order_by(groups.c.id)
        )
        rows = rows.with_for_update(key_share=True) if lock else rows
        found |= {row.id: group_of(row) for row in await tx.execute(rows)}
    return {ref: found[group_id] for ref, group_id in ids.items() if group_id in found}


async def limits_by_name(tx: Tx, *, after: str | None, limit: int) -> list[tuple[str, Group]]:
    """Living groups behind the key ``after``, by name."""
    query = sa.select(groups).where(is_living_group()).order_by(groups.c.name_key).limit(limit)
    if after is not None:
        query = query.where(groups.c.name_key > after)
    return [(row.name_key, group_of(row)) for row in await tx.execute(query)]


def _key(ref: str) -> str | None:
    if is_id("grp", ref):
        return None
    try:
        return check_label(ref, "group").key
    except BadName:
        return None
