"""Acts on a group's tree: folders, move, restore, and placing versions; and the names under which
the other acts on the tree are known.

Each public act is one transaction's work, with its audit row and its event. Paths are tuples
of names below the group's root.
"""

from collections.abc import Sequence

from filestore.acts.copying import copy
from filestore.acts.crossing import move_across
from filestore.acts.places import (
    Path,
    Placed,
    check_fits,
    child_of_kind,
    free_name,
    hold_folder,
    living_path,
    resolve,
    shown_path,
    wrong_kind,
)
from filestore.acts.purging import purge, purge_all, put_in_trash, remove, remove_all, trashed
from filestore.errors import Conflict, Exists, NotFound
from filestore.meta import entries, lineage
from filestore.meta.database import Tx
from filestore.meta.entries import Entry, Temporary, Version
from filestore.meta.log import audit, emit
from filestore.meta.subtrees import extent_of
from filestore.model import Actor, EntryKind
from filestore.names import Name, parse_name, parse_path

__all__ = [
    "Path",
    "Placed",
    "check_places",
    "copy",
    "find_file",
    "make_folder",
    "move",
    "place_version",
    "purge",
    "purge_all",
    "put_in_trash",
    "remove",
    "remove_all",
    "resolve",
    "restore",
    "shown_path",
]


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
    folder = await hold_folder(tx, group_id, path)
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
    temporary: Temporary | None = None,
) -> Placed:
    """Adds a version at ``path``, never refusing for its name.

    A file there gets a new version. When a folder lies at the name, or a file where a folder
    is needed, the name gets a number: an upload that was accepted is not refused at its end.
    """
    await entries.root(tx, group_id, share=True)
    parent = await entries.root(tx, group_id)
    placed: Path = ()
    for name in path[:-1]:
        parent, used = await child_of_kind(tx, parent, name, EntryKind.FOLDER)
        placed = (*placed, used)
    entry, used = await child_of_kind(tx, parent, path[-1], EntryKind.FILE)
    version_id = await entries.add_version(
        tx,
        entry,
        content_id=content_id,
        size=size,
        mime=mime,
        author_id=author_id,
        temporary=temporary,
    )
    return Placed(version_id, entry.id, (*placed, used), is_new=entry.current_number is None)


async def check_places(tx: Tx, group_id: str, paths: Sequence[Path]) -> list[bool | Conflict]:
    """Refuses early what could only be placed under another name; whether a file is there.

    A conflict: a folder lies at the path, or a file where a folder is needed. Costs a query for
    each level, however many the paths are.
    """
    found: list[bool | Conflict] = [False] * len(paths)
    root = await entries.root(tx, group_id)
    at = dict.fromkeys(range(len(paths)), root.id)
    for depth in range(max(map(len, paths), default=0)):
        wanted = {(parent, paths[number][depth].key) for number, parent in at.items()}
        children = await entries.children_named(tx, wanted)
        for number, parent in list(at.items()):
            path = paths[number]
            child = children.get((parent, path[depth].key))
            is_last = depth == len(path) - 1
            if child is None or is_last or child.kind is not EntryKind.FOLDER:
                found[number] = _at_place(path[: depth + 1], child, is_last=is_last)
                del at[number]
            else:
                at[number] = child.id
    return found


def _at_place(path: Path, entry: Entry | None, *, is_last: bool) -> bool | Conflict:
    if entry is None:
        return False
    wanted = EntryKind.FILE if is_last else EntryKind.FOLDER
    return True if entry.kind is wanted else wrong_kind(path, entry.kind)


async def move(
    tx: Tx, actor: Actor, group_id: str, source: Path, target: Path, into: str | None = None
) -> Entry:
    """Moves a file or folder within the group, or ``into`` another, to a name that is free.

    :raises NotFound: nothing lies at ``source``.
    :raises Exists: something lies at ``target``.
    :raises Conflict: a folder would move into itself, the root would move, or a path would
        become too long.
    """
    if into is not None and into != group_id:
        return await move_across(tx, actor, group_id, source, target, into)
    if not source or not target:
        raise Conflict(what="move", reason="the root of a group stays where it is")
    await entries.root(tx, group_id, write=True)
    entry = await resolve(tx, group_id, source)
    folder = await hold_folder(tx, group_id, target[:-1])
    if entry.id in await lineage.ancestors(tx, folder.id):
        raise Conflict(what="move", reason="a folder cannot move into itself")
    occupant = await entries.child(tx, folder.id, target[-1])
    if occupant is not None and occupant.id != entry.id:
        raise Exists(what=occupant.kind, name=shown_path(target))
    await _check_longer(
        tx, "move", entry, [*await lineage.path_of(tx, folder.id), target[-1].given]
    )
    await entries.update(tx, entry.id, {"parent_id": folder.id, **_named(target[-1])})
    paths = {"from": shown_path(source), "to": shown_path(target)}
    await audit(
        tx, actor, "entry.move", group_id=group_id, target=entry.id,
        before=paths["from"], after=paths["to"],
    )  # fmt: skip
    await emit(tx, "entry.moved", {**paths}, group_id=group_id)
    return await resolve(tx, group_id, target)


async def restore(tx: Tx, actor: Actor, group_id: str, entry_id: str) -> Path:
    """Takes an entry out of the trash; where it lies now.

    It returns to its folder, or to a new one at the old path if that is gone, under its old
    name or, if that is taken, one with a number.

    :raises NotFound: it is not in the trash.
    :raises Conflict: a file lies where its folder was, or a path would become too long: the
        folder has moved deeper since.
    """
    await entries.root(tx, group_id, write=True)
    entry = await trashed(tx, group_id, entry_id, write=True)
    old = parse_path(entry.deleted_path or "")
    folder_path = await living_path(tx, entry.parent_id)
    if not folder_path:  # it lay at the root, or hangs there since its folder was removed
        folder_path = old[:-1]
    folder = await hold_folder(tx, group_id, folder_path)
    name = await free_name(tx, folder, parse_name(entry.name))
    names = [*await lineage.path_of(tx, folder.id), name.given]
    check_fits("restore", names, await extent_of(tx, entry.id))
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


async def _find(tx: Tx, group_id: str, path: Path) -> Entry | None:
    try:
        return await resolve(tx, group_id, path)
    except NotFound:
        return None


async def _check_longer(tx: Tx, what: str, entry: Entry, names: Sequence[str]) -> None:
    """:func:`check_fits` for an entry that lies elsewhere, without a walk when no path grows."""
    before = await lineage.path_of(tx, entry.id)
    if len(names) > len(before) or len("/".join(names).encode()) > len("/".join(before).encode()):
        check_fits(what, names, await extent_of(tx, entry.id))


def _named(name: Name) -> dict[str, str]:
    return {"name": name.given, "name_key": name.key, "name_fold": name.fold}
