"""Access tokens: only their SHA-256 is kept, so nobody can read a token here."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.ids import new_id, token_hash
from filestore.meta.database import Tx
from filestore.meta.tables import now_us, token_groups, tokens, users
from filestore.model import Principal, Scope
from filestore.names import Label

USE_INTERVAL_US: Final = 60_000_000
"""How exact ``last_used_at`` is: a write at each request would make every read a write."""


@dataclass(frozen=True, slots=True)
class Token:
    """``groups`` is None when the token is not limited to some groups."""

    id: str
    name: str
    user_id: str
    user_name: str
    scopes: frozenset[Scope]
    groups: tuple[str, ...] | None
    created_at: int
    expires_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who carries a token that is valid now."""

    principal: Principal
    is_use_stale: bool
    """Whether the last use on record is so old that it should be moved."""


async def insert_token(
    tx: Tx,
    secret: str,
    *,
    user_id: str,
    name: Label,
    scopes: Collection[Scope],
    groups: Collection[str] | None,
    expires_at: sa.ColumnElement[int] | int | None,
) -> Token:
    """Records the token ``secret``, by its hash. ``expires_at`` may be an expression."""
    token_id = new_id("tok")
    await tx.execute(
        tokens.insert().values(
            id=token_id,
            user_id=user_id,
            name=name.given,
            hash=token_hash(secret),
            scopes=" ".join(sorted(scopes)),
            is_limited=groups is not None,
            expires_at=expires_at,
        )
    )
    if groups:
        rows = [{"token_id": token_id, "group_id": group} for group in sorted(set(groups))]
        await tx.execute(token_groups.insert(), rows)
    made = await find_token(tx, token_id)
    assert made is not None, "inserted in this transaction"
    return made


async def find_bearer(tx: Tx, hashed: bytes) -> Bearer | None:
    """Who carries the token with this hash; None when it is unknown, revoked or expired, or its
    user is disabled. Two look-ups by key at most."""
    stale = sa.or_(
        tokens.c.last_used_at.is_(None), tokens.c.last_used_at < now_us() - USE_INTERVAL_US
    )
    query = (
        sa.select(
            tokens.c.id,
            tokens.c.scopes,
            tokens.c.is_limited,
            users.c.id.label("user_id"),
            users.c.name.label("user_name"),
            users.c.is_admin,
            stale.label("stale"),
        )
        .join(users, users.c.id == tokens.c.user_id)
        .where(tokens.c.hash == hashed, _is_valid(), users.c.disabled_at.is_(None))
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    groups = frozenset((await _groups_of(tx, [row.id]))[row.id]) if row.is_limited else None
    principal = Principal(
        row.user_id, row.user_name, row.is_admin, row.id, _scopes(row.scopes), groups
    )
    return Bearer(principal, bool(row.stale))


async def touch_token(tx: Tx, token_id: str) -> None:
    """Moves ``last_used_at`` to now, unless another request just did."""
    await tx.execute(
        tokens.update()
        .where(
            tokens.c.id == token_id,
            sa.or_(
                tokens.c.last_used_at.is_(None),
                tokens.c.last_used_at < now_us() - USE_INTERVAL_US,
            ),
        )
        .values(last_used_at=now_us())
    )


async def find_token(tx: Tx, token_id: str, *, user_id: str | None = None) -> Token | None:
    """The token with this id that is not revoked; of this user, when one is given."""
    query = _SELECT.where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    if user_id is not None:
        query = query.where(tokens.c.user_id == user_id)
    found = await _read(tx, query)
    return found[0] if found else None


async def list_tokens(
    tx: Tx, user_id: str, *, after: tuple[int, str] | None, limit: int
) -> list[Token]:
    """The user's tokens that are not revoked, oldest first; ``after`` is (created_at, id)."""
    query = _SELECT.where(tokens.c.user_id == user_id, tokens.c.revoked_at.is_(None))
    if after is not None:
        query = query.where(sa.tuple_(tokens.c.created_at, tokens.c.id) > sa.tuple_(*after))
    return await _read(tx, query.order_by(tokens.c.created_at, tokens.c.id).limit(limit))


async def has_admin_key(tx: Tx) -> bool:
    """Whether anybody can administer the service now: a site admin who is not disabled, with a
    token that is valid, has the scope ``admin``, and is not limited to groups.

    Who acts on the answer holds the rows of all site admins
    (:func:`~filestore.meta.people.lock_active_admins`), so two cannot take each other's.
    """
    scopes = sa.literal(" ") + tokens.c.scopes + " "
    query = sa.select(
        sa.exists().where(
            users.c.id == tokens.c.user_id,
            users.c.is_admin,
            users.c.disabled_at.is_(None),
            _is_valid(),
            sa.not_(tokens.c.is_limited),
            scopes.like(f"% {Scope.ADMIN} %"),
        )
    )
    return bool(await tx.scalar(query))


async def revoke_token(tx: Tx, token_id: str) -> bool:
    """Ends the token; whether it was alive. What its requests already began
    goes on, but makes no file any more."""
    done = await tx.execute(
        tokens.update()
        .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=now_us())
    )
    return done.rowcount == 1


async def revoke_tokens_of(tx: Tx, user_id: str) -> int:
    """Ends all tokens of the user; how many were alive."""
    done = await tx.execute(
        tokens.update()
        .where(tokens.c.user_id == user_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=now_us())
    )
    return done.rowcount


_SELECT: Final = sa.select(tokens, users.c.name.label("user_name")).join(
    users, users.c.id == tokens.c.user_id
)


async def _read(tx: Tx, query: sa.Select[Any]) -> list[Token]:
    rows = list(await tx.execute(query))
    limits = await _groups_of(tx, [row.id for row in rows if row.is_limited])
    return [_token(row, limits.get(row.id)) for row in rows]


async def _groups_of(tx: Tx, token_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {token_id: () for token_id in token_ids}
    if found:
        query = sa.select(token_groups).where(token_groups.c.token_id.in_(found))
        for row in await tx.execute(query.order_by(token_groups.c.group_id)):
            found[row.token_id] += (row.group_id,)
    return found


def _is_valid() -> sa.ColumnElement[bool]:
    return sa.and_(
        tokens.c.revoked_at.is_(None),
        sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_us()),
    )


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(word) for word in text.split())


def _token(row: Row[Any], groups: tuple[str, ...] | None) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        user_id=row.user_id,
        user_name=row.user_name,
        scopes=_scopes(row.scopes),
        groups=groups,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
