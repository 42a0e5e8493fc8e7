"""Blocks as files in a folder: ``<prefix>/<domain>/<hh>/<hash>.<generation>``."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from filestore.blocks.backend import (
    IDENTITY_FOLDER,
    QUARANTINE_FOLDER,
    T,
    check_domain,
    is_domain,
    mark_folder,
    mark_name,
    mark_path,
    newest_mark,
    object_path,
    older_marks,
    quarantine_folder,
    quarantine_path,
)
from filestore.blocks.deadline import put_deadline
from filestore.blocks.durable import (
    TEMPORARY_FOLDER,
    DurableFolder,
    Ticket,
    Uncertain,
    Withdrawn,
)
from filestore.blocks.port import (
    MAX_OBJECT_SIZE,
    BlockKey,
    Buffer,
    Leftover,
    LeftoverKind,
    StoredObject,
)
from filestore.errors import BlockMissing, StoreFull, StoreUnavailable
from filestore.model import MIB

RESERVE: Final = 64 * MIB
"""Bytes of the disk that blocks leave free: room for the database beside them to go on
writing, which also has to record what a collection frees."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_FULL_RETRY_S: Final = 30
_WITHDRAW_S: Final = 10.0
"""How long a cancelled put waits for its thread, which may hang in a dying disk."""


