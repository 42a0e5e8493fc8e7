"""Acts on access tokens. A token cannot make one that may do more than itself, or lives longer;
who is no site admin cannot end one that may do more, either. The last one that can administer
the service stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from filestore.acts.access import Need, group_access, is_site_admin
from filestore.acts.people import keep_an_admin
from filestore.errors import BadRequest, Forbidden, Json, NotFound, Unauthenticated
from filestore.ids import is_id, new_token
from filestore.meta.database import Database, Tx
from filestore.meta.log import audit, emit
from filestore.meta.people import User, find_user, lock_active_admins
from filestore.meta.tables import now_us
from filestore.meta.tokens import Token, find_token, insert_token, list_tokens, revoke_token
from filestore.model import Actor, Principal, Scope
from filestore.names import check_label

USUAL_SCOPES: Final = frozenset({Scope.READ, Scope.WRITE, Scope.MANAGE})
"""What a token gets at most that a site admin makes for somebody else without naming scopes: the
membership limits it anyway."""


@dataclass(frozen=True, slots=True)
class TokenWish:
    """What is asked for.

    ``user`` and ``groups`` are names or ids; user None: oneself. None for scopes: what the asking
    token has but ``admin``, which is given only by name; for groups: its groups; for the expiry:
    its expiry.
    """

    name: str
    user: str | None = None
    scopes: frozenset[Scope] | None = None
    groups: Sequence[str] | None = None
    expires_in_s: int | None = None


@dataclass(frozen=True, slots=True)
class FreshToken:
    """A token and its secret, which exists nowhere else and is shown once."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        return f"<FreshToken {self.token.id}>"


async def create_token(
    db: Database, principal: Principal, actor: Actor, wish: TokenWish
) -> FreshToken:
    """A new token within the asking token's rights and lifetime: one's own, or anybody's for a
    site admin.

    :raises BadName: the name is not allowed.
    :raises BadRequest: the scopes do not fit the user or the groups.
    :raises NotFound: no such user or group, or not visible to the caller.
    :raises Forbidden: it would allow more, or live longer, than the asking token.
    """
    label = check_label(wish.name, "token")
    secret = new_token()

    async def act(tx: Tx) -> FreshToken:
        asking = await _asking(tx, principal)
        user = await _user_for(tx, principal, wish.user)
        groups = await _resolve_groups(tx, principal, wish.groups)
        scopes = _choose_scopes(principal, user, wish)
        _check_admin(user, scopes, groups)
        token = await insert_token(
            tx,
            secret,
            user_id=user.id,
            name=label,
            scopes=scopes,
            groups=groups,
            expires_at=_expiry(wish, asking.expires_at),
        )
        _require_within(token, asking)
        await audit(tx, actor, "token.create", target=token.id, after=_state(token))
        await emit(tx, "token.created", {"token": token.id, "user": user.id})
        return FreshToken(token, secret)

    return await db.transact(act)


async def show_token(db: Database, principal: Principal, token_id: str) -> Token:
    """A token of one's own, or any for a site admin; never its secret.

    :raises NotFound: no such token, or not visible to the caller, or revoked.
    """
    return await db.read(lambda tx: _visible(tx, principal, token_id))


async def page_of_tokens(
    db: Database,
    principal: Principal,
    user: str | None,
    *,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Token]:
    """The tokens of a user, oldest first: one's own, or anybody's for a site admin.

    :raises NotFound: no such user, or not visible to the caller.
    """

    async def look(tx: Tx) -> list[Token]:
        of = await _user_for(tx, principal, user)
        return await list_tokens(tx, of.id, after=after, limit=limit)

    return await db.read(look)


async def end_token(db: Database, principal: Principal, actor: Actor, token_id: str) -> None:
    """Revokes a token; it opens nothing from the next request on.

    :raises NotFound: no such token, or not visible to the caller, or revoked already.
    :raises Forbidden: it may do more than the asking token.
    :raises LastAdmin: nobody could administer the service any more.
    """

    async def act(tx: Tx) -> None:
        token = await _visible(tx, principal, token_id)
        if token.id != principal.token_id and not is_site_admin(principal):
            _require_within(token, await _asking(tx, principal), lifetime=False)
        await _revoke(tx, token)
        await audit(tx, actor, "token.revoke", target=token.id, before=_state(token))
        await emit(tx, "token.revoked", {"token": token.id, "user": token.user_id})

    await db.transact(act)


