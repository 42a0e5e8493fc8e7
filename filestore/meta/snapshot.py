"""Several statements that see one moment."""

import sqlalchemy as sa

from filestore.meta.database import Tx


async def hold_still(tx: Tx) -> None:
    """Makes all that this read transaction asks be of one moment; its first statement.

    On SQLite every transaction is so. On PostgreSQL READ COMMITTED sees the newest at each
    statement; REPEATABLE READ that only reads keeps nobody waiting and is never refused.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
