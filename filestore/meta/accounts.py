"""Queries on what the limits are asked of: accounts under lock, and what members take."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from filestore.meta.database import Tx
from filestore.meta.tables import groups, member_accounts
from filestore.model import AccountKind

POOL_ID: Final = "pool_temporary"
"""The account of temporary files of all groups. Behind every group's id in the order of locks."""
_POOL_NAME: Final = "pool:temporary"
"""No group can have it: a label has no colon."""

POOL_KEEP_S: Final = 7 * 86_400
"""How long a temporary file stays where nobody said so: over a weekend and the days after it."""


_HOLD: Final = (
    sa.select(groups)
    .where(groups.c.id == sa.bindparam("of_id"), groups.c.deleted_at.is_(None))
    .with_for_update(key_share=True)
)
_TAKEN_BY: Final = sa.select(
    member_accounts.c.user_id,
    member_accounts.c.share_limit,
    (member_accounts.c.used + member_accounts.c.reserved).label("taken"),
).where(
    member_accounts.c.group_id == sa.bindparam("of_group"),
    member_accounts.c.user_id.in_(sa.bindparam("users", expanding=True)),
)
"""Statements of the hot path are put together once: that takes longer than running them."""


async def hold(tx: Tx, account_id: str) -> Row[Any] | None:
    """The living account's row, locked FOR NO KEY UPDATE; None: there is no such account.

    Not FOR UPDATE: an entry's foreign key takes the group's row FOR KEY SHARE, after the root's
    lock; that would be a deadlock with whoever waits for the root here.
    """
    return (await tx.execute(_HOLD, {"of_id": account_id})).one_or_none()


@dataclass(frozen=True, slots=True)
class Pool:
    """The account of temporary files. ``keep_s``: how long one stays unless it finds room."""

    limit: int
    used: int
    reserved: int
    keep_s: int


async def find_pool(tx: Tx) -> Pool | None:
    """The pool as it is now; None: the site has none."""
    row = (await tx.execute(sa.select(groups).where(groups.c.id == POOL_ID))).one_or_none()
    if row is None:
        return None
    return Pool(row.quota_limit, row.used, row.reserved, row.trash_retention_s)


async def set_pool(tx: Tx, *, domain_id: str, limit: int, keep_s: int | None = None) -> None:
    """Opens the pool's account, or changes it. ``limit`` may be below what it holds; ``keep_s``
    None: unchanged, and :data:`POOL_KEEP_S` for a new pool."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    values = {"quota_limit": limit}
    if keep_s is not None:
        values["trash_retention_s"] = keep_s
    opened = insert(groups).values(
        id=POOL_ID,
        kind=AccountKind.POOL,
        name=_POOL_NAME,
        name_key=_POOL_NAME,
        domain_id=domain_id,
        **{"trash_retention_s": POOL_KEEP_S, **values},
    )
    await tx.execute(opened.on_conflict_do_update(index_elements=["id"], set_=values))


async def set_share(tx: Tx, group_id: str, user_id: str, limit: int | None) -> None:
    """What a member may take of the group; None: all of it. Less than is taken is allowed."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    opened = insert(member_accounts).values(group_id=group_id, user_id=user_id, share_limit=limit)
    await tx.execute(
        opened.on_conflict_do_update(
            index_elements=["group_id", "user_id"], set_={"share_limit": limit}
        )
    )


async def taken_by(
    tx: Tx, group_id: str, user_ids: Collection[str]
) -> dict[str, tuple[int | None, int]]:
    """(share or None, bytes taken) of users who have an account in the group."""
    rows = await tx.execute(_TAKEN_BY, {"of_group": group_id, "users": sorted(user_ids)})
    return {row.user_id: (row.share_limit, row.taken) for row in rows}
