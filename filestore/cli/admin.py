"""``filestore admin``: for site admins, and what only somebody at the server can do, on the
database itself."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from filestore.acts.recover import recover_admin
from filestore.acts.tokens import FreshToken
from filestore.app import ADMIN_TOKEN, keep_in
from filestore.cli.options import AsJson
from filestore.cli.output import show
from filestore.cli.reports import list_reports, show_log
from filestore.errors import CannotStart
from filestore.meta.database import DatabaseInUse, open_database
from filestore.settings import Settings, load

admin_app: Final = typer.Typer(help="For site admins.", no_args_is_help=True)
admin_app.command("groups")(list_reports)
admin_app.command("log")(show_log)


@admin_app.command("token")
def make_token(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The server's folder.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="URL", help="sqlite+aiosqlite:/// or postgresql+asyncpg://"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings, as TOML.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Whose; made site admin. Else the oldest site admin's."),
    ] = None,
    printed: Annotated[
        bool, typer.Option("--print", help="Prints the token instead of writing DIR/admin.token.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new site admin's token, when nobody has one any more.

    It is written to DIR/admin.token. With SQLite the server must be stopped; with PostgreSQL
    it may run.
    """
    settings = load(config=config, environ=os.environ, flags={"data": data, "database": database})
    path = settings.server.data / ADMIN_TOKEN
    made = asyncio.run(_recover(settings, user, _forget if printed else keep_in(path)))
    document: dict[str, str | None] = {
        "id": made.token.id,
        "user": made.token.user_name,
        "token": made.secret if printed else None,
        "file": None if printed else str(path),
    }
    line = made.secret if printed else f"wrote the token of {made.token.user_name} to {path}"
    show({**document}, line, as_json=as_json)


async def _recover(
    settings: Settings, user: str | None, keep: Callable[[str], Awaitable[None]]
) -> FreshToken:
    """:raises CannotStart: there is no such database, or a server holds the SQLite file."""
    _check_exists(settings.database_url)
    settings.server.data.mkdir(parents=True, exist_ok=True)
    try:
        db = await open_database(settings.database_url, pool_size=1)
    except DatabaseInUse as err:
        advice = "Stop the server, repeat the command, and start the server again"
        raise CannotStart(reason=f"{err.members['reason']}. {advice}") from err
    try:
        return await recover_admin(db, user, keep)
    finally:
        await db.close()


def _check_exists(database_url: str) -> None:
    """Else SQLite would make the file, and a wrong folder would look like an empty service."""
    with contextlib.suppress(ArgumentError):  # open_database says what is wrong with a URL
        url = make_url(database_url)
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
            raise CannotStart(reason=f"there is no database {url.database}; is --data right?")


async def _forget(secret: str) -> None:
    """Keeps nothing: the token is printed, once it works."""
