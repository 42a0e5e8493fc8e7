"""Telling whether a block is well, and what follows: lost, live again, healed.

Only what was read twice and found bad, in a store that shows its identity after that, becomes
lost. An unmounted disk, an empty folder and a store that does not answer are not damage.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from filestore.blocks.backend import BlockFetcher
from filestore.blocks.port import BlockKey, StoreIdentity
from filestore.blocks.verified import VerifiedReader
from filestore.errors import BlockDamaged, BlockMissing, Json, StoreUnavailable
from filestore.failpoints import reached
from filestore.meta import healing, instance
from filestore.meta.affected import Affected, DamagedFile, find_damaged
from filestore.meta.database import Database
from filestore.meta.fsck import DEAD
from filestore.meta.healing import KnownBlock
from filestore_gc.guards import judge_identity
from filestore_gc.report import Problem

PAGE: Final = 10_000
"""Rows of blocks that one statement looks at: some 10 ms."""

_NAME: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\.([0-9A-Za-z]{16})", re.ASCII)


class HealStore(BlockFetcher, StoreIdentity, Protocol):
    """What of a store is needed to tell whether blocks are well."""


def key_of(block: KnownBlock) -> BlockKey:
    """The key of the block's object."""
    return BlockKey(block.domain, block.hash, block.generation)


def parse_path(path: str) -> BlockKey | None:
    """The key of the object at ``path``; None: no block is called so."""
    domain, _, name = path.partition("/")
    match = _NAME.fullmatch(name)
    return None if match is None else BlockKey(domain, bytes.fromhex(match[2]), match[3])


async def find_problem(db: Database, store: StoreIdentity) -> Problem | None:
    """Whether the store is not this database's, or not of its age.

    The mark is read first: a database's epoch is raised before its store's. Two looks, because
    the epochs may be raised in between.

    :raises StoreUnavailable: the store cannot be read, so nothing may be concluded.
    """
    problem = None
    for _ in range(2):
        mark = await store.read_identity()
        problem = judge_identity(await db.read(instance.find_instance), mark)
        if problem is None:
            return None
    return problem


def is_usable(problem: Problem | None) -> bool:
    """Whether objects and rows may be held against each other in spite of the problem."""
    return problem is None or problem.code in ("database-older", "store-older")


async def confirm_store(db: Database, store: StoreIdentity) -> None:
    """Goes on if the store shows that it is this database's, whatever their epochs.

    :raises StoreUnavailable: it does not, so what is missing there is not lost.
    """
    problem = await find_problem(db, store)
    if problem is not None and not is_usable(problem):
        raise StoreUnavailable(reason=problem.reason)


async def find_fault(reader: VerifiedReader, block: KnownBlock) -> str | None:
    """Why the block cannot be read, also at a second try; None: it reads well.

    :raises StoreUnavailable: the store does not answer, which says nothing of the block.
    """
    fault: str | None = None
    for _ in range(2):
        try:
            await reader.get_block(key_of(block), block.size)
        except BlockMissing:
            fault = "its object is gone"
        except BlockDamaged as err:
            fault = str(err.members.get("reason", err))
        else:
            return None
    return fault


async def lose(
    db: Database, store: StoreIdentity, block: KnownBlock, fault: str
) -> Affected | None:
    """Marks a block lost that :func:`find_fault` found bad; whom that concerns.

    None: it was no longer live.

    :raises StoreUnavailable: the store does not show its identity; nothing is marked.
    """
    await confirm_store(db, store)
    affected = await db.transact(partial(healing.mark_lost, block=block, why=fault))
    if affected is not None:
        reached("heal.lost")
    return affected


async def heal_all(db: Database, *, page: int = PAGE) -> int:
    """Heals every block that is not live and has a live twin; how many references.

    Costs a walk over all blocks, in short statements.

    :raises DatabaseUnavailable: what is done is done. Safe to repeat.
    """
    healed = 0
    after: int | None = DEAD.first
    while after is not None:
        after, found = await db.read(partial(DEAD.page, after=after, rows=page))
        for dead in found:
            if dead.twin_id is not None:
                healed += await healing.heal(db, dead.block.block_id)
    return healed


async def heal_hashes(db: Database, domain: str, hashes: Sequence[bytes]) -> int:
    """Heals the lost blocks with these hashes that have a live twin; how many references."""
    lost = await db.read(partial(healing.find_lost, domain_id=domain, hashes=hashes))
    return sum([await healing.heal(db, block_id) for block_id in lost])


@dataclass(frozen=True, slots=True)
class DamagedPage:
    """Damaged files of one group, in order. ``next``: behind which to go on; None: the end."""

    files: tuple[DamagedFile, ...]
    next: str | None

    def to_json(self) -> dict[str, Json]:
        items: list[Json] = [
            {"version_id": found.id, "bytes": found.size, **found.file.to_json()}
            for found in self.files
        ]
        return {"items": items, "next": self.next}


async def list_damaged(
    db: Database, group_id: str, *, after: str = "", limit: int = 100
) -> DamagedPage:
    """What of a group cannot be read whole now: for its members. Empty again when healed.

    The caller has checked that the asker is a member.
    """
    look = partial(find_damaged, group_id=group_id, after=after, limit=limit + 1)
    found = await db.read(look)
    is_more = len(found) > limit
    return DamagedPage(tuple(found[:limit]), found[limit - 1].id if is_more else None)
