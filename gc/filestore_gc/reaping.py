"""The reaper: what has ended becomes ended in the database, and lets go of its blocks.

Everything here is a committed change of state under the lock of what changes, one short
transaction after the other; no clock is compared later to tell what is still in use. It
removes no object. Each sweep goes upwards through ids, so it ends however fast others add.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from filestore.acts import temporary as acts
from filestore.acts import tree, versions
from filestore.acts.uploads import end, expire_if_due
from filestore.errors import Conflict, NotFound, QuotaExceeded
from filestore.failpoints import reached
from filestore.meta import gc_reaper, jobs, retention, temporary, uploads
from filestore.meta.blocks import enqueue
from filestore.meta.database import Database, Tx
from filestore.meta.tables import now_us
from filestore.meta.temporary import TemporaryVersion
from filestore.model import SYSTEM, UploadState
from filestore_gc.pacing import Stride, transact_in
from filestore_gc.report import Reaped

BATCH: Final = 100
"""Blocks, uploads or entries that are looked at together."""
RELEASE_BATCH: Final = 1000
"""References removed in one transaction at most: some milliseconds on PostgreSQL, whatever the size
of the file. On SQLite, with millions of blocks, it would keep all others from writing for 60 ms."""


FORGET_BATCH: Final = 1000
"""Rows of what has ended that go in one transaction."""
PRUNE_BATCH: Final = 100
"""Versions of one file removed in one transaction, each with the lock of its content."""


async def _carry_on() -> None:
    """Nobody else wants the work."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How long in seconds what has ended can still be asked about; None: for ever."""

    uploads_s: int | None = None
    jobs_s: int | None = None


@dataclass(frozen=True, slots=True)
class Reaper:
    """``process_id`` is this process, which is alive whatever the database says.

    ``keep`` is asked between transactions; it raises when the work is somebody else's now.
    """

    db: Database
    process_id: str
    keep: Callable[[], Awaitable[None]] = _carry_on
    memory: Memory = Memory()

    async def reap(self, *, thorough: bool) -> Reaped:
        """Everything that is due. ``thorough``: also looks for blocks on their way out that no
        task names, which costs a walk over all that are on their way out, and forgets what
        ended long ago.

        :raises DatabaseUnavailable: what is done is done. Safe to repeat.
        """
        expired = await self.expire_uploads()
        purged, freed = await self.purge_trash()
        pruned, saved = await self.prune_versions()
        pruned += await self.expire_temporary()
        await self.keep_temporary()
        released, references = await self.release_contents()
        unfinished = await self.condemn_unfinished()
        found = await self.list_unlisted() if thorough else 0
        if thorough:
            await self.forget_ended()
        return Reaped(
            uploads=expired,
            entries=purged,
            versions=pruned,
            bytes=freed + saved,
            contents=released,
            references=references,
            unfinished=unfinished,
            found=found,
        )

    async def expire_uploads(self) -> int:
        """Ends uploads whose time has run out, and parts of files that are gone; how many."""
        done = await self._end_uploads(uploads.due, _expire)
        return done + await self._end_uploads(uploads.left_over, _end_left_over)

    async def _end_uploads(
        self, find: Callable[..., Awaitable[list[str]]], end: Callable[..., Awaitable[bool]]
    ) -> int:
        """Ends each that is found, unless it is found wrong under its lock; how many ended."""
        done = 0
        while due := await self.db.read(partial(find, limit=BATCH)):
            before = done
            for upload_id in due:
                await self.keep()
                done += await self.db.transact(partial(end, upload_id=upload_id))
                reached("reap.expired")
            if done == before:
                break  # all of them went on meanwhile
        return done

    async def purge_trash(self) -> tuple[int, int]:
        """Removes what lies in the trash too long; how many entries, and bytes of quota."""
        done, freed, after = 0, 0, ""
        while due := await self.db.read(partial(gc_reaper.due_trash, after=after, limit=BATCH)):
            for after, group_id in due:
                await self.keep()
                size = await _purge(self.db, after, group_id)
                reached("reap.purged")
                done += size is not None
                freed += size or 0
        return done, freed

    async def prune_versions(self) -> tuple[int, int]:
        """Removes versions that their group's rule does not keep; how many, and bytes of quota."""
        done, freed, after = 0, 0, ""
        while due := await self.db.read(partial(retention.due_files, after=after, limit=BATCH)):
            for after, group_id in due:
                count, size = await self._prune(after, group_id)
                done, freed = done + count, freed + size
        return done, freed

    async def expire_temporary(self) -> int:
        """Removes temporary versions whose time has run out; how many."""
        done, after = 0, ""
        while due := await self.db.read(partial(temporary.due, after=after, limit=BATCH)):
            for version in due:
                await self.keep()
                done += await self.db.transact(partial(_expire_version, version=version))
                reached("reap.temporary")
            after = due[-1].id
        return done

    async def keep_temporary(self) -> int:
        """Makes temporary versions permanent that have room in their groups now; how many."""
        done, after = 0, ""
        while found := await self.db.read(partial(temporary.fitting, after=after, limit=BATCH)):
            for version in found:
                await self.keep()
                done += await _keep_version(self.db, version)
            after = found[-1].id
        return done

    async def release_contents(self) -> tuple[int, int]:
        """Removes references of contents that nobody wants; how many contents and references."""
        done, removed, after = 0, 0, 0
        page = partial(gc_reaper.deleting_contents, limit=BATCH)
        stride = self._stride(RELEASE_BATCH)
        while found := await self.db.read(partial(page, after=after)):
            for after in found:
                count = await self._release(after, stride)
                removed += count
                done += 1
        return done, removed

    async def condemn_unfinished(self) -> int:
        """Condemns blocks that were announced and whose writer is gone or too late."""
        process_id, alone = self.process_id, self.db.is_sqlite
        done, after = 0, 0
        page = partial(gc_reaper.unfinished, process_id=process_id, alone=alone, limit=BATCH)
        condemn = partial(gc_reaper.condemn_unfinished, process_id=process_id, alone=alone)
        while ids := await self.db.read(partial(page, after=after)):
            await self.keep()
            done += await self.db.transact(partial(condemn, ids=ids))
            reached("reap.unfinished")
            after = ids[-1]
        return done

    async def list_unlisted(self) -> int:
        """Queues blocks that are on their way out and that no task names."""
        done, after = 0, 0
        while ids := await self.db.read(partial(gc_reaper.unlisted, after=after, limit=BATCH)):
            await self.keep()
            await self.db.transact(partial(enqueue, ids=ids, reason=gc_reaper.FOUND))
            done, after = done + len(ids), ids[-1]
        return done

    async def forget_ended(self) -> int:
        """Removes the rows of uploads and jobs that ended long ago; how many. No file, no quota
        and no block depends on them."""
        done = 0
        for forget, kept_s in (
            (uploads.forget_ended, self.memory.uploads_s),
            (jobs.forget_ended, self.memory.jobs_s),
        ):
            if kept_s is None:
                continue
            before = now_us() - sa.literal(kept_s * 1_000_000, sa.BigInteger)
            stride = self._stride(FORGET_BATCH)
            count = size = 1
            while count == size:
                await self.keep()
                size = stride.size
                act = partial(forget, before=before, limit=size)
                count = await transact_in(stride, self.db, act)
                done += count
        return done

    async def _prune(self, entry_id: str, group_id: str) -> tuple[int, int]:
        done, freed, count = 0, 0, PRUNE_BATCH
        act = partial(_prune, entry_id=entry_id, group_id=group_id)
        while count == PRUNE_BATCH:
            await self.keep()
            count, size = await self.db.transact(act)
            reached("reap.pruned")
            done, freed = done + count, freed + size
        return done, freed

    async def _release(self, content_id: int, stride: Stride) -> int:
        removed = 0
        is_more = True
        while is_more:
            await self.keep()
            act = partial(gc_reaper.release_batch, content_id=content_id, limit=stride.size)
            batch = await transact_in(stride, self.db, act)
            reached("reap.released")
            removed, is_more = removed + batch.references, batch.is_more
        return removed

    def _stride(self, most: int) -> Stride:
        """On PostgreSQL all at once: nobody waits for what is being released or forgotten."""
        return Stride(most, is_one=True) if self.db.is_sqlite else Stride(most, least=most)


