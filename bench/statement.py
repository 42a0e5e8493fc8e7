"""What a statement and a verification of a long journal take, beside the plainest export.

For each database a journal is filled in and sealed; then, in each round, a client fetches the CSV
statement from a server over HTTP, a job verifies the journal, and the same rows are written as
CSV by what the database brings: COPY of PostgreSQL, a plain SELECT of sqlite3. All write to the
same disk. Ratios are of times within a round.

    python bench/statement.py --rows 1000000 --rounds 3
"""

import argparse
import asyncio
import csv
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.filling import connect  # noqa: E402
from filestore.meta.journal import COLUMNS  # noqa: E402
from filestore.offline import working_on  # noqa: E402
from filestore.quota.sealing import mark_seals, seal_next  # noqa: E402
from filestore.settings import load  # noqa: E402
from filestore.telemetry import configure_logging  # noqa: E402
from tests.services.postgres import postgres  # noqa: E402
from tests.services.server import Server  # noqa: E402

DATABASES: Final = ("sqlite", "postgres")
GROUP: Final = "bench"
MIB: Final = 1024 * 1024
SEAL_ROWS: Final = 1000
_START_US: Final = 1_735_689_600_000_000
_STEP_US: Final = 31_000_000
_NAMES: Final = (
    *("group_id", "seq", "at", "actor_id", "cause", "ref", "member_id", "entry_id", "path"),
    *("mime", "delta_used", "delta_reserved", "delta_files", "delta_reserved_files"),
    *("used_after", "reserved_after", "files_after", "reserved_files_after"),
)
_PIECE: Final = 1 << 20

Row = tuple[Any, ...]


def journal_rows(group: str, user: str, count: int) -> Iterator[Row]:
    """What uploads write: a reservation, then the charge that it becomes."""
    used = files = 0
    for seq in range(1, count + 1):
        at, number = _START_US + seq * _STEP_US, (seq + 1) // 2
        size = 1_000 + number * 7919 % 5_000_000
        path = f"/folder-{number % 50}/sub/file-{number}.bin"
        who = (group, seq, at, user)
        what = (f"upl_{number:026d}", user, f"ent_{number:026d}", path, "application/x-bench")
        if seq % 2:
            yield (*who, "reserve", *what, 0, size, 0, 1, used, size, files, 1)
        else:
            used, files = used + size, files + 1
            yield (*who, "charge", *what, size, -size, 1, -1, used, 0, files, 0)


