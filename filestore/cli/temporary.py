"""``filestore temporary``: what came beyond a group's soft limit and stays for a time only."""

from typing import Annotated, Any

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Entry, Group, NewQuota, duration_s
from filestore.cli.output import Column, SizeColumn, TimeColumn, show, show_list, size_of
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import NotFound, QuotaExceeded

temporary_app = typer.Typer(
    help="Files that are charged to the site's pool and go after a time.", no_args_is_help=True
)


@temporary_app.command("ls")
def list_temporary(group: Group, as_json: AsJson = False) -> None:
    """List the temporary files of a group, and when each goes."""
    columns = (
        SizeColumn("SIZE", "size"),
        TimeColumn("EXPIRES", "expires_at"),
        Column("AUTHOR", "author"),
        Column("NO.", "version"),
        Column("PATH", "path"),
    )
    items = collect(lambda client: client.temporary.list(group))
    show_list(items, columns, as_json=as_json, empty="no temporary files")


@temporary_app.command("keep")
def keep_temporary(place: Entry, as_json: AsJson = False) -> None:
    """Make a temporary file permanent: all its temporary versions, oldest first."""
    kept = run(lambda client: _keep_all(client, place.group, place.path))
    result: Document = {"group": place.group, "path": place.path, "kept": [*kept]}
    show(result, f"{place} stays", as_json=as_json)


async def _keep_all(client: Client, group: str, path: str) -> list[str]:
    found: list[dict[str, Any]] = [
        item async for item in client.temporary.list(group) if item["path"] == f"/{path}"
    ]
    if not found:
        raise NotFound(what="temporary file")
    for item in sorted(found, key=lambda item: int(item["version"])):
        await _keep(client, group, path, str(item["id"]))
    return [str(item["id"]) for item in found]


async def _keep(client: Client, group: str, path: str, version_id: str) -> None:
    """:raises QuotaExceeded: with group and path, if it is the group that has no room."""
    try:
        await client.temporary.keep(group, version_id)
    except QuotaExceeded as err:
        if err.code == QuotaExceeded.code:  # a share is its author's, and not the caller's
            err.members |= {"group": group, "path": f"/{path}"}
        raise


@temporary_app.command("pool")
def show_pool(as_json: AsJson = False) -> None:
    """Show what temporary files of all groups may take together, and take."""
    pool = run(lambda client: client.temporary.pool())
    show(pool, *_lines(pool), as_json=as_json)


@temporary_app.command("set-pool")
def set_pool(
    size: NewQuota,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            parser=duration_s,
            metavar="TIME",
            help="How long a file stays: 7d, 12h; if not given, as before.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set what temporary files of all groups may take together. 0: no new ones."""
    pool = run(lambda client: client.temporary.set_pool(size, keep))
    show(pool, *_lines(pool), as_json=as_json)


def _lines(pool: Document) -> list[str]:
    keep_s = pool.get("keep_s")
    days = f"{keep_s / 86_400:g} d" if isinstance(keep_s, int) else "-"
    return [
        f"limit     {size_of(pool, 'limit_bytes')}",
        f"used      {size_of(pool, 'used_bytes')}",
        f"reserved  {size_of(pool, 'reserved_bytes')}",
        f"a file is kept for {days}",
    ]
