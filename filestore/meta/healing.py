"""Lost blocks: how they become lost, whom that concerns, and how they are healed.

A block is *lost* when its object is gone or has wrong bytes. Its row keeps its key, and never
comes back under another. It is healed when a live block with the same domain and hash (its
*twin*) exists: references are repointed to the twin, in batches, and the lost one is queued.
Since both have the same bytes, nobody who reads or writes notices.

Each change of a block's state names id, generation and the expected state; zero rows mean
that it is no longer what the caller thought.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from filestore.errors import Json
from filestore.failpoints import reached
from filestore.meta.affected import Affected, affected_by_block, find_affected
from filestore.meta.blocks import enqueue, named, pin_live
from filestore.meta.database import Database, Tx, violates
from filestore.meta.log import audit, emit
from filestore.meta.plans import among
from filestore.meta.tables import blocks, content_blocks, now_us
from filestore.model import SYSTEM, BlockState, Codec

HEALED: Final = "healed"
"""Why a block is queued: it was lost, and nothing refers to it any more."""

HEAL_BATCH: Final = 500
"""References repointed in one transaction: some milliseconds."""

_GIVEN_UP: Final = (BlockState.LOST, BlockState.CONDEMNED, BlockState.DELETING)
"""States of blocks whose references are repointed. Only ``lost`` ones should have any."""

_REVIVABLE: Final = (BlockState.LOST, BlockState.CONDEMNED)
"""States that a block may leave for ``live``: nobody removes its object before a transaction
that would find it live."""


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """A row of ``blocks`` as it was read. Sizes in bytes; ``stored_size`` as a listing shows."""

    block_id: int
    domain: str
    hash: bytes
    generation: str
    size: int
    stored_size: int | None
    codec: Codec | None
    state: BlockState

    @property
    def name(self) -> str:
        """What the block is called in reports: hash and generation, as in its object's key."""
        return f"{self.hash.hex()}.{self.generation}"


@dataclass(frozen=True, slots=True)
class Healed:
    """What one batch did."""

    references: int
    is_more: bool


COLUMNS: Final = (
    blocks.c.id,
    blocks.c.domain_id,
    blocks.c.hash,
    blocks.c.generation,
    blocks.c.size,
    blocks.c.stored_size,
    blocks.c.codec,
    blocks.c.state,
)
_LOST: Final = sa.select(blocks.c.id).where(
    blocks.c.domain_id == sa.bindparam("domain"),
    blocks.c.hash.in_(sa.bindparam("hashes", expanding=True)),
    blocks.c.state == BlockState.LOST,
)


def known(row: Any) -> KnownBlock:
    """The block of a row that has :data:`COLUMNS`."""
    return KnownBlock(
        row.id,
        row.domain_id,
        row.hash,
        row.generation,
        row.size,
        row.stored_size,
        None if row.codec is None else Codec(row.codec),
        BlockState(row.state),
    )


async def find_block(tx: Tx, block_id: int, *, lock: bool = False) -> KnownBlock | None:
    """The row as it is now; held against changes of its state on request."""
    query = sa.select(*COLUMNS).where(blocks.c.id == block_id)
    row = (await tx.execute(query.with_for_update(read=True) if lock else query)).one_or_none()
    return None if row is None else known(row)


async def find_lost(tx: Tx, domain_id: str, hashes: Iterable[bytes]) -> list[int]:
    """Ids of lost blocks with these hashes.

    Who has just made a block live and looks then, sees each that was lost before: a block is
    lost only from ``live``, and of two blocks with one hash only one can be live.
    """
    rows = await tx.execute(_LOST, {"domain": domain_id, "hashes": sorted(hashes)})
    return list(rows.scalars())


async def lost_page(tx: Tx, *, after: int, limit: int) -> list[KnownBlock]:
    """Lost blocks behind ``after`` that something refers to, by id."""
    is_wanted = sa.exists().where(content_blocks.c.block_id == blocks.c.id)
    rows = await tx.execute(
        sa.select(*COLUMNS)
        .where(blocks.c.state == BlockState.LOST, blocks.c.id > after, is_wanted)
        .order_by(blocks.c.id)
        .limit(limit)
    )
    return [known(row) for row in rows]


