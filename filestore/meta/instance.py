"""The one row that ties a database to its block store, and what a fresh database begins with."""

from dataclasses import dataclass

import sqlalchemy as sa

from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.tables import blocks, domains, instance
from filestore.model import BlockState


@dataclass(frozen=True, slots=True)
class Instance:
    store_id: str
    epoch: int


async def find_instance(tx: Tx) -> Instance | None:
    """The row; None: no filestore has ever started on this database."""
    row = (await tx.execute(sa.select(instance))).one_or_none()
    return None if row is None else Instance(row.store_id, row.epoch)


async def insert_instance(tx: Tx) -> Instance:
    """The row, made now. Who gets it committed is the first.

    :raises IntegrityError: ``pk_instance``: another process was first.
    """
    made = Instance(new_id("sto"), 1)
    await tx.execute(instance.insert().values(id=1, store_id=made.store_id, epoch=made.epoch))
    return made


async def raise_epoch(tx: Tx, seen: Instance) -> Instance | None:
    """The row with the next epoch; None when it is no longer what was ``seen``."""
    row = (
        await tx.execute(
            instance.update()
            .where(instance.c.store_id == seen.store_id, instance.c.epoch == seen.epoch)
            .values(epoch=instance.c.epoch + 1)
            .returning(instance)
        )
    ).one_or_none()
    return None if row is None else Instance(row.store_id, row.epoch)


async def insert_domain(tx: Tx, domain_id: str) -> None:
    await tx.execute(domains.insert().values(id=domain_id))


async def has_live_blocks(tx: Tx) -> bool:
    """Whether the block store must hold anything."""
    query = sa.select(sa.exists().where(blocks.c.state == BlockState.LIVE))
    return bool(await tx.scalar(query))
