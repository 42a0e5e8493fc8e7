"""Copying within a group: no bytes move, and the group is charged as for any version."""

from collections.abc import Sequence
from typing import Final

from filestore.acts.places import Path, check_fits, hold_folder, resolve, shown_path
from filestore.errors import Conflict, Exists, Json
from filestore.ids import new_id
from filestore.meta import contents, entries, lineage
from filestore.meta.database import Tx
from filestore.meta.entries import Entry
from filestore.meta.log import audit, emit
from filestore.meta.subtrees import Extent, Node, add_first_versions, add_nodes, nodes_below
from filestore.model import Actor, Cause, EntryKind
from filestore.quota import ledger

MAX_COPY: Final = 10_000
"""Files and folders in one copy: about a second in which SQLite lets nobody else write, and the
group's uploads wait on PostgreSQL."""


async def copy(
    tx: Tx, actor: Actor, group_id: str, source: Path, target: Path, into: str | None = None
) -> Entry:
    """Copies a file, or a folder with all that lives in it, to a name that is free.

    Costs no bytes in the store; the group that gets the copy (``into``, else the same one) is
    charged as for any version. Versions that are not current are not copied.

    :raises NotFound: nothing lies at ``source``.
    :raises Exists: something lies at ``target``.
    :raises Conflict: a folder would be copied into itself, it holds more than ``MAX_COPY``
        entries, a path would become too long, or the groups store their blocks apart.
    :raises QuotaExceeded: the group has no room for the copies.
    """
    into = into or group_id
    if not source or not target:
        raise Conflict(what="copy", reason="the root of a group cannot be copied, nor be a copy")
    await hold_groups(tx, group_id, into)
    for one in sorted({group_id, into}):
        await entries.root(tx, one, share=True)
    top = await resolve(tx, group_id, source)
    nodes = await _nodes(tx, top)
    files = [node for node in nodes if node.kind is EntryKind.FILE]
    await ledger.require_room(tx, into, sum(node.size or 0 for node in files), len(files))
    folder = await hold_folder(tx, into, target[:-1])
    if top.id in await lineage.ancestors(tx, folder.id):
        raise Conflict(what="copy", reason="a folder cannot be copied into itself")
    names = [*await lineage.path_of(tx, folder.id), target[-1].given]
    check_fits("copy", names, _extent(nodes))
    if not await entries.add_child(tx, into, folder.id, target[-1], top.kind):
        raise Exists(what="file or folder", name=shown_path(target))
    copied = await resolve(tx, into, target)
    lines = await _fill(tx, actor, copied, nodes, shown_path(target))
    await ledger.post(tx, actor, into, lines, within_limit=True)
    if into != group_id:
        at = (group_id, shown_path(source)), (into, shown_path(target))
        await audit_across(tx, actor, "entry.copy", *at)
        told: dict[str, Json] = {"from_group": group_id, "to": shown_path(target)}
    else:
        told = {"from": shown_path(source), "to": shown_path(target)}
        await audit(
            tx, actor, "entry.copy", group_id=into, target=top.id,
            before=told["from"], after=told["to"],
        )  # fmt: skip
    await emit(tx, "entry.copied", told, group_id=into)
    return copied


async def audit_across(
    tx: Tx, actor: Actor, act: str, source: tuple[str, str], target: tuple[str, str]
) -> None:
    """Records an act on two groups in the log of each: (group, path) of what it was, and is.

    Each is told which group the other one is, and where in itself: the paths of the other are
    not for its managers to see.
    """
    was: dict[str, Json] = {"group": source[0]}
    now: dict[str, Json] = {"group": target[0]}
    in_source = {"before": {**was, "path": source[1]}, "after": now}
    in_target = {"before": was, "after": {**now, "path": target[1]}}
    await audit(tx, actor, act, group_id=source[0], target=source[1], **in_source)
    await audit(tx, actor, act, group_id=target[0], target=target[1], **in_target)


async def hold_groups(tx: Tx, group_id: str, other_id: str) -> None:
    """Locks the rows of two groups, or of one, that may share contents.

    :raises NotFound: one of them is gone.
    :raises Conflict: they are of different dedup domains, so what one stores the other cannot use.
    """
    if not await ledger.lock_all(tx, [group_id, other_id]):
        raise Conflict(
            what="the act on both groups",
            reason="they store their blocks apart; download from the one, upload to the other",
        )


async def _nodes(tx: Tx, top: Entry) -> list[Node]:
    nodes = await nodes_below(tx, top.id, limit=MAX_COPY + 1)
    if len(nodes) > MAX_COPY:
        reason = f"it holds more than {MAX_COPY} files and folders; copy its parts one by one"
        raise Conflict(what="copy", reason=reason, limit=MAX_COPY)
    if any(node.kind is EntryKind.FILE and node.content_id is None for node in nodes):
        raise Conflict(what="copy", reason="the source is being deleted")
    return nodes


def _extent(nodes: Sequence[Node]) -> Extent:
    return Extent(
        max(node.extent.depth for node in nodes), max(node.extent.path_bytes for node in nodes)
    )


async def _fill(
    tx: Tx, actor: Actor, copied: Entry, nodes: Sequence[Node], path: str
) -> list[ledger.Line]:
    """Makes the new entry ``copied`` like the first of ``nodes``, with all that follows in it.

    Locks in the usual order: all entries, then all contents, then the versions. ``path`` is where
    the copy lies. A line of the journal for each file.
    """
    top, below = nodes[0], nodes[1:]
    ids = {node.id: new_id("ent") for node in below} | {top.id: copied.id}
    await add_nodes(tx, copied.group_id, below, ids)
    held = {node.content_id for node in nodes if node.content_id is not None}
    if not await contents.share_all(tx, held):
        raise Conflict(what="copy", reason="the source is being deleted")
    if top.kind is EntryKind.FILE:
        await entries.update(tx, copied.id, {"last_number": 1, "current_number": 1})
    versions = await add_first_versions(tx, nodes, ids, actor.user_id)
    paths = _paths(nodes, path)
    return [
        ledger.Line(
            cause=Cause.COPY,
            used=node.size or 0,
            files=1,
            ref=versions[ids[node.id]],
            member_id=actor.user_id,
            entry_id=ids[node.id],
            path=paths[node.id],
            mime=node.mime,
        )
        for node in nodes
        if node.kind is EntryKind.FILE
    ]


def _paths(nodes: Sequence[Node], path: str) -> dict[str, str]:
    """Where the copy of each node lies; folders come before what lies in them."""
    paths = {nodes[0].id: path}
    for node in nodes[1:]:
        paths[node.id] = f"{paths[node.parent_id]}/{node.names[0]}"
    return paths
