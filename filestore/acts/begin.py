"""The first ever start against a database: the store's id, the usual domain, the site admin.

All of it is one transaction, and the row ``instance`` decides who is first when several
processes start at once. The admin's token is handed to ``keep`` before the commit: after a
crash in between there may be a token that opens nothing, but never an admin without a token.
"""

from collections.abc import Awaitable, Callable

from sqlalchemy.exc import IntegrityError

from filestore.acts.groups import DEFAULT_DOMAIN
from filestore.ids import new_token
from filestore.meta.database import Database, Tx
from filestore.meta.instance import Instance, find_instance, insert_domain, insert_instance
from filestore.meta.log import audit, emit
from filestore.meta.people import insert_user
from filestore.meta.tokens import insert_token
from filestore.model import SYSTEM, Scope
from filestore.names import check_label

ADMIN = "admin"
"""The name of the first site admin, who can be renamed and demoted later."""


async def begin(db: Database, keep: Callable[[str], Awaitable[None]]) -> Instance:
    """The instance of this database; on the first ever start it is made, with the site admin.

    ``keep`` stores the admin's token durably. It may be called again, with another token that
    replaces the first, and is called only by the process that is first.
    """
    found = await db.read(find_instance)
    if found is not None:
        return found

    async def act(tx: Tx) -> Instance:
        made = await insert_instance(tx)
        await insert_domain(tx, DEFAULT_DOMAIN)
        admin = await insert_user(tx, check_label(ADMIN, "user"), is_admin=True)
        secret = new_token()
        token = await insert_token(
            tx,
            secret,
            user_id=admin.id,
            name=check_label("first", "token"),
            scopes=frozenset(Scope),
            groups=None,
            expires_at=None,
        )
        await audit(tx, SYSTEM, "service.begin", target=admin.id, after={"token": token.id})
        await emit(tx, "service.began", {"store": made.store_id})
        await keep(secret)
        return made

    try:
        return await db.transact(act)
    except IntegrityError:
        winner = await db.read(find_instance)
        if winner is None:
            raise
        return winner
