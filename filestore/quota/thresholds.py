"""Warnings before a group is full: once each time that a threshold is crossed.

What counts is what refuses uploads, ``used + reserved``, in percent of the group's soft limit, or
of its limit where it has none. A threshold is armed again when it is less by :data:`SLACK`, so that
a group that goes to and fro does not warn each time.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.meta.database import Tx
from filestore.meta.log import emit
from filestore.meta.tables import groups
from filestore.model import Actor

THRESHOLDS: Final[Sequence[int]] = (75, 90, 95, 100)
"""In percent. Of a soft limit 100 is the moment from which on the group is beyond it."""

SLACK: Final = 2
"""Percent below a threshold at which it is armed again."""

KIND: Final = "quota.threshold"


def level_of(held: int, full: int, warned: int) -> int:
    """The highest threshold that is crossed, when ``warned`` was the last; 0: none is.

    ``full`` 0 with nothing held is no crossing: a group that may hold nothing is not full of it.
    """
    if held <= 0:
        return 0
    crossed = [level for level in THRESHOLDS if held * 100 >= full * level]
    kept = [
        level for level in THRESHOLDS if level <= warned and held * 100 > full * (level - SLACK)
    ]
    return max((*crossed, *kept), default=0)


async def note_level(tx: Tx, actor: Actor, group: Row[Any]) -> None:
    """Writes down the level of a group whose row this transaction has locked, and tells of a rise.

    ``group`` has the counters and limits as they are now, and ``warned_percent`` as it was.
    """
    held = group.used + group.reserved
    full = group.quota_limit if group.soft_limit is None else group.soft_limit
    level = level_of(held, full, group.warned_percent)
    if level == group.warned_percent:
        return
    await tx.execute(sa.update(groups).where(groups.c.id == group.id).values(warned_percent=level))
    if level > group.warned_percent:
        await emit(
            tx,
            KIND,
            {
                "group": group.name,
                "percent": level,
                "used_bytes": group.used,
                "reserved_bytes": group.reserved,
                "limit_bytes": group.quota_limit,
                "soft_limit_bytes": group.soft_limit,
                "user": actor.user_id,
            },
            group_id=group.id,
        )


async def review_level(tx: Tx, actor: Actor, group_id: str) -> None:
    """:func:`note_level` after the limits were changed, of a group whose row is locked."""
    row = (await tx.execute(sa.select(groups).where(groups.c.id == group_id))).one()
    await note_level(tx, actor, row)
