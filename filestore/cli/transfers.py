"""``filestore upload``, ``download`` and ``uploads``."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from filestore.cli.connect import collect, run
from filestore.cli.failure import language_of
from filestore.cli.options import AsJson, Entry, Group, Quiet, UploadTarget
from filestore.cli.output import Column, SizeColumn, TimeColumn, show, show_list
from filestore.cli.places import Place
from filestore.cli.progress import standard_error
from filestore.client import Client, Downloaded, Target, Uploaded, Watcher
from filestore.client.transport import Document
from filestore.errors import BadRequest, LocalFile, NotFound
from filestore.model import format_size

uploads_app = typer.Typer(help="Uploads that are under way.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Source:
    """A local file, and the folder below the target that it goes to ("" for the target)."""

    path: Path
    folder: str


def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Local files.")],
    target: UploadTarget,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders too, with all that is in them.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Hash each file first; the server then takes only these bytes."
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Upload files. Interrupted or killed, it goes on where it was when it is repeated; what
    is there already is not sent again. Files come one after the other; the first error ends it.
    """
    sources = list(find_sources(files, recursive=recursive))
    watcher = standard_error(as_json=as_json, quiet=quiet, language=language_of(os.environ))

    async def act(client: Client) -> list[Document]:
        place = await _resolve(client, target, len(sources))
        documents = []
        for source in sources:
            goal = _target_of(source, place)
            uploaded = await client.upload(source.path, goal, verify=verify, watcher=watcher)
            documents.append(_uploaded(source, uploaded))
            if not as_json:
                show(None, _sentence(uploaded), as_json=False)
        return documents

    documents = run(act)
    show({"items": list(documents)}, as_json=as_json)


def download(
    source: Entry,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; a folder is fine too."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a different file that is there.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Download a file. The bytes come into NAME.part, which gets its name when all are there
    and right. Interrupted or killed, it goes on where it was when it is repeated.
    """
    destination = output or Path(source.name)
    if destination.is_dir():
        destination /= source.name
    watcher: Watcher = standard_error(
        as_json=as_json, quiet=quiet, language=language_of(os.environ)
    )
    done = run(
        lambda client: client.download(
            source.group, source.path, destination, replace=force, watcher=watcher
        )
    )
    show(_downloaded(source, done), _download_sentence(source, done), as_json=as_json)


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


def find_sources(files: Sequence[Path], *, recursive: bool) -> Iterator[Source]:
    """The files that the arguments mean, in a stable order. Links to folders are not followed.

    :raises typer.BadParameter: a folder without ``recursive``.
    :raises LocalFile: something is not there.
    """
    for path in files:
        if not path.is_dir():
            if not path.exists():
                raise LocalFile(path=str(path), reason="there is no such file")
            yield Source(path, "")
        elif recursive:
            yield from _below(path)
        else:
            raise typer.BadParameter(f"{path} is a folder; give --recursive to upload it")


def _below(top: Path) -> Iterator[Source]:
    base = top.absolute()
    for folder, folders, names in os.walk(base):
        folders.sort()
        inside = Path(folder).relative_to(base)
        for name in sorted(names):
            yield Source(Path(folder, name), "/".join((base.name, *inside.parts)))


async def _resolve(client: Client, target: Place, count: int) -> Place:
    """The target with what the server knows: a path that is a folder there is one."""
    if target.is_folder:
        return target
    try:
        entry = await client.tree.show(target.group, target.path)
    except NotFound:
        entry = {}
    if entry.get("kind") == "folder":
        return Place(target.group, target.path, is_folder=True)
    if count != 1:
        reason = "several files need a folder; end it with a slash"
        raise BadRequest(field=str(target), reason=reason)
    return target


def _target_of(source: Source, place: Place) -> Target:
    if not place.is_folder and not source.folder:
        return Target(place.group, place.folder, place.name)
    folder = "/".join(part for part in (place.path, source.folder) if part)
    return Target(place.group, folder, source.path.name)


def _uploaded(source: Source, done: Uploaded) -> Document:
    return {
        "file": str(source.path),
        "group": done.target.group,
        "path": done.target.path,
        "size": done.size,
        "etag": done.etag,
        "sent_bytes": done.sent,
        "resumed_at": done.resumed_at,
        "status": "already-there" if done.was_there else "uploaded",
    }


def _sentence(done: Uploaded) -> str:
    if done.was_there:
        return f"already there: {done.target}"
    went_on = f", went on at {format_size(done.resumed_at)}" if done.resumed_at else ""
    return f"uploaded {done.target} ({format_size(done.size)}{went_on})"


def _downloaded(source: Place, done: Downloaded) -> Document:
    return {
        "group": source.group,
        "path": source.path,
        "file": str(done.destination),
        "size": done.size,
        "etag": done.etag,
        "received_bytes": done.received,
        "resumed_at": done.resumed_at,
        "verified": done.is_verified,
        "status": "already-there" if done.was_there else "downloaded",
    }


def _download_sentence(source: Place, done: Downloaded) -> str:
    if done.was_there:
        return f"already there: {done.destination}"
    went_on = f", went on at {format_size(done.resumed_at)}" if done.resumed_at else ""
    return f"downloaded {source} to {done.destination} ({format_size(done.size)}{went_on})"
