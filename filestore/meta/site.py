"""What the store itself holds, and what groups share: figures for site admins alone."""

from dataclasses import dataclass

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.pool import Pool, read_pool, sum_limits
from filestore.meta.sheet import Line, Sheet, read_sheets
from filestore.meta.snapshot import hold_still
from filestore.meta.tables import blocks, content_blocks, versions
from filestore.model import BlockState


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks in one state: how many, their plain bytes, and their bytes in the store (those of
    objects that were never finished are unknown and count as none)."""

    state: BlockState
    blocks: int
    plain: int
    stored: int


@dataclass(frozen=True, slots=True)
class Site:
    """The sheets of all groups, and what is beside them.

    ``unique`` is the size of the distinct blocks behind what all groups are charged for: what
    their own distinct bytes have above it, they share.
    """

    sheets: list[Sheet]
    unique: int
    stored: list[Stored]
    pool: Pool
    promised: int

    def line(self, line: Line) -> int:
        return sum(sheet.lines[line] for sheet in self.sheets)

    @property
    def unique_in_groups(self) -> int:
        return sum(sheet.unique for sheet in self.sheets)

    @property
    def shared_between_groups(self) -> int:
        return self.unique_in_groups - self.unique

    @property
    def live(self) -> Stored:
        """The blocks that can be read."""
        found = (one for one in self.stored if one.state is BlockState.LIVE)
        return next(found, Stored(BlockState.LIVE, 0, 0, 0))


async def read_site(tx: Tx) -> Site:
    """All figures of one moment; ``tx`` is a read of its own.

    Costs a walk over all versions, references and blocks: seconds for millions of blocks.
    """
    await hold_still(tx)
    return Site(
        sheets=await read_sheets(tx),
        unique=await _unique(tx),
        stored=await _stored(tx),
        pool=await read_pool(tx),
        promised=await sum_limits(tx),
    )


async def _unique(tx: Tx) -> int:
    once = (
        sa.select(content_blocks.c.block_id, content_blocks.c.size)
        .join(versions, versions.c.content_id == content_blocks.c.content_id)
        .where(versions.c.pool_id.is_(None))
        .distinct()
        .subquery("once")
    )
    return int(await tx.scalar(sa.select(sa.func.sum(once.c.size))) or 0)


async def _stored(tx: Tx) -> list[Stored]:
    query = (
        sa.select(
            blocks.c.state,
            sa.func.count().label("n"),
            sa.func.sum(blocks.c.size).label("plain"),
            sa.func.coalesce(sa.func.sum(blocks.c.stored_size), 0).label("stored"),
        )
        .group_by(blocks.c.state)
        .order_by(blocks.c.state)
    )
    return [
        Stored(BlockState(row.state), row.n, int(row.plain), int(row.stored))
        for row in await tx.execute(query)
    ]
