"""``/api/v1/users``: who there is. Site admins only, except that everybody may see oneself."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts.people import (
    alter_user,
    create_user,
    page_of_users,
    remove_user,
    show_user,
)
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.people import User
from filestore.model import format_instant

PATH = "/api/v1/users"


class UserAnswer(Answer):
    """A user. One who is disabled keeps the name, and no token of his opens anything."""

    id: str
    name: str
    is_admin: bool
    created_at: str
    disabled_at: str | None

    @classmethod
    def of(cls, user: User) -> "UserAnswer":
        return cls(
            id=user.id,
            name=user.name,
            is_admin=user.is_admin,
            created_at=format_instant(user.created_at),
            disabled_at=None if user.disabled_at is None else format_instant(user.disabled_at),
        )


class UserPage(Answer):
    """Users by name."""

    items: list[UserAnswer]
    next: str | None


class NewUser(Body):
    """A user to create."""

    name: str
    is_admin: bool = False


class UserChange(Body):
    """What to change of a user; what is left out stays."""

    name: Annotated[str | None, Field(min_length=1)] = None
    is_admin: bool | None = None
    disabled: bool | None = None


async def _create(call: Call) -> web.Response:
    wish = await call.json(NewUser)
    user = await create_user(call.services.db, call.actor, wish.name, is_admin=wish.is_admin)
    return reply(UserAnswer.of(user), status=201, location=f"{PATH}/{user.id}")


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    rows = await page_of_users(call.services.db, after=paging.text_key(), limit=paging.wanted)
    shown, following = paging.cut(rows, lambda row: (row[0],))
    return reply(UserPage(items=[UserAnswer.of(user) for _, user in shown], next=following))


async def _show(call: Call) -> web.Response:
    user = await show_user(call.services.db, call.principal, call.parameters["user"])
    return reply(UserAnswer.of(user))


async def _alter(call: Call) -> web.Response:
    change = await call.json(UserChange)
    user = await alter_user(
        call.services.db,
        call.actor,
        call.parameters["user"],
        name=change.name,
        is_admin=change.is_admin,
        disabled=change.disabled,
    )
    return reply(UserAnswer.of(user))


async def _remove(call: Call) -> web.Response:
    await remove_user(call.services.db, call.actor, call.parameters["user"])
    return no_content()


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=_create,
        access=Access.ADMIN,
        summary="Create a user",
        request=NewUser,
        responses={201: UserAnswer},
        refuses=(409,),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.ADMIN,
        summary="List users",
        query=Paging,
        responses={200: UserPage},
    ),
    Route(
        method="GET",
        path=PATH + "/{user}",
        handler=_show,
        access=Access.TOKEN,
        summary="Show a user: oneself, or anybody for a site admin",
        responses={200: UserAnswer},
    ),
    Route(
        method="PATCH",
        path=PATH + "/{user}",
        handler=_alter,
        access=Access.ADMIN,
        summary="Rename, disable or enable a user, or make or unmake a site admin",
        request=UserChange,
        responses={200: UserAnswer},
        refuses=(409,),
    ),
    Route(
        method="DELETE",
        path=PATH + "/{user}",
        handler=_remove,
        access=Access.ADMIN,
        summary="Disable a user and revoke all tokens; the name stays on what he wrote",
        responses={204: None},
        refuses=(409,),
    ),
)