class DiskStore:
    """A folder as a store. Every operation is one hop to ``threads``, which the caller owns.

    The folder must not be replaced while the store is open: then every operation fails
    until it is back (the same folder, or one with the same identity).
    """

    def __init__(
        self,
        root: Path,
        *,
        process_id: str,
        threads: Executor,
        prefix: str = "blocks",
        reserve: int = RESERVE,
    ) -> None:
        self._folder = DurableFolder(root / prefix, process_id=process_id)
        self._threads = threads
        self._reserve = reserve

    def __str__(self) -> str:
        return str(self._folder.root)

    def __repr__(self) -> str:
        return f"<DiskStore {self._folder.root}>"

    async def open(self) -> None:
        await self._run(self._folder.prepare)

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        """Fails as full where the largest block would be, and as unavailable on a read-only
        disk."""
        free, is_writable = await self._run(self._folder.free_space)
        if not is_writable:
            raise StoreUnavailable(reason=f"{self._folder.root}: the disk is read-only")
        if free < self._reserve + MAX_OBJECT_SIZE:
            raise StoreFull(retry_after_s=_FULL_RETRY_S)

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        return await self._run(partial(self._folder.sweep, is_alive))

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        """A cancelled put returns when its thread has let go of the buffers, within 10 s.

        One that would eat into the reserve is refused as full.
        """
        ticket = Ticket(put_deadline.get())
        path = object_path(key)
        job = self._threads.submit(self._translated, partial(self._write, path, parts, ticket))
        try:
            await asyncio.shield(asyncio.wrap_future(job))
        except asyncio.CancelledError:
            ticket.withdraw()
            await _let_go(job)
            raise

    async def get(self, key: BlockKey) -> bytes:
        return await self.fetch(key, _whole)

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        path = object_path(key)
        return await self._run(lambda: finish(self._read(path)))

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        await self._run(partial(self._folder.remove, [object_path(key) for key in keys]))

    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        """Memory is that of one of the 256 hash folders."""
        folders = await self._run(partial(self._folder.names, check_domain(domain)))
        for folder in (f"{domain}/{name}" for name in folders):
            if folder < after[: len(folder)]:
                continue
            for name, size, at in await self._run(partial(self._folder.files, folder)):
                if (path := f"{folder}/{name}") > after:
                    yield StoredObject(path, size, at)

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        paths = [object_path(key) for key in keys]
        await self._run(partial(self._folder.move, paths, quarantine_folder(day)))

    async def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        folders = [""]
        for _ in ("day", "domain", "first digits"):
            folders = [inner async for inner in self._folders(QUARANTINE_FOLDER, folders)]
        for folder in folders:
            if folder < after[: len(folder)]:
                continue
            listed = partial(self._folder.files, f"{QUARANTINE_FOLDER}/{folder}")
            for name, size, at in await self._run(listed):
                if (path := f"{folder}/{name}") > after:
                    yield StoredObject(path, size, at)

    async def remove_aside(self, paths: Sequence[str]) -> None:
        await self._run(partial(self._folder.remove, [quarantine_path(path) for path in paths]))

    async def domains(self) -> list[str]:
        return [
            name for name in await self._run(partial(self._folder.names, ".")) if is_domain(name)
        ]

    async def walk_leftovers(self) -> AsyncIterator[Leftover]:
        for name, size, at in await self._run(partial(self._folder.files, TEMPORARY_FOLDER)):
            yield Leftover(LeftoverKind.TEMPORARY, name, size, at)

    async def read_identity(self) -> tuple[str, int] | None:
        return newest_mark(await self._run(self._folder.read_marks))

    async def write_identity(self, store_id: str, epoch: int) -> None:
        await self._run(partial(self._write_identity, store_id, epoch))

    async def write_mark(self, kind: str, name: str) -> None:
        path = mark_path(kind, name)
        await self._run(lambda: self._folder.write(path, [], Ticket(None)))

    async def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        top = mark_folder(kind)
        async for folder in self._folders(top, [""]):
            if folder < after[: len(folder)]:
                continue
            for name, size, at in await self._run(partial(self._folder.files, f"{top}/{folder}")):
                if (path := f"{folder}/{name}") > after:
                    yield StoredObject(path, size, at)

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        await self._run(partial(self._folder.remove, [mark_path(kind, name) for name in names]))

    async def _folders(self, top: str, folders: Sequence[str]) -> AsyncIterator[str]:
        """The names in each of the folders below ``top``, in order."""
        for folder in folders:
            names = await self._run(partial(self._folder.names, f"{top}/{folder}"))
            for name in sorted(names, key=lambda name: f"{name}/"):  # as paths sort
                yield f"{folder}/{name}" if folder else name

    def _write(self, path: str, parts: Sequence[Buffer], ticket: Ticket) -> None:
        with suppress(Withdrawn):
            self._folder.write(path, parts, ticket, keep_free=self._reserve)

    def _read(self, path: str) -> bytes:
        try:
            return self._folder.read(path)
        except FileNotFoundError:
            raise BlockMissing from None

    def _write_identity(self, store_id: str, epoch: int) -> None:
        mark = f"{IDENTITY_FOLDER}/{mark_name(store_id, epoch)}"
        self._folder.write(mark, [], Ticket(None))
        old = older_marks(self._folder.read_marks(), epoch)
        self._folder.remove([f"{IDENTITY_FOLDER}/{name}" for name in old])

    async def _run(self, job: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._translated, job)

    def _translated(self, job: Callable[[], T]) -> T:
        with self._translation():
            return job()

    @contextmanager
    def _translation(self) -> Iterator[None]:
        """The seam: errors of the system become errors of the store."""
        try:
            yield
        except OSError as err:
            if err.errno in _FULL and not isinstance(err, Uncertain):
                raise StoreFull(retry_after_s=_FULL_RETRY_S) from err
            reason = f"{self._folder.root}: {err.strerror or err}"
            raise StoreUnavailable(reason=reason) from err


def _whole(stored: bytes) -> bytes:
    return stored


async def _let_go(job: Future[None]) -> None:
    """Waits until a withdrawn job has ended, or for a bounded time if it hangs."""
    if job.cancel():
        return
    ended = asyncio.wrap_future(job)
    await asyncio.wait([ended], timeout=_WITHDRAW_S)
    if not ended.done():
        ended.cancel()  # only the wait: a running job cannot be ended from outside
    elif not ended.cancelled():
        ended.exception()  # seen: the caller was cancelled and asks no more
