"""What a concatenation costs: per 100,000 blocks on each database, and beside tusd's file store.

The rows are filled in by themselves, so blocks without bytes are enough for the first. For the
second the same partial uploads go to both servers over HTTP, on the same disk, and then each
makes final uploads of them in turn. tusd copies the bytes, so only the ratio within a round tells
anything. tusd is the program that TUSD_BINARY or the PATH names; without one this part is left out.

    python bench/concat.py --blocks 100000 --size 1GiB --rounds 3
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.clients import stream  # noqa: E402
from bench.ingest import GROUP, MIB, _folder, _running, _settle, _size  # noqa: E402
from bench.timing import TimedDatabase  # noqa: E402
from filestore.acts.uploads import Request  # noqa: E402
from filestore.blocks.memory import MemoryStore  # noqa: E402
from filestore.ids import new_generation  # noqa: E402
from filestore.meta.database import Tx  # noqa: E402
from filestore.meta.tables import blocks, content_blocks, uploads  # noqa: E402
from filestore.model import KIB, Protocol, UploadPart  # noqa: E402
from filestore.names import parse_name  # noqa: E402
from filestore.settings import load  # noqa: E402
from filestore.transfer.assembly import running_hot_path  # noqa: E402
from tests.services import hot_path  # noqa: E402
from tests.services.hot_path import Process, site_on, sqlite_site  # noqa: E402
from tests.services.postgres import postgres  # noqa: E402
from tests.services.server import Server, tied  # noqa: E402

PARTS: Final = 4
DATABASES: Final = ("sqlite", "postgres")
BLOCK: Final = 4 * KIB
_ROWS: Final = 5000
_START_S: Final = 20.0


# ---- rows --------------------------------------------------------------------------------


async def measure_rows(database: str, count: int, rounds: int) -> dict[str, Any]:
    """Seconds of whole concatenations of ``count`` blocks, and how long their transactions held
    locks."""
    async with _process(database) as at:
        parts = [await _filled(at, count // PARTS) for _ in range(PARTS)]
        db = TimedDatabase(at.db)
        seconds, cpu = [], time.process_time()
        async with running_hot_path(load(environ={}), db, at.store, at.id) as hot:
            for number in range(rounds):
                began = time.perf_counter()
                await hot.transfers.concatenate(hot_path.ACTOR, _wish(parts, number))
                seconds.append(time.perf_counter() - began)
        return {
            "database": database,
            "blocks": count,
            "seconds": [round(one, 2) for one in seconds],
            "cpu_s": round((time.process_time() - cpu) / rounds, 2),  # without PostgreSQL's own
            "transactions": db.figures.report(),
        }


@contextlib.asynccontextmanager
async def _process(database: str) -> AsyncIterator[Process]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        if database == "sqlite":
            site = sqlite_site(folder)
        else:
            service = stack.enter_context(postgres())
            site = site_on(folder, service.make_database())
            site.store = MemoryStore()
        async with site:
            yield await site.start()


async def _filled(at: Process, count: int) -> str:
    """A whole partial upload of so many blocks of its own."""
    upload = await at.begin(count * BLOCK, part=UploadPart.PARTIAL, raw_concat="partial")

    async def act(tx: Tx, start: int, end: int) -> None:
        ids = await tx.execute(
            sa.insert(blocks).returning(blocks.c.id, sort_by_parameter_order=True),
            [_block() for _ in range(start, end)],
        )
        rows = [
            {
                "content_id": upload.building,
                "byte_offset": (start + n) * BLOCK,
                "size": BLOCK,
                "block_id": block_id,
            }
            for n, block_id in enumerate(ids.scalars())
        ]
        await tx.execute(sa.insert(content_blocks), rows)

    for start in range(0, count, _ROWS):
        await at.transact(act, start, min(start + _ROWS, count))
    await at.change(
        uploads.update().where(uploads.c.id == upload.id).values(byte_offset=count * BLOCK)
    )
    return upload.id


def _block() -> dict[str, Any]:
    return {
        "domain_id": hot_path.DOMAIN,
        "hash": secrets.token_bytes(32),
        "generation": new_generation(),
        "size": BLOCK,
        "stored_size": BLOCK,
        "codec": "plain",
        "state": "live",
    }


def _wish(parts: list[str], number: int) -> Request:
    return Request(
        hot_path.GROUP,
        hot_path.DOMAIN,
        hot_path.USER,
        Protocol.TUS,
        None,
        name=parse_name(f"final-{number}"),
        part=UploadPart.FINAL,
        raw_concat="final;",
        parts=parts,
        idempotency_key=f"bench:{number}",
    )


# ---- beside tusd -------------------------------------------------------------------------


@dataclass
class Target:
    """One server that speaks tus, and what its requests need besides."""

    name: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def upload(self, seed: str, size: int) -> None:
        """A partial upload with all its bytes."""
        made = self._ask("POST", self.url, {"Upload-Length": str(size), "Upload-Concat": "partial"})
        self.parts.append(made["location"])
        fields = {
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size),
        }
        done = self._ask("PATCH", made["location"], fields, stream(seed, size))
        assert int(done["upload-offset"]) == size

    def join(self, number: int) -> str:
        """A final upload, timed; where it is."""
        fields = {
            "Upload-Concat": "final;" + " ".join(urlsplit(part).path for part in self.parts),
            "Idempotency-Key": f"round {number}",
        }
        began = time.perf_counter()
        made = self._ask("POST", self.url, fields)
        self.seconds.append(time.perf_counter() - began)
        return made["location"]

    def remove(self, upload: str) -> None:
        self._ask("DELETE", upload, {})

    def _ask(
        self, method: str, url: str, fields: dict[str, str], body: Any = None
    ) -> dict[str, str]:
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port or 80)
        headers = {"Tus-Resumable": "1.0.0", **self.headers, **fields}
        connection.request(method, where.path, body, headers)
        with contextlib.closing(connection):
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (201, 204), (method, url, answer.status, said)
            return {name.lower(): value for name, value in answer.getheaders()}


def measure_beside(program: str, size: int, rounds: int, seed: str) -> dict[str, Any]:
    """Final uploads of the same partial ones, ours and tusd's in turn."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        server = Server(folder / "data", settings={"log.level": "warning"})
        stack.enter_context(_running(server))
        ours = Target("filestore", f"{server.url}/api/v1/groups/{GROUP}/uploads")
        ours.headers["Authorization"] = f"Bearer {server.admin_token}"
        theirs = Target("tusd", stack.enter_context(_tusd(program, folder / "tusd")))
        for number in range(PARTS):
            for target in (ours, theirs):
                target.upload(f"{seed} {number}", size)
        for number in range(rounds):
            for target in (ours, theirs) if number % 2 else (theirs, ours):
                _settle()
                made = target.join(number)
                if target is theirs:
                    target.remove(made)  # else its disk fills; ours takes no room
        ratios = [us / them for us, them in zip(ours.seconds, theirs.seconds, strict=True)]
        return {
            "parts": PARTS,
            "part_mib": size // MIB,
            "ours_s": [round(one, 3) for one in ours.seconds],
            "tusd_s": [round(one, 3) for one in theirs.seconds],
            "ours_to_tusd": round(statistics.median(ratios), 5),
        }


