"""Acts on a group's tree: folders, move, copy, trash, restore, purge, and placing versions.

Each public act is one transaction's work, with its audit row and its event. Paths are tuples
of names below the group's root.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from filestore.errors import Conflict, Exists, Json, NotFound
from filestore.meta import contents, entries, retention
from filestore.meta.database import Tx
from filestore.meta.entries import Entry, Version
from filestore.meta.log import audit, emit
from filestore.meta.tables import now_us
from filestore.model import Actor, Cause, EntryKind
from filestore.names import Name, parse_name, parse_path
from filestore.quota import ledger

Path = tuple[Name, ...]
_PAGE: Final = 500
"""Children read at once while a folder is copied."""


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


async def find_file(tx: Tx, group_id: str, path: Path) -> tuple[Entry, Version]:
    """The file at ``path`` with its current version.

    :raises NotFound: nothing lies there, or a folder does.
    """
    entry = await resolve(tx, group_id, path)
    version = await entries.current_version(tx, entry)
    if entry.kind is not EntryKind.FILE or version is None:
        raise NotFound(what="file")
    return entry, version


async def make_folder(tx: Tx, actor: Actor, group_id: str, path: Path) -> tuple[Entry, bool]:
    """The folder at ``path``, made with all that miss on the way; and whether it is new.

    :raises Conflict: a file lies on the way.
    """
    await entries.root(tx, group_id, share=True)
    before = await _find(tx, group_id, path)
    folder = await _hold_folder(tx, group_id, path)
    if before is None:
        await audit(tx, actor, "folder.create", group_id=group_id, target=shown_path(path))
        await emit(tx, "folder.created", {"path": shown_path(path)}, group_id=group_id)
    return folder, before is None


async def place_version(
    tx: Tx,
    group_id: str,
    path: Path,
    *,
    content_id: int,
    size: int,
    mime: str,
    author_id: str | None,
) -> tuple[str, Path]:
    """Adds a version at ``path``, never refusing for its name; the version and where it is.

    A file there gets a new version. When a folder lies at the name, or a file where a folder
    is needed, the name gets a number: an upload that was accepted is not refused at its end.
    """
    await entries.root(tx, group_id, share=True)
    parent = await entries.root(tx, group_id)
    placed: Path = ()
    for name in path[:-1]:
        parent, used = await _child_of_kind(tx, parent, name, EntryKind.FOLDER)
        placed = (*placed, used)
    entry, used = await _child_of_kind(tx, parent, path[-1], EntryKind.FILE)
    version_id = await entries.add_version(
        tx, entry, content_id=content_id, size=size, mime=mime, author_id=author_id
    )
    return version_id, (*placed, used)


async def check_place(tx: Tx, group_id: str, path: Path) -> None:
    """Refuses early what could only be placed under another name.

    :raises Conflict: a folder lies at ``path``, or a file where a folder is needed.
    """
    entry: Entry | None = await entries.root(tx, group_id)
    for depth, name in enumerate(path):
        entry = None if entry is None else await entries.child(tx, entry.id, name)
        if entry is None:
            return
        wanted = EntryKind.FILE if depth == len(path) - 1 else EntryKind.FOLDER
        if entry.kind is not wanted:
            raise _wrong_kind(path[: depth + 1], entry.kind)


async def move(tx: Tx, actor: Actor, group_id: str, source: Path, target: Path) -> Entry:
    """Moves a file or folder within the group, to a name that is free.

    :raises NotFound: nothing lies at ``source``.
    :raises Exists: something lies at ``target``.
    :raises Conflict: a folder would move into itself, or the root would move.
    """
    if not source or not target:
        raise Conflict(what="move", reason="the root of a group stays where it is")
    await entries.root(tx, group_id, write=True)
    entry = await resolve(tx, group_id, source)
    folder = await _hold_folder(tx, group_id, target[:-1])
    if entry.id in await entries.ancestors(tx, folder.id):
        raise Conflict(what="move", reason="a folder cannot move into itself")
    occupant = await entries.child(tx, folder.id, target[-1])
    if occupant is not None and occupant.id != entry.id:
        raise Exists(what=occupant.kind, name=shown_path(target))
    await entries.update(tx, entry.id, {"parent_id": folder.id, **_named(target[-1])})
    paths = {"from": shown_path(source), "to": shown_path(target)}
    await audit(
        tx, actor, "entry.move", group_id=group_id, target=entry.id,
        before=paths["from"], after=paths["to"],
    )  # fmt: skip
    await emit(tx, "entry.moved", {**paths}, group_id=group_id)
    return await resolve(tx, group_id, target)


async def copy(tx: Tx, actor: Actor, group_id: str, source: Path, target: Path) -> Entry:
    """Copies a file, or a folder with all that lives in it, to a name that is free.

    Costs no bytes in the store; the group is charged as for any version. Versions that are
    not current are not copied.

    :raises QuotaExceeded: the group has no room for the copies.
    """
    if not target:
        raise Conflict(what="copy", reason="the target needs a name")
    await ledger.lock(tx, group_id)
    await entries.root(tx, group_id, share=True)
    top = await resolve(tx, group_id, source)
    folder = await _hold_folder(tx, group_id, target[:-1])
    if top.id in await entries.ancestors(tx, folder.id):
        raise Conflict(what="copy", reason="a folder cannot be copied into itself")
    if not await entries.add_child(tx, group_id, folder.id, target[-1], top.kind):
        raise Exists(what="file or folder", name=shown_path(target))
    size = await _copy_below(tx, actor, group_id, top, target)
    charge = ledger.Move(group_id, size, 0, Cause.COPY, top.id)
    await ledger.apply(tx, actor, charge, within_limit=True)
    paths = {"from": shown_path(source), "to": shown_path(target)}
    await audit(
        tx, actor, "entry.copy", group_id=group_id, target=top.id,
        before=paths["from"], after=paths["to"],
    )  # fmt: skip
    await emit(tx, "entry.copied", {**paths}, group_id=group_id)
    return await resolve(tx, group_id, target)


async def put_in_trash(tx: Tx, actor: Actor, group_id: str, path: Path) -> Entry:
    """Moves a file or folder to the trash, where it still counts against the quota."""
    entry = await _held_for_removal(tx, group_id, path)
    await entries.update(
        tx,
        entry.id,
        {
            "deleted_at": now_us(),
            "deleted_by": actor.user_id,
            "deleted_path": shown_path(path),
        },
    )
    await audit(tx, actor, "entry.trash", group_id=group_id, target=shown_path(path))
    await emit(tx, "entry.trashed", {"path": shown_path(path)}, group_id=group_id)
    return entry


async def restore(tx: Tx, actor: Actor, group_id: str, entry_id: str) -> Path:
    """Takes an entry out of the trash; where it lies now.

    It returns to its folder, or to a new one at the old path if that is gone, under its old
    name or, if that is taken, one with a number.
    """
    await entries.root(tx, group_id, write=True)
    entry = await _trashed(tx, group_id, entry_id)
    old = parse_path(entry.deleted_path or "")
    folder_path = await _living_path(tx, entry.parent_id)
    if not folder_path:  # it lay at the root, or hangs there since its folder was removed
        folder_path = old[:-1]
    folder = await _hold_folder(tx, group_id, folder_path)
    name = await _free_name(tx, folder, parse_name(entry.name))
    await entries.update(
        tx,
        entry.id,
        {
            "parent_id": folder.id,
            "deleted_at": None,
            "deleted_by": None,
            "deleted_path": None,
            **_named(name),
        },
    )
    path = (*folder_path, name)
    await audit(tx, actor, "entry.restore", group_id=group_id, target=shown_path(path))
    await emit(tx, "entry.restored", {"path": shown_path(path)}, group_id=group_id)
    return path


async def purge(tx: Tx, actor: Actor, group_id: str, entry_id: str) -> int:
    """Removes a trashed entry and all below it for good; bytes of quota that this freed."""
    await ledger.lock(tx, group_id)
    await entries.root(tx, group_id, write=True)
    entry = await _trashed(tx, group_id, entry_id)
    return await _remove(tx, actor, entry, entry.deleted_path or entry.name)


async def remove(tx: Tx, actor: Actor, group_id: str, path: Path) -> int:
    """Removes a living entry and all below it, past the trash; bytes of quota freed."""
    await ledger.lock(tx, group_id)
    entry = await _held_for_removal(tx, group_id, path)
    return await _remove(tx, actor, entry, shown_path(path))


async def prune_versions(
    tx: Tx, actor: Actor, group_id: str, entry_id: str, *, limit: int
) -> tuple[int, int]:
    """Removes up to ``limit`` versions of a file that its group's rule does not keep any more.

    How many they were, and the bytes of quota that this freed; (0, 0): none was due.
    """
    await ledger.lock(tx, group_id)
    entry = await entries.get(tx, entry_id, write=True)
    if entry is None or entry.group_id != group_id:
        return 0, 0
    gone = await retention.remove_due(tx, entry_id, limit=limit)
    if not gone.versions:
        return 0, 0
    await contents.release(tx, gone.content_ids)
    await ledger.apply(tx, actor, ledger.Move(group_id, -gone.bytes, 0, Cause.PURGE, entry_id))
    path = "/" + "/".join(await entries.path_of(tx, entry_id))
    what: dict[str, Json] = {"versions": gone.versions, "bytes": gone.bytes}
    await audit(tx, actor, "version.expire", group_id=group_id, target=path, before=what)
    await emit(tx, "version.expired", {"path": path, **what}, group_id=group_id)
    return gone.versions, gone.bytes


async def _remove(tx: Tx, actor: Actor, entry: Entry, path: str) -> int:
    root = await entries.root(tx, entry.group_id)
    size, released = 0, []
    for level in await entries.subtree(tx, entry.id):
        await entries.adopt_trashed(tx, level, root.id)
        freed, content_ids = await entries.remove_versions(tx, level)
        await entries.remove(tx, level)
        size += freed
        released += content_ids
    await contents.release(tx, released)
    await ledger.apply(tx, actor, ledger.Move(entry.group_id, -size, 0, Cause.PURGE, entry.id))
    await audit(
        tx, actor, "entry.purge", group_id=entry.group_id, target=path, before={"bytes": size}
    )
    await emit(tx, "entry.purged", {"path": path, "bytes": size}, group_id=entry.group_id)
    return size


async def _held_for_removal(tx: Tx, group_id: str, path: Path) -> Entry:
    if not path:
        raise Conflict(what="delete", reason="the root of a group stays")
    await entries.root(tx, group_id, write=True)
    return await resolve(tx, group_id, path)


async def _trashed(tx: Tx, group_id: str, entry_id: str) -> Entry:
    entry = await entries.get(tx, entry_id, write=True)
    if entry is None or entry.group_id != group_id or entry.deleted_at is None:
        raise NotFound(what="entry in the trash")
    return entry


async def _find(tx: Tx, group_id: str, path: Path) -> Entry | None:
    try:
        return await resolve(tx, group_id, path)
    except NotFound:
        return None


async def _hold_folder(tx: Tx, group_id: str, path: Path) -> Entry:
    """The folder at ``path``, made when missing; the caller holds the root's lock."""
    folder = await entries.root(tx, group_id)
    for depth, name in enumerate(path):
        await entries.add_child(tx, group_id, folder.id, name, EntryKind.FOLDER)
        child = await entries.child(tx, folder.id, name)
        if child is None or child.kind is not EntryKind.FOLDER:
            raise _wrong_kind(path[: depth + 1], EntryKind.FILE)
        folder = child
    return folder


