"""``filestore uploads``: what is under way."""

from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Group
from filestore.cli.output import Column, SizeColumn, TimeColumn, show, show_list

uploads_app = typer.Typer(help="Uploads that are under way.", no_args_is_help=True)


@uploads_app.command("list")
def list_uploads(group: Group, as_json: AsJson = False) -> None:
    """List the uploads that are under way in a group."""
    columns = (
        Column("ID", "id"),
        SizeColumn("OFFSET", "offset"),
        SizeColumn("LENGTH", "length"),
        TimeColumn("EXPIRES", "expires_at"),
        Column("USER", "user"),
        Column("PATH", "path"),
    )
    items = collect(lambda client: client.tree.uploads(group))
    show_list(items, columns, as_json=as_json, empty="no uploads")


@uploads_app.command("cancel")
def cancel_upload(
    upload_id: Annotated[str, typer.Argument(metavar="ID", help="As uploads list shows it.")],
    as_json: AsJson = False,
) -> None:
    """End an upload and free what it reserved. A finished file stays."""
    run(lambda client: client.uploads.terminate(f"uploads/{upload_id}"))
    show({"id": upload_id, "ended": True}, f"ended {upload_id}", as_json=as_json)
