"""Clients who do anything at all to the same few files, over HTTP, until the server is killed.

Nobody remembers what must be there: what is held to account are the books. Each operation is one
request; being refused is a part of it, and so is no answer, because the server died.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.e2e import tus
from tests.e2e.material import Material
from tests.http.api import Api, Reply

GROUPS: Final = ("lab", "office", "attic")
LARGEST: Final = 4000
QUOTA: Final = 40 * LARGEST
"""Small, so that a part of all that grows is refused."""
_FOLDERS: Final = ("", "f/", "f/g/")
_NAMES: Final = tuple(f"{folder}{name}" for folder in _FOLDERS for name in "abc")
_REFUSALS: Final = frozenset({400, 404, 409, 410, 412, 413, 423})
_BUSY: Final = frozenset({429, 503})
_BROKEN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)
_DATA: Final = [Material(f"storm {number}", 2 * LARGEST) for number in range(3)]


@dataclass
class Running:
    """An upload as its clients know it."""

    path: str
    creator: str | None
    size: int
    material: Material
    offset: int = 0


@dataclass
class Storm:
    """What all clients share. ``left``: operations that may still begin in this slice."""

    apis: list[Api]
    admin: Api
    left: int = 0
    running: dict[str, list[Running]] = field(default_factory=lambda: {g: [] for g in GROUPS})
    trash: dict[str, list[str]] = field(default_factory=lambda: {g: [] for g in GROUPS})
    outcomes: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    half: int = 0
    is_half: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def gather(self, operations: int) -> None:
        """The next slice has so many operations."""
        self.left, self.half = operations, operations // 2
        self.is_half.clear()
        self.is_over.clear()

    async def blow(self, seed: str, kill: Callable[[], object]) -> None:
        """A slice by all clients together; when its last operation has begun comes ``kill``."""
        async with asyncio.TaskGroup() as tasks:
            for number, api in enumerate(self.apis):
                client = Client(self, api, random.Random(f"{seed}-{number}"))
                tasks.create_task(client.live())
            await self.is_over.wait()
            kill()

    def may_begin(self) -> bool:
        """Whether one more operation may begin; counts it."""
        if self.left == 0:
            return False
        self.left -= 1
        if self.left <= self.half:
            self.is_half.set()
        if self.left == 0:
            self.is_over.set()
        return True

    @property
    def operations(self) -> int:
        return sum(self.outcomes.values())


class Client:
    """One who does one thing after the other, as one of the users."""

    def __init__(self, storm: Storm, api: Api, dice: random.Random) -> None:
        self._storm = storm
        self._api = api
        self._dice = dice
        self._group = GROUPS[0]
        self._acts: list[Callable[[], Awaitable[Reply | None]]] = [
            self._put, self._put, self._begin, self._begin, self._patch, self._patch, self._patch,
            self._head, self._terminate, self._copy, self._move, self._trash, self._remove,
            self._list_trash, self._restore, self._purge, self._restore_version,
            self._remove_version, self._limit,
        ]  # fmt: skip

    async def live(self) -> None:
        """Until no more operation may begin. Who gets no answer from a dead server stops."""
        while self._storm.may_begin():
            self._group = self._dice.choice(GROUPS)
            act = self._dice.choice(self._acts)
            try:
                reply = await act()
                if reply is None:  # there was nothing to do it with
                    act = self._put
                    reply = await act()
            except _BROKEN:
                self._storm.outcomes["broken"] += 1
            else:
                self._judge(act.__name__.strip("_"), reply)

    def _judge(self, act: str, reply: Reply) -> None:
        if reply.status < 300:
            self._storm.outcomes["acknowledged"] += 1
            self._storm.acts[act] += 1
        elif reply.status in _REFUSALS:
            self._storm.outcomes["refused"] += 1
            self._storm.acts[f"{act} {reply.status}"] += 1
        else:
            assert reply.status in _BUSY, (act, reply.status, reply.body)
            self._storm.outcomes["busy"] += 1

    @property
    def _at(self) -> str:
        return f"/api/v1/groups/{self._group}"

    def _name(self) -> str:
        return self._dice.choice(_NAMES)

    def _material(self) -> Material:
        return self._dice.choice(_DATA)

    async def _put(self) -> Reply:
        size = self._dice.randrange(LARGEST)
        data = self._material().read(0, size)
        return await self._api.put(f"{self._at}/files/{self._name()}", data=data)

    async def _begin(self) -> Reply:
        folder, _, name = self._name().rpartition("/")
        size = 1 + self._dice.randrange(LARGEST)
        metadata = {"path": f"/{folder}"} if folder else {}
        group = self._group
        reply = await tus.create(self._api, group, size, name, metadata=metadata)
        if reply.status == 201:
            upload = Running(tus.path_of(reply), self._api.token, size, self._material())
            self._storm.running[group].append(upload)
        return reply

    def _chosen(self) -> Running | None:
        known = self._storm.running[self._group]
        return self._dice.choice(known) if known else None

    async def _patch(self) -> Reply | None:
        """Some more bytes, often all; also where others have been meanwhile, or after the end."""
        upload = self._chosen()
        if upload is None or upload.offset >= upload.size:
            return None
        end = upload.size
        if self._dice.random() < 0.3:
            end = self._dice.randrange(upload.offset, upload.size) + 1
        api = self._api.by(upload.creator)
        reply = await tus.patch(api, upload.path, upload.material, upload.offset, end)
        if reply.status == 204:
            upload.offset = int(reply.headers["Upload-Offset"])
        if reply.status in (404, 410) or upload.offset >= upload.size:
            self._forget(upload)
        return reply

    async def _head(self) -> Reply | None:
        upload = self._chosen()
        if upload is None:
            return None
        api = self._api.by(upload.creator)
        reply = await api.call("HEAD", upload.path, headers=tus.TUS)
        if reply.status == 200:
            upload.offset = int(reply.headers["Upload-Offset"])
        else:
            self._forget(upload)
        return reply

    async def _terminate(self) -> Reply | None:
        upload = self._chosen()
        if upload is None:
            return None
        self._forget(upload)
        return await self._api.delete(upload.path, headers=tus.TUS)

    def _forget(self, upload: Running) -> None:
        for known in self._storm.running.values():
            if upload in known:
                known.remove(upload)

    async def _copy(self) -> Reply:
        return await self._api.post(f"{self._at}/copy", self._two())

    async def _move(self) -> Reply:
        return await self._api.post(f"{self._at}/move", self._two())

    def _two(self) -> dict[str, Any]:
        """Mostly files, sometimes a folder with all that is in it; often into another group."""
        places = [*_NAMES, "f", "f/g"]
        source, target = self._dice.choice(places), self._dice.choice(places)
        wish = {"from": f"/{source}", "to": f"/{target}"}
        return wish | ({"to_group": self._dice.choice(GROUPS)} if self._dice.random() < 0.5 else {})

    async def _trash(self) -> Reply:
        return await self._api.delete(f"{self._at}/files/{self._name()}")

    async def _remove(self) -> Reply:
        return await self._api.delete(f"{self._at}/files/{self._name()}?permanent=true")

    async def _list_trash(self) -> Reply:
        group = self._group
        reply = await self._api.get(f"{self._at}/trash?limit=50")
        if reply.status == 200:
            self._storm.trash[group] = [str(item["id"]) for item in reply.json["items"]]
        return reply

    async def _restore(self) -> Reply | None:
        entry = self._trashed()
        return entry and await self._api.post(f"{self._at}/trash/{entry}/restore")

    async def _purge(self) -> Reply | None:
        entry = self._trashed()
        return entry and await self._api.delete(f"{self._at}/trash/{entry}")

    def _trashed(self) -> Any:
        """One of the trash as somebody saw it; None: nobody saw any."""
        known = self._storm.trash[self._group]
        return known.pop(self._dice.randrange(len(known))) if known else None

    async def _restore_version(self) -> Reply:
        wanted = {"version": 1 + self._dice.randrange(4)}
        return await self._api.post(f"{self._at}/versions/{self._name()}/restore", wanted)

    async def _remove_version(self) -> Reply:
        which = self._dice.choice(("version", "before"))
        number = 1 + self._dice.randrange(5)
        return await self._api.delete(f"{self._at}/versions/{self._name()}?{which}={number}")

    async def _limit(self) -> Reply:
        quota = self._dice.randrange(QUOTA // 2, 2 * QUOTA)
        return await self._storm.admin.patch(self._at, {"quota_bytes": quota})
