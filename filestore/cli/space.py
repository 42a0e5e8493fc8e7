"""``filestore du`` and ``filestore damaged``: what deleting would free, what cannot be read."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Folder, Group
from filestore.cli.output import Column, SizeColumn, show, show_list
from filestore.client.transport import Document
from filestore.model import format_size


def show_freeable(
    place: Folder,
    trash: Annotated[
        str | None,
        typer.Option(
            "--trash", metavar="ID", help="Something in the group's trash, as trash list shows it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what deleting a file or folder for good would free, and what holds the rest."""
    if trash is None:
        found = run(lambda client: client.space.freeable(place.group, place.path))
    else:
        item = trash
        if place.path:
            raise typer.BadParameter("--trash takes a GROUP without a path")
        found = run(lambda client: client.space.freeable_in_trash(place.group, item))
    show(found, *freeable_lines(found), as_json=as_json)


def list_damaged(group: Group, as_json: AsJson = False) -> None:
    """List the files of a group that cannot be read whole. Uploading the same bytes heals them."""
    columns = (
        SizeColumn("SIZE", "bytes"),
        Column("NO.", "version"),
        Column("CURRENT", "current"),
        Column("TRASHED", "trashed"),
        Column("PATH", "path"),
    )
    items = collect(lambda client: client.space.damaged(group))
    show_list(items, columns, as_json=as_json, empty="nothing is damaged")


def freeable_lines(found: Document) -> Iterator[str]:
    """For people: the quota, then the bytes, and who holds what would stay."""
    said: Any = found
    versions = said["versions"]
    counted = f"{versions} version{'' if versions == 1 else 's'}"
    yield f"{said['path'] or '/'}: {format_size(said['quota_bytes'])} of quota, {counted}"
    yield f"  {format_size(said['unique_bytes'])} that nothing else in the group holds"
    if said["shared_bytes"]:
        yield f"  {format_size(said['shared_bytes'])} that the group holds elsewhere too:"
    for holder in said["held_by"]:
        what = f"upload {holder['path']}" if holder["upload"] else holder["path"]
        trashed = " (in the trash)" if holder["trashed"] else ""
        yield f"    {format_size(holder['bytes'])} in {what}{trashed}"
    physical = said.get("physical")
    if physical is not None:
        yield f"  the store would free {format_size(physical['freed_bytes'])}"
        for group in physical["held_by_groups"]:
            yield f"    {format_size(group['bytes'])} held by group {group['name']}"
