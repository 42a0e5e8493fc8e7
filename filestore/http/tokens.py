"""``/api/v1/tokens``: what programs and people come in with."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from filestore.acts.tokens import (
    FreshToken,
    TokenWish,
    create_token,
    end_token,
    page_of_tokens,
    show_token,
)
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.tokens import Token
from filestore.model import Scope, format_instant

PATH = "/api/v1/tokens"
MAX_GROUPS = 1000
_TEN_YEARS_S = 10 * 366 * 86_400


class TokenAnswer(Answer):
    """A token without its secret. ``groups`` are ids; null: not limited to groups."""

    id: str
    name: str
    user: str
    scopes: list[Scope]
    groups: list[str] | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None

    @classmethod
    def of(cls, token: Token) -> "TokenAnswer":
        return cls(**_fields(token))


class FreshTokenAnswer(TokenAnswer):
    """A new token; ``token`` is its secret, shown here and never again."""

    token: str

    @classmethod
    def made(cls, fresh: FreshToken) -> "FreshTokenAnswer":
        return cls(**_fields(fresh.token), token=fresh.secret)


class TokenPage(Answer):
    """Tokens, oldest first."""

    items: list[TokenAnswer]
    next: str | None


class NewToken(Body):
    """A token to create; what is left out is as the asking token has it.

    The scope ``admin`` is given only when it is asked for. ``expires_in_s`` counts from now, so
    that the client's clock does not matter.
    """

    name: str = "token"
    user: str | None = None
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = None
    groups: Annotated[list[str], Field(min_length=1, max_length=MAX_GROUPS)] | None = None
    expires_in_s: Annotated[int, Field(ge=1, le=_TEN_YEARS_S)] | None = None


class TokenPaging(Paging):
    """Which page, and whose tokens; one's own when it is left out."""

    user: str | None = None


async def _create(call: Call) -> web.Response:
    wish = await call.json(NewToken)
    fresh = await create_token(
        call.services.db,
        call.principal,
        call.actor,
        TokenWish(
            name=wish.name,
            user=wish.user,
            scopes=None if wish.scopes is None else frozenset(wish.scopes),
            groups=wish.groups,
            expires_in_s=wish.expires_in_s,
        ),
    )
    answer = FreshTokenAnswer.made(fresh)
    return reply(answer, status=201, location=f"{PATH}/{answer.id}")


async def _list(call: Call) -> web.Response:
    paging = call.query(TokenPaging)
    key = paging.key(int, str)
    rows = await page_of_tokens(
        call.services.db,
        call.principal,
        paging.user,
        after=None if key is None else (int(key[0]), str(key[1])),
        limit=paging.wanted,
    )
    shown, following = paging.cut(rows, lambda token: (token.created_at, token.id))
    return reply(TokenPage(items=[TokenAnswer.of(token) for token in shown], next=following))


async def _show(call: Call) -> web.Response:
    token = await show_token(call.services.db, call.principal, call.parameters["token"])
    return reply(TokenAnswer.of(token))


async def _end(call: Call) -> web.Response:
    await end_token(call.services.db, call.principal, call.actor, call.parameters["token"])
    return no_content()


def _fields(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "user": token.user_name,
        "scopes": [scope for scope in Scope if scope in token.scopes],
        "groups": None if token.groups is None else list(token.groups),
        "created_at": format_instant(token.created_at),
        "expires_at": None if token.expires_at is None else format_instant(token.expires_at),
        "last_used_at": None if token.last_used_at is None else format_instant(token.last_used_at),
    }


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=_create,
        access=Access.TOKEN,
        summary="Create a token; its secret is shown only in this answer",
        request=NewToken,
        responses={201: FreshTokenAnswer},
    ),
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.TOKEN,
        summary="List one's own tokens, or (site admins) those of a user",
        query=TokenPaging,
        responses={200: TokenPage},
    ),
    Route(
        method="GET",
        path=PATH + "/{token}",
        handler=_show,
        access=Access.TOKEN,
        summary="Show a token without its secret",
        responses={200: TokenAnswer},
    ),
    Route(
        method="DELETE",
        path=PATH + "/{token}",
        handler=_end,
        access=Access.TOKEN,
        summary="Revoke a token",
        responses={204: None},
        refuses=(409,),
    ),
)
