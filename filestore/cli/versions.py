"""``filestore versions``: the versions of a file; the older ones can go or come back."""

from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Entry
from filestore.cli.output import Column, SizeColumn, TimeColumn, show, show_list
from filestore.client.transport import Document

versions_app = typer.Typer(help="The versions of a file.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="NO", min=1, help="As versions ls shows it.")]


@versions_app.command("ls")
def list_versions(place: Entry, as_json: AsJson = False) -> None:
    """List the versions of a file, newest first."""
    columns = (
        Column("NO.", "number"),
        SizeColumn("SIZE", "size"),
        TimeColumn("CREATED", "created_at"),
        Column("AUTHOR", "author"),
        Column("CURRENT", "current"),
    )
    items = collect(lambda client: client.tree.versions(place.group, place.path))
    show_list(items, columns, as_json=as_json)


@versions_app.command("rm")
def remove_versions(
    place: Entry,
    number: Annotated[
        int | None, typer.Argument(metavar="[NO]", min=1, help="The version that goes.")
    ] = None,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="NO", min=1, help="All with numbers below this one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete older versions for good; their room in the quota is free at once."""
    if (number is None) == (before is None):
        raise typer.BadParameter("give the number of one version, or --before")
    run(
        lambda client: client.tree.remove_versions(
            place.group, place.path, version=number, before=before
        )
    )
    result: Document = {
        "group": place.group, "path": place.path, "version": number, "before": before,
    }  # fmt: skip
    which = f"version {number}" if before is None else f"all versions before {before}"
    show(result, f"deleted {which} of {place}", as_json=as_json)


@versions_app.command("restore")
def restore_version(place: Entry, number: Number, as_json: AsJson = False) -> None:
    """Make an older version the current one again, as a new version."""
    entry = run(lambda client: client.tree.restore_version(place.group, place.path, number))
    line = f"{place} is as version {number} was; it is version {entry.get('version')} now"
    show(entry, line, as_json=as_json)
