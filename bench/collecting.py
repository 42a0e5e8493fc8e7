"""What a collection costs and whom it disturbs, and how that grows with the database.

For each database and size: rows are filled in, then for each number of orphans small uploads
run alone, and beside a collection of so many orphans; behind that, an fsck and a scrub. Objects
are not the subject: the store keeps nothing and answers at once.

    python bench/collecting.py --blocks 200000,2000000 --orphans 10000,100000
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import beside  # noqa: E402
from bench.beside import Task  # noqa: E402
from bench.filling import STREAMS, WARM_PART, Round, Shape, connect, fill, queue  # noqa: E402
from filestore.meta.database import open_database  # noqa: E402
from tests.services.postgres import PostgresService, postgres  # noqa: E402

DATABASES = ("postgres", "sqlite")
BLOCKS_OF_A_VERSION: Final = 10
ALONE_PART: Final = 20
"""One in so many of a round's files is for the uploads that run alone."""

_ROLE: Final = "uploads"
_WAIT: Final = re.compile(r"acquired \w+ on .* after ([0-9.]+) ms")
"""What PostgreSQL logs of a lock that was waited for longer than ``deadlock_timeout``."""


@dataclass(frozen=True)
class Place:
    """One empty database. ``uploads_url``: as ``url``, but PostgreSQL logs each wait of 1 ms
    for a lock; None when all must happen in one process."""

    url: str
    uploads_url: str | None = None
    service: PostgresService | None = None

    async def watch(self) -> None:
        """Makes the role whose waits are logged."""
        connection = await connect(self.url)
        try:
            await connection.execute(f"CREATE ROLE {_ROLE} SUPERUSER LOGIN")
            for setting in ("log_lock_waits = on", "deadlock_timeout = '1ms'"):
                await connection.execute(f"ALTER ROLE {_ROLE} SET {setting}")
        finally:
            await connection.close()

    def waits(self) -> list[float]:
        """All waits of uploads for locks until now, in milliseconds."""
        log = "" if self.service is None else self.service.log
        return [float(wait) for wait in _WAIT.findall(log)]


