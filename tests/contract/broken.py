"""Stores that each break one sentence of the contract: what the suite must catch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from filestore.blocks.backend import T, object_path
from filestore.blocks.memory import MemoryStore
from filestore.blocks.port import BlockKey, Buffer, Leftover, LeftoverKind, StoredObject
from filestore.errors import BlockMissing, StoreUnavailable
from filestore.model import KIB


class CutsAtFourMib(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await super().put(key, [b"".join(parts)[: 4096 * KIB]])


class TakesOnlyTheFirstParts(MemoryStore):
    """As one ``writev`` does, which takes at most 1024 buffers."""

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await super().put(key, parts[:1024])


class GivesWrongBytes(MemoryStore):
    async def get(self, key: BlockKey) -> bytes:
        stored = await super().get(key)
        return stored[:-1] + bytes([stored[-1] ^ 1])


class GivesNothingForMissing(MemoryStore):
    async def get(self, key: BlockKey) -> bytes:
        return self.objects.get(object_path(key), b"")


class CallsMissingUnavailable(MemoryStore):
    async def get(self, key: BlockKey) -> bytes:
        try:
            return await super().get(key)
        except BlockMissing as err:
            raise StoreUnavailable(reason="not found") from err


class FetchesWithoutFinishing(MemoryStore):
    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        return await self.get(key)  # type: ignore[return-value]


class SwallowsWhatFinishRaises(MemoryStore):
    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        try:
            return await super().fetch(key, finish)
        except LookupError:
            return None  # type: ignore[return-value]


class RefusesASecondPut(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        if object_path(key) in self.objects:
            raise FileExistsError
        await super().put(key, parts)


class AppendsOnASecondPut(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        before = self.objects.get(object_path(key), b"")
        await super().put(key, [before, *parts])


class SharesOneScratchBuffer(MemoryStore):
    scratch = b""

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        self.scratch = b"".join(parts)
        await asyncio.sleep(0)
        await super().put(key, [self.scratch])


class KeepsTheCallersBuffer(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.buffers: dict[str, list[Buffer]] = {}

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await super().put(key, parts)
        self.buffers[key.path] = list(parts)

    async def get(self, key: BlockKey) -> bytes:
        return b"".join(self.buffers[key.path]) if key.path in self.buffers else await missing()


class IgnoresGenerations(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await super().put(BlockKey(key.domain, key.hash, "0"), parts)

    async def get(self, key: BlockKey) -> bytes:
        return await super().get(BlockKey(key.domain, key.hash, "0"))


class RemovesAllGenerations(MemoryStore):
    async def remove(self, keys: Sequence[BlockKey]) -> None:
        for key in keys:
            prefix = object_path(key).rpartition(".")[0]
            for path in [path for path in self.objects if path.startswith(prefix)]:
                del self.objects[path]


class RemovesNothing(MemoryStore):
    """As the SDK's bulk delete does for those who do not iterate over its answer."""

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        pass


class RefusesToRemoveMissing(MemoryStore):
    async def remove(self, keys: Sequence[BlockKey]) -> None:
        for key in keys:
            if self.objects.pop(object_path(key), None) is None:
                raise BlockMissing