async def _revoke(tx: Tx, token: Token) -> None:
    is_key = Scope.ADMIN in token.scopes
    if is_key:
        await lock_active_admins(tx)
    if not await revoke_token(tx, token.id):
        raise NotFound(what="token")
    if is_key:
        await keep_an_admin(tx, "the end of the token")


async def _asking(tx: Tx, principal: Principal) -> Token:
    token = await find_token(tx, principal.token_id)
    if token is None:
        raise Unauthenticated()
    return token


async def _user_for(tx: Tx, principal: Principal, ref: str | None) -> User:
    """The user ``ref``, or the caller; somebody else only for a site admin."""
    user = await find_user(tx, principal.user_id if ref is None else ref)
    if user is None or not (user.id == principal.user_id or is_site_admin(principal)):
        raise NotFound(what="user")
    return user


async def _visible(tx: Tx, principal: Principal, token_id: str) -> Token:
    if not is_id("tok", token_id):
        raise NotFound(what="token")
    owner = None if is_site_admin(principal) else principal.user_id
    token = await find_token(tx, token_id, user_id=owner)
    if token is None:
        raise NotFound(what="token")
    return token


async def _resolve_groups(
    tx: Tx, principal: Principal, refs: Sequence[str] | None
) -> frozenset[str] | None:
    """Ids of the groups that the new token is limited to; each must be visible to the caller."""
    if refs is None:
        return principal.groups
    need = Need(site_admin=True)
    return frozenset([(await group_access(tx, principal, ref, need)).id for ref in refs])


def _choose_scopes(principal: Principal, user: User, wish: TokenWish) -> frozenset[Scope]:
    if wish.scopes is not None:
        return wish.scopes
    own = principal.scopes - {Scope.ADMIN}
    return own if user.id == principal.user_id else own & USUAL_SCOPES


def _check_admin(user: User, scopes: frozenset[Scope], groups: frozenset[str] | None) -> None:
    """:raises BadRequest: no scope at all, or admin where it could never count."""
    if not scopes:
        raise BadRequest(
            field="scopes", reason="name at least one; the asking token has none but admin"
        )
    if Scope.ADMIN in scopes and not user.is_admin:
        raise BadRequest(field="scopes", reason="admin is for site admins, which this user is not")
    if Scope.ADMIN in scopes and groups is not None:
        raise BadRequest(field="scopes", reason="admin cannot be limited to groups")


def _expiry(wish: TokenWish, default: int | None) -> sa.ColumnElement[int] | int | None:
    if wish.expires_in_s is not None:
        return now_us() + sa.literal(wish.expires_in_s * 1_000_000, sa.BigInteger)
    return default


def _require_within(token: Token, asking: Token, *, lifetime: bool = True) -> None:
    """:raises Forbidden: ``token`` allows more than ``asking``, or outlives it."""
    extra = sorted(token.scopes - asking.scopes)
    if extra:
        raise Forbidden(needed=f"a token with the scope {extra[0]}")
    if asking.groups is not None and not set(token.groups or ()) <= set(asking.groups):
        raise Forbidden(needed="a token that is not limited to other groups")
    if asking.groups is not None and token.groups is None:
        raise Forbidden(needed="a token that is not limited to groups")
    if lifetime and asking.expires_at is not None:
        if token.expires_at is None or token.expires_at > asking.expires_at:
            raise Forbidden(needed="a token that expires no earlier than the new one")


def _state(token: Token) -> dict[str, Json]:
    return {
        "name": token.name,
        "user": token.user_id,
        "scopes": [scope.value for scope in sorted(token.scopes)],
        "groups": None if token.groups is None else list(token.groups),
        "expires_at": token.expires_at,
    }
