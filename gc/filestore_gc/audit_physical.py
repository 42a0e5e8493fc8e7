"""What the block table says is stored, held against what the store itself lists.

The two streams are those of fsck, merged, and each difference is looked at again as fsck does: so
what comes or goes meanwhile is none.
"""

from collections.abc import Callable
from typing import Final

from filestore.blocks.port import StoredObject
from filestore.meta.database import Database
from filestore.meta.healing import KnownBlock
from filestore_gc.audit_report import Physical, Stored
from filestore_gc.fsck_objects import ObjectCheck, ObjectStore
from filestore_gc.fsck_report import Findings, Kind

KEPT: Final = 1000
"""Differences of one kind that are looked at; with more the report says that it is not whole."""
_DIFFERENT: Final = (Kind.ORPHAN, Kind.MISSING, Kind.WRONG_SIZE)


async def audit_physical(
    db: Database, store: ObjectStore, *, on_page: Callable[[int], None] = lambda objects: None
) -> Physical:
    """Counts and bytes by state and by domain, and what differs.

    Cost: a listing of the store and a walk over all blocks, streamed. ``on_page`` is told now and
    then how many objects were seen.

    :raises StoreUnavailable, DatabaseUnavailable: safe to repeat.
    """
    found, findings = Physical(), Findings(KEPT)
    check = ObjectCheck(db, store, findings)
    check.on_page = lambda: on_page(check.objects)

    def count(domain: str, listed: StoredObject | None, row: KnownBlock | None) -> None:
        _count(found, domain, listed, row)

    check.on_pair = count
    await check.run()
    found.findings = tuple(each for each in findings.items if each.kind in _DIFFERENT)
    found.is_whole = findings.is_whole
    return found


def _count(
    found: Physical, domain: str, listed: StoredObject | None, row: KnownBlock | None
) -> None:
    size = 0 if listed is None else listed.size
    if listed is not None:
        objects, total = found.domains.get(domain, (0, 0))
        found.domains[domain] = (objects + 1, total + size)
    if row is None:
        found.unnamed = (found.unnamed[0] + 1, found.unnamed[1] + size)
        return
    stored = found.states.setdefault(row.state, Stored())
    stored.blocks += 1
    stored.bytes += row.size
    stored.stored_bytes += row.stored_size or 0
    stored.objects += listed is not None
    stored.object_bytes += size
