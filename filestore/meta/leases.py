"""Work that one process does at a time, whoever wants to: who has it, and how it went last.

Nothing rests on a lease but that work is not done twice. Who was silent for so long that
another took the lease finds so in :func:`hold`, and may have overlapped with it until then.
"""

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filestore.errors import Json
from filestore.meta.database import Tx
from filestore.meta.processes import is_alive
from filestore.meta.tables import leases, now_us, processes


@dataclass(frozen=True, slots=True)
class LastTurn:
    """The turn that is under way (``ended_at`` None), or the last one. Times in microseconds.

    ``result`` and ``report`` (JSON) are those of the last turn that ended.
    """

    turn: int
    process_id: str | None
    taken_at: int
    ended_at: int | None
    result: str | None
    report: str | None


async def take(
    tx: Tx, name: str, process_id: str, *, alone: bool, rest_us: int | None = None
) -> int | None:
    """The number of my turn; None while another living process has the lease.

    ``alone``: no other process lives. With ``rest_us`` also None until the last turn is over
    for that long. A process never asks for what it holds itself, so what was left behind in
    its name counts as free.
    """
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(leases).values(name=name, process_id=process_id, turn=1)
    # By the locked row's own column: a subquery that reads ``leases`` would see it as it was
    # before another process that was a moment earlier took it.
    lives = leases.c.process_id.in_(sa.select(processes.c.id).where(is_alive()))
    is_free = sa.or_(leases.c.process_id.is_(None), leases.c.process_id == process_id, ~lives)
    conditions = [sa.true() if alone else is_free]
    if rest_us is not None:
        rested = leases.c.ended_at <= now_us() - sa.literal(rest_us, sa.BigInteger)
        conditions.append(sa.or_(leases.c.ended_at.is_(None), rested))
    took = await tx.scalar(
        statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={
                "process_id": statement.excluded.process_id,
                "turn": leases.c.turn + 1,
                "taken_at": now_us(),
                "ended_at": None,
            },
            where=sa.and_(*conditions),
        ).returning(leases.c.turn)
    )
    return None if took is None else int(took)


async def hold(tx: Tx, name: str, turn: int) -> bool:
    """Whether it still is my turn."""
    query = sa.select(leases.c.turn).where(leases.c.name == name, leases.c.turn == turn)
    return await tx.scalar(query.with_for_update(read=True)) is not None


async def release(tx: Tx, name: str, turn: int, *, result: str, report: Json) -> bool:
    """Ends my turn; False when it had been taken from me, and nothing is changed."""
    done = await tx.execute(
        leases.update()
        .where(leases.c.name == name, leases.c.turn == turn)
        .values(process_id=None, ended_at=now_us(), result=result, report=json.dumps(report))
    )
    return done.rowcount == 1


async def last_turn(tx: Tx, name: str) -> LastTurn | None:
    """The turn under way or the last one; None: there never was one."""
    row = (await tx.execute(sa.select(leases).where(leases.c.name == name))).one_or_none()
    if row is None:
        return None
    return LastTurn(row.turn, row.process_id, row.taken_at, row.ended_at, row.result, row.report)