async def _child_of_kind(tx: Tx, parent: Entry, name: Name, kind: EntryKind) -> tuple[Entry, Name]:
    """The living child of that name and kind, locked when a file, made when missing."""
    number = 1
    wanted = name
    while True:
        await entries.add_child(tx, parent.group_id, parent.id, wanted, kind)
        child = await entries.child(tx, parent.id, wanted, write=kind is EntryKind.FILE)
        if child is not None and child.kind is kind:
            return child, wanted
        if child is not None:
            number += 1
            wanted = _numbered(name, number)


async def _free_name(tx: Tx, folder: Entry, name: Name) -> Name:
    number, wanted = 1, name
    while await entries.child(tx, folder.id, wanted) is not None:
        number += 1
        wanted = _numbered(name, number)
    return wanted


def _numbered(name: Name, number: int) -> Name:
    """``report (2).pdf`` for ``report.pdf``, cut so that it still is a legal name."""
    stem, dot, suffix = name.given.rpartition(".")
    if not stem or len(suffix) > 10:
        stem, dot, suffix = name.given, "", ""
    mark = f" ({number})"
    room = 255 - len((mark + dot + suffix).encode())
    kept = stem.encode()[:room].decode("utf-8", "ignore").rstrip()
    return parse_name(f"{kept}{mark}{dot}{suffix}")


