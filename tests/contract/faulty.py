"""A store that fails as planned, around a real one: for tests of everything above a store."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from filestore.blocks.backend import Backend, T
from filestore.blocks.port import BlockKey, Buffer, Leftover, StoredObject
from filestore.errors import StoreFull, StoreUnavailable

Operation = Literal[
    "put", "get", "remove", "walk", "set_aside", "remove_aside",
    "read_identity", "write_identity", "check", "write_mark", "remove_marks", "walk_marks",
]  # fmt: skip


class Kind(Enum):
    """How a call goes wrong."""

    BEFORE = auto()
    """Unavailable, and nothing was done."""

    AFTER = auto()
    """Unavailable, though all of it was done: the answer was lost."""

    SLOW_DOWN = auto()
    """Unavailable with a ``retry_after_s``; nothing was done."""

    FULL = auto()
    """Full; nothing was done."""

    HOLD = auto()
    """Nothing is done until :attr:`Fault.gate` opens; then all goes well."""

    TRUNCATED = auto()
    """A get gives only the first half; a walk breaks off as unavailable after one object."""

    WRONG_BYTES = auto()
    """A get gives bytes of which the last one is another."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault: in the ``nth`` call of ``operation``, counted from 1 (0: in each).

    ``reached`` is set when the call is made, so that a test can wait for it.
    """

    operation: Operation
    nth: int
    kind: Kind
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class FaultyStore:
    """Passes everything on, except for the calls in ``plan``. ``calls`` counts all of them.

    A fetch counts as a get; ``put_size`` are the bytes of all objects that were to be put. The
    plan may be changed at any time.
    """

    def __init__(self, inner: Backend, plan: Iterable[Fault] = ()) -> None:
        self.inner = inner
        self.plan = list(plan)
        self.calls: Counter[Operation] = Counter()
        self.put_size = 0

    def __repr__(self) -> str:
        return f"<FaultyStore of {self.inner!r}, {dict(self.calls)}>"

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        self.put_size += sum(memoryview(part).nbytes for part in parts)
        fault = await self._begin("put")
        await self.inner.put(key, parts)
        _end(fault)

    async def get(self, key: BlockKey) -> bytes:
        return await self.fetch(key, lambda stored: stored)

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        fault = await self._begin("get")
        found = await self.inner.fetch(key, lambda stored: finish(_damaged(stored, fault)))
        _end(fault)
        return found

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        fault = await self._begin("remove")
        await self.inner.remove(keys)
        _end(fault)

    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        fault = await self._begin("walk")
        async for found in self.inner.walk(domain, after=after):
            yield found
            if fault is not None and fault.kind is Kind.TRUNCATED:
                raise StoreUnavailable(reason="planned: the listing broke off")
        _end(fault)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        fault = await self._begin("set_aside")
        await self.inner.set_aside(keys, day)
        _end(fault)

    def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        return self.inner.walk_aside(after=after)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        fault = await self._begin("remove_aside")
        await self.inner.remove_aside(paths)
        _end(fault)

    async def domains(self) -> list[str]:
        return await self.inner.domains()

    def walk_leftovers(self) -> AsyncIterator[Leftover]:
        return self.inner.walk_leftovers()

    async def read_identity(self) -> tuple[str, int] | None:
        fault = await self._begin("read_identity")
        found = await self.inner.read_identity()
        _end(fault)
        return found

    async def write_identity(self, store_id: str, epoch: int) -> None:
        fault = await self._begin("write_identity")
        await self.inner.write_identity(store_id, epoch)
        _end(fault)

    async def write_mark(self, kind: str, name: str) -> None:
        fault = await self._begin("write_mark")
        await self.inner.write_mark(kind, name)
        _end(fault)

    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        fault = await self._begin("walk_marks")
        async for found in self.inner.walk_marks(kind, after=after):
            yield found
            if fault is not None and fault.kind is Kind.TRUNCATED:
                raise StoreUnavailable(reason="planned: the listing broke off")
        _end(fault)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        fault = await self._begin("remove_marks")
        await self.inner.remove_marks(kind, names)
        _end(fault)

    async def check(self) -> None:
        fault = await self._begin("check")
        await self.inner.check()
        _end(fault)

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return await self.inner.sweep(is_alive)

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def _begin(self, operation: Operation) -> Fault | None:
        """Counts the call, and fails it here where its fault comes before the effect."""
        self.calls[operation] += 1
        fault = self._find(operation, self.calls[operation])
        if fault is None:
            return None
        fault.reached.set()
        if fault.kind is Kind.BEFORE:
            raise StoreUnavailable(reason=f"planned: no {operation}")
        if fault.kind is Kind.SLOW_DOWN:
            raise StoreUnavailable(reason="planned: SlowDown", retry_after_s=1)
        if fault.kind is Kind.FULL:
            raise StoreFull(retry_after_s=30)
        if fault.kind is Kind.HOLD:
            await fault.gate.wait()
        return fault

    def _find(self, operation: Operation, number: int) -> Fault | None:
        for fault in self.plan:
            if fault.operation == operation and fault.nth in (0, number):
                return fault
        return None


def _damaged(stored: bytes, fault: Fault | None) -> bytes:
    if fault is not None and fault.kind is Kind.TRUNCATED:
        return stored[: len(stored) // 2]
    if fault is not None and fault.kind is Kind.WRONG_BYTES:
        return stored[:-1] + bytes([stored[-1] ^ 1])
    return stored


def _end(fault: Fault | None) -> None:
    if fault is not None and fault.kind is Kind.AFTER:
        raise StoreUnavailable(reason="planned: the answer was lost")
