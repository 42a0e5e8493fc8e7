"""Server processes: who is alive. Unfinished blocks of a dead one are the collector's."""

from typing import Final

import sqlalchemy as sa

from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.tables import now_us, processes

SILENCE_S: Final = 60.0
"""After how long without a sign of life a process counts as dead: five beats may be lost."""


async def insert_process(tx: Tx, *, host: str, pid: int) -> str:
    """A row for this process; its id."""
    process_id = new_id("prc")
    await tx.execute(processes.insert().values(id=process_id, host=host, pid=pid))
    return process_id


async def note_alive(tx: Tx, process_id: str) -> bool:
    """Moves ``seen_at``; False when somebody has recorded this process as ended."""
    done = await tx.execute(
        processes.update()
        .where(processes.c.id == process_id, processes.c.ended_at.is_(None))
        .values(seen_at=now_us())
    )
    return done.rowcount == 1


async def end_process(tx: Tx, process_id: str) -> None:
    """Records that the process has ended, so nobody waits for its silence."""
    await tx.execute(
        processes.update()
        .where(processes.c.id == process_id, processes.c.ended_at.is_(None))
        .values(ended_at=now_us())
    )


def is_alive(silent_s: float = SILENCE_S) -> sa.ColumnElement[bool]:
    """That a row of ``processes`` is of one that has not ended and was seen lately."""
    oldest = now_us() - sa.literal(int(silent_s * 1_000_000), sa.BigInteger)
    return sa.and_(processes.c.ended_at.is_(None), processes.c.seen_at >= oldest)


async def seems_alive(tx: Tx, process_id: str) -> bool:
    """Whether this process has not ended and was seen lately."""
    query = sa.select(sa.literal(1)).where(processes.c.id == process_id, is_alive())
    return await tx.scalar(query) is not None


async def was_idle(tx: Tx, at_us: int) -> bool:
    """Whether processes that the database knows of were at work before this moment, and none can
    have been at it."""
    margin = sa.literal(int(SILENCE_S * 1_000_000), sa.BigInteger)
    end = sa.func.coalesce(processes.c.ended_at, processes.c.seen_at)
    was_before = sa.exists().where(processes.c.started_at <= at_us)
    was_at_work = sa.exists().where(processes.c.started_at - margin <= at_us, end + margin >= at_us)
    return bool(await tx.scalar(sa.select(sa.and_(was_before, ~was_at_work))))


async def living_processes(tx: Tx, *, silent_s: float = SILENCE_S) -> set[str]:
    """Ids of the processes that have not ended and were seen within ``silent_s`` seconds."""
    return set(await tx.scalars(sa.select(processes.c.id).where(is_alive(silent_s))))
