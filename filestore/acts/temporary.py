"""Acts on temporary files: what came when its group was beyond its soft limit.

The pool's account is charged for them, not the group's. One becomes permanent when its group has
room: by itself below the soft limit, when asked for below the limit. Otherwise it goes when its
time has run out, and the version before it is the current one again.

Locks as everywhere: the group, the pool's account, the tree's root, the file.
"""

from dataclasses import replace

from filestore.acts.booking import book_removed
from filestore.errors import Json, NotFound
from filestore.meta import contents, entries, lineage, temporary
from filestore.meta.accounts import POOL_ID, Pool, find_pool, hold, set_pool
from filestore.meta.database import Tx
from filestore.meta.log import audit, emit
from filestore.meta.tables import versions
from filestore.meta.temporary import TemporaryVersion
from filestore.meta.versions import remove_where
from filestore.model import Actor, Cause
from filestore.quota import ledger


async def change_pool(
    tx: Tx, actor: Actor, *, domain_id: str, limit: int, keep_s: int | None = None
) -> Pool:
    """How many bytes all temporary files may take (0: no new ones), and how long one stays (None:
    as long as before)."""
    before = await find_pool(tx)
    await set_pool(tx, domain_id=domain_id, limit=limit, keep_s=keep_s)
    after = await find_pool(tx)
    assert after is not None
    await audit(
        tx,
        actor,
        "pool.change",
        target=POOL_ID,
        before=None if before is None else {"bytes": before.limit, "keep_s": before.keep_s},
        after={"bytes": after.limit, "keep_s": after.keep_s},
    )
    return after


async def keep_if_fitting(
    tx: Tx, actor: Actor, group_id: str, version_id: str
) -> TemporaryVersion | None:
    """:func:`keep` while the group stays below its soft limit with it; None: it would not."""
    await ledger.lock(tx, group_id)
    if not await temporary.is_fitting(tx, version_id):
        return None
    return await keep(tx, actor, group_id, version_id)


async def keep(tx: Tx, actor: Actor, group_id: str, version_id: str) -> TemporaryVersion:
    """Makes a temporary version permanent; as it was before.

    :raises NotFound: the group has no such temporary version.
    :raises QuotaExceeded: the group, or its author's share, has no room for it.
    """
    found = await _held(tx, group_id, version_id, to_remove=False)
    paths = await lineage.paths_of(tx, [found.entry_id])
    of_group = ledger.Line(
        cause=Cause.PROMOTE,
        used=found.size,
        ref=found.id,
        member_id=found.author_id,
        entry_id=found.entry_id,
        path=paths.get(found.entry_id),
        mime=found.mime,
    )
    await ledger.post(tx, actor, group_id, [of_group], within_limit=True)
    await ledger.post(tx, actor, found.pool_id, [replace(of_group, used=-found.size)])
    await temporary.make_permanent(tx, found.id)
    path = of_group.path
    await audit(tx, actor, "version.keep", group_id=group_id, target=path, after=found.id)
    told: dict[str, Json] = {"path": path, "version": found.id, "bytes": found.size}
    await emit(tx, "file.promoted", told, group_id=group_id)
    return found


async def expire(tx: Tx, actor: Actor, group_id: str, version_id: str) -> bool:
    """Removes a temporary version whose time has run out; False: it has not, or it is permanent.

    Its file goes with it when it has no other version.
    """
    try:
        found = await _held(tx, group_id, version_id, to_remove=True)
    except NotFound:
        return False
    if not await temporary.is_due(tx, version_id):
        return False
    paths = await lineage.paths_of(tx, [found.entry_id])
    gone = await remove_where(tx, versions.c.id == found.id)
    files = await _without_version(tx, found.entry_id)
    await book_removed(tx, actor, group_id, gone, paths, cause=Cause.EXPIRE, files=files)
    await contents.release(tx, [version.content_id for version in gone])
    path = paths.get(found.entry_id)
    what: dict[str, Json] = {"version": found.id, "bytes": found.size}
    await audit(tx, actor, "file.expire", group_id=group_id, target=path, before=what)
    await emit(tx, "file.expired", {"path": path, **what}, group_id=group_id)
    return True


async def _without_version(tx: Tx, entry_id: str) -> list[str]:
    """Lets the newest version that is left be the current one; the file's id if it went."""
    number = await temporary.newest_number(tx, entry_id)
    if number is None:
        return await entries.remove(tx, [entry_id])
    await entries.update(tx, entry_id, {"current_number": number})
    await temporary.renew(tx, entry_id, number)
    return []


async def _held(tx: Tx, group_id: str, version_id: str, *, to_remove: bool) -> TemporaryVersion:
    """The version, its group, its pool and its file locked.

    :raises NotFound: the group has no such temporary version.
    """
    await ledger.lock(tx, group_id)
    await hold(tx, POOL_ID)
    await entries.root(tx, group_id, write=to_remove, share=not to_remove)
    found = await temporary.find(tx, version_id)
    if found is None or found.group_id != group_id:
        raise NotFound(what="temporary version")
    await entries.get(tx, found.entry_id, write=True)
    again = await temporary.find(tx, version_id)
    if again is None:
        raise NotFound(what="temporary version")
    return again
