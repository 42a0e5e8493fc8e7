"""Clients that upload, overwrite and delete while the collector runs, and a server that is
killed at random: what must hold.

One round: kill -9 the server at a random moment; wait until every client has noticed; start the
server again; check every promise. A round in which nothing was acknowledged, or no bytes were on
their way at the kill, proves nothing and does not count.
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

from tests.crash.acting import BROKEN, Acting
from tests.crash.offline import let_silence_pass
from tests.crash.promises import Promise, Promises
from tests.e2e import backends
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, Stage
from tests.http.api import Api
from tests.services.server import Server

CLIENTS: Final = 5
NAMES: Final = 40
"""Files at most: all of them can be read in seconds at the end."""

SETTINGS: Final = {"gc.interval_s": 1, "gc.grace_s": 0}
"""The collector runs by itself as often as it can, and frees at once."""

_SIZES: Final = (1, 3 * KIB, 200 * KIB, MIB, 3 * MIB, 9 * MIB)
_PATIENCE_S: Final = 60.0
_MOST_ANSWERS: Final = 8
_LONGEST_WAIT_S: Final = 0.3
"""A kill comes up to so many acknowledgements, and then up to this long, after the last check:
a machine that is busy has answered something, too."""

_TIDIED: Final = 50
"""Every so many rounds the uploads are ended whose creation was not answered: they are kept for
a day, and a user may have only so many."""

_STILLBORN: Final = 0.1
"""In so many of the rounds the server is also killed while it starts."""

_DROPPED: Final = 0.9
"""In so many of the concatenations the client ends the parts itself."""

_COMMON_SEEDS: Final = 4
"""A third of the files begin with the bytes of one of so many: blocks that are known."""


class Havoc:
    """One run on ``stage``. ``seed`` decides all that the harness decides. ``counted``: rounds
    that proved something."""

    def __init__(self, stage: Stage, server: Server, api: Api, seed: int) -> None:
        self._stage = stage
        self._server = server
        self._dice = random.Random(seed)
        self._numbers = iter(range(1_000_000))
        self._is_up = asyncio.Event()
        self._is_over = False
        self._noticed = 0
        self._busy: set[str] = set()
        self._clients: list[asyncio.Task[None]] = []
        self._before = 0
        self.promises = Promises(stage.folder / "promises.jsonl")
        self.acting = Acting(api, GROUP, self.promises)
        self.rounds = 0
        self.counted = 0

    def __repr__(self) -> str:
        rounds = f"{self.counted} of {self.rounds} rounds count"
        return f"<Havoc on {self._server!r}, {rounds}, {self.acting!r}>"

    @asynccontextmanager
    async def acting_up(self) -> AsyncIterator[None]:
        """Clients are at work while the block runs; at its end they finish what they began."""
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
        answers = self._before + self._dice.randrange(_MOST_ANSWERS + 1)
        await self._until(lambda: self.promises.count >= answers)
        await asyncio.sleep(self._dice.uniform(0, _LONGEST_WAIT_S))
        self._is_up.clear()
        self._server.kill()
        self.rounds += 1
        self.counted += self.promises.count > self._before and self.acting.in_flight > 0
        await self._until(lambda: self._noticed == CLIENTS)
        if self._stage.backend.name == backends.DISK:
            check_sqlite(self._server.data / "filestore.sqlite3")
        await self._revive()
        living = [file.name for file in self.promises.living]
        await self.acting.check(self._dice.sample(living, min(3, len(living))))
        await self.acting.check_sums()
        if self.rounds % _TIDIED == 0:
            await self.acting.forget_strangers()
        self._before = self.promises.count
        self._is_up.set()

    async def _revive(self) -> None:
        await let_silence_pass(self._stage)
        if self._dice.random() < _STILLBORN:
            self._server.launch()
            await asyncio.sleep(self._dice.uniform(0, 1))
            self._server.kill()
            await let_silence_pass(self._stage)
        self._server.start()
        self.acting.api = self._stage.admin(self._server)

    async def _client(self) -> None:
        while not self._is_over:
            name = self._take_name()
            try:
                await self._act(name)
            except BROKEN:
                await self._wait_until_up()
            finally:
                self._busy.discard(name)

    async def _act(self, name: str) -> None:
        """Something with a file that nobody else is at work on, to its end."""
        number, is_there = self._dice.random(), bool(self.promises.file(name).versions)
        if is_there and number < 0.3:
            await self.acting.delete(name)
        elif number < 0.5:
            await self.acting.put(name, self._material(MIB))
        elif number < 0.55:
            await self.acting.ask_collection()
        elif number < 0.65:
            await self._concatenate(name)
        else:
            await self._bring(await self._begin(name, self._material(_SIZES[-1])))

    async def _begin(self, name: str, material: Material) -> Promise:
        """An upload by tus, or by the IETF draft: carefully, or with all bytes at once."""
        begin = self._dice.choices(
            (self.acting.begin, self.acting.begin_ietf, self.acting.put_ietf), (4, 1, 1)
        )
        return await begin[0](name, material)

    async def _bring(self, promise: Promise) -> None:
        """Uploads to the end, or ends the upload on the way; goes on after each crash."""
        is_to_end = self._dice.random() < 0.1
        while promise.is_open:
            try:
                if is_to_end and promise.offset > promise.material.size // 2:
                    await self.acting.end(promise)
                else:
                    await self._send(promise)
            except BROKEN:
                await self._wait_until_up()

    async def _concatenate(self, name: str) -> None:
        """Uploads in two parts and makes a file of them; goes on after each crash. The parts end
        then, or with the file."""
        number, before = next(self._numbers), len(self.promises.file(name).versions)
        material = Material(f"own {number}", self._dice.randrange(2, _SIZES[-1]))
        cut, drops = self._dice.randrange(1, material.size), self._dice.random() < _DROPPED
        parts: list[str] = []
        is_over = False
        while not is_over:
            try:
                if len(self.promises.file(name).versions) == before:
                    parts = [
                        await self.acting.make_part(f"{number} {begin}", material, begin, end)
                        for begin, end in ((0, cut), (cut, material.size))
                    ]
                    await self.acting.join(name, material, parts)
                for part in parts if drops else ():
                    await self.acting.drop_part(part)
                is_over = True
            except BROKEN:
                await self._wait_until_up()

    async def _send(self, promise: Promise) -> None:
        size = promise.material.size
        piece = max(self._dice.choice(_SIZES), size // 8)
        await self.acting.send(promise, min(promise.offset + piece, size))

    async def _wait_until_up(self) -> None:
        """The round checks all promises meanwhile, so it is known then where all uploads are."""
        self._noticed += 1
        try:
            await self._is_up.wait()
        finally:
            self._noticed -= 1

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Waits, but no longer than a client may fail to do anything."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"nothing happens: {self!r}"
            for client in self._clients:
                if client.done():
                    client.result()
            await asyncio.sleep(0.002)

    def _take_name(self) -> str:
        free = sorted({f"{number}.bin" for number in range(NAMES)} - self._busy)
        name = self._dice.choice(free)
        self._busy.add(name)
        return name

    def _material(self, largest: int) -> Material:
        """Mostly new bytes; a third begins with bytes that others have uploaded, too."""
        sizes = [size for size in _SIZES if size <= largest]
        size = self._dice.randrange(1, self._dice.choice(sizes) + 1)
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
