"""``filestore user`` and ``filestore token``."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, User
from filestore.cli.output import Column, TimeColumn, show, show_list
from filestore.client import Client, TokenWish
from filestore.client.transport import Document
from filestore.errors import Json
from filestore.model import Scope

user_app = typer.Typer(help="People who may be members of groups.", no_args_is_help=True)
token_app = typer.Typer(help="Access tokens: what programs log in with.", no_args_is_help=True)


def lifetime_s(text: str) -> int:
    """Seconds from now to a time of RFC 3339 with any offset, or of days such as ``30d``.

    :raises typer.BadParameter: it is neither, or it is past.
    """
    now = dt.datetime.now(dt.UTC)
    days = re.fullmatch(r"([0-9]{1,5})d", text, re.ASCII)
    try:
        at = now + dt.timedelta(days=int(days[1])) if days else dt.datetime.fromisoformat(text)
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is neither 30d nor 2031-12-31T00:00Z") from err
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} names no time zone; write Z for UTC")
    if at <= now:
        raise typer.BadParameter(f"{text!r} is past")
    return max(1, round((at - now).total_seconds()))


@user_app.command("create")
def create_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new user's name.")],
    admin: Annotated[bool, typer.Option("--admin", help="Makes a site admin.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a user. A token lets the user in: filestore token create --user NAME."""
    user = run(lambda client: client.users.create(name, is_admin=admin))
    show(user, f"created user {name}", as_json=as_json)


@user_app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List all users."""
    columns = (
        Column("NAME", "name"),
        Column("ADMIN", "is_admin"),
        TimeColumn("CREATED", "created_at"),
        TimeColumn("DISABLED", "disabled_at"),
        Column("ID", "id"),
    )
    items = collect(lambda client: client.users.list())
    show_list(items, columns, as_json=as_json, empty="no users")


@user_app.command("rename")
def rename_user(
    user: User,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    as_json: AsJson = False,
) -> None:
    """Rename a user."""
    renamed = run(lambda client: client.users.change(user, name=name))
    show(renamed, f"user {user} is now called {name}", as_json=as_json)


@user_app.command("disable")
def disable_user(user: User, as_json: AsJson = False) -> None:
    """Keep a user out until he is enabled again."""
    changed = run(lambda client: client.users.change(user, disabled=True))
    show(changed, f"no token of {user} opens anything now", as_json=as_json)


@user_app.command("enable")
def enable_user(user: User, as_json: AsJson = False) -> None:
    """Let a user in again who was disabled."""

    async def act(client: Client) -> tuple[Document, bool]:
        changed = await client.users.change(user, disabled=False)
        return changed, await _has_tokens(client, user)

    changed, may_enter = run(act)
    done = (
        f"{user} is let in again, by all tokens that have not expired"
        if may_enter
        else f"{user} is enabled but has no token; filestore token create --user {user} makes one"
    )
    show(changed, done, as_json=as_json)


@user_app.command("delete")
def delete_user(user: User, as_json: AsJson = False) -> None:
    """Disable a user and end all tokens; the name stays on what he wrote."""

    async def act(client: Client) -> bool:
        found = await client.users.show(user)
        was_out = bool(found.get("disabled_at")) and not await _has_tokens(client, user)
        await client.users.delete(user)
        return was_out

    done = (
        f"{user} was out already, and has no token"
        if run(act)
        else f"{user} is out, and all tokens are revoked"
    )
    show({"user": user, "deleted": True}, done, as_json=as_json)


async def _has_tokens(client: Client, user: str) -> bool:
    """Whether there is a token of the user that is not revoked."""
    async for _ in client.tokens.list(user):
        return True
    return False


def who_am_i(as_json: AsJson = False) -> None:
    """Show whose token this is, and the groups that it opens."""

    async def act(client: Client) -> Document:
        user = await client.users.show(await client.tokens.owner())
        groups = [group async for group in client.groups.list()]
        return {**user, "groups": [{key: group.get(key) for key in _SEEN} for group in groups]}

    found = run(act)
    admin = ", a site admin" if found.get("is_admin") else ""
    lines = [f"{found.get('name')} ({found.get('id')}){admin}"]
    groups = found["groups"]
    lines += [
        f"{group['name']}: {group['role'] or 'seen as site admin'}"
        for group in (groups if isinstance(groups, list) else ())
        if isinstance(group, dict)
    ]
    show(found, *lines, as_json=as_json)


_SEEN = ("id", "name", "role")


@token_app.command("create")
def create_token(
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Whose token; you, if not given.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Yours, with all you may do as site admin.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What it is for, to know it by later.")] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it allows at most; repeat for several.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Limits it to this group; repeat for several.")
    ] = None,
    expires: Annotated[
        int | None,
        typer.Option(parser=lifetime_s, metavar="WHEN", help="30d, or a time: 2031-12-31T00:00Z."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an access token and print it. It is shown this once and never again."""
    if admin and (user is not None or scope):
        raise typer.BadParameter("--admin goes with neither --user nor --scope")
    scopes = list(Scope) if admin else scope
    wish = TokenWish(user, name, scopes or None, group or None, expires)
    token = run(lambda client: client.tokens.create(wish))
    show(token, str(token.get("token")), as_json=as_json)


@token_app.command("list")
def list_tokens(
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Whose, for site admins; else yours.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List tokens; of the token itself nothing is shown."""
    columns = (
        Column("ID", "id"),
        Column("NAME", "name"),
        Column("SCOPES", "scopes"),
        _GroupsColumn("GROUPS", "group_names"),
        TimeColumn("EXPIRES", "expires_at"),
        TimeColumn("LAST USED", "last_used_at"),
    )

    async def act(client: Client) -> list[Document]:
        items = [token async for token in client.tokens.list(user)]
        names = {}
        if any(token.get("groups") for token in items):
            names = {group["id"]: group["name"] async for group in client.groups.list()}
        return [{**token, "group_names": _named(token, names)} for token in items]

    items = run(act)
    show_list(items, columns, as_json=as_json, empty="no tokens")


class _GroupsColumn(Column):
    """The groups that a token is limited to."""

    def cell(self, item: Document) -> str:
        return "all" if item.get(self.member) is None else super().cell(item)


def _named(token: Document, names: Mapping[Json, Json]) -> Json:
    """The groups that a token is limited to, by name where that is known."""
    groups = token.get("groups")
    if not isinstance(groups, list):
        return None
    return [names.get(group, group) for group in groups]


@token_app.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As token list shows it.")],
    as_json: AsJson = False,
) -> None:
    """End a token; it stops working at once."""
    run(lambda client: client.tokens.revoke(token_id))
    show({"id": token_id, "revoked": True}, f"revoked {token_id}", as_json=as_json)
