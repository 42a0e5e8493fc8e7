"""Acts on the older versions of a file: removing them, and making one the current again.

Locks as everywhere: the group, the tree's root, the file, then contents. Under the file's lock
the current version stays what it is, so it is never the one that goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from filestore.acts.booking import book_removed
from filestore.acts.places import Path, resolve, shown_path
from filestore.errors import Conflict, Json, NotFound
from filestore.meta import contents, entries, lineage, retention
from filestore.meta.database import Tx
from filestore.meta.entries import Entry
from filestore.meta.log import audit, emit
from filestore.meta.versions import numbers_before, remove_numbers
from filestore.model import Actor, Cause, EntryKind
from filestore.quota import ledger

BATCH: Final = 500
"""Versions that one transaction removes."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many versions went, and the bytes of quota that this freed."""

    count: int
    size: int


async def remove_version(tx: Tx, actor: Actor, group_id: str, path: Path, number: int) -> Removed:
    """Removes one older version for good.

    :raises NotFound: no such file, or it has no such version.
    :raises Conflict: it is the current version.
    """
    entry = await _held_file(tx, group_id, path)
    if number == entry.current_number:
        raise Conflict(
            what="the removal of the version",
            reason="it is the current one; delete the file, or make another version current first",
        )
    removed = await drop_versions(tx, actor, entry, [number], shown_path(path))
    if removed.count == 0:
        raise NotFound(what="version")
    return removed


async def remove_older(tx: Tx, actor: Actor, group_id: str, path: Path, before: int) -> Removed:
    """Removes the oldest versions with numbers below ``before``, at most ``BATCH`` of them.

    The current one stays in any case. Repeat it until it removes nothing.

    :raises NotFound: no such file.
    """
    entry = await _held_file(tx, group_id, path)
    numbers = await numbers_before(tx, entry.id, before, limit=BATCH + 1)
    old = [number for number in numbers if number != entry.current_number][:BATCH]
    return await drop_versions(tx, actor, entry, old, shown_path(path))


async def drop_versions(
    tx: Tx, actor: Actor, entry: Entry, numbers: Sequence[int], path: str
) -> Removed:
    """Removes versions of a file whose row is locked, and behind it the group's and the root's;
    none of them is the current one. Quota and contents are released in the same transaction.
    """
    gone = await remove_numbers(tx, entry.id, numbers)
    if not gone:
        return Removed(0, 0)
    size = await book_removed(tx, actor, entry.group_id, gone, {entry.id: path})
    await contents.release(tx, [version.content_id for version in gone])
    await audit(
        tx, actor, "version.remove", group_id=entry.group_id, target=path,
        before={"versions": [*numbers], "bytes": size},
    )  # fmt: skip
    await emit(
        tx,
        "version.removed",
        {"path": path, "versions": [*numbers], "bytes": size},
        group_id=entry.group_id,
    )
    return Removed(len(gone), size)


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
    if not gone:
        return 0, 0
    paths = await lineage.paths_of(tx, [entry_id])
    freed = await book_removed(tx, actor, group_id, gone, paths, cause=Cause.EXPIRE)
    await contents.release(tx, [version.content_id for version in gone])
    path = paths.get(entry_id)
    what: dict[str, Json] = {"versions": len(gone), "bytes": freed}
    await audit(tx, actor, "version.expire", group_id=group_id, target=path, before=what)
    await emit(tx, "version.expired", {"path": path, **what}, group_id=group_id)
    return len(gone), freed


async def restore_version(tx: Tx, actor: Actor, group_id: str, path: Path, number: int) -> Entry:
    """Adds a version with the bytes of version ``number``, which becomes the current one.

    :raises NotFound: no such file, or it has no such version.
    :raises Conflict: it is the current version already.
    :raises QuotaExceeded: the group has no room for one version more.
    """
    entry = await _held_file(tx, group_id, path)
    if number == entry.current_number:
        raise Conflict(what="the restoring of the version", reason="it is the current one")
    old = await entries.version(tx, entry.id, number)
    if old is None or not await contents.share(tx, old.content_id):
        raise NotFound(what="version")
    version_id = await entries.add_version(
        tx,
        entry,
        content_id=old.content_id,
        size=old.size,
        mime=old.mime,
        author_id=actor.user_id,
    )
    shown = shown_path(path)
    charge = ledger.Line(
        cause=Cause.RESTORE,
        used=old.size,
        ref=version_id,
        member_id=actor.user_id,
        entry_id=entry.id,
        path=shown,
        mime=old.mime,
    )
    await ledger.post(tx, actor, group_id, [charge], within_limit=True)
    await audit(
        tx, actor, "version.restore", group_id=group_id, target=shown,
        before=entry.current_number, after={"version": version_id, "like": number},
    )  # fmt: skip
    await emit(
        tx,
        "version.restored",
        {"path": shown, "version": version_id, "like": number, "bytes": old.size},
        group_id=group_id,
    )
    return await resolve(tx, group_id, path)


async def _held_file(tx: Tx, group_id: str, path: Path) -> Entry:
    """The file at ``path``, its row locked and still there."""
    await ledger.lock(tx, group_id)
    await entries.root(tx, group_id, share=True)
    found = await resolve(tx, group_id, path)
    entry = await entries.get(tx, found.id, write=True)
    if entry is None or entry.kind is not EntryKind.FILE:
        raise NotFound(what="file")
    return entry
