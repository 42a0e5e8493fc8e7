"""A stand-in for the server that breaks on command, and a client of it whose pauses take no time.

That the SDK speaks what the real server speaks is what ``tests/e2e/cli`` shows.
"""

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from filestore.client import Target
from filestore_chunker import block_hash

TOKEN = "fst_not_a_real_one"
OTHER_TOKEN = "fst_of_somebody_else"
USERS = {TOKEN: "anna", OTHER_TOKEN: "bert"}
TARGET = Target("team", "docs", "big.bin")
MIB = 1 << 20
DATA = random.Random(7).randbytes(3 * MIB + 17)

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Fake:
    """Uploads and files in memory. Each request takes the next fault of its method, if any."""

    uploads: dict[str, bytearray] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    digests: bool = True
    damaged: set[str] = field(default_factory=set)
    etag: int = 1

    def fail(self, method: str, *faults: Fault) -> None:
        self.faults.setdefault(method, []).extend(faults)

    def count(self, method: str) -> int:
        return sum(request.startswith(f"{method} ") for request in self.requests)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        user = USERS[request.headers["Authorization"].removeprefix("Bearer ")]
        path = request.path.removeprefix("/api/v1/")
        self.requests.append(f"{request.method} {path}")
        waiting = self.faults.get(request.method, [])
        if waiting and (answer := await waiting.pop(0)(request)) is not None:
            return answer
        if path == "tokens":
            return web.json_response({"items": [{"user": user}], "next": None})
        if path.startswith("users/"):
            return web.json_response({"id": f"usr_{user}", "name": user})
        if path.startswith("uploads/"):
            if self.owners.get(path, user) != user:
                return problem(403, "forbidden", needed="to be the user who began the upload")
            return await self._upload(request, path)
        if path.endswith("/uploads"):
            return self._create(request, user) if request.method == "POST" else self._listing()
        if path.endswith("/damaged"):
            listed = [{"path": f"/{name}", "current": True} for name in sorted(self.damaged)]
            return web.json_response({"items": listed, "next": None})
        if "/files/" in path:
            return await self._file(request, path.partition("/files/")[2])
        return web.json_response({"id": "grp_1", "name": "team"})

    def text(self, path: str, key: str) -> str | None:
        """What an upload's metadata has under ``key``."""
        pairs = dict(pair.split(" ") for pair in self.metadata[path].split(","))
        return base64.b64decode(pairs[key]).decode() if key in pairs else None

    def _listing(self) -> web.StreamResponse:
        items = [
            {
                "id": path.removeprefix("uploads/"),
                "user_id": f"usr_{self.owners[path]}",
                "path": f"/{self.text(path, 'path')}/{self.text(path, 'filename')}",
                "length": self.lengths[path],
                "protocol": "tus",
            }
            for path, stored in self.uploads.items()
            if len(stored) < self.lengths[path]
        ]
        return web.json_response({"items": items, "next": None})

    def _create(self, request: web.Request, user: str) -> web.StreamResponse:
        path = f"uploads/upl_{self.count('POST') - 1}"
        self.uploads[path] = bytearray()
        self.owners[path] = user
        self.metadata[path] = request.headers["Upload-Metadata"]
        self.lengths[path] = int(request.headers["Upload-Length"])
        self._finish(path)
        return web.Response(status=201, headers={"Location": f"/api/v1/{path}"})

    async def _upload(self, request: web.Request, path: str) -> web.StreamResponse:
        if path not in self.uploads:
            return problem(404, "not-found", what="upload")
        stored = self.uploads[path]
        if request.method == "DELETE":
            del self.uploads[path]
            return web.Response(status=204)
        if request.method == "PATCH":
            assert int(request.headers["Upload-Offset"]) == len(stored)
            self.bodies.append(0)
            try:
                async for piece in request.content.iter_any():
                    stored += piece
                    self.bodies[-1] += len(piece)
            except ConnectionError:
                return web.Response(status=499)
            self._finish(path)
        headers = {"Upload-Offset": str(len(stored)), "Upload-Length": str(self.lengths[path])}
        headers["Upload-Metadata"] = self.metadata[path]
        return web.Response(status=204 if request.method == "PATCH" else 200, headers=headers)

    def _finish(self, path: str) -> None:
        if len(self.uploads[path]) == self.lengths[path]:
            self.files[TARGET.path] = bytes(self.uploads[path])

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        if request.method == "DELETE":
            if self.files.pop(name, None) is None:
                return problem(404, "not-found", what="file")
            return web.Response(status=204)
        if name not in self.files:
            return problem(404, "not-found", what="file")
        data, begin = self.files[name], 0
        headers = {"ETag": f'"{self.etag}"', "Content-Length": str(len(data))}
        if self.digests:
            digest = base64.b64encode(block_hash(data)).decode()
            headers["Repr-Digest"] = f"blake3=:{digest}:"
        wanted = request.headers.get("Range")
        if wanted and request.headers.get("If-Range") in (None, headers["ETag"]):
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Length"] = str(len(data) - begin)
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return web.Response(status=206 if begin else 200, body=data[begin:], headers=headers)


def problem(status: int, code: str, **members: object) -> web.Response:
    retry = members.pop("retry_after", None)
    return web.json_response(
        {"type": f"urn:filestore:problem:{code}", "status": status, **members},
        status=status,
        content_type="application/problem+json",
        headers={"Retry-After": str(retry)} if retry else {},
    )


async def broken(request: web.Request) -> None:
    """The connection is cut before the request is looked at."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.Event().wait()


def unavailable(retry_after: int = 0) -> Fault:
    async def fault(request: web.Request) -> web.StreamResponse:
        return problem(503, "store-unavailable", reason="it is away", retry_after=retry_after)

    return fault


@dataclass
class Pauses:
    """Pauses that take no time, and what they would have been."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def records(tmp_path: Path) -> list[Path]:
    """What the client remembers."""
    return [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
