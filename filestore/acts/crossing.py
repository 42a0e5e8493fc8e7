"""Moving from one group to another: the files and all their versions change owners.

No bytes move. What the one group was charged for, the other is charged for from then on; temporary
versions stay on the pool's account. What lay in the trash by itself below a folder stays behind.
"""

from typing import Final

from filestore.acts.copying import MAX_COPY, audit_across, hold_groups
from filestore.acts.places import Path, check_fits, hold_folder, resolve, shown_path
from filestore.errors import Conflict, Exists
from filestore.meta import entries, lineage
from filestore.meta.database import Tx
from filestore.meta.entries import Entry
from filestore.meta.log import emit
from filestore.meta.subtrees import count_below, extent_of, hand_over
from filestore.meta.versions import Gone, versions_of_all
from filestore.model import Actor, Cause
from filestore.quota import ledger
from filestore.quota.ledger import Line

_WHAT: Final = "the move to another group"


async def move_across(
    tx: Tx, actor: Actor, group_id: str, source: Path, target: Path, into: str
) -> Entry:
    """Moves a file or folder to a name that is free in another group.

    :raises NotFound: nothing lies at ``source``.
    :raises Exists: something lies at ``target``.
    :raises Conflict: it holds more than ``MAX_COPY`` entries, a path would become too long, or the
        groups store their blocks apart.
    :raises QuotaExceeded: the other group has no room for all versions of it.
    """
    if not source or not target:
        raise Conflict(what=_WHAT, reason="the root of a group stays where it is")
    await hold_groups(tx, group_id, into)
    for one in sorted({group_id, into}):
        await entries.root(tx, one, write=True)
    top = await resolve(tx, group_id, source)
    await _check_size(tx, top)
    folder = await hold_folder(tx, into, target[:-1])
    if await entries.child(tx, folder.id, target[-1]) is not None:
        raise Exists(what="file or folder", name=shown_path(target))
    names = [*await lineage.path_of(tx, folder.id), target[-1].given]
    check_fits(_WHAT, names, await extent_of(tx, top.id))
    await _change_owner(tx, actor, top, folder, target)
    await _tell(tx, actor, (group_id, shown_path(source)), (into, shown_path(target)))
    return await resolve(tx, into, target)


async def _check_size(tx: Tx, top: Entry) -> None:
    if await count_below(tx, top.id, limit=MAX_COPY + 1) > MAX_COPY:
        reason = f"it holds more than {MAX_COPY} files and folders; move its parts one by one"
        raise Conflict(what=_WHAT, reason=reason, limit=MAX_COPY)


async def _change_owner(tx: Tx, actor: Actor, top: Entry, folder: Entry, target: Path) -> None:
    """Hangs ``top`` into ``folder`` of the other group, and moves what it holds in the books."""
    levels = await entries.subtree(tx, top.id)
    ids = [entry_id for level in levels for entry_id in level]
    versions = await versions_of_all(tx, ids)
    before = await lineage.paths_of(tx, ids)
    old_root = await entries.root(tx, top.group_id)
    for level in levels:
        await entries.adopt_trashed(tx, level, old_root.id)
    files = await hand_over(tx, ids, folder.group_id)
    name = target[-1]
    named = {"name": name.given, "name_key": name.key, "name_fold": name.fold}
    await entries.update(tx, top.id, {"parent_id": folder.id, **named})
    after = await lineage.paths_of(tx, ids)
    await ledger.post(tx, actor, top.group_id, _lines(Cause.MOVE_OUT, versions, files, before, -1))
    await ledger.post(
        tx,
        actor,
        folder.group_id,
        _lines(Cause.MOVE_IN, versions, files, after, 1),
        within_limit=True,
    )


def _lines(
    cause: Cause, versions: list[Gone], files: list[str], paths: dict[str, str], sign: int
) -> list[Line]:
    """A line for each version that a group is charged for, and one for each file."""
    of_versions = [
        Line(
            cause=cause,
            used=sign * version.size,
            ref=version.id,
            member_id=version.author_id,
            entry_id=version.entry_id,
            path=paths.get(version.entry_id),
            mime=version.mime,
        )
        for version in versions
        if version.pool_id is None
    ]
    of_files = [
        Line(cause=cause, files=sign, entry_id=entry_id, path=paths.get(entry_id))
        for entry_id in files
    ]
    return of_versions + of_files


async def _tell(tx: Tx, actor: Actor, source: tuple[str, str], target: tuple[str, str]) -> None:
    await audit_across(tx, actor, "entry.move", source, target)
    left = {"from": source[1], "to_group": target[0]}
    came = {"from_group": source[0], "to": target[1]}
    await emit(tx, "entry.moved", {**left}, group_id=source[0])
    await emit(tx, "entry.moved", {**came}, group_id=target[0])