async def _expire(tx: Tx, upload_id: str) -> bool:
    """Whether the upload's time had run out; asked under its lock, so it may have gone on."""
    return await expire_if_due(tx, await uploads.lock(tx, upload_id))


async def _end_left_over(tx: Tx, upload_id: str) -> bool:
    """Whether the part's file is gone still; asked under its lock, as a new final may need it."""
    upload = await uploads.lock_left_over(tx, upload_id)
    if upload is not None:
        await end(tx, SYSTEM, upload, UploadState.EXPIRED)
    return upload is not None


async def _purge(db: Database, entry_id: str, group_id: str) -> int | None:
    """Bytes of quota that went with the entry; None when it is no longer due.

    Somebody may have restored it, and put it into the trash again, since it was found due.
    """

    async def check(tx: Tx) -> None:
        if not await gc_reaper.is_still_due(tx, entry_id):
            raise NotFound(what="entry that is due")

    try:
        return await tree.purge_all(db, SYSTEM, group_id, entry_id, check)
    except (NotFound, Conflict):
        return None


async def _expire_version(tx: Tx, version: TemporaryVersion) -> bool:
    """Whether it went. The group may be gone meanwhile, and it may have become permanent."""
    try:
        return await acts.expire(tx, SYSTEM, version.group_id, version.id)
    except NotFound:
        return False


async def _keep_version(db: Database, version: TemporaryVersion) -> bool:
    """Whether it is permanent now. Others may have taken the room, or the member's share has none:
    then its time goes on."""
    group_id, version_id = version.group_id, version.id
    act = partial(acts.keep_if_fitting, actor=SYSTEM, group_id=group_id, version_id=version_id)
    try:
        return await db.transact(act) is not None
    except (NotFound, QuotaExceeded):
        return False


async def _prune(tx: Tx, entry_id: str, group_id: str) -> tuple[int, int]:
    """How many versions went, and bytes of quota. The group may be gone meanwhile."""
    try:
        return await versions.prune_versions(tx, SYSTEM, group_id, entry_id, limit=PRUNE_BATCH)
    except NotFound:
        return 0, 0
