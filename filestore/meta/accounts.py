"""Queries on what the limits are asked of: accounts under lock, and what members take."""

from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.meta.database import Tx
from filestore.meta.tables import groups, member_accounts

POOL_ID: Final = "pool_temporary"
"""The account of temporary files of all groups. Behind every group's id in the order of locks."""


async def hold(tx: Tx, account_id: str) -> Row[Any] | None:
    """The living account's row, locked FOR NO KEY UPDATE; None: there is no such account.

    Not FOR UPDATE: an entry's foreign key takes the group's row FOR KEY SHARE, after the root's
    lock; that would be a deadlock with whoever waits for the root here.
    """
    living = sa.select(groups).where(groups.c.id == account_id, groups.c.deleted_at.is_(None))
    return (await tx.execute(living.with_for_update(key_share=True))).one_or_none()


async def taken_by(
    tx: Tx, group_id: str, user_ids: Collection[str]
) -> dict[str, tuple[int | None, int]]:
    """(share or None, bytes taken) of users who have an account in the group."""
    rows = await tx.execute(
        sa.select(member_accounts).where(
            member_accounts.c.group_id == group_id,
            member_accounts.c.user_id.in_(sorted(user_ids)),
        )
    )
    return {row.user_id: (row.share_limit, row.used + row.reserved) for row in rows}
