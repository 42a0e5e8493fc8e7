"""Journals of any length without the acts behind them, and what changes them behind their back."""

import random
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.journal import Balance
from filestore.meta.tables import groups, quota_journal
from filestore.meta.triggers import APPEND_ONLY
from filestore.model import Cause
from tests.services.hot_path import GROUP, USER, Process

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
START: Final = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z."""

_NAMES: Final = ("=1+1", "+a", "-b", "@c", "\tx", 'q"uo,te', "näme", "plain", "中")


async def write_rows(
    process: Process,
    count: int,
    *,
    group: str = GROUP,
    seed: object = 0,
    step_us: int = SECOND,
    start_us: int = START,
) -> None:
    """Adds rows that the ledger could have written, with the group's counters; from a seed."""
    chance = random.Random(f"{seed}")

    async def act(tx: Tx) -> None:
        counters = [groups.c[name] for name in (*Balance._fields, "journal_seq")]
        query = sa.select(*counters).where(groups.c.id == group).with_for_update(key_share=True)
        *balance, seq = (await tx.execute(query)).one()
        rows = []
        for number in range(1, count + 1):
            moved = _moves(chance, balance)
            balance = [old + delta for old, delta in zip(balance, moved, strict=True)]
            at = start_us + number * step_us
            rows.append(_row(chance, group, seq + number, at, moved, balance))
        for begin in range(0, count, 500):
            await tx.execute(quota_journal.insert(), rows[begin : begin + 500])
        values = dict(zip(Balance._fields, balance, strict=True)) | {"journal_seq": seq + count}
        await tx.execute(groups.update().where(groups.c.id == group).values(values))

    await process.db.transact(act)


async def tamper(process: Process, *statements: sa.sql.base.Executable) -> None:
    """Executes statements as who owns the database can: without the triggers."""
    await process.db.transact(partial(_without_triggers, statements=statements))


async def _without_triggers(tx: Tx, statements: Any) -> None:
    if tx.dialect.name == "postgresql":
        for table in APPEND_ONLY:
            await tx.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    else:
        for name in await tx.scalars(
            sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        ):
            await tx.execute(sa.text(f"DROP TRIGGER {name}"))
    for statement in statements:
        await tx.execute(statement)


def _moves(chance: random.Random, balance: list[int]) -> list[int]:
    """What never makes a counter negative, and always moves one."""
    while True:
        moved = [
            chance.randrange(-min(balance[0], 500), 1000),
            chance.randrange(-min(balance[1], 500), 1000),
            chance.randrange(-min(balance[2], 1), 2),
            chance.randrange(-min(balance[3], 1), 2),
        ]
        if any(moved):
            return moved


def _row(
    chance: random.Random, group: str, seq: int, at: int, moved: list[int], balance: list[int]
) -> dict[str, Any]:
    folder, name = chance.choice(_NAMES), chance.choice(_NAMES)
    path = chance.choice((None, f"/{name}", f"/{folder}/{name}", f"/{folder}/x/{name}"))
    names = ("used", "reserved", "files", "reserved_files")
    return {
        "group_id": group,
        "seq": seq,
        "at": at,
        "actor_id": chance.choice((None, USER, "usr_unknown")),
        "cause": chance.choice(list(Cause)).value,
        "ref": f"ref_{seq}",
        "member_id": chance.choice((None, USER, "usr_unknown")),
        "entry_id": chance.choice((None, f"ent_{seq}")),
        "path": path,
        "mime": chance.choice((None, "text/plain", "image/png")),
        **{f"delta_{name}": value for name, value in zip(names, moved, strict=True)},
        **{f"{name}_after": value for name, value in zip(names, balance, strict=True)},
    }
