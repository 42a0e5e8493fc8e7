"""What the site has for all groups, and what it has promised them.

Who raises a limit takes the row of the instance first, before any group's: so two that raise at
once are one behind the other, and the second sees what the first promised.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.groups import is_living_group
from filestore.meta.tables import groups, instance

_HIGH: int = 2**32


@dataclass(frozen=True, slots=True)
class Pool:
    """``bytes`` that the site has, and how many percent of them it may promise; None: any."""

    bytes: int | None = None
    overcommit_percent: int | None = None

    @property
    def allowed(self) -> int | None:
        """What the limits of all groups may be together; None: there is no such bound."""
        if self.bytes is None or self.overcommit_percent is None:
            return None
        return self.bytes * self.overcommit_percent // 100

    def ratio(self, promised: int) -> float | None:
        """How often what the site has is promised; None: nobody said what it has."""
        return round(promised / self.bytes, 4) if self.bytes else None


async def read_pool(tx: Tx, *, lock: bool = False) -> Pool:
    """The pool; its row locked FOR UPDATE on request, which comes before all other locks."""
    query = sa.select(instance.c.pool_bytes, instance.c.overcommit_percent)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return Pool() if row is None else Pool(row.pool_bytes, row.overcommit_percent)


async def change_pool(tx: Tx, pool: Pool) -> None:
    """Says what the site has from now on. The row is locked."""
    await tx.execute(
        instance.update().values(pool_bytes=pool.bytes, overcommit_percent=pool.overcommit_percent)
    )


async def sum_limits(tx: Tx) -> int:
    """The limits of all living groups together.

    In two halves: one group may have a limit of 2**63 - 1, and SQLite refuses larger sums.
    """
    limit = groups.c.quota_limit
    high, low = sa.func.sum(limit // _HIGH), sa.func.sum(limit % _HIGH)
    query = sa.select(high.label("high"), low.label("low")).where(is_living_group())
    row = (await tx.execute(query)).one()
    return int(row.high or 0) * _HIGH + int(row.low or 0)
