"""“What would this free?”: the answer for a path of a group, and more of it for site admins."""

from dataclasses import dataclass

from filestore.acts import tree
from filestore.errors import Json, NotFound
from filestore.ids import is_id
from filestore.meta import entries
from filestore.meta.database import Database, Tx
from filestore.meta.freeable import Freeable, Physical, find_freeable, find_physical


@dataclass(frozen=True, slots=True)
class FreeableReport:
    """One answer. ``physical`` is there for site admins only: it tells what others hold."""

    path: str
    freeable: Freeable
    physical: Physical | None = None

    def to_json(self) -> dict[str, Json]:
        """``quota_bytes``: freed from the quota when the path is deleted past the trash.

        ``unique_bytes`` and ``shared_bytes``: of its distinct blocks, those that nothing else
        in the group refers to, and the others; ``held_by`` says who refers to those.
        """
        found = self.freeable
        held: list[Json] = [
            {
                "path": holder.path,
                "bytes": holder.bytes,
                "trashed": holder.is_trashed,
                "upload": holder.is_upload,
            }
            for holder in found.holders
        ]
        said: dict[str, Json] = {
            "path": self.path,
            "quota_bytes": found.quota,
            "versions": found.versions,
            "unique_bytes": found.unique,
            "shared_bytes": found.shared,
            "held_by": held,
        }
        if self.physical is not None:
            groups: list[Json] = [
                {"group": group.group_id, "name": group.name, "bytes": group.bytes}
                for group in self.physical.groups
            ]
            said["physical"] = {
                "freed_bytes": self.physical.freed,
                "kept_bytes": self.physical.kept,
                "held_by_groups": groups,
            }
        return said


async def show_freeable(
    db: Database, group_id: str, path: tree.Path, *, is_admin: bool = False
) -> FreeableReport:
    """What deleting the file or folder at ``path`` would free; the root: all that lives.

    The caller has checked that the asker is a member, and whether a site admin.

    :raises NotFound: nothing lies there.
    """

    async def look(tx: Tx) -> FreeableReport:
        entry = await tree.resolve(tx, group_id, path)
        return await _report(tx, group_id, entry.id, tree.shown_path(path), is_admin=is_admin)

    return await db.read(look)


async def show_trashed(
    db: Database, group_id: str, entry_id: str, *, is_admin: bool = False
) -> FreeableReport:
    """What purging something in the trash would free, by its id.

    :raises NotFound: nothing of that id is in the group's trash.
    """

    async def look(tx: Tx) -> FreeableReport:
        entry = await entries.get(tx, entry_id) if is_id("ent", entry_id) else None
        if entry is None or entry.group_id != group_id or entry.deleted_at is None:
            raise NotFound(what="entry in the trash")
        path = entry.deleted_path or entry.name
        return await _report(tx, group_id, entry.id, path, is_admin=is_admin)

    return await db.read(look)


async def _report(
    tx: Tx, group_id: str, entry_id: str, path: str, *, is_admin: bool
) -> FreeableReport:
    found = await find_freeable(tx, group_id, entry_id)
    physical = await find_physical(tx, entry_id) if is_admin else None
    return FreeableReport(path, found, physical)
