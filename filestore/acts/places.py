"""Places in a group's tree: finding them, making the folders on the way, and free names.

Paths are tuples of names below the group's root. Whoever makes or moves something holds the
root's lock (:func:`filestore.meta.entries.root`).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from filestore.errors import Conflict, NotFound
from filestore.meta import entries
from filestore.meta.database import Tx
from filestore.meta.entries import Entry
from filestore.meta.subtrees import Extent
from filestore.model import EntryKind
from filestore.names import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, Name, parse_name

Path = tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A version that was added: of which entry, where, and whether the file is new with it."""

    version_id: str
    entry_id: str
    path: Path
    is_new: bool


def shown_path(path: Sequence[Name]) -> str:
    """A path as people write it: ``/folder/file``."""
    return "/" + "/".join(name.given for name in path)


async def resolve(tx: Tx, group_id: str, path: Path) -> Entry:
    """The living entry at ``path``; the root for the empty path. Takes no lock.

    :raises NotFound: nothing lies there.
    """
    entry: Entry | None = await entries.root(tx, group_id)
    for name in path:
        entry = None if entry is None else await entries.child(tx, entry.id, name)
    if entry is None:
        raise NotFound(what="file or folder")
    return entry


async def hold_folder(tx: Tx, group_id: str, path: Path) -> Entry:
    """The folder at ``path``, made when missing; the caller holds the root's lock.

    :raises Conflict: a file lies on the way.
    """
    folder = await entries.root(tx, group_id)
    for depth, name in enumerate(path):
        await entries.add_child(tx, group_id, folder.id, name, EntryKind.FOLDER)
        child = await entries.child(tx, folder.id, name)
        if child is None or child.kind is not EntryKind.FOLDER:
            raise wrong_kind(path[: depth + 1], EntryKind.FILE)
        folder = child
    return folder


async def child_of_kind(tx: Tx, parent: Entry, name: Name, kind: EntryKind) -> tuple[Entry, Name]:
    """The living child of that name and kind, locked when a file, made when missing.

    Where the other kind lies at the name, it gets a number.
    """
    number = 1
    wanted = name
    while True:
        await entries.add_child(tx, parent.group_id, parent.id, wanted, kind)
        child = await entries.child(tx, parent.id, wanted, write=kind is EntryKind.FILE)
        if child is not None and child.kind is kind:
            return child, wanted
        if child is not None:
            number += 1
            wanted = numbered(name, number)


async def free_name(tx: Tx, folder: Entry, name: Name) -> Name:
    """``name``, or the same with the first number that no living entry of ``folder`` has."""
    number, wanted = 1, name
    while await entries.child(tx, folder.id, wanted) is not None:
        number += 1
        wanted = numbered(name, number)
    return wanted


def numbered(name: Name, number: int) -> Name:
    """``report (2).pdf`` for ``report.pdf``, cut so that it still is a legal name.

    The limit is on the key, so that is what is measured: its NFC form may be three times as
    long as what was given (U+0958 and its like are never composed).
    """
    stem, dot, suffix = name.given.rpartition(".")
    if not stem or len(suffix) > 10:
        stem, dot, suffix = name.given, "", ""
    tail = f" ({number}){dot}{suffix}"
    kept = stem.rstrip()
    while len(unicodedata.normalize("NFC", kept + tail).encode()) > MAX_NAME_BYTES:
        kept = kept[:-1].rstrip()
    return parse_name(kept + tail)


async def living_path(tx: Tx, entry_id: str | None) -> Path | None:
    """The path of a folder, or None if it or a folder above it is in the trash."""
    path: Path = ()
    while entry_id is not None:
        entry = await entries.get(tx, entry_id)
        if entry is None or entry.deleted_at is not None:
            return None
        if entry.kind is EntryKind.ROOT:
            return path
        path = (parse_name(entry.name), *path)
        entry_id = entry.parent_id
    return None


def check_fits(what: str, names: Sequence[str], extent: Extent) -> None:
    """Lets something lie at the path ``names`` with all that lies below it.

    :raises Conflict: a path in it would be longer than any request may name, so that nothing
        could reach what lies there.
    """
    depth = len(names) + extent.depth
    size = len("/".join(names).encode()) + extent.path_bytes
    if depth > MAX_DEPTH:
        reason = f"a path in it would have {depth} parts; at most {MAX_DEPTH} are possible"
        raise Conflict(what=what, reason=reason)
    if size > MAX_PATH_BYTES:
        reason = f"a path in it would have {size} bytes; at most {MAX_PATH_BYTES} are possible"
        raise Conflict(what=what, reason=reason)


def wrong_kind(path: Path, kind: EntryKind) -> Conflict:
    """A ``kind`` lies at ``path``, where it is in the way."""
    return Conflict(
        what="placing a file", reason=f"a {kind} lies at {shown_path(path)}", path=shown_path(path)
    )
