"""Users: rows that stay for ever, because versions and the audit log name their authors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.errors import BadName
from filestore.ids import is_id, new_id
from filestore.meta.database import Tx
from filestore.meta.tables import now_us, users
from filestore.names import Label, check_label


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str
    is_admin: bool
    created_at: int
    disabled_at: int | None


async def insert_user(tx: Tx, name: Label, *, is_admin: bool) -> User:
    """A new user.

    :raises IntegrityError: ``uq_users_name_key``: the name is taken, also by a disabled user.
    """
    row = await tx.execute(
        users.insert()
        .values(id=new_id("usr"), name=name.given, name_key=name.key, is_admin=is_admin)
        .returning(users)
    )
    return _user(row.one())


async def find_user(tx: Tx, ref: str, *, lock: bool = False) -> User | None:
    """The user with this id or name, disabled or not; its row locked against changes on request."""
    clause = user_is(ref)
    if clause is None:
        return None
    query = sa.select(users).where(clause)
    row = (await tx.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else _user(row)


async def user_names(tx: Tx, ids: Iterable[str]) -> dict[str, str]:
    """Names of users by their ids, for lists; at most a page of them."""
    rows = await tx.execute(sa.select(users.c.id, users.c.name).where(users.c.id.in_(set(ids))))
    return {row.id: row.name for row in rows}


async def list_users(tx: Tx, *, after: str | None, limit: int) -> list[tuple[str, User]]:
    """Users in the order of their names' keys, which come with them."""
    query = sa.select(users).order_by(users.c.name_key).limit(limit)
    if after is not None:
        query = query.where(users.c.name_key > after)
    return [(row.name_key, _user(row)) for row in await tx.execute(query)]


async def change_user(
    tx: Tx,
    user_id: str,
    *,
    name: Label | None = None,
    is_admin: bool | None = None,
    disabled: bool | None = None,
) -> User:
    """Changes what is given; a user who is disabled already keeps the time of it.

    :raises IntegrityError: ``uq_users_name_key``: the name is taken.
    """
    values: dict[str, object] = {"id": user_id}
    if name is not None:
        values |= {"name": name.given, "name_key": name.key}
    if is_admin is not None:
        values["is_admin"] = is_admin
    if disabled is not None:
        values["disabled_at"] = (
            sa.func.coalesce(users.c.disabled_at, now_us()) if disabled else None
        )
    row = await tx.execute(
        users.update().where(users.c.id == user_id).values(values).returning(users)
    )
    return _user(row.one())


async def first_admin(tx: Tx) -> User | None:
    """The oldest site admin who is not disabled."""
    query = (
        sa.select(users)
        .where(users.c.is_admin, users.c.disabled_at.is_(None))
        .order_by(users.c.created_at, users.c.id)
        .limit(1)
        .with_for_update(key_share=True)
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _user(row)


async def lock_active_admins(tx: Tx) -> None:
    """Locks the site admins who are not disabled, so that none can be lost meanwhile."""
    query = (
        sa.select(users.c.id)
        .where(users.c.is_admin, users.c.disabled_at.is_(None))
        .order_by(users.c.id)
        .with_for_update(key_share=True)
    )
    await tx.execute(query)


def user_is(ref: str) -> sa.ColumnElement[bool] | None:
    """What selects the user ``ref``, an id or a name; None when it can be neither."""
    if is_id("usr", ref):
        return users.c.id == ref
    try:
        return users.c.name_key == check_label(ref, "user").key
    except BadName:
        return None


def _user(row: Row[Any]) -> User:
    return User(row.id, row.name, row.is_admin, row.created_at, row.disabled_at)
