"""Looking at a group's tree: entries with their paths and versions. Changes nothing, locks nothing.

Paths are shown with the names as they were given when they were made, however they are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from filestore.acts.tree import Path, resolve
from filestore.errors import NotFound
from filestore.meta import entries, lineage, uploads
from filestore.meta.database import Tx
from filestore.meta.entries import Entry, Version
from filestore.meta.people import user_names
from filestore.meta.uploads import Upload
from filestore.model import EntryKind
from filestore.names import parse_name


@dataclass(frozen=True, slots=True)
class Located:
    """An entry and where it lies; ``version`` is None for a folder."""

    entry: Entry
    path: str
    version: Version | None

    @property
    def key(self) -> str:
        """What orders the entries of one folder."""
        return parse_name(self.entry.name).key


@dataclass(frozen=True, slots=True)
class Trashed:
    """What lies in the trash. ``size``: bytes of all its versions and of all below it."""

    entry: Entry
    size: int
    deleted_by: str | None


@dataclass(frozen=True, slots=True)
class Running:
    """An upload that has not ended, and the name of who began it."""

    upload: Upload
    user: str
    path: str


async def locate(tx: Tx, group_id: str, path: Path) -> Located:
    """What lies at ``path``, a file with its current version.

    :raises NotFound: nothing does.
    """
    return await show(tx, await resolve(tx, group_id, path))


async def show(tx: Tx, entry: Entry) -> Located:
    """An entry with its path and, if it is a file, its current version."""
    version = None
    if entry.kind is EntryKind.FILE:
        version = await entries.current_version(tx, entry)
        if version is None:
            raise NotFound(what="file")
    return Located(entry, _joined(await lineage.path_of(tx, entry.id)), version)


async def list_folder(
    tx: Tx, group_id: str, path: Path, *, after: str | None, limit: int
) -> tuple[Located, list[Located]]:
    """What lies at ``path``, and what lies in it by name; a file has itself in its list."""
    top = await locate(tx, group_id, path)
    if top.entry.kind is EntryKind.FILE:
        return top, [top] if after is None else []
    base = top.path.removesuffix("/")
    found = await entries.children(tx, top.entry.id, after=after, limit=limit)
    return top, [Located(entry, f"{base}/{entry.name}", version) for entry, version in found]


async def file_at(tx: Tx, group_id: str, path: Path, number: int | None) -> Located:
    """The file at ``path``, with version ``number`` or the current one.

    :raises NotFound: no such file, or it has no such version.
    """
    entry = await resolve(tx, group_id, path)
    if entry.kind is not EntryKind.FILE:
        raise NotFound(what="file")
    if number is None:
        return await show(tx, entry)
    version = await entries.version(tx, entry.id, number)
    if version is None:
        raise NotFound(what="version")
    return Located(entry, _joined(await lineage.path_of(tx, entry.id)), version)


async def list_versions(
    tx: Tx, group_id: str, path: Path, *, before: int | None, limit: int
) -> tuple[Located, list[Version]]:
    """The file at ``path`` and its versions, newest first."""
    top = await file_at(tx, group_id, path, None)
    return top, await entries.versions_of(tx, top.entry.id, before=before, limit=limit)


async def written(tx: Tx, version_id: str) -> Located | None:
    """Where a version that was just written lies; None when it is gone again."""
    found = await entries.find_version(tx, version_id)
    if found is None:
        return None
    entry, version = found
    return Located(entry, _joined(await lineage.path_of(tx, entry.id)), version)


async def list_trash(tx: Tx, group_id: str, *, after: str | None, limit: int) -> list[Trashed]:
    """What was put into the trash, by id."""
    found = await entries.trash(tx, group_id, after=after, limit=limit)
    sizes = await entries.subtree_sizes(tx, [entry.id for entry in found])
    names = await user_names(tx, [entry.deleted_by for entry in found if entry.deleted_by])
    return [Trashed(entry, sizes[entry.id], names.get(entry.deleted_by or "")) for entry in found]


async def list_uploads(tx: Tx, group_id: str, *, after: str | None, limit: int) -> list[Running]:
    """Running uploads of a group, by id."""
    found = await uploads.list_open(tx, group_id, after=after, limit=limit)
    names = await user_names(tx, [upload.user_id for upload in found])
    return [
        Running(upload, names[upload.user_id], f"{upload.folder.removesuffix('/')}/{upload.name}")
        for upload in found
    ]


def _joined(names: Sequence[str]) -> str:
    return "/" + "/".join(names)
