"""``filestore upload``."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from filestore.cli.batch import Batch
from filestore.cli.connect import run
from filestore.cli.failure import language_of
from filestore.cli.options import AsJson, Quiet, UploadTarget
from filestore.cli.places import Place
from filestore.cli.progress import standard_error
from filestore.cli.sources import Found, Source, check_distinct, find_sources
from filestore.client import Client, Uploaded, Watcher
from filestore.client.transport import Document
from filestore.errors import NotFound
from filestore.model import format_size


def upload(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="Local files.")
    ] = None,
    *,
    target: UploadTarget,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders too, with all that is in them.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Hash each file first; the server then takes only these bytes, and another"
            " device with the same file can go on with its upload.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Upload files. Interrupted or killed, it goes on where it was when it is repeated; what
    is there already is not sent again. Of several files, each goes for itself: those that fail
    are named at the end.
    """
    if not files:
        raise typer.BadParameter("GROUP[:/FOLDER/] is missing: give FILE… and then where they go")
    found = find_sources(files, recursive=recursive)
    language = language_of(os.environ)
    watcher = standard_error(as_json=as_json, quiet=quiet, language=language)
    is_one = not recursive and len(files) == 1
    batch = Batch(as_json, language, is_one, skipped=found.skipped)
    for error in found.failed:
        batch.fail(str(error.members["path"]), error)

    async def act(client: Client) -> None:
        place = await _resolve(client, target, found, is_one=len(files) == 1)
        check_distinct(found.files, place)
        sending = _Sending(client, place, verify, watcher)
        await batch.run(found.files, lambda source: str(source.path), sending.file)
        await batch.run(found.empty_folders, str, sending.folder)

    run(act)
    batch.finish()


@dataclass(frozen=True, slots=True)
class _Sending:
    """How files go to one place."""

    client: Client
    place: Place
    verify: bool
    watcher: Watcher

    async def file(self, source: Source) -> tuple[Document, str]:
        done = await self.client.upload(
            source.path, source.target(self.place), verify=self.verify, watcher=self.watcher
        )
        return _document(source, done), _sentence(done)

    async def folder(self, inside: str) -> tuple[Document, str]:
        group = self.place.group
        path = "/".join(part for part in (self.place.path, inside) if part)
        await self.client.tree.make_folder(group, path)
        return {"group": group, "path": path, "status": "made"}, f"made {group}:/{path}/"


async def _resolve(client: Client, target: Place, found: Found, *, is_one: bool) -> Place:
    """The target with what the server knows: a path that is a folder there is one.

    :raises typer.BadParameter: it would have to be a folder, and does not say so.
    """
    if target.is_folder:
        return target
    try:
        entry = await client.tree.show(target.group, target.path)
    except NotFound:
        entry = {}
    if entry.get("kind") == "folder":
        return Place(target.group, target.path, is_folder=True)
    is_file = len(found.files) == 1 and not found.files[0].folder and not found.empty_folders
    if not (is_one and is_file):
        text = f"several files need a folder; end it with a slash: {target}/"
        raise typer.BadParameter(text)
    return target


def _document(source: Source, done: Uploaded) -> Document:
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
