"""Acts on users. Only site admins do them; the service always keeps one who can."""

from collections.abc import Awaitable, Callable

from sqlalchemy.exc import IntegrityError

from filestore.acts.access import is_site_admin
from filestore.errors import Exists, Json, LastAdmin, NotFound
from filestore.meta.database import Database, Tx, violates
from filestore.meta.log import audit, emit
from filestore.meta.people import (
    User,
    change_user,
    find_user,
    insert_user,
    list_users,
    lock_active_admins,
)
from filestore.meta.tokens import has_admin_key, revoke_tokens_of
from filestore.model import Actor, Principal
from filestore.names import check_label


async def create_user(db: Database, actor: Actor, name: str, *, is_admin: bool = False) -> User:
    """A new user.

    :raises BadName: the name is not allowed.
    :raises Exists: the name is taken.
    """
    label = check_label(name, "user")

    async def act(tx: Tx) -> User:
        user = await insert_user(tx, label, is_admin=is_admin)
        await audit(tx, actor, "user.create", target=user.id, after=_state(user))
        await emit(tx, "user.created", {"user": user.id, "name": user.name})
        return user

    return await _transact(db, act, name)


async def show_user(db: Database, principal: Principal, ref: str) -> User:
    """A user: anybody for a site admin, oneself for everybody.

    :raises NotFound: no such user, or not visible to the caller.
    """
    user = await db.read(lambda tx: find_user(tx, ref))
    if user is None or not (is_site_admin(principal) or user.id == principal.user_id):
        raise NotFound(what="user")
    return user


async def page_of_users(db: Database, *, after: str | None, limit: int) -> list[tuple[str, User]]:
    """Users by name, with their keys."""
    return await db.read(lambda tx: list_users(tx, after=after, limit=limit))


async def alter_user(
    db: Database,
    actor: Actor,
    ref: str,
    *,
    name: str | None = None,
    is_admin: bool | None = None,
    disabled: bool | None = None,
) -> User:
    """Changes what is given. A disabled user's tokens open nothing until he is enabled again.

    :raises NotFound: no such user.
    :raises BadName: the name is not allowed.
    :raises Exists: the name is taken.
    :raises LastAdmin: it would leave no site admin who can get in.
    """
    label = None if name is None else check_label(name, "user")

    async def act(tx: Tx) -> User:
        await lock_active_admins(tx)
        before = await _locked(tx, ref)
        user = await change_user(tx, before.id, name=label, is_admin=is_admin, disabled=disabled)
        if is_admin is False or disabled is True:
            await keep_an_admin(tx, "the change of the user")
        if user != before:
            await audit(
                tx, actor, "user.change", target=user.id, before=_state(before), after=_state(user)
            )
            await emit(tx, "user.changed", {"user": user.id, "name": user.name})
        return user

    return await _transact(db, act, name or "")


async def remove_user(db: Database, actor: Actor, ref: str) -> None:
    """Disables the user and ends all his tokens. The row stays: versions name their author.

    Safe to repeat: nothing is done, or recorded, about a user who is out already.

    :raises NotFound: no such user.
    :raises LastAdmin: it would leave no site admin who can get in.
    """

    async def act(tx: Tx) -> None:
        await lock_active_admins(tx)
        before = await _locked(tx, ref)
        user = await change_user(tx, before.id, disabled=True)
        ended = await revoke_tokens_of(tx, user.id)
        await keep_an_admin(tx, "the removal of the user")
        if user == before and not ended:
            return
        after = {**_state(user), "tokens_revoked": ended}
        await audit(tx, actor, "user.remove", target=user.id, before=_state(before), after=after)
        await emit(tx, "user.removed", {"user": user.id, "name": user.name})

    await db.transact(act)


async def _locked(tx: Tx, ref: str) -> User:
    user = await find_user(tx, ref, lock=True)
    if user is None:
        raise NotFound(what="user")
    return user


async def keep_an_admin(tx: Tx, what: str) -> None:
    """Asked behind a change that may take somebody's way in, before it is committed.

    The rows of all site admins are locked.

    :raises LastAdmin: nobody could administer the service any more.
    """
    if not await has_admin_key(tx):
        raise LastAdmin(what=what)


async def _transact(db: Database, act: Callable[[Tx], Awaitable[User]], name: str) -> User:
    try:
        return await db.transact(act)
    except IntegrityError as err:
        if violates(err, "uq_users_name_key"):
            raise Exists(what="user", name=name) from err
        raise


def _state(user: User) -> dict[str, Json]:
    return {
        "name": user.name,
        "is_admin": user.is_admin,
        "disabled": user.disabled_at is not None,
    }