class Bench:
    """One server on one database, whose one group has a long journal."""

    def __init__(self, folder: Path, url: str, rows: int) -> None:
        self._folder = folder
        self._url = url
        self._rows = rows
        self._server = Server(folder / "data", database=url)
        self._group = ""

    @property
    def _is_sqlite(self) -> bool:
        return self._url.startswith("sqlite")

    @property
    def _path(self) -> str:
        return self._url.partition("///")[2]

    def prepare(self) -> float:
        """Fills and seals; seconds that sealing took."""
        self._server.start()
        self._group = self._call("POST", "groups", {"name": GROUP, "quota_bytes": 2**50})["id"]
        user = self._call("GET", "users")["items"][0]["id"]
        self._server.stop()
        if self._is_sqlite:
            self._fill_sqlite(user)
        else:
            asyncio.run(self._fill_postgres(user))
        return asyncio.run(self._seal())

    def run(self, rounds: int) -> dict[str, Any]:
        """Times of each round, and the peaks of a server that did one of the two alone."""
        said: dict[str, Any] = {"seal_s": round(self.prepare(), 1)}
        times: dict[str, list[float]] = {"statement": [], "verify": [], "plain": []}
        steps = {"statement": self._statement, "verify": self._verify, "plain": self._plain}
        order = list(steps)
        for _ in range(rounds):
            for name in order:
                if name != "plain":
                    self._server.start()
                    idle = self._server.peak_memory
                began = time.perf_counter()
                steps[name]()
                times[name].append(time.perf_counter() - began)
                if name != "plain":
                    said[f"{name}_memory_mib"] = {
                        "before": idle // MIB,
                        "peak": self._server.peak_memory // MIB,
                    }
                    self._server.stop()
            order.reverse()
        said |= {f"{name}_s": round(statistics.median(found), 1) for name, found in times.items()}
        for name in ("statement", "verify"):
            ratios = [mine / plain for mine, plain in zip(times[name], times["plain"], strict=True)]
            said[f"{name}_to_plain"] = round(statistics.median(ratios), 2)
        said["csv_mib"] = (self._folder / "statement.csv").stat().st_size // MIB
        said["plain_mib"] = (self._folder / "plain.csv").stat().st_size // MIB
        return said

    def close(self) -> None:
        self._server.close()

    def _statement(self) -> None:
        request = self._request("GET", f"groups/{GROUP}/quota/statement?format=csv")
        lines = 0
        with (
            urllib.request.urlopen(request, timeout=3600) as answer,
            (self._folder / "statement.csv").open("wb") as file,
        ):
            while piece := answer.read(_PIECE):
                lines += piece.count(b"\r\n")
                file.write(piece)
        assert lines > self._rows, lines

    def _verify(self) -> None:
        job = self._call("POST", "admin/jobs", {"kind": "verify-journal"})
        while job["ended_at"] is None:
            time.sleep(0.1)
            job = self._call("GET", f"admin/jobs/{job['id']}")
        report = job["report"]
        assert report["is_good"] and report["sealed_rows"] == self._rows, report

    def _plain(self) -> None:
        path = self._folder / "plain.csv"
        if self._is_sqlite:
            names = ", ".join(column.name for column in COLUMNS)
            query = f"SELECT {names} FROM quota_journal WHERE group_id = ? ORDER BY seq"
            connection = sqlite3.connect(self._path)
            with path.open("w", newline="") as file:
                csv.writer(file).writerows(connection.execute(query, (self._group,)))
            connection.close()
        else:
            asyncio.run(self._copy(path))

    async def _copy(self, path: Path) -> None:
        names = ", ".join(column.name for column in COLUMNS)
        query = f"SELECT {names} FROM quota_journal WHERE group_id = '{self._group}' ORDER BY seq"
        connection = await connect(self._url)
        try:
            await connection.copy_from_query(query, output=path, format="csv")
        finally:
            await connection.close()

    def _fill_sqlite(self, user: str) -> None:
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA synchronous = OFF")
        marks = ", ".join("?" * len(_NAMES))
        insert = f"INSERT INTO quota_journal ({', '.join(_NAMES)}) VALUES ({marks})"
        with connection:
            connection.executemany(insert, journal_rows(self._group, user, self._rows))
            connection.execute(self._catch_up)
        connection.close()

    async def _fill_postgres(self, user: str) -> None:
        connection = await connect(self._url)
        try:
            await connection.execute("SET session_replication_role = replica")  # no triggers
            await connection.copy_records_to_table(
                "quota_journal",
                records=journal_rows(self._group, user, self._rows),
                columns=list(_NAMES),
            )
            await connection.execute(self._catch_up)
            await connection.execute("VACUUM ANALYZE quota_journal")
        finally:
            await connection.close()

    @property
    def _catch_up(self) -> str:
        """The group's counters are those of its newest row."""
        names = ("used", "reserved", "files", "reserved_files")
        last = f"FROM quota_journal WHERE group_id = '{self._group}' AND seq = {self._rows}"
        counters = ", ".join(f"{name} = (SELECT {name}_after {last})" for name in names)
        return f"UPDATE groups SET journal_seq = {self._rows}, {counters} WHERE name = '{GROUP}'"

    async def _seal(self) -> float:
        flags = {"data": self._folder / "data", "database": self._url}
        began = time.perf_counter()
        async with working_on(load(environ={}, flags=flags)) as ground:
            while await seal_next(ground.db, self._group, limit=SEAL_ROWS):
                pass
            await mark_seals(ground.db, ground.store)
        return time.perf_counter() - began

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self._request(method, path, data), timeout=60) as answer:
            return json.load(answer)

    def _request(self, method: str, path: str, data: bytes | None = None) -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {self._server.admin_token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self._server.url}/api/v1/{path}"
        return urllib.request.Request(url, data, headers, method=method)


def measure(database: str, rows: int, rounds: int) -> dict[str, Any]:
    """All rounds on a fresh database."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="filestore-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url = f"sqlite+aiosqlite:///{folder}/data/filestore.sqlite3"
        if database == "postgres":
            url = stack.enter_context(postgres()).make_database()
        bench = Bench(folder, url, rows)
        stack.callback(bench.close)
        return {"database": database, "rows": rows} | bench.run(rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def main() -> None:
    wish = _arguments()
    configure_logging("error", "console")
    found = []
    for database in wish.databases.split(","):
        busy = round(os.getloadavg()[0], 1)
        found.append({"load": busy} | measure(database, wish.rows, wish.rounds))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    if wish.json:
        print(json.dumps({"databases": found}, indent=2))
        return
    for row in found:
        print(f"{row['database']}, {row['rows']} rows, load {row['load']}:")
        print(f"  sealed in {row['seal_s']} s")
        for name in ("statement", "verify"):
            memory = row[f"{name}_memory_mib"]
            print(
                f"  {name}: {row[f'{name}_s']} s, {row[f'{name}_to_plain']} times the plain"
                f" export; memory {memory['before']}, {memory['peak']} MiB"
            )
        print(f"  plain export: {row['plain_s']} s")


if __name__ == "__main__":
    main()
