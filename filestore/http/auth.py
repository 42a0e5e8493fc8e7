"""Who asks: the token in ``Authorization``, and what it opens now.

Nothing is remembered between requests: the token, its user and the membership are read at
each one, so a revocation or a changed role counts at once. Whatever is wrong with a token,
the answer is the same.
"""

import contextlib
from typing import Final

import structlog

from filestore.acts.access import GroupAccess, Need, group_access, require_site_admin
from filestore.errors import DatabaseUnavailable, Unauthenticated
from filestore.http.call import Call
from filestore.http.routing import ROLES, SCOPES, Access, Route
from filestore.ids import is_token, token_hash
from filestore.meta.database import Tx
from filestore.meta.tokens import Bearer, find_bearer, touch_token
from filestore.model import Principal

GROUP: Final = "g"
"""The path's parameter that names a group, by name or id."""


async def authorize(call: Call) -> None:
    """Admits the caller to the route, or raises. One read of the database.

    :raises Unauthenticated: no token, or one that opens nothing.
    :raises NotFound: the group does not exist, or is not the caller's.
    :raises Forbidden: the role, the scope, or being a site admin is missing.
    """
    route = call.route
    if route.access is Access.PUBLIC:
        return
    token = bearer_token(call.request.headers.get("Authorization", ""))
    ref = call.parameters.get(GROUP)

    async def look(tx: Tx) -> tuple[Bearer, GroupAccess | None]:
        bearer = await find_bearer(tx, token_hash(token))
        if bearer is None:
            raise Unauthenticated()
        return bearer, await _resolve(tx, bearer, route, ref)

    bearer, group = await call.services.db.read(look)
    call.admit(bearer.principal, group)
    structlog.contextvars.bind_contextvars(user=bearer.principal.user_id)
    if bearer.is_use_stale:
        await _note_use(call, bearer.principal.token_id)


async def admitted_again(tx: Tx, call: Call) -> Principal:
    """Who asks, as things stand in this transaction: at the end of a long request a token may be
    revoked or worth less than at its beginning.

    :raises Unauthenticated: it opens nothing any more.
    """
    token = bearer_token(call.request.headers.get("Authorization", ""))
    bearer = await find_bearer(tx, token_hash(token))
    if bearer is None:
        raise Unauthenticated()
    return bearer.principal


def bearer_token(header: str) -> str:
    """The token in a value of ``Authorization``. Source: RFC 6750, 2.1; RFC 9110, 11.1.

    :raises Unauthenticated: another scheme, or no well-formed token.
    """
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not is_token(token):
        raise Unauthenticated()
    return token


async def _resolve(tx: Tx, bearer: Bearer, route: Route, ref: str | None) -> GroupAccess | None:
    if route.access is Access.ADMIN:
        require_site_admin(bearer.principal)
    if ref is None:
        return None
    need = Need(
        role=ROLES.get(route.access),
        scope=SCOPES.get(route.access),
        site_admin=route.site_admin or route.access is Access.ADMIN,
    )
    return await group_access(tx, bearer.principal, ref, need)


async def _note_use(call: Call, token_id: str) -> None:
    """Moves ``last_used_at``, at most once a minute per token.

    A courtesy to people who look at their tokens: when the database cannot write (a full disk),
    reading must go on, so this alone never fails a request.
    """
    with contextlib.suppress(DatabaseUnavailable):
        await call.services.db.transact(lambda tx: touch_token(tx, token_id))
