"""How far a quota is overshot by many uploads at once: MinIO's hard bucket quota, and ours.

Both get the same limit and the same PUTs, from equally many clients, several times as many as fit.
MinIO holds each against the usage that its scanner found last, ours reserves in the statement that
holds the limit. A second wave comes after a pause that gives MinIO's scanner its time.

    MINIO_BINARY=… python bench/overshoot.py --limit 64MiB --size 1MiB --clients 32 --times 4
"""

import argparse
import asyncio
import datetime as dt
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin
from yarl import URL

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from filestore.model import format_size, parse_size  # noqa: E402
from tests.e2e.stage import make_group  # noqa: E402
from tests.http.api import Api  # noqa: E402
from tests.services.s3 import S3Service, minio  # noqa: E402
from tests.services.server import Server  # noqa: E402

GROUP = "bench"
BUCKET = "overshoot"

Target = Callable[[str], tuple[str, dict[str, str]]]
"""The URL and the headers with which a name is written."""


@dataclass(frozen=True)
class Wave:
    """PUTs of one wave. ``ratio``: bytes accepted until now, by the limit."""

    store: str
    wave: int
    accepted: int
    refused: int
    ratio: float
    answers: dict[int, int]


@dataclass(frozen=True)
class Load:
    """What each store is asked to take."""

    limit: int
    size: int
    clients: int
    times: int

    @property
    def puts(self) -> int:
        return self.limit * self.times // self.size


async def wave(load: Load, session: aiohttp.ClientSession, target: Target, name: str) -> list[int]:
    """The statuses of all PUTs, each with bytes of its own, ``load.clients`` at a time."""
    numbers, statuses = iter(range(load.puts)), []

    async def client(seed: int) -> None:
        dice = random.Random(f"{name} {seed}")
        for number in numbers:
            url, headers = target(f"{name}-{number}")
            body = dice.randbytes(load.size)
            async with session.put(URL(url, encoded=True), data=body, headers=headers) as answer:
                await answer.read()
                statuses.append(answer.status)

    await asyncio.gather(*(client(seed) for seed in range(load.clients)))
    return statuses


async def measure(load: Load, store: str, target: Target, pause_s: float) -> list[Wave]:
    """Two waves, with a pause between them."""
    found, total = [], 0
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for number in (1, 2):
            if number == 2:
                await asyncio.sleep(pause_s)
            answers = Counter(await wave(load, session, target, f"w{number}"))
            accepted = sum(count for status, count in answers.items() if status < 300)
            total += accepted * load.size
            refused = sum(answers.values()) - accepted
            ratio = round(total / load.limit, 2)
            found.append(Wave(store, number, accepted, refused, ratio, dict(answers)))
    return found


def on_minio(service: S3Service, limit: int) -> Target:
    """A bucket with a hard quota."""
    client = service.client()
    client.make_bucket(BUCKET)
    keys = StaticProvider(service.access_key, service.secret_key)
    admin = MinioAdmin(
        endpoint=service.endpoint, credentials=keys, region="us-east-1", secure=False
    )
    admin.bucket_quota_set(BUCKET, limit)

    def target(name: str) -> tuple[str, dict[str, str]]:
        hour = dt.timedelta(hours=1)
        return client.presigned_put_object(bucket_name=BUCKET, object_name=name, expires=hour), {}

    return target


async def on_ours(server: Server, limit: int) -> Target:
    """A group with a quota."""
    async with aiohttp.ClientSession() as session:
        await make_group(Api(session, server.url, server.admin_token), GROUP, limit)
    headers = {"Authorization": f"Bearer {server.admin_token}"}
    return lambda name: (f"{server.url}/api/v1/groups/{GROUP}/files/{name}", headers)


@contextmanager
def our_server(service: S3Service) -> Iterator[Server]:
    """Ours, with its blocks in the same MinIO."""
    keys = {
        "FILESTORE_S3_ACCESS_KEY": service.access_key,
        "FILESTORE_S3_SECRET_KEY": service.secret_key,
    }
    with tempfile.TemporaryDirectory(prefix="filestore-bench-") as folder:
        blocks = service.bucket_url("blocks")
        server = Server(Path(folder) / "data", blocks=blocks, environment=keys)
        try:
            server.start()
            yield server
        finally:
            server.close()


async def run(load: Load, pause_s: float) -> list[Wave]:
    """Ours and MinIO's, one after the other on one MinIO."""
    with minio() as service, our_server(service) as server:
        ours = await measure(load, "filestore", await on_ours(server, load.limit), 0)
        rival = await measure(load, "MinIO", on_minio(service, load.limit), pause_s)
        return [*ours, *rival]


def _table(load: Load, waves: list[Wave]) -> str:
    lines = [
        f"limit {format_size(load.limit)}, {load.puts} PUTs of {format_size(load.size)} by"
        f" {load.clients} clients in each wave",
        "| store | wave | accepted | refused | accepted so far / limit |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.store} | {one.wave} | {one.accepted} | {one.refused} | {one.ratio:.2f} |"
        for one in waves
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=parse_size, default=parse_size("64MiB"))
    parser.add_argument("--size", type=parse_size, default=parse_size("1MiB"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--times", type=int, default=4, help="how many times what fits is sent")
    parser.add_argument("--pause", type=float, default=90.0, help="seconds before the second wave")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    load = Load(asked.limit, asked.size, asked.clients, asked.times)
    waves = asyncio.run(run(load, asked.pause))
    told: list[dict[str, Any]] = [asdict(one) for one in waves]
    print(json.dumps(told) if asked.json else _table(load, waves))


if __name__ == "__main__":
    main()