@dataclass
class Bench:
    """All rounds on one database of one size."""

    place: Place
    shape: Shape
    streams: int
    seconds: float

    async def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        rounds = await fill(self.place.url, self.shape)
        said: dict[str, Any] = {
            "blocks": self.shape.blocks,
            "versions": self.shape.versions,
            "filled_s": round(time.perf_counter() - began, 1),
        }
        if self.place.service is not None:
            await self.place.watch()
        said["rounds"] = [_told(await self._round(one)) for one in rounds]
        task = self._task("fsck")
        said |= _told(await beside.run_apart(task))
        scrub = replace(task, do=["scrub"], seconds=self.seconds * 4)
        return said | _told(await beside.run_apart(scrub))

    async def _round(self, one: Round) -> dict[str, Any]:
        some = one.files.start + max(1, len(one.files) // ALONE_PART)
        alone = replace(self._task("uploads"), files=(one.files.start, some), seconds=self.seconds)
        before = len(self.place.waits())
        alone_said = (await self._uploads(alone))["uploads"]
        alone_said |= _lock_waits(self.place.waits()[before:])
        await queue(self.place.url, one.ids)
        together = replace(alone, files=(some, one.files.stop), do=["collect", "uploads"])
        said = await self._together(together)
        collected = said["collect"]
        return {
            "orphans": len(one.ids),  # of which a few are collected to become warm
            "blocks_per_s": round(collected["freed"] / collected["seconds"]),
            "cpu_ms_per_block": round(collected["cpu_s"] * 1000 / max(1, collected["freed"]), 2),
            "kept": len(one.ids) * (WARM_PART - 1) // WARM_PART - collected["freed"],
            "collect": collected,
            "alone": alone_said,
            "beside": said["uploads"],
        }

    async def _uploads(self, task: Task) -> dict[str, Any]:
        if self.place.uploads_url is None:
            return await beside.run_apart(task)
        return await beside.run(replace(task, url=self.place.uploads_url))

    async def _together(self, task: Task) -> dict[str, Any]:
        """SQLite has one process: who collects there also uploads."""
        if self.place.uploads_url is None:
            return await beside.run_apart(task)
        db = await open_database(self.place.uploads_url)
        try:
            async with beside.uploading(task, db) as course:
                before = 0

                def begin() -> None:
                    nonlocal before
                    before = len(self.place.waits())
                    course.begin()

                said = await beside.run_apart(replace(task, do=["collect"]), begin)
        finally:
            await db.close()
        return said | {"uploads": course.said | _lock_waits(self.place.waits()[before:])}

    def _task(self, do: str) -> Task:
        return Task(self.place.url, [do], self.shape.seed, streams=self.streams)


def _told(said: dict[str, Any]) -> dict[str, Any]:
    """The same, after a word to who waits: all of it takes a quarter of an hour."""
    print(json.dumps(said), file=sys.stderr, flush=True)
    return said


def _lock_waits(waits: Sequence[float]) -> dict[str, Any]:
    return {"lock_waits": len(waits), "max_lock_ms": round(max(waits, default=0.0), 1)}


@contextmanager
def _place(database: str) -> Iterator[Place]:
    with ExitStack() as stack:
        if database == "postgres":
            service = stack.enter_context(postgres())
            url = service.make_database()
            yield Place(url, url.replace("postgres@", f"{_ROLE}@", 1), service)
            return
        folder = Path(tempfile.mkdtemp(prefix="filestore-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Place(f"sqlite+aiosqlite:///{folder}/filestore.sqlite3")


def measure(database: str, shape: Shape, *, streams: int, seconds: float) -> dict[str, Any]:
    """All rounds, fsck and scrub on a fresh database of one size."""
    with _place(database) as place:
        said = asyncio.run(Bench(place, shape, streams, seconds).run())
        return {"database": database} | said


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blocks", type=_numbers, default=(200_000, 2_000_000))
    parser.add_argument("--orphans", type=_numbers, default=(10_000, 100_000))
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument(
        "--uploads", type=int, choices=range(STREAMS + 1), default=STREAMS, help="streams"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="that uploads run alone")
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="of all rows; printed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def _show(result: dict[str, Any]) -> None:
    print(f"seed {result['seed']}, {result['uploads']} streams, load {result['load']}")
    print(
        "database   blocks    orphans  blocks/s  memory MiB   collector's  uploads' transactions:"
        " median, p99, max ms   longest wait for a lock\n"
        "                              (kept)    (before)     longest tx   alone          "
        "       beside               alone  beside  for the collector"
    )
    for row in result["databases"]:
        for one in row["rounds"]:
            _show_round(row, one)
    for row in result["databases"]:
        found, scrubbed = row["fsck"], row["scrub"]
        print(
            f"{row['database']:9} {row['blocks']:8} blocks: fsck {found['seconds']} s,"
            f" {found['memory_mib']} MiB; scrub {scrubbed['head_s']} s, then"
            f" {scrubbed['blocks_per_s']} blocks/s, longest tx {scrubbed['max_held_ms']} ms,"
            f" {scrubbed['memory_mib']} MiB"
        )


def _show_round(row: dict[str, Any], one: dict[str, Any]) -> None:
    memory, alone, with_it = one["collect"]["memory_mib"], one["alone"], one["beside"]
    is_one = row["database"] == "sqlite"  # one at a time writes
    key = "max_wait_ms" if is_one else "max_lock_ms"
    rates = [
        f"{said.get('median_ms', 0):5} {said.get('p99_ms', 0):6} {said.get('max_ms', 0):6}"
        for said in (alone, with_it)
    ]
    print(
        f"{row['database']:9} {row['blocks']:8} {one['orphans']:8}  {one['blocks_per_s']:6}"
        f" ({one['kept']})  {memory['peak']} ({memory['before']}) "
        f" {one['collect']['max_held_ms']:8}     {rates[0]}   {rates[1]}"
        f"   {alone.get(key, 0):6} {with_it.get(key, 0):6}"
        f" {with_it.get('max_behind_ms', 0) if is_one else with_it.get(key, 0):6}"
    )


def main() -> None:
    wish = _arguments()
    result: dict[str, Any] = {
        "seed": wish.seed,
        "uploads": wish.uploads,
        "load": round(os.getloadavg()[0], 1),
        "databases": [
            measure(
                database,
                Shape(count, count // BLOCKS_OF_A_VERSION, wish.orphans, wish.seed),
                streams=wish.uploads,
                seconds=wish.seconds,
            )
            for database in filter(None, wish.databases.split(","))
            for count in wish.blocks
        ],
    }
    if wish.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


if __name__ == "__main__":
    main()
