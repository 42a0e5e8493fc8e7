"""Queries on blocks and the collector's queue. Each names id, generation and expected state.

Zero rows always mean: the block is no longer what the caller thought; begin again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filestore.meta.columns import Number
from filestore.meta.database import Tx
from filestore.meta.plans import among
from filestore.meta.tables import blocks, gc_queue, now_us
from filestore.model import BlockState, Codec


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A block about to be stored: 32-byte hash, size in bytes, a fresh generation."""

    hash: bytes
    size: int
    generation: str


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block whose object is durable and whose row is uploading. ``stored_size`` in bytes."""

    block_id: int
    generation: str
    stored_size: int
    codec: Codec


_FIND_LIVE: Final = sa.select(blocks.c.hash, blocks.c.id).where(
    blocks.c.domain_id == sa.bindparam("domain"),
    blocks.c.hash.in_(sa.bindparam("hashes", expanding=True)),
    blocks.c.state == BlockState.LIVE,
)
_INSERT_UPLOADING: Final = (
    sa.insert(blocks)
    .values(
        state=BlockState.UPLOADING, deadline_at=now_us() + sa.bindparam("within_us", type_=Number)
    )
    .returning(blocks.c.id, sort_by_parameter_order=True)
)
_PIN_LIVE: Final = (
    sa.select(blocks.c.id)
    .where(blocks.c.id.in_(sa.bindparam("ids", expanding=True)), blocks.c.state == BlockState.LIVE)
    .order_by(blocks.c.id)
    .with_for_update(read=True)
)
_MAKE_LIVE: Final = (
    sa.update(blocks)
    .where(
        blocks.c.id == sa.bindparam("of_id"),
        blocks.c.generation == sa.bindparam("of_generation"),
        blocks.c.state == BlockState.UPLOADING,
    )
    .values(
        state=BlockState.LIVE,
        stored_size=sa.bindparam("to_stored_size"),
        codec=sa.bindparam("to_codec"),
        state_at=now_us(),
        checked_at=now_us(),
    )
)
# Built once: making a statement costs more of the event loop than running it.


def named(generations: Mapping[int, str]) -> sa.ColumnElement[bool]:
    """That a row of ``blocks`` is one of these, by id and generation.

    Two lists instead of pairs, for which SQLite would read the whole table. An id is that of one
    row, and the generation of another block in the list is not there by chance.
    """
    ids, values = list(generations), list(generations.values())
    return sa.and_(among(blocks.c.id, ids), among(blocks.c.generation, values))


async def find_live(tx: Tx, domain_id: str, hashes: Collection[bytes]) -> dict[bytes, int]:
    """The ids of those blocks that are live in the domain, by hash. A hint: it takes no lock."""
    rows = await tx.execute(_FIND_LIVE, {"domain": domain_id, "hashes": list(hashes)})
    return {row.hash: row.id for row in rows}


async def insert_uploading(
    tx: Tx, domain_id: str, process_id: str, news: Sequence[NewBlock], *, deadline_s: float
) -> list[int]:
    """Rows that announce objects, in the order of ``news``; committed before any PUT is sent.

    No PUT of theirs is sent later than ``deadline_s`` seconds from now.
    """
    rows = await tx.execute(
        _INSERT_UPLOADING,
        [
            {
                "domain_id": domain_id,
                "hash": new.hash,
                "generation": new.generation,
                "size": new.size,
                "process_id": process_id,
                "within_us": int(deadline_s * 1_000_000),
            }
            for new in news
        ],
    )
    return list(rows.scalars())


async def pin_live(tx: Tx, ids: Iterable[int]) -> set[int]:
    """Locks those of the blocks that are live against the collector, until the transaction ends.

    FOR SHARE, in the order of their ids. FOR KEY SHARE or the foreign key alone would not
    wait for a collector that is condemning the block (``gc-safety`` facts C to E).
    """
    wanted = sorted(set(ids))
    if not wanted:
        return set()
    return set((await tx.execute(_PIN_LIVE, {"ids": wanted})).scalars())


async def make_live(tx: Tx, stored: Sequence[StoredBlock]) -> set[int]:
    """The ids of those that are live now and pinned: made so here, or by who shares them.

    ``stored`` is in the order of hashes, or two batches wait for each other in the unique
    index. What is missing in the answer was reaped.

    :raises IntegrityError: ``uq_blocks_live``: another process was first.
    """
    if not stored:
        return set()
    await tx.execute(
        _MAKE_LIVE,
        [
            {
                "of_id": one.block_id,
                "of_generation": one.generation,
                "to_stored_size": one.stored_size,
                "to_codec": one.codec,
            }
            for one in stored
        ],
    )
    return await pin_live(tx, [one.block_id for one in stored])


async def condemn_uploading(tx: Tx, block_id: int, generation: str) -> None:
    """Gives up an own block that lost the race to live. The caller has queued it before."""
    await tx.execute(
        sa.update(blocks)
        .where(
            blocks.c.id == block_id,
            blocks.c.generation == generation,
            blocks.c.state == BlockState.UPLOADING,
        )
        .values(state=BlockState.CONDEMNED, state_at=now_us())
    )


async def enqueue(tx: Tx, ids: Iterable[int], reason: str, *, group_id: str | None = None) -> None:
    """Asks the collector to look at these blocks; it frees those that nothing refers to.

    An existing task is touched, never skipped: DO NOTHING would lose this event to a
    collector that is about to delete the task. A block whose row is gone needs no task.
    ``group_id`` is who let go of it, for the collector's report.
    """
    wanted = sorted(set(ids))
    if not wanted:
        return
    found = (
        sa.select(blocks.c.id, sa.literal(reason), sa.literal(group_id, sa.String))
        .where(among(blocks.c.id, wanted))
        .order_by(blocks.c.id)
    )
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(gc_queue).from_select(["block_id", "reason", "group_id"], found)
    later = (
        sa.func.greatest(gc_queue.c.not_before, statement.excluded.not_before)
        if tx.dialect.name == "postgresql"
        else sa.func.max(gc_queue.c.not_before, statement.excluded.not_before)
    )
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[gc_queue.c.block_id],
            set_={
                "not_before": later,
                "reason": statement.excluded.reason,
                "group_id": sa.func.coalesce(statement.excluded.group_id, gc_queue.c.group_id),
            },
        )
    )
