"""A store in memory: for tests, and the reference of what the port means."""

import time
from collections.abc import AsyncIterator, Callable, Sequence

from filestore.blocks.backend import (
    T,
    check_domain,
    mark_folder,
    mark_name,
    mark_path,
    newest_mark,
    object_path,
    older_marks,
    quarantine_folder,
    quarantine_path,
)
from filestore.blocks.deadline import put_deadline, refuse_if_late
from filestore.blocks.port import BlockKey, Buffer, Leftover, StoredObject
from filestore.errors import BlockMissing


class MemoryStore:
    """Holds objects as long as it lives. ``fetch`` runs on the event loop."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.aside: dict[str, bytes] = {}
        self.written: dict[str, int] = {}
        self.leftovers: list[Leftover] = []
        self.marks: list[str] = []
        self.facts: dict[str, int] = {}

    def __repr__(self) -> str:
        size = sum(map(len, self.objects.values()))
        return f"<MemoryStore {len(self.objects)} objects, {size} bytes>"

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return 0

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        path = object_path(key)
        refuse_if_late(put_deadline.get())
        self.objects[path] = b"".join(parts)
        self.written[path] = time.time_ns() // 1000

    async def get(self, key: BlockKey) -> bytes:
        try:
            return self.objects[object_path(key)]
        except KeyError:
            raise BlockMissing from None

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        return finish(await self.get(key))

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        for key in keys:
            self.objects.pop(object_path(key), None)

    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        folder = check_domain(domain) + "/"
        for path, stored in sorted(self.objects.items()):
            if path.startswith(folder) and path > after:
                yield StoredObject(path, len(stored), self.written.get(path, 0))

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        folder = quarantine_folder(day)
        for path in map(object_path, keys):
            if path in self.objects:
                self.aside[f"{folder}/{path}"] = self.objects.pop(path)

    async def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        for path, stored in sorted(self.aside.items()):
            if (name := path.partition("/")[2]) > after:
                yield StoredObject(name, len(stored))

    async def remove_aside(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.aside.pop(quarantine_path(path), None)

    async def domains(self) -> list[str]:
        return sorted({path.partition("/")[0] for path in self.objects})

    async def walk_leftovers(self) -> AsyncIterator[Leftover]:
        for found in self.leftovers:
            yield found

    async def read_identity(self) -> tuple[str, int] | None:
        return newest_mark(self.marks)

    async def write_identity(self, store_id: str, epoch: int) -> None:
        old = older_marks(self.marks, epoch)
        self.marks = [mark for mark in self.marks if mark not in old]
        self.marks.append(mark_name(store_id, epoch))

    async def write_mark(self, kind: str, name: str) -> None:
        self.facts[mark_path(kind, name)] = time.time_ns() // 1000

    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        top = mark_folder(kind) + "/"
        for path, at in sorted(self.facts.items()):
            if path.startswith(top) and (name := path.removeprefix(top)) > after:
                yield StoredObject(name, 0, at)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        for name in names:
            self.facts.pop(mark_path(kind, name), None)
