"""How many uploads begin in a second when many clients want one group, and when each has its own.

Peers, alternating with ours in the same run on the same PostgreSQL: the least that a reservation
can be, an UPDATE of the group and an INSERT into the journal; as two statements in a transaction
for each client, and as one statement (a CTE). Neither makes an upload. Ours does: its row, its
content, counts of running uploads, the place in the tree, the member's share.

    python bench/reservations.py --clients 50 --seconds 5 --rounds 3
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import asyncpg  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from filestore.acts.beginning import Wish  # noqa: E402
from filestore.acts.uploads import Limits, Request  # noqa: E402
from filestore.meta.database import Database, open_database  # noqa: E402
from filestore.meta.tables import domains, uploads, users  # noqa: E402
from filestore.model import MAX_INT, Actor, ChunkerParams, Protocol  # noqa: E402
from filestore.names import parse_name  # noqa: E402
from filestore.transfer.admitting import Admitting  # noqa: E402
from tests.services.hot_path import add_group  # noqa: E402
from tests.services.postgres import postgres  # noqa: E402

DOMAIN: Final = "default"
POOL_SIZE: Final = 10
"""Connections of one process of ours, as its settings say; the peers have one for each client."""
USER: Final = "usr_bench"
LIMITS: Final = Limits(
    max_size=MAX_INT // 2,
    expire_s=3600,
    cap_s=3600,
    per_user=MAX_INT,
    per_group=MAX_INT,
    reserve_step=1,
)

_MOVE: Final = (
    "UPDATE groups SET reserved = reserved + 1, journal_seq = journal_seq + 1 WHERE id = $1"
    " AND used + reserved + 1 <= quota_limit"
    " RETURNING id, journal_seq, used, reserved"
)
_WRITE: Final = (
    "INSERT INTO quota_journal (group_id, seq, cause, delta_used, delta_reserved, used_after,"
    " reserved_after)"
)
_CTE: Final = (
    f"WITH moved AS ({_MOVE}) {_WRITE} SELECT id, journal_seq, 'reserve', 0, 1, used, reserved"
    " FROM moved"
)

Reserve = Callable[[int, str], Awaitable[None]]
"""One reservation in a group by the client of that number."""


async def _two_statements(pool: "asyncpg.Pool[Any]", _client: int, group: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_MOVE, group)
        await connection.execute(f"{_WRITE} VALUES ($1, $2, 'reserve', 0, 1, $3, $4)", *tuple(row))


async def _one_statement(pool: "asyncpg.Pool[Any]", _client: int, group: str) -> None:
    async with pool.acquire() as connection:
        await connection.execute(_CTE, group)


async def _ours(admitting: Admitting, client: int, group: str) -> None:
    name = parse_name(f"file {client}")
    request = Request(group, DOMAIN, USER, Protocol.TUS, 1, name=name)
    await admitting.begin(Wish(Actor(USER), request))


async def measure(reserve: Reserve, groups: Sequence[str], clients: int, seconds: float) -> float:
    """Reservations a second that ``clients`` make together, each as soon as its last is done."""
    ends_at = time.perf_counter() + seconds
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() < ends_at:
            await reserve(number, groups[number % len(groups)])
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.perf_counter() - began)


async def fill(db: Database, groups: int) -> None:
    async def act(tx: Any) -> None:
        await tx.execute(domains.insert().values(id=DOMAIN))
        await tx.execute(users.insert().values(id=USER, name=USER, name_key=USER))
        for number in range(groups):
            await add_group(tx, f"grp_{number:03}", quota=MAX_INT // 2, domain=DOMAIN)

    await db.transact(act)


async def run(url: str, *, clients: int, seconds: float, rounds: int) -> dict[str, Any]:
    db = await open_database(url, pool_size=POOL_SIZE)
    await fill(db, clients)
    plain = url.replace("postgresql+asyncpg", "postgresql")
    said: dict[str, Any] = {}
    async with asyncpg.create_pool(plain, min_size=clients, max_size=clients) as pool:
        admitting = Admitting(db, ChunkerParams(), LIMITS)
        ways: dict[str, Reserve] = {
            "two statements": lambda client, group: _two_statements(pool, client, group),
            "one statement": lambda client, group: _one_statement(pool, client, group),
            "ours": lambda client, group: _ours(admitting, client, group),
        }
        for place, many in (("hot", 1), ("spread", clients)):
            names = [f"grp_{number:03}" for number in range(many)]
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds + 1):
                for way, reserve in ways.items():
                    rate = await measure(reserve, names, clients, seconds)
                    await db.transact(_end_uploads)
                    if number > 0:  # in the first round connections prepare their statements
                        rates[way].append(rate)
            said[place] = {way: round(statistics.median(rate)) for way, rate in rates.items()}
        await admitting.close()
    await db.close()
    return said


async def _end_uploads(tx: Any) -> None:
    """So that counting the running ones costs the same in each round."""
    await tx.execute(sa.delete(uploads))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args(arguments)
    with postgres() as service:
        options = {"clients": wanted.clients, "seconds": wanted.seconds, "rounds": wanted.rounds}
        said = asyncio.run(run(service.make_database(), **options))
    if wanted.json:
        print(json.dumps(said))
        return 0
    for place, rates in said.items():
        for way, rate in rates.items():
            print(f"{place:8} {way:16} {rate:6} a second, ours / it = {rates['ours'] / rate:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
