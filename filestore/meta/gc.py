"""The collector's queue, the locks under which it decides, and the steps to a block's end.

A look (:func:`look`) is three statements, and their order is what makes collection safe: the
tasks are locked, then their blocks, and then a *new* statement looks for references. At READ
COMMITTED a statement that waited for a lock still sees what was there before it waited; a
later one sees what the writer that held the lock has committed. Locks are taken only where
nobody else holds them, so the collector waits for no writer, and is in no deadlock.

Each step names id, generation and the state it expects, in the transaction of the look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.meta.blocks import named
from filestore.meta.database import Tx
from filestore.meta.plans import among
from filestore.meta.tables import blocks, content_blocks, gc_queue, now_us
from filestore.model import BlockState


@dataclass(frozen=True, slots=True)
class Task:
    """One task with its block, as both were at ``now``. Times in microseconds.

    ``size``: bytes that the block's object takes in the store, as far as that is known.
    """

    block_id: int
    domain: str
    hash: bytes
    generation: str
    state: BlockState
    size: int
    created_at: int
    state_at: int
    not_before: int
    attempts: int
    reason: str
    group_id: str | None
    queued_at: int
    removed_at: int | None
    is_referenced: bool
    now: int


async def page(
    tx: Tx, *, after: int, limit: int, queued_until: int | None = None, due_only: bool = False
) -> list[Task]:
    """Tasks of blocks behind ``after``, by block. A hint: it takes no lock.

    ``due_only``: those whose ``not_before`` has come; ``queued_until``: not the later ones.
    """
    statement = _select().where(gc_queue.c.block_id > after)
    if queued_until is not None:
        statement = statement.where(gc_queue.c.queued_at <= queued_until)
    if due_only:
        statement = statement.where(gc_queue.c.not_before <= now_us())
    rows = await tx.execute(statement.order_by(gc_queue.c.block_id).limit(limit))
    return [_task(row) for row in rows]


async def pick(tx: Tx, ids: Sequence[int]) -> list[Task]:
    """The tasks of these blocks, by block. A hint: it takes no lock."""
    if not ids:
        return []
    statement = _select().where(among(gc_queue.c.block_id, ids))
    return [_task(row) for row in await tx.execute(statement.order_by(gc_queue.c.block_id))]


async def look(tx: Tx, ids: Sequence[int]) -> list[Task]:
    """Those of the tasks that nobody else holds, locked with their blocks, and what is so now.

    What these rows say, and that nothing refers to the blocks, holds until the transaction
    ends. A block locked without its task would lose the event of a reference that is being
    removed meanwhile.
    """
    tasks = sa.select(gc_queue.c.block_id).where(among(gc_queue.c.block_id, ids))
    locked = await tx.scalars(tasks.order_by(gc_queue.c.block_id).with_for_update(skip_locked=True))
    mine = sa.select(blocks.c.id).where(among(blocks.c.id, list(locked)))
    held = await tx.scalars(mine.order_by(blocks.c.id).with_for_update(skip_locked=True))
    return await pick(tx, list(held))


async def drop(tx: Tx, tasks: Sequence[Task]) -> None:
    """Forgets that these blocks were to be looked at; the blocks stay as they are."""
    await tx.execute(sa.delete(gc_queue).where(among(gc_queue.c.block_id, _ids(tasks))))


async def condemn(tx: Tx, tasks: Sequence[Task], *, grace_us: int) -> None:
    """From now on writers do without these blocks; looked at again when the grace is over."""
    await _change(tx, tasks, BlockState.CONDEMNED)
    await _schedule(tx, tasks, now_us() + sa.literal(grace_us, sa.BigInteger))


async def doom(tx: Tx, tasks: Sequence[Task]) -> None:
    """The point of no return: once this is committed, the objects may go at any moment."""
    await _change(tx, tasks, BlockState.DELETING)
    await _schedule(tx, tasks, now_us())


async def postpone(tx: Tx, tasks: Sequence[Task], *, delay_us: int) -> None:
    """Tries these again later, and counts that it was tried."""
    await tx.execute(
        sa.update(gc_queue)
        .where(among(gc_queue.c.block_id, _ids(tasks)))
        .values(
            attempts=gc_queue.c.attempts + 1,
            not_before=now_us() + sa.literal(delay_us, sa.BigInteger),
        )
    )


async def bury(tx: Tx, tasks: Sequence[Task], *, age_us: int) -> None:
    """The objects are gone, but a late PUT may come: the rows stay until they are this old."""
    born = sa.select(blocks.c.created_at).where(blocks.c.id == gc_queue.c.block_id)
    await tx.execute(
        sa.update(gc_queue)
        .where(among(gc_queue.c.block_id, _ids(tasks)))
        .values(
            attempts=0,
            removed_at=sa.func.coalesce(gc_queue.c.removed_at, now_us()),
            not_before=born.scalar_subquery() + sa.literal(age_us, sa.BigInteger),
        )
    )


async def forget(tx: Tx, tasks: Sequence[Task]) -> None:
    """Removes the rows: nothing says any more that these objects ever were.

    :raises IntegrityError: something refers to one of them after all; nothing is changed.
    """
    if not tasks:
        return
    await drop(tx, tasks)
    gone = await tx.execute(
        sa.delete(blocks).where(_named(tasks), blocks.c.state == BlockState.DELETING)
    )
    _expect(gone.rowcount, tasks)


async def _change(tx: Tx, tasks: Sequence[Task], state: BlockState) -> None:
    for old in sorted({task.state for task in tasks}):
        some = [task for task in tasks if task.state is old]
        changed = await tx.execute(
            sa.update(blocks)
            .where(_named(some), blocks.c.state == old)
            .values(state=state, state_at=now_us())
        )
        _expect(changed.rowcount, some)


async def _schedule(tx: Tx, tasks: Sequence[Task], at: sa.ColumnElement[int]) -> None:
    if tasks:
        await tx.execute(
            sa.update(gc_queue)
            .where(among(gc_queue.c.block_id, _ids(tasks)))
            .values(not_before=at, attempts=0)
        )


def _named(tasks: Sequence[Task]) -> sa.ColumnElement[bool]:
    return named({task.block_id: task.generation for task in tasks})


def _expect(count: int, tasks: Sequence[Task]) -> None:
    if count != len(tasks):
        raise AssertionError(f"{len(tasks)} blocks were locked and {count} of them changed")


def _ids(tasks: Sequence[Task]) -> list[int]:
    return [task.block_id for task in tasks]


def _select() -> sa.Select[Any]:
    # With LIMIT, because PostgreSQL would answer a plain EXISTS by reading all references once
    # a page, where a probe of the index for each block is meant.
    reference = sa.select(content_blocks.c.block_id).where(content_blocks.c.block_id == blocks.c.id)
    is_referenced = reference.limit(1).scalar_subquery().is_not(None)
    return sa.select(
        blocks.c.id,
        blocks.c.domain_id,
        blocks.c.hash,
        blocks.c.generation,
        blocks.c.state,
        sa.func.coalesce(blocks.c.stored_size, blocks.c.size).label("bytes"),
        blocks.c.created_at,
        blocks.c.state_at,
        gc_queue.c.not_before,
        gc_queue.c.attempts,
        gc_queue.c.reason,
        gc_queue.c.group_id,
        gc_queue.c.queued_at,
        gc_queue.c.removed_at,
        is_referenced.label("is_referenced"),
        now_us().label("now"),
    ).select_from(gc_queue.join(blocks, blocks.c.id == gc_queue.c.block_id))


def _task(row: Any) -> Task:
    return Task(
        block_id=row.id,
        domain=row.domain_id,
        hash=row.hash,
        generation=row.generation,
        state=BlockState(row.state),
        size=row.bytes,
        created_at=row.created_at,
        state_at=row.state_at,
        not_before=row.not_before,
        attempts=row.attempts,
        reason=row.reason,
        group_id=row.group_id,
        queued_at=row.queued_at,
        removed_at=row.removed_at,
        is_referenced=bool(row.is_referenced),
        now=row.now,
    )