async def mark_lost(tx: Tx, block: KnownBlock, why: str) -> Affected | None:
    """A live block becomes lost; whom that concerns. None: it is not what was seen any more.

    The caller has read the object twice, and the store's identity after that. Each group with
    a file that refers to the block gets a row in the audit log and an event that name its
    files.
    """
    changed = await tx.execute(
        sa.update(blocks)
        .where(_is(block), blocks.c.state == BlockState.LIVE)
        .values(state=BlockState.LOST, state_at=now_us(), checked_at=now_us())
    )
    if changed.rowcount != 1:
        return None
    affected = await affected_by_block(tx, block.block_id)
    said: dict[str, Json] = {"reason": why, "bytes": block.size, "files": affected.count}
    await audit(tx, SYSTEM, "block.lose", target=block.name, after=said)
    await emit(tx, "block.lost", {"block": block.name, **said})
    await _tell(tx, "file.damage", "file.damaged", block.name, affected)
    return affected


async def mark_live(tx: Tx, block: KnownBlock) -> bool:
    """A lost block that reads well again becomes live; whether it did.

    :raises IntegrityError: ``uq_blocks_live``: it has a live twin, so it is not needed.
    """
    changed = await tx.execute(
        sa.update(blocks)
        .where(_is(block), blocks.c.state == block.state, blocks.c.state.in_(_REVIVABLE))
        .values(state=BlockState.LIVE, state_at=now_us(), checked_at=now_us())
    )
    if changed.rowcount != 1:
        return False
    await audit(tx, SYSTEM, "block.revive", target=block.name, before={"state": block.state})
    await emit(tx, "block.revived", {"block": block.name, "state": block.state})
    return True


async def revive(db: Database, block: KnownBlock) -> bool:
    """Whether a block that reads well again is live now: not when it has a twin already."""
    try:
        is_live = await db.transact(lambda tx: mark_live(tx, block))
    except IntegrityError as err:
        if not violates(err, "uq_blocks_live"):
            raise
        return False
    if is_live:
        reached("heal.revived")
    return is_live


async def heal(db: Database, block_id: int, *, max_batches: int | None = None) -> int:
    """Repoints the references of a block to its live twin; how many. None without a twin.

    One short transaction a batch. Safe to stop and to repeat: readers use the twin meanwhile.

    :raises DatabaseUnavailable: what is done is done. Safe to repeat.
    """
    done, batches = 0, 0
    while max_batches is None or batches < max_batches:
        reached("heal.begun")
        healed = await db.transact(lambda tx: heal_batch(tx, block_id))
        reached("heal.repointed")
        done, batches = done + healed.references, batches + 1
        if not healed.is_more:
            break
    return done


async def heal_batch(tx: Tx, block_id: int, *, limit: int = HEAL_BATCH) -> Healed:
    """Repoints up to ``limit`` references of a block that is not live to its live twin.

    The block is queued first, by the order of locks; the collector cannot look at the task
    before this is committed, and finds the block unused when this was the last batch. The
    twin is held FOR SHARE where live, against the collector.
    """
    twin_id = await _twin_of(tx, block_id)
    if twin_id is None:
        return Healed(0, False)
    await enqueue(tx, [block_id], HEALED)
    if not await pin_live(tx, [twin_id]):
        return Healed(0, False)
    key = sa.tuple_(content_blocks.c.content_id, content_blocks.c.byte_offset)
    held = await tx.execute(
        sa.select(content_blocks.c.content_id, content_blocks.c.byte_offset)
        .where(content_blocks.c.block_id == block_id)
        .order_by(content_blocks.c.content_id, content_blocks.c.byte_offset)
        .limit(limit)
        .with_for_update()
    )
    rows = [(row.content_id, row.byte_offset) for row in held]
    if not rows:
        return Healed(0, False)
    await tx.execute(
        sa.update(content_blocks)
        .where(content_blocks.c.block_id == block_id, key.in_(rows))
        .values(block_id=twin_id)
    )
    await _tell_healed(tx, block_id, [content_id for content_id, _ in rows])
    return Healed(len(rows), len(rows) == limit)


