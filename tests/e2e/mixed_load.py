"""People who do everything at once for as long as it takes, and remember what must be there.

Each has files of its own, so all that is there is known at any moment. Many files begin with
the same few bytes: their blocks are deleted, found again and stored again all the time.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tests.e2e import tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP
from tests.http.api import Api

_FILES: Final = f"/api/v1/groups/{GROUP}/files"
_TRASH: Final = f"/api/v1/groups/{GROUP}/trash"
_SIZES: Final = (1, 3 * KIB, 200 * KIB, MIB, 4 * MIB, 9 * MIB)
_MOST_AT_ONCE: Final = MIB
"""Bytes that aiohttp's client still sends from memory without a warning."""
_COMMON_SEEDS: Final = 5
_MOST_FILES: Final = 8
"""Files that one person keeps at most: what is stored stays a few hundred MB, for hours."""


@dataclass
class Person:
    """``files``: all versions of each, oldest first. ``trash``: the same by entry."""

    name: str
    api: Api
    dice: random.Random
    files: dict[str, list[Material]] = field(default_factory=dict)
    trash: dict[str, tuple[str, list[Material]]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    uploaded: int = 0
    _number: int = 0

    @property
    def used(self) -> int:
        """Bytes that the group is charged for this person's files."""
        kept = [*self.files.values(), *(versions for _, versions in self.trash.values())]
        return sum(material.size for versions in kept for material in versions)

    async def live(self, until: float) -> None:
        """Does one thing after the other until the monotonic clock says ``until``."""
        acts: list[Callable[[], Awaitable[None]]] = [
            self._write, self._write, self._overwrite, self._put, self._give_up, self._read,
            self._read, self._copy, self._move, self._trash, self._from_trash, self._delete,
        ]  # fmt: skip
        while time.monotonic() < until:
            act = self._delete if len(self.files) > _MOST_FILES else self.dice.choice(acts)
            await act()
            self.done[act.__name__.strip("_")] += 1

    async def check(self) -> int:
        """Compares every byte of every version; how many versions there are."""
        for name, versions in self.files.items():
            for number in range(1, len(versions) + 1):
                await self._compare(name, versions[number - 1], number)
        return sum(map(len, self.files.values()))

    async def _write(self) -> None:
        """A new file, in pieces."""
        self._number += 1
        await self._upload(f"{self.name}-{self._number}", self._material())

    async def _overwrite(self) -> None:
        if self.files:
            await self._upload(self._chosen(), self._material())

    async def _upload(self, name: str, material: Material) -> None:
        path, offset = await tus.begin(self.api, GROUP, name, material), 0
        while offset < material.size:
            end = min(offset + self.dice.randrange(1, material.size + 1), material.size)
            reply = await tus.patch(self.api, path, material, offset, end)
            assert reply.status == 204, (reply.status, reply.body)
            offset = end
        self._wrote(name, material)

    async def _put(self) -> None:
        """A file in one request, without a protocol."""
        self._number += 1
        name, material = f"{self.name}-{self._number}", self._material(_MOST_AT_ONCE)
        data = material.read(0, material.size)
        reply = await self.api.put(f"{_FILES}/{name}", data=data)
        assert reply.status == 201, (reply.status, reply.body)
        self._wrote(name, material)

    async def _give_up(self) -> None:
        """Begins an upload and ends it half-way."""
        material = self._material()
        path = await tus.begin(self.api, GROUP, f"{self.name}-never", material)
        reply = await tus.patch(self.api, path, material, 0, material.size // 2)
        assert reply.status == 204, (reply.status, reply.body)
        reply = await self.api.delete(path, headers=tus.TUS)
        assert reply.status == 204, (reply.status, reply.body)

    async def _read(self) -> None:
        if self.files:
            name = self._chosen()
            number = self.dice.randrange(len(self.files[name]))
            await self._compare(name, self.files[name][number], number + 1)

    async def _copy(self) -> None:
        if self.files:
            name, self._number = self._chosen(), self._number + 1
            await self._send("copy", name, f"{self.name}-{self._number}", 201)
            self.files[f"{self.name}-{self._number}"] = self.files[name][-1:]

    async def _move(self) -> None:
        if self.files:
            name, self._number = self._chosen(), self._number + 1
            await self._send("move", name, f"{self.name}-{self._number}", 200)
            self.files[f"{self.name}-{self._number}"] = self.files.pop(name)

    async def _trash(self) -> None:
        if self.files:
            name = self._chosen()
            reply = await self.api.delete(f"{_FILES}/{name}")
            assert reply.status == 204, (reply.status, reply.body)
            items = (await self.api.get(f"{_TRASH}?limit=1000")).json["items"]
            (entry,) = [item["id"] for item in items if item["name"] == name]
            self.trash[entry] = (name, self.files.pop(name))

    async def _from_trash(self) -> None:
        """Something in the trash comes back, or goes for good."""
        if not self.trash:
            return
        entry = self.dice.choice(list(self.trash))
        if self.dice.random() < 0.5:
            reply = await self.api.post(f"{_TRASH}/{entry}/restore")
            assert reply.status == 200, (reply.status, reply.body)
            name, versions = self.trash.pop(entry)
            self.files[name] = versions
        else:
            reply = await self.api.delete(f"{_TRASH}/{entry}")
            assert reply.status == 204, (reply.status, reply.body)
            del self.trash[entry]

    async def _delete(self) -> None:
        if self.files:
            name = self._chosen()
            reply = await self.api.delete(f"{_FILES}/{name}?permanent=true")
            assert reply.status == 204, (reply.status, reply.body)
            del self.files[name]

    async def _send(self, act: str, source: str, target: str, status: int) -> None:
        wish = {"from": f"/{source}", "to": f"/{target}"}
        reply = await self.api.post(f"/api/v1/groups/{GROUP}/{act}", wish)
        assert reply.status == status, (act, reply.status, reply.body)

    async def _compare(self, name: str, material: Material, number: int) -> None:
        await tus.assert_equal(self.api, GROUP, f"{name}?version={number}", material)

    def _wrote(self, name: str, material: Material) -> None:
        self.files.setdefault(name, []).append(material)
        self.uploaded += material.size

    def _chosen(self) -> str:
        return self.dice.choice(list(self.files))

    def _material(self, most: int = max(_SIZES)) -> Material:
        """Half of it begins with bytes that others have uploaded, too."""
        size = self.dice.randrange(1, min(self.dice.choice(_SIZES), most) + 1)
        if self.dice.random() < 0.5:
            return Material(f"common {self.dice.randrange(_COMMON_SEEDS)}", size)
        return Material(f"own {self.name} {self._number} {self.uploaded}", size)


async def live_together(people: list[Person], seconds: float) -> None:
    """All of them at once; the first who finds something wrong ends it."""
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for person in people:
            tasks.create_task(person.live(until))
