"""Memberships: which user has which role in which group."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.engine import Row

from filestore.meta.database import Tx
from filestore.meta.people import user_is
from filestore.meta.tables import member_accounts, memberships, users
from filestore.model import Role


@dataclass(frozen=True, slots=True)
class Member:
    """``share`` None: all that the group has. What is taken, in bytes: files with their versions
    and the trash, and running uploads."""

    user_id: str
    user_name: str
    role: Role
    created_at: int
    share: int | None
    used: int
    reserved: int


async def role_of(tx: Tx, group_id: str, user_id: str) -> Role | None:
    """The user's role in the group now; None: no member."""
    query = sa.select(memberships.c.role).where(
        memberships.c.group_id == group_id, memberships.c.user_id == user_id
    )
    role = await tx.scalar(query)
    return None if role is None else Role(role)


async def find_member(tx: Tx, group_id: str, ref: str) -> Member | None:
    """The member with this user's id or name."""
    clause = user_is(ref)
    if clause is None:
        return None
    row = (await tx.execute(_select(group_id).where(clause))).one_or_none()
    return None if row is None else _member(row)


async def list_members(
    tx: Tx, group_id: str, *, after: str | None, limit: int
) -> list[tuple[str, Member]]:
    """Members in the order of their names' keys, which come with them."""
    query = _select(group_id).order_by(users.c.name_key).limit(limit)
    if after is not None:
        query = query.where(users.c.name_key > after)
    return [(row.name_key, _member(row)) for row in await tx.execute(query)]


async def put_member(tx: Tx, group_id: str, user_id: str, role: Role) -> Member:
    """Makes the user a member with this role, or changes the role of one who is."""
    insert = upsert_sqlite if tx.dialect.name == "sqlite" else upsert_postgresql
    statement = insert(memberships).values(group_id=group_id, user_id=user_id, role=role)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[memberships.c.group_id, memberships.c.user_id], set_={"role": role}
        )
    )
    query = _select(group_id).where(users.c.id == user_id)
    return _member((await tx.execute(query)).one())


async def remove_member(tx: Tx, group_id: str, user_id: str) -> None:
    """Ends the membership; harmless when there is none."""
    await tx.execute(
        memberships.delete().where(
            memberships.c.group_id == group_id, memberships.c.user_id == user_id
        )
    )


async def has_other_manager(tx: Tx, group_id: str, user_id: str) -> bool:
    """Whether somebody else, not disabled, manages the group.

    Who acts on the answer holds the group's row FOR UPDATE, so two managers cannot remove each
    other at once.
    """
    query = sa.select(
        sa.exists().where(
            memberships.c.group_id == group_id,
            memberships.c.user_id != user_id,
            memberships.c.role == Role.MANAGER,
            users.c.id == memberships.c.user_id,
            users.c.disabled_at.is_(None),
        )
    )
    return bool(await tx.scalar(query))


def _select(group_id: str) -> sa.Select[Any]:
    return (
        sa.select(
            *(memberships, users.c.name, users.c.name_key),
            *(member_accounts.c.share_limit, member_accounts.c.used, member_accounts.c.reserved),
        )
        .join(users, users.c.id == memberships.c.user_id)
        .outerjoin(
            member_accounts,
            sa.and_(
                member_accounts.c.group_id == memberships.c.group_id,
                member_accounts.c.user_id == memberships.c.user_id,
            ),
        )
        .where(memberships.c.group_id == group_id)
    )


def _member(row: Row[Any]) -> Member:
    return Member(
        row.user_id,
        row.name,
        Role(row.role),
        row.created_at,
        row.share_limit,
        row.used or 0,
        row.reserved or 0,
    )
