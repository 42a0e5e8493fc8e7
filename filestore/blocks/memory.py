"""A store in memory: for tests, and the reference of what the port means."""

from collections.abc import AsyncIterator, Callable, Sequence

from filestore.blocks.backend import (
    T,
    check_domain,
    mark_name,
    newest_mark,
    object_path,
    older_marks,
)
from filestore.blocks.deadline import put_deadline, refuse_if_late
from filestore.blocks.port import BlockKey, Buffer, StoredObject
from filestore.errors import BlockMissing


class MemoryStore:
    """Holds objects as long as it lives. ``fetch`` runs on the event loop."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.marks: list[str] = []

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
                yield StoredObject(path, len(stored))

    async def read_identity(self) -> tuple[str, int] | None:
        return newest_mark(self.marks)

    async def write_identity(self, store_id: str, epoch: int) -> None:
        old = older_marks(self.marks, epoch)
        self.marks = [mark for mark in self.marks if mark not in old]
        self.marks.append(mark_name(store_id, epoch))
