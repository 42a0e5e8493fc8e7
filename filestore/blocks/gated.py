"""A store that nobody may use before it is known to be the right one."""

from collections.abc import AsyncIterator, Callable, Sequence

from filestore.blocks.backend import Backend, T
from filestore.blocks.port import BlockKey, Buffer, Leftover, StoredObject
from filestore.errors import StoreUnavailable


class GatedStore:
    """Refuses everything but opening, sweeping and closing until :meth:`admit`.

    So the service can start, and say that it is not ready, while its store is still away. Who
    opens it reads and writes its identity below the gate.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._is_admitted = False

    def __str__(self) -> str:
        return str(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)

    def admit(self) -> None:
        """The store is open and belongs to this database."""
        self._is_admitted = True

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        await self._through().put(key, parts)

    async def get(self, key: BlockKey) -> bytes:
        return await self._through().get(key)

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        return await self._through().fetch(key, finish)

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        await self._through().remove(keys)

    def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._through().walk(domain, after=after)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        await self._through().set_aside(keys, day)

    def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._through().walk_aside(after=after)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        await self._through().remove_aside(paths)

    async def domains(self) -> list[str]:
        return await self._through().domains()

    def walk_leftovers(self) -> AsyncIterator[Leftover]:
        return self._through().walk_leftovers()

    async def check(self) -> None:
        await self._through().check()

    async def read_identity(self) -> tuple[str, int] | None:
        return await self._through().read_identity()

    async def write_identity(self, store_id: str, epoch: int) -> None:
        await self._through().write_identity(store_id, epoch)

    async def write_mark(self, kind: str, name: str) -> None:
        await self._through().write_mark(kind, name)

    def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self._through().walk_marks(kind, after=after)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        await self._through().remove_marks(kind, names)

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return await self._inner.sweep(is_alive)

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    def _through(self) -> Backend:
        if not self._is_admitted:
            raise StoreUnavailable(
                reason="the block store has not been reached since the start", retry_after_s=5
            )
        return self._inner
