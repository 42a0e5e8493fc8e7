"""What a collection refuses to work on: a database that cannot be the store's, or is not whole.

Guards judge only what no committed release explains. A store whose last file was deleted is
collected to nothing; one whose references have vanished is left alone. There is no option to
force it.

The *epoch* is a number in the database and in the store's identity mark. It is raised when the
collector of a process begins, before a collection dooms its first block and behind that one, and
hourly when blocks have come; in the database first, and under the lease. So a database that was
restored from a backup has a smaller one than its store: the blocks that it still counts on may
be gone, and the store may hold files that it does not know.
"""

from typing import Final, Protocol

from filestore.blocks.port import BlockRemover, StoreIdentity
from filestore.errors import StoreUnavailable
from filestore.failpoints import reached
from filestore.meta import fsck, gc_figures, gc_reaper, instance
from filestore.meta.database import Database, Tx
from filestore.meta.instance import Instance
from filestore_gc.report import Problem

EXPLAINED: Final = (
    gc_reaper.RELEASED,
    gc_reaper.UNFINISHED,
    gc_reaper.FOUND,
    fsck.ADOPTED,
    "superseded",
    "unstaged",
)
"""Reasons that are release events: a committed act let go of the block, or gave it a row for a
while (``adopted``: its references are in another database). Any other word (fsck's finds) is
a guess from what is missing, and what is missing may be the database's damage."""

FEW: Final = 1000
"""Blocks that may be collected without a release event, whatever the size of the store."""
PART: Final = 0.1
"""Part of the store that may be, when it is more than a few."""


class CollectorStore(BlockRemover, StoreIdentity, Protocol):
    """What of a store the collector is handed: it removes, and reads nobody's bytes."""


async def find_refusal(db: Database, store: StoreIdentity) -> Problem | None:
    """Why nothing may be collected now, or None.

    :raises StoreUnavailable: the store cannot be read, so nothing may be concluded.
    """
    wrong = await _judge_both(db, store)
    return wrong or await db.read(_judge_database)


async def _judge_both(db: Database, store: StoreIdentity) -> Problem | None:
    """Whether both belong together. Another process may raise the epoch between the two looks,
    so what is wrong is only believed when the database has not moved meanwhile."""
    found = await db.read(instance.find_instance)
    while True:
        wrong = judge_identity(found, await store.read_identity())
        again = await db.read(instance.find_instance) if wrong is not None else found
        if again == found:
            return wrong
        found = again


def judge_identity(database: Instance | None, mark: tuple[str, int] | None) -> Problem | None:
    """Whether store and database belong together and are of the same age."""
    if database is None:
        return Problem("no-instance", "no filestore has ever started on this database")
    if mark is None:
        return Problem("store-unmarked", "the block store carries no mark of a filestore")
    store_id, epoch = mark
    if store_id != database.store_id:
        reason = f"the block store is {store_id}, the database's is {database.store_id}"
        return Problem("store-foreign", reason)
    if epoch > database.epoch:
        reason = (
            f"the store is at epoch {epoch}, the database at {database.epoch}: it was restored"
            " from an older backup; fsck --repair brings both together"
        )
        return Problem("database-older", reason)
    if epoch < database.epoch - 1:
        reason = f"the store is at epoch {epoch}, the database at {database.epoch}: the store is"
        return Problem("store-older", f"{reason} an older copy")
    return None


async def raise_epoch(db: Database, store: StoreIdentity) -> None:
    """From now on a backup of the database that was made before is recognised as older.

    A crash in between leaves the mark one behind; the next call makes that good first, because
    a backup may have been made since.

    :raises StoreUnavailable: nothing may be doomed. Safe to repeat.
    """
    seen = await db.read(instance.find_instance)
    mark = await store.read_identity()
    if seen is None or judge_identity(seen, mark) is not None:
        raise _changed()
    if mark != (seen.store_id, seen.epoch):
        await store.write_identity(seen.store_id, seen.epoch)
    raised = await db.transact(lambda tx: instance.raise_epoch(tx, seen))
    if raised is None:
        raise _changed()
    reached("epoch.raised")
    await store.write_identity(raised.store_id, raised.epoch)
    reached("epoch.marked")


def _changed() -> StoreUnavailable:
    return StoreUnavailable(reason="database and block store are no longer what they were")


async def _judge_database(tx: Tx) -> Problem | None:
    if await gc_figures.has_contents_without_references(tx):
        reason = "there are files with bytes, and not one reference to a block is left"
        return Problem("references-missing", reason)
    guessed = await gc_figures.unexplained(tx, EXPLAINED, more_than=FEW)
    if guessed:
        return judge_share(guessed, await gc_figures.count_live(tx))
    return None


def judge_share(guessed: int, live: int) -> Problem | None:
    """Whether ``guessed`` of the ``live`` blocks may go though no release event names them."""
    if guessed <= max(FEW, PART * live):
        return None
    reason = f"{guessed} of {live} blocks are not referred to, and no deletion explains it"
    return Problem("too-many-unexplained", reason)