async def _living_path(tx: Tx, entry_id: str | None) -> Path | None:
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


async def _all_children(tx: Tx, entry: Entry) -> AsyncIterator[Entry]:
    after: str | None = None
    while page := await entries.children(tx, entry.id, after=after, limit=_PAGE):
        for child, _ in page:
            yield child
        after = parse_name(page[-1][0].name).key


async def _copy_below(tx: Tx, actor: Actor, group_id: str, source: Entry, target: Path) -> int:
    """Fills the empty copy at ``target`` with what lives in ``source``; bytes of its files."""
    copied = await resolve(tx, group_id, target)
    if source.kind is EntryKind.FILE:
        version = await entries.current_version(tx, source)
        if version is None or not await contents.share(tx, version.content_id):
            raise Conflict(what="copy", reason="the source is being deleted")
        await entries.add_version(
            tx,
            copied,
            content_id=version.content_id,
            size=version.size,
            mime=version.mime,
            author_id=actor.user_id,
        )
        return version.size
    size = 0
    async for child in _all_children(tx, source):
        name = parse_name(child.name)
        await entries.add_child(tx, group_id, copied.id, name, child.kind)
        size += await _copy_below(tx, actor, group_id, child, (*target, name))
    return size


def _named(name: Name) -> dict[str, str]:
    return {"name": name.given, "name_key": name.key, "name_fold": name.fold}


def _wrong_kind(path: Path, kind: EntryKind) -> Conflict:
    return Conflict(
        what="placing a file", reason=f"a {kind} lies at {shown_path(path)}", path=shown_path(path)
    )