async def _twin_of(tx: Tx, block_id: int) -> int | None:
    """The live block with the same domain and hash as this one, which is not live."""
    twin = blocks.alias("twin")
    query = sa.select(twin.c.id).join(
        blocks, sa.and_(blocks.c.domain_id == twin.c.domain_id, blocks.c.hash == twin.c.hash)
    )
    is_given_up = blocks.c.state.in_(_GIVEN_UP)
    query = query.where(blocks.c.id == block_id, is_given_up, twin.c.state == BlockState.LIVE)
    found = await tx.scalar(query)
    return None if found is None else int(found)


async def _tell_healed(tx: Tx, block_id: int, content_ids: Sequence[int]) -> None:
    block = await find_block(tx, block_id)
    if block is None:
        return
    affected = await find_affected(tx, content_ids)
    await audit(tx, SYSTEM, "block.heal", target=block.name, after={"references": len(content_ids)})
    await _tell(tx, "file.heal", "file.healed", block.name, affected)


async def _tell(tx: Tx, act: str, kind: str, block: str, affected: Affected) -> None:
    """Each group learns of its own files only."""
    for group_id, count in sorted(affected.counts.items()):
        files: list[Json] = [file.to_json() for file in affected.of_group(group_id)]
        said: dict[str, Json] = {"block": block, "count": count, "files": files}
        await audit(tx, SYSTEM, act, group_id=group_id, after=said)
        await emit(tx, kind, said, group_id=group_id)


def _is(block: KnownBlock) -> sa.ColumnElement[bool]:
    return sa.and_(blocks.c.id == block.block_id, blocks.c.generation == block.generation)


@dataclass(frozen=True, slots=True)
class Checked:
    """A live block and when it was last found well; a cursor through all of them."""

    block: KnownBlock
    checked_at: int


async def oldest_checks(tx: Tx, *, after: tuple[int, int], until: int, limit: int) -> list[Checked]:
    """Live blocks last checked up to ``until``, oldest check first, behind (time, id)."""
    key = sa.tuple_(blocks.c.checked_at, blocks.c.id)
    rows = await tx.execute(
        sa.select(*COLUMNS, blocks.c.checked_at)
        .where(
            blocks.c.state == BlockState.LIVE,
            key > sa.tuple_(*map(sa.literal, after)),
            blocks.c.checked_at <= until,
        )
        .order_by(blocks.c.checked_at, blocks.c.id)
        .limit(limit)
    )
    return [Checked(known(row), row.checked_at) for row in rows]


async def count_checks(tx: Tx, *, until: int) -> int:
    """How many blocks :func:`oldest_checks` would give. Costs a walk over an index."""
    query = sa.select(sa.func.count()).where(
        blocks.c.state == BlockState.LIVE, blocks.c.checked_at <= until
    )
    return await tx.scalar(query) or 0


async def oldest_check(tx: Tx) -> int | None:
    """When the live block was read whose check is oldest; None: there is none."""
    query = sa.select(sa.func.min(blocks.c.checked_at)).where(blocks.c.state == BlockState.LIVE)
    found = await tx.scalar(query)
    return None if found is None else int(found)


async def note_checked(tx: Tx, checked: Sequence[KnownBlock]) -> None:
    """Records that these blocks were read and are well. Locked by id, as writers pin them."""
    generations = {block.block_id: block.generation for block in checked}
    await tx.execute(
        sa.select(blocks.c.id)
        .where(among(blocks.c.id, generations))
        .order_by(blocks.c.id)
        .with_for_update(key_share=True)
    )
    await tx.execute(
        sa.update(blocks)
        .where(named(generations), blocks.c.state == BlockState.LIVE)
        .values(checked_at=now_us())
    )


async def date_unchecked(tx: Tx) -> None:
    """Live blocks that were never read back come first: a time is needed to sort by."""
    await tx.execute(
        sa.update(blocks)
        .where(blocks.c.state == BlockState.LIVE, blocks.c.checked_at.is_(None))
        .values(checked_at=0)
    )
