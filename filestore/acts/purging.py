"""Deleting for good: entries with all below them, their versions, and their contents' release.

:func:`purge` and :func:`remove` are one transaction's work. Of a folder that holds much that
would keep everybody else from writing, so :func:`purge_all` and :func:`remove_all` take it in
several: what lies deepest goes first, in the trash, where nobody reaches it; a crash in between
leaves the rest there.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final

from filestore.acts.booking import book_removed
from filestore.acts.places import Path, resolve, shown_path
from filestore.errors import Conflict, NotFound
from filestore.meta import contents, entries, lineage
from filestore.meta.database import Database, Tx
from filestore.meta.entries import Entry
from filestore.meta.log import audit, emit
from filestore.meta.subtrees import count_below
from filestore.meta.tables import now_us
from filestore.meta.versions import Gone, remove_all_of
from filestore.model import Actor
from filestore.quota import ledger

BATCH: Final = 1000
"""Entries that one transaction removes: about a tenth of a second on SQLite."""

Levels = list[Sequence[str]]
"""Ids, level by level, deepest first: SQLite removes no folder together with what lies in it."""


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


async def purge(tx: Tx, actor: Actor, group_id: str, entry_id: str) -> int:
    """Removes a trashed entry and all below it for good; bytes of quota that this freed."""
    entry = await _locked_in_trash(tx, group_id, entry_id)
    return await _remove(tx, actor, entry, entry.deleted_path or entry.name)


async def remove(tx: Tx, actor: Actor, group_id: str, path: Path) -> int:
    """Removes a living entry and all below it, past the trash; bytes of quota freed."""
    await ledger.lock(tx, group_id)
    entry = await _held_for_removal(tx, group_id, path)
    return await _remove(tx, actor, entry, shown_path(path))


async def purge_all(
    db: Database,
    actor: Actor,
    group_id: str,
    entry_id: str,
    guard: Callable[[Tx], Awaitable[None]] | None = None,
) -> int:
    """Removes a trashed entry and all below it, in short transactions; bytes of quota freed.

    ``guard`` is asked before anything goes.

    :raises NotFound: it is not in the trash.
    :raises Conflict: it was restored before all was gone.
    """

    async def look(tx: Tx) -> tuple[Entry, list[list[str]]]:
        entry = await trashed(tx, group_id, entry_id)
        if guard is not None:  # behind it: what follows is about the entry as it was here
            await guard(tx)
        return entry, await entries.subtree(tx, entry_id)

    top, levels = await db.read(look)
    freed = 0
    for some in list(_steps(levels))[:-1]:
        freed += await db.transact(partial(_purge_some, actor=actor, seen=top, levels=some))
    return freed + await db.transact(partial(_purge_last, actor=actor, seen=top))


async def remove_all(
    db: Database,
    actor: Actor,
    group_id: str,
    path: Path,
    guard: Callable[[Tx], Awaitable[None]] | None = None,
) -> int:
    """Removes a living entry and all below it, in short transactions; bytes of quota freed.

    What is too much for one goes out of sight at once, into the trash. ``guard`` is asked in the
    first transaction.
    """

    async def begin(tx: Tx) -> tuple[int, str | None]:
        if guard is not None:
            await guard(tx)
        await ledger.lock(tx, group_id)
        entry = await _held_for_removal(tx, group_id, path)
        if await count_below(tx, entry.id, limit=BATCH + 1) <= BATCH:
            return await _remove(tx, actor, entry, shown_path(path)), None
        await put_in_trash(tx, actor, group_id, path)
        return 0, entry.id

    freed, left = await db.transact(begin)
    return freed if left is None else await purge_all(db, actor, group_id, left)


async def trashed(tx: Tx, group_id: str, entry_id: str, *, write: bool = False) -> Entry:
    """What lies in the trash under this id, its row locked on request.

    :raises NotFound: nothing of this group does.
    """
    entry = await entries.get(tx, entry_id, write=write)
    if entry is None or entry.group_id != group_id or entry.deleted_at is None:
        raise NotFound(what="entry in the trash")
    return entry


def _steps(levels: Sequence[Sequence[str]]) -> Iterator[Levels]:
    """What each transaction removes: at most ``BATCH`` entries, from one level or several."""
    step: Levels = []
    room = BATCH
    for level in levels:
        at = 0
        while at < len(level):
            step.append(level[at : at + room])
            at += len(step[-1])
            room -= len(step[-1])
            if room == 0:
                yield step
                step, room = [], BATCH
    if step:
        yield step


async def _purge_some(tx: Tx, actor: Actor, seen: Entry, levels: Levels) -> int:
    """Removes entries below ``seen`` that were found before; they are still what they were while
    it is in the same trash as then, because nobody reaches anything there."""
    entry = await _locked_unchanged(tx, seen)
    size = await _drop(tx, actor, entry, levels)
    await audit(
        tx, actor, "entry.purge", group_id=entry.group_id,
        target=entry.deleted_path, before={"bytes": size, "part": True},
    )  # fmt: skip
    return size


async def _purge_last(tx: Tx, actor: Actor, seen: Entry) -> int:
    entry = await _locked_unchanged(tx, seen)
    return await _remove(tx, actor, entry, entry.deleted_path or entry.name)


async def _locked_unchanged(tx: Tx, seen: Entry) -> Entry:
    entry = await _locked_in_trash(tx, seen.group_id, seen.id)
    if entry.deleted_at != seen.deleted_at:
        raise Conflict(what="purge", reason="it was restored and deleted again meanwhile")
    return entry


async def _remove(tx: Tx, actor: Actor, entry: Entry, path: str) -> int:
    size = await _drop(tx, actor, entry, [*await entries.subtree(tx, entry.id)])
    await audit(
        tx, actor, "entry.purge", group_id=entry.group_id, target=path, before={"bytes": size}
    )
    await emit(tx, "entry.purged", {"path": path, "bytes": size}, group_id=entry.group_id)
    return size


async def _drop(tx: Tx, actor: Actor, top: Entry, levels: Levels) -> int:
    """Removes entries of the subtree of ``top`` with their versions; bytes of quota freed."""
    root = await entries.root(tx, top.group_id)
    paths = await lineage.paths_of(tx, [entry_id for level in levels for entry_id in level])
    gone: list[Gone] = []
    files: list[str] = []
    for level in levels:
        await entries.adopt_trashed(tx, level, root.id)
        gone += await remove_all_of(tx, level)
        files += await entries.remove(tx, level)
    freed = await book_removed(tx, actor, top.group_id, gone, paths, files=files)
    await contents.release(tx, [version.content_id for version in gone])
    return freed


async def _locked_in_trash(tx: Tx, group_id: str, entry_id: str) -> Entry:
    await ledger.lock(tx, group_id)
    await entries.root(tx, group_id, write=True)
    return await trashed(tx, group_id, entry_id, write=True)


async def _held_for_removal(tx: Tx, group_id: str, path: Path) -> Entry:
    if not path:
        raise Conflict(what="delete", reason="the root of a group stays")
    await entries.root(tx, group_id, write=True)
    return await resolve(tx, group_id, path)
