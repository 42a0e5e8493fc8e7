"""``filestore ls``, ``rm``, ``mkdir``, ``mv``, ``cp`` and ``trash``."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.options import AsJson, Entry, Folder, Group, MoveTarget
from filestore.cli.output import Column, NameColumn, SizeColumn, TimeColumn, show, show_list
from filestore.cli.places import Place
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import NotFound

trash_app = typer.Typer(help="What was deleted and can come back.", no_args_is_help=True)

TrashItem = Annotated[str, typer.Argument(metavar="ID", help="As trash list shows it.")]


def list_folder(place: Folder, as_json: AsJson = False) -> None:
    """List a folder of a group."""
    columns = (
        SizeColumn("SIZE", "size"),
        TimeColumn("MODIFIED", "modified_at"),
        NameColumn("NAME", "name"),
    )
    items = collect(lambda client: client.tree.list(place.group, place.path))
    show_list(items, columns, as_json=as_json, empty="nothing there")


def remove(
    place: Entry,
    permanent: Annotated[
        bool, typer.Option("--permanent", help="Past the trash: it cannot come back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move a file or folder to the trash. There it still counts in the quota."""
    run(lambda client: client.tree.remove(place.group, place.path, permanent=permanent))
    result: Document = {"group": place.group, "path": place.path, "permanent": permanent}
    done = "deleted" if permanent else "moved to the trash:"
    show(result, f"{done} {place}", as_json=as_json)


def make_folder(place: Entry, as_json: AsJson = False) -> None:
    """Make a folder, and those above it. Safe to repeat."""
    folder = run(lambda client: client.tree.make_folder(place.group, place.path))
    show(folder, f"made {place}/", as_json=as_json)


def move(
    source: Entry,
    target: MoveTarget,
    as_json: AsJson = False,
) -> None:
    """Move or rename, also to another group; into a folder when the target ends with a slash."""
    _relocate(lambda client: client.tree.move, "moved", source, target, as_json=as_json)


def copy(
    source: Entry,
    target: MoveTarget,
    as_json: AsJson = False,
) -> None:
    """Copy, also to another group. No bytes are stored again, but the copy counts in the quota."""
    _relocate(lambda client: client.tree.copy, "copied", source, target, as_json=as_json)


@trash_app.command("list")
def list_trash(group: Group, as_json: AsJson = False) -> None:
    """List what lies in a group's trash."""
    columns = (
        Column("ID", "id"),
        SizeColumn("SIZE", "size"),
        TimeColumn("DELETED", "deleted_at"),
        NameColumn("PATH", "path"),
    )
    items = collect(lambda client: client.trash.list(group))
    show_list(items, columns, as_json=as_json, empty="the trash is empty")


@trash_app.command("restore")
def restore(group: Group, item: TrashItem, as_json: AsJson = False) -> None:
    """Bring something back from the trash."""
    entry = run(lambda client: client.trash.restore(group, item))
    show(entry, f"restored {group}:/{str(entry.get('path', item)).lstrip('/')}", as_json=as_json)


@trash_app.command("purge")
def purge(group: Group, item: TrashItem, as_json: AsJson = False) -> None:
    """Delete something in the trash for good; its room in the quota is free at once."""
    run(lambda client: client.trash.purge(group, item))
    show({"group": group, "id": item, "purged": True}, f"purged {item}", as_json=as_json)


@trash_app.command("empty")
def empty(group: Group, as_json: AsJson = False) -> None:
    """Delete all in the trash for good; its room in the quota is free at once."""

    async def act(client: Client) -> int:
        items = [str(item["id"]) async for item in client.trash.list(group)]
        for item in items:
            with contextlib.suppress(NotFound):  # somebody else was faster
                await client.trash.purge(group, item)
        return len(items)

    count = run(act)
    things = "1 thing" if count == 1 else f"{count} things"
    done = f"purged {things} from the trash of {group}"
    show({"group": group, "purged": count}, done, as_json=as_json)


_Relocation = Callable[[str, str, str, str | None], Awaitable[Document]]


def _relocate(
    how: Callable[[Client], _Relocation],
    done: str,
    source: Place,
    target: Place,
    *,
    as_json: bool,
) -> None:
    if target.is_folder:
        target = target.below(source.name)
    to_group = None if target.group == source.group else target.group
    entry = run(lambda client: how(client)(source.group, source.path, target.path, to_group))
    show(entry, f"{done} {source} to {target}", as_json=as_json)
