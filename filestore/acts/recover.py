"""A way back in for who has the machine but no token: a new token of a site admin.

Whoever can open the database could write the row himself, so this asks for nothing else.
"""

from collections.abc import Awaitable, Callable

from filestore.acts.begin import ADMIN
from filestore.acts.tokens import FreshToken
from filestore.errors import CannotStart, NotFound
from filestore.ids import new_token
from filestore.meta.database import Database, Tx
from filestore.meta.instance import find_instance
from filestore.meta.log import audit, emit
from filestore.meta.people import User, change_user, find_user, first_admin, insert_user
from filestore.meta.tokens import insert_token
from filestore.model import SYSTEM, Scope
from filestore.names import check_label


async def recover_admin(
    db: Database, name: str | None, keep: Callable[[str], Awaitable[None]]
) -> FreshToken:
    """A new token with all rights: of the user ``name``, who is made a site admin and enabled.

    Without a name: of the oldest site admin who is not disabled, else of the user ``admin``, who
    is made when there is none. ``keep`` stores the secret durably before the commit, as at the
    first start (:mod:`filestore.acts.begin`). Other tokens stay as they are.

    :raises CannotStart: no service was ever started on this database.
    :raises NotFound: there is no user ``name``; nothing is changed.
    """

    async def act(tx: Tx) -> FreshToken:
        if await find_instance(tx) is None:
            raise CannotStart(reason="the database is empty; filestore serve makes the first admin")
        before = await _chosen(tx, name)
        user = await change_user(tx, before.id, is_admin=True, disabled=False)
        secret = new_token()
        token = await insert_token(
            tx,
            secret,
            user_id=user.id,
            name=check_label("recovered", "token"),
            scopes=frozenset(Scope),
            groups=None,
            expires_at=None,
        )
        await audit(
            tx,
            SYSTEM,
            "token.recover",
            target=token.id,
            before={"is_admin": before.is_admin, "disabled": before.disabled_at is not None},
            after={"user": user.id, "is_admin": True, "disabled": False},
        )
        await emit(tx, "token.recovered", {"token": token.id, "user": user.id})
        await keep(secret)
        return FreshToken(token, secret)

    return await db.transact(act)


async def _chosen(tx: Tx, name: str | None) -> User:
    if name is None:
        found = await first_admin(tx) or await find_user(tx, ADMIN, lock=True)
        return found or await insert_user(tx, check_label(ADMIN, "user"), is_admin=True)
    user = await find_user(tx, name, lock=True)
    if user is None:
        raise NotFound(what="user")
    return user
