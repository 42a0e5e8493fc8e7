"""What many slow uploads cost: the server's memory, and the pace of a fast one beside them.

Each slow client sends some bytes at once and then 1 KiB a second; with ``--first-kib 600`` all
together would hold more than the memory budget, and are flushed and read back in turn. Meanwhile
one client uploads large files as fast as it can, before that alone. In the end all connections
break, and every byte that a slow client sent must be there.

    python bench/trickle.py --clients 500 --seconds 120 --on postgres-seaweedfs
"""

import argparse
import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import clients  # noqa: E402
from tests.e2e.backends import DISK, MINIO, SEAWEEDFS, s3_keys  # noqa: E402
from tests.services.postgres import postgres  # noqa: E402
from tests.services.s3 import minio, seaweedfs  # noqa: E402
from tests.services.server import Server  # noqa: E402

KIB, MIB = 1024, 1024 * 1024
GROUP = "bench"
SETTINGS = {"gc.interval_s": 86_400}
STORES = {SEAWEEDFS: seaweedfs, MINIO: minio}


@dataclass
class Slow:
    """One slow client with its upload."""

    number: int
    path: str
    size: int
    sent: int = 0
    told: str = ""  # the answer, if the server ended it
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None


@dataclass
class Crowd:
    """All slow clients of a server. Whom the server ends before the time sends no more."""

    server: Server
    first: int
    size: int
    members: list[Slow] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Crowd of {len(self.members)}, {sum(one.sent for one in self.members)} sent>"

    async def gather(self, number: int) -> None:
        """Begins ``number`` uploads; each sends its first bytes."""
        for at in range(number):
            path = await asyncio.to_thread(_create, self.server, f"slow-{at}", self.size)
            member = Slow(at, path, self.size)
            await self._begin(member)
            self.members.append(member)

    async def trickle(self, over: asyncio.Event) -> None:
        """1 KiB a second from each that has begun, spread over the second, until it is over."""
        while not over.is_set():
            began, members = time.monotonic(), list(self.members)
            for at, member in enumerate(members):
                if not member.told:
                    await self._send(member, KIB)
                due = began + (at + 1) / len(members)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    async def leave(self) -> int:
        """All break off; how many bytes less than they sent are there, which must be none."""
        for member in self.members:
            assert member.writer is not None
            member.writer.close()
        missing = 0
        for member in self.members:
            missing += max(0, member.sent - await self._kept(member))
        return missing

    async def _begin(self, member: Slow) -> None:
        where = urlsplit(self.server.url)
        member.reader, member.writer = await asyncio.open_connection(where.hostname, where.port)
        member.writer.write(
            f"PATCH {member.path} HTTP/1.1\r\nHost: bench\r\nTus-Resumable: 1.0.0\r\n"
            f"Authorization: Bearer {self.server.admin_token}\r\nUpload-Offset: 0\r\n"
            "Content-Type: application/offset+octet-stream\r\n"
            f"Content-Length: {member.size}\r\n\r\n".encode()
        )
        await self._send(member, self.first)

    async def _send(self, member: Slow, size: int) -> None:
        assert member.reader is not None and member.writer is not None
        try:
            for piece in clients.stream(f"{member.number} {member.sent}", size):
                member.writer.write(piece)
                await member.writer.drain()
        except ConnectionError:
            member.told = "the connection was ended"
        if member.reader._buffer:  # type: ignore[attr-defined]
            answer = await member.reader.read(2000)
            member.told = answer.decode("latin-1").partition("\r\n")[0]
        if not member.told:
            member.sent += size

    async def _kept(self, member: Slow) -> int:
        """How far the upload is, a moment after the break."""
        offset = -1
        for _ in range(100):
            offset = await asyncio.to_thread(_offset, self.server, member.path)
            if offset >= member.sent:
                break
            await asyncio.sleep(0.1)
        return offset


async def measure(server: Server, *, number: int, seconds: float, first: int, fast: int) -> Any:
    """The figures of one run on a server that is running and has the group."""
    before = server.peak_memory
    alone = await _upload(server, "alone", fast)
    crowd = Crowd(server, first, first + 10 * MIB)
    over, beside = asyncio.Event(), list[float]()
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.trickle(over))
        await crowd.gather(number)
        ends = time.monotonic() + seconds
        while not beside or time.monotonic() < ends:
            beside.append(await _upload(server, f"beside-{len(beside)}", fast))
        over.set()
    missing = await crowd.leave()
    return {
        "clients": number,
        "sent_mib": sum(one.sent for one in crowd.members) // MIB,
        "missing_bytes": missing,
        "ended": [one.told for one in crowd.members if one.told],
        "before_mib": before // MIB,
        "peak_mib": server.peak_memory // MIB,
        "alone_mb_s": round(fast / alone / 1e6, 1),
        "beside_mb_s": [round(fast / took / 1e6, 1) for took in beside],
    }


async def _upload(server: Server, name: str, size: int) -> float:
    """Seconds that one fast upload takes, from a process of its own."""
    encoded = base64.b64encode(name.encode()).decode()
    arguments = ["tus_stream", [server.url, server.admin_token, GROUP, encoded, name, size]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "bench" / "clients.py"), json.dumps(arguments)),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, "the fast upload failed"
    return float(out)


def make_group(server: Server) -> None:
    """The group that all upload to."""
    body = json.dumps({"name": GROUP, "quota_bytes": 1 << 45}).encode()
    _ask(server, "POST", "/api/v1/groups", {"Content-Type": "application/json"}, body)


def _create(server: Server, name: str, size: int) -> str:
    metadata = f"filename {base64.b64encode(name.encode()).decode()}"
    headers = {"Upload-Length": str(size), "Upload-Metadata": metadata}
    made = _ask(server, "POST", f"/api/v1/groups/{GROUP}/uploads", headers)
    return str(urlsplit(made["Location"]).path)


def _offset(server: Server, path: str) -> int:
    return int(_ask(server, "HEAD", path, {})["Upload-Offset"])


def _ask(
    server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> Any:
    sent = {"Authorization": f"Bearer {server.admin_token}", "Tus-Resumable": "1.0.0"} | headers
    request = urllib.request.Request(server.url + path, body, sent, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and pace beside many slow uploads.")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--first-kib", type=int, default=64)
    parser.add_argument("--fast-mib", type=int, default=128)
    parser.add_argument("--on", choices=(DISK, *STORES), default=DISK)
    given = parser.parse_args()
    with running(given.on) as server:
        make_group(server)
        figures = asyncio.run(
            measure(
                server,
                number=given.clients,
                seconds=given.seconds,
                first=given.first_kib * KIB,
                fast=given.fast_mib * MIB,
            )
        )
    print(json.dumps({"on": given.on} | figures, indent=2))


@contextlib.contextmanager
def running(on: str) -> Iterator[Server]:
    """A new server on SQLite and a folder, or on a database and a store of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="filestore-bench-")))
        place: dict[str, Any] = {}
        if on in STORES:
            store = stack.enter_context(STORES[on]())
            place["database"] = stack.enter_context(postgres()).make_database()
            place["blocks"], place["environment"] = store.bucket_url("trickle"), s3_keys(store)
        server = Server(folder / "data", settings=SETTINGS, **place)
        stack.callback(server.close)
        server.start()
        yield server


if __name__ == "__main__":
    main()
