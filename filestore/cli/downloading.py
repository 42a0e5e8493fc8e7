"""``filestore download``."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from filestore.cli.batch import Batch
from filestore.cli.connect import run
from filestore.cli.failure import language_of
from filestore.cli.options import AsJson, DownloadSource, Quiet
from filestore.cli.output import show
from filestore.cli.places import Place
from filestore.cli.progress import standard_error
from filestore.client import Client, Downloaded, Watcher
from filestore.client.local import local_errors
from filestore.client.transport import Document
from filestore.errors import BadName, LocalFile, NotFound
from filestore.model import format_size
from filestore.names import parse_name


@dataclass(frozen=True, slots=True)
class _Item:
    """A file or folder on the server, and where it shall be here."""

    place: Place
    destination: Path


def download(
    source: DownloadSource,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The new name, or a folder that is there; - is standard output. With"
            " --recursive: the folder that gets what is in it.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="A folder, with all that is in it.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a different file that is there.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Download a file. The bytes come into NAME.part, which gets its name when all are there
    and right. Interrupted or killed, it goes on where it was when it is repeated.
    """
    if not source.path and not recursive:
        raise typer.BadParameter(f"{source} is a folder; give --recursive to download it")
    language = language_of(os.environ)
    watcher = standard_error(as_json=as_json, quiet=quiet, language=language)
    if output == "-":
        if as_json or recursive:
            raise typer.BadParameter("-o - goes with neither --json nor --recursive")
        run(lambda client: _to_standard_output(client, source, watcher))
        return
    bringing = _Bringing(output, force, watcher)
    if recursive:
        batch = Batch(as_json, language, is_one=False)
        run(lambda client: bringing.all_below(client, source, batch))
        batch.finish()
    else:
        document, sentence = run(lambda client: bringing.one(client, source))
        show(document, sentence, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Bringing:
    """How files are brought here; ``output`` is where to, as it was said."""

    output: str | None
    replace: bool
    watcher: Watcher

    async def one(self, client: Client, place: Place) -> tuple[Document, str]:
        """:raises typer.BadParameter: it is a folder."""
        try:
            return await self._file(client, _Item(place, self._destination(place)))
        except NotFound:
            await _refuse_folder(client, place)
            raise

    async def all_below(self, client: Client, place: Place, batch: Batch) -> None:
        """Folders first, each before what lies in it; then the files."""
        folders: list[_Item] = []
        files: list[_Item] = []
        if (await client.tree.show(place.group, place.path)).get("kind") == "folder":
            # Not into a folder that is there, as for a file: a repetition would go elsewhere.
            top = Path(self.output or place.name or place.group)
            _check_parent(top)
            folders.append(_Item(place, top))
        else:
            files.append(_Item(place, self._destination(place)))
        for folder in folders:  # it grows meanwhile
            async for entry in client.tree.list(folder.place.group, folder.place.path):
                name = str(entry.get("name"))
                try:
                    parse_name(name)  # whatever a server says, nothing is written elsewhere
                except BadName as err:
                    batch.fail(str(folder.place.below(name)), err)
                    continue
                item = _Item(folder.place.below(name), folder.destination / name)
                (folders if entry.get("kind") == "folder" else files).append(item)
        await batch.run(folders, lambda item: str(item.place), self._folder)
        await batch.run(files, lambda item: str(item.place), partial(self._file, client))

    def _destination(self, place: Place) -> Path:
        """Where a file goes.

        :raises typer.BadParameter: a folder is named that is not there.
        """
        if self.output is None:
            return Path(place.name)
        if Path(self.output).is_dir():
            return Path(self.output, place.name)
        if self.output.endswith(os.sep):
            raise typer.BadParameter(f"there is no folder {self.output}")
        return Path(self.output)

    async def _folder(self, item: _Item) -> tuple[Document, str]:
        with local_errors(item.destination):
            item.destination.mkdir(exist_ok=True)
        place = item.place
        document: Document = {"group": place.group, "path": place.path, "status": "made"}
        return {**document, "file": str(item.destination)}, f"made {item.destination}{os.sep}"

    async def _file(self, client: Client, item: _Item) -> tuple[Document, str]:
        done = await client.download(
            item.place.group,
            item.place.path,
            item.destination,
            replace=self.replace,
            watcher=self.watcher,
        )
        return _document(item.place, done), _sentence(item.place, done)


def _check_parent(destination: Path) -> None:
    if not destination.absolute().parent.is_dir():
        reason = "there is no such folder"
        raise LocalFile(path=str(destination.absolute().parent), reason=reason)


async def _to_standard_output(client: Client, source: Place, watcher: Watcher) -> None:
    try:
        await client.stream(source.group, source.path, _write, watcher=watcher)
    except NotFound:
        await _refuse_folder(client, source)
        raise


def _write(window: bytes) -> None:
    """Past the buffer: what it kept when the reader goes away would fail again at the exit."""
    raw = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    view = memoryview(window)
    while view:
        view = view[raw.write(view) :]


async def _refuse_folder(client: Client, place: Place) -> None:
    """:raises typer.BadParameter: ``place`` is a folder."""
    if (await client.tree.show(place.group, place.path)).get("kind") == "folder":
        raise typer.BadParameter(f"{place} is a folder; give --recursive to download it")


def _document(source: Place, done: Downloaded) -> Document:
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


def _sentence(source: Place, done: Downloaded) -> str:
    if done.was_there:
        return f"already there: {done.destination}"
    went_on = f", went on at {format_size(done.resumed_at)}" if done.resumed_at else ""
    return f"downloaded {source} to {done.destination} ({format_size(done.size)}{went_on})"
