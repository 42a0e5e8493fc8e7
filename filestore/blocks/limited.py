"""A bound on what a store is asked at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from filestore.blocks.backend import Backend, T
from filestore.blocks.port import BlockKey, Buffer, Leftover, StoredObject


class LimitedStore:
    """Passes on ``max_puts`` puts and ``max_gets`` gets at once, first come first served."""

    def __init__(self, inner: Backend, *, max_puts: int, max_gets: int) -> None:
        self._inner = inner
        self._puts = asyncio.Semaphore(max_puts)
        self._gets = asyncio.Semaphore(max_gets)

    def __str__(self) -> str:
        return str(self._inner)

    def __repr__(self) -> str:
        return f"<LimitedStore of {self._inner!r}>"

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        async with self._puts:
            await self._inner.put(key, parts)

    async def get(self, key: BlockKey) -> bytes:
        async with self._gets:
            return await self._inner.get(key)

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        async with self._gets:
            return await self._inner.fetch(key, finish)

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        await self._inner.remove(keys)

    def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._inner.walk(domain, after=after)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        await self._inner.set_aside(keys, day)

    def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._inner.walk_aside(after=after)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        await self._inner.remove_aside(paths)

    async def domains(self) -> list[str]:
        return await self._inner.domains()

    def walk_leftovers(self) -> AsyncIterator[Leftover]:
        return self._inner.walk_leftovers()

    async def read_identity(self) -> tuple[str, int] | None:
        return await self._inner.read_identity()

    async def write_identity(self, store_id: str, epoch: int) -> None:
        await self._inner.write_identity(store_id, epoch)

    async def write_mark(self, kind: str, name: str) -> None:
        await self._inner.write_mark(kind, name)

    def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._inner.walk_marks(kind, after=after)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        await self._inner.remove_marks(kind, names)

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return await self._inner.sweep(is_alive)

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def check(self) -> None:
        await self._inner.check()
