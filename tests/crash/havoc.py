"""Clients that upload without a break, a server that is killed at random, and what must hold.

One round: wait until something was promised and bytes are on their way; kill -9 the server;
wait until every client has noticed; start the server again; check every promise. A round in
which nothing was promised, or nothing was on its way, proves nothing and fails.
"""

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import aiohttp

from tests.crash.promises import Promise, Promises
from tests.e2e import backends, tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, Stage, quota_of
from tests.http.api import Api
from tests.services.server import Server

CLIENTS: Final = 5
_SIZES: Final = (1, 3 * KIB, 200 * KIB, MIB, 3 * MIB, 9 * MIB)
_PATIENCE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 0.4
"""A kill comes up to this long after a round has something to prove: several batches."""

_COMMON_SEEDS: Final = 4
"""A third of the files begin with the bytes of one of so many: blocks that are known."""

_BROKEN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)
"""How a client notices that the server is gone."""


class Havoc:
    """One run on ``stage``. ``seed`` decides all that the harness decides."""

    def __init__(self, stage: Stage, server: Server, api: Api, seed: int) -> None:
        self._stage = stage
        self._server = server
        self._api = api
        self._dice = random.Random(seed)
        self._numbers = iter(range(1_000_000))
        self._is_up = asyncio.Event()
        self._is_over = False
        self._in_flight = 0
        self._noticed = 0
        self._clients: list[asyncio.Task[None]] = []
        self.promises = Promises(stage.folder / "promises.jsonl")

    def __repr__(self) -> str:
        return f"<Havoc on {self._server!r}, {self._in_flight} in flight, {self.promises!r}>"

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[None]:
        """Clients upload while the block runs; at its end they finish what they began."""
        self._is_up.set()
        try:
            async with asyncio.TaskGroup() as group:
                self._clients = [group.create_task(self._client()) for _ in range(CLIENTS)]
                yield
                self._is_over = True
        finally:
            self.promises.close()

    async def round(self) -> None:
        """Kills the server at a random moment, starts it again, checks all promises."""
        before = self.promises.count
        await self._until(lambda: self.promises.count > before)
        await asyncio.sleep(self._dice.uniform(0, _LONGEST_WAIT_S))
        await self._until(lambda: self._in_flight > 0)
        self._is_up.clear()
        self._server.kill()
        await self._until(lambda: self._noticed == CLIENTS)
        if self._stage.backend.name == backends.DISK:
            check_sqlite(self._server.data / "filestore.sqlite3")
        self._server.start()
        self._api = self._stage.admin(self._server)
        await self.check(self._dice.sample(self.promises.files, min(3, len(self.promises.files))))
        self._is_up.set()

    async def check(self, files: list[Promise]) -> None:
        """No offset went back, sums are right, and these files are what was uploaded."""
        for promise in self.promises.open:
            await self._look(promise)
        for promise in files:
            await tus.assert_equal(self._api, GROUP, promise.name, promise.material)
        await self._check_sums()

    async def _check_sums(self) -> None:
        """The group's sums are those of what was promised; nobody else is in the group.

        A creation whose answer was lost may have left an upload that only the server knows.
        """
        reply = await self._api.get(f"/api/v1/groups/{GROUP}/uploads?limit=1000")
        running = {f"/api/v1/uploads/{item['id']}": item for item in reply.json["items"]}
        assert {promise.path for promise in self.promises.open} <= running.keys()
        assert all(item["reserved"] == item["length"] for item in running.values())
        used = sum(promise.material.size for promise in self.promises.files)
        reserved = sum(item["reserved"] for item in running.values())
        assert await quota_of(self._api) == (used, reserved), repr(self)

    async def _client(self) -> None:
        while not self._is_over:
            material = self._material()
            name = f"{next(self._numbers)}.bin"
            try:
                path = await tus.begin(self._api, GROUP, name, material)
            except _BROKEN:
                await self._wait_until_up()
                continue
            await self._bring(self.promises.created(path, name, material))

    async def _bring(self, promise: Promise) -> None:
        """Uploads to the end, or ends the upload on the way; goes on after each crash."""
        is_to_end = self._dice.random() < 0.1
        is_known = True
        while promise.is_open:
            try:
                if not is_known:
                    await self._look(promise)
                    is_known = True
                elif is_to_end and promise.offset > promise.material.size // 2:
                    await self._end(promise)
                else:
                    await self._send(promise)
            except _BROKEN:
                is_known = False
                await self._wait_until_up()

    async def _send(self, promise: Promise) -> None:
        begin, size = promise.offset, promise.material.size
        end = min(begin + max(self._dice.choice(_SIZES), size // 8), size)
        self._in_flight += 1
        try:
            reply = await tus.patch(self._api, promise.path, promise.material, begin, end)
        finally:
            self._in_flight -= 1
        assert reply.status == 204, (promise, reply.status, reply.body)
        assert int(reply.headers["Upload-Offset"]) == end
        self.promises.reached(promise, end)

    async def _end(self, promise: Promise) -> None:
        promise.is_ending = True
        reply = await self._api.delete(promise.path, headers=tus.TUS)
        assert reply.status == 204, (promise, reply.body)
        self.promises.ended(promise)

    async def _look(self, promise: Promise) -> None:
        """Asks where the upload stands."""
        reply = await self._api.call("HEAD", promise.path, headers=tus.TUS)
        if reply.status == 410:
            self.promises.ended(promise)
            return
        assert reply.status == 200, (promise, reply.status)
        self.promises.reached(promise, int(reply.headers["Upload-Offset"]))

    async def _wait_until_up(self) -> None:
        self._noticed += 1
        try:
            await self._is_up.wait()
        finally:
            self._noticed -= 1

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Waits, but no longer than a client may fail to do anything."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"the round proves nothing: {self!r}"
            for client in self._clients:
                if client.done():
                    client.result()
            await asyncio.sleep(0.002)

    def _material(self) -> Material:
        """Mostly new bytes; a third begins with bytes that others have uploaded, too."""
        size = self._dice.randrange(1, self._dice.choice(_SIZES) + 1)
        if self._dice.random() < 1 / 3:
            return Material(f"common {self._dice.randrange(_COMMON_SEEDS)}", size)
        return Material(f"own {next(self._numbers)}", size)


def check_sqlite(path: Path) -> None:
    """The database as the crash left it is sound: a copy of it is opened and checked.

    A copy, because opening it would repair it before the service does.
    """
    folder = path.parent.with_name("checked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in (path, path.with_name(f"{path.name}-wal")):
        if part.exists():
            shutil.copy(part, folder)
    with closing(sqlite3.connect(folder / path.name)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