class WalksUnsorted(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        found = [item async for item in super().walk(domain, after=after)]
        for item in found[1:] + found[:1]:
            yield item


class WalksFromTheBeginning(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for item in super().walk(domain):
            yield item


class WalksIncludingAfter(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for item in super().walk(domain):
            if item.path >= after:
                yield item


class WalksOnePage(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        left = 1000
        async for item in super().walk(domain, after=after):
            if left:
                left -= 1
                yield item


class WalksOtherDomains(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        for path, stored in sorted(self.objects.items()):
            if path.startswith(domain) and path > after:
                yield StoredObject(path, len(stored))


class WalksWithPlainSizes(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for item in super().walk(domain, after=after):
            yield StoredObject(item.path, item.size + 32)


class DoesNotKnowTheTime(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for item in super().walk(domain, after=after):
            yield StoredObject(item.path, item.size)


class SetsAsideByRemoving(MemoryStore):
    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        await self.remove(keys)


class SetsAsideByCopying(MemoryStore):
    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        kept = dict(self.objects)
        await super().set_aside(keys, day)
        self.objects = kept


class WalksAsideFromTheBeginning(MemoryStore):
    async def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for item in super().walk_aside():
            yield item


class RemovesAnythingAside(MemoryStore):
    async def remove_aside(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.aside.pop(f".quarantine/{path}", None)


class TakesMarksForDomains(MemoryStore):
    async def domains(self) -> list[str]:
        return sorted([*await super().domains(), *(mark[:3] for mark in self.marks)])


class LeavesItsTemporaryFiles(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await super().put(key, parts)
        self.leftovers.append(Leftover(LeftoverKind.TEMPORARY, key.generation, 1, 1))


class ShowsItsMarks(MemoryStore):
    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        for mark in self.marks:
            yield StoredObject(mark, 0)
        async for item in super().walk(domain, after=after):
            yield item


class ForgetsHighEpochs(MemoryStore):
    async def write_identity(self, store_id: str, epoch: int) -> None:
        self.marks = [f"{store_id}.{epoch}"]


class ComparesEpochsAsText(MemoryStore):
    async def read_identity(self) -> tuple[str, int] | None:
        if not self.marks:
            return None
        store_id, _, epoch = max(self.marks).rpartition(".")
        return store_id, int(epoch)

    async def write_identity(self, store_id: str, epoch: int) -> None:
        self.marks.append(f"{store_id}.{epoch}")


class WalksMarksUnsorted(MemoryStore):
    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        found = [mark async for mark in super().walk_marks(kind, after=after)]
        for mark in reversed(found):
            yield mark


class WalksMarksFromTheBeginning(MemoryStore):
    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        async for mark in super().walk_marks(kind):
            yield mark


class MixesKindsOfMarks(MemoryStore):
    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        for path in sorted(self.facts):
            if (name := path.partition("/")[2]) > after:
                yield StoredObject(name, 0)


class KeepsRemovedMarks(MemoryStore):
    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        pass


class RemovesMarksOfTheFolder(MemoryStore):
    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        for folder in {f".{kind}/{name.partition('/')[0]}/" for name in names}:
            for path in [path for path in self.facts if path.startswith(folder)]:
                del self.facts[path]


class StoresMarksAsObjects(MemoryStore):
    async def write_mark(self, kind: str, name: str) -> None:
        self.objects[name] = b""


class TakesMarksForItsIdentity(MemoryStore):
    async def write_mark(self, kind: str, name: str) -> None:
        self.marks.append(name.replace("/", "."))


class JoinsAnyMark(MemoryStore):
    async def write_mark(self, kind: str, name: str) -> None:
        self.facts[f".{kind}/{name}"] = 0

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        self.marks = []


class IgnoresDeadlines(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        self.objects[object_path(key)] = b"".join(parts)


class LeavesHalfWhenCancelled(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        whole = b"".join(parts)
        await super().put(key, [whole[: len(whole) // 2]])
        await asyncio.sleep(0)
        await super().put(key, [whole])


class BreaksWhenCancelled(MemoryStore):
    """A slot that a cancelled put never gives back."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = 4

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        if not self.slots:
            raise StoreUnavailable(reason="all slots are taken")
        self.slots -= 1
        await asyncio.sleep(0)
        self.slots += 1
        await super().put(key, parts)


class ForgetsWhenOpened(MemoryStore):
    async def open(self) -> None:
        self.objects.clear()


class LitterWhenChecked(MemoryStore):
    async def check(self) -> None:
        self.objects["default/00/check"] = b""


class JoinsAnyDomain(MemoryStore):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        self.objects[key.path] = b"".join(parts)


async def missing() -> bytes:
    raise BlockMissing
