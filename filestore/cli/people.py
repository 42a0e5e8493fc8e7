"""``filestore user`` and ``filestore token``."""

import datetime as dt
import re
from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson
from filestore.cli.output import Column, TimeColumn, show, show_list
from filestore.client import TokenWish
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
        Column("ID", "id"),
    )
    items = collect(lambda client: client.users.list())
    show_list(items, columns, as_json=as_json, empty="no users")


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
        TimeColumn("EXPIRES", "expires_at"),
        TimeColumn("LAST USED", "last_used_at"),
    )
    items = collect(lambda client: client.tokens.list(user))
    show_list(items, columns, as_json=as_json, empty="no tokens")


@token_app.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As token list shows it.")],
    as_json: AsJson = False,
) -> None:
    """End a token; it stops working at once."""
    run(lambda client: client.tokens.revoke(token_id))
    show({"id": token_id, "revoked": True}, f"revoked {token_id}", as_json=as_json)