@contextlib.contextmanager
def _tusd(program: str, folder: Path) -> Iterator[str]:
    """A tusd with its file store; the URL of its collection."""
    folder.mkdir()
    with tempfile.TemporaryFile("w+b") as log:
        command = [program, "-host", "127.0.0.1", "-port", "0", "-upload-dir", str(folder)]
        process = subprocess.Popen(tied(command), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _announced(log, process)
        finally:
            process.terminate()
            process.wait()


def _announced(log: Any, process: subprocess.Popen[bytes]) -> str:
    """The URL that tusd says it listens on."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        log.seek(0)
        for line in log.read().decode().splitlines():
            _, found, url = line.partition("You can now upload files to: ")
            if found:
                return str(url.strip())
        time.sleep(0.05)
    log.seek(0)
    raise RuntimeError(f"tusd did not start: {log.read().decode()}")


# ---- the program -------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blocks", type=int, default=100_000, help="of one file; 0: no")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--size", type=_size, default=1024 * MIB, help="of each part: 1GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="of all bytes; printed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def main() -> None:
    wish = _arguments()
    result: dict[str, Any] = {"seed": wish.seed, "load": round(os.getloadavg()[0], 1)}
    if wish.blocks:
        result["rows"] = [
            asyncio.run(measure_rows(database, wish.blocks, wish.rounds))
            for database in wish.databases.split(",")
        ]
    program = os.environ.get("TUSD_BINARY") or shutil.which("tusd")
    if program is None:
        print("no tusd: neither TUSD_BINARY nor the PATH names one", file=sys.stderr)
    else:
        result["beside"] = measure_beside(program, wish.size, wish.rounds, wish.seed)
    print(json.dumps(result, indent=2 if wish.json else None))


if __name__ == "__main__":
    main()
