"""Two processes of the service on one database and one store, for the state machine's steps.

A process may die at any commit: then it does nothing more, its row stays as that of one that is
silent, and another one takes its place. The collector's transactions are steps of their own,
and what was sent to the store to be removed may be sent again at any time.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import sqlalchemy as sa
from blake3 import blake3

from filestore.acts.repeated import client_key
from filestore.acts.uploads import Request
from filestore.errors import DatabaseUnavailable, FilestoreError
from filestore.meta import gc
from filestore.meta.database import Database, Tx
from filestore.meta.gc import Task
from filestore.meta.tables import (
    blocks,
    content_blocks,
    entries,
    gc_queue,
    groups,
    processes,
    uploads,
    versions,
)
from filestore.meta.uploads import Upload
from filestore.model import Actor, ExpectedDigest, Protocol, UploadPart
from filestore.names import parse_name
from filestore_gc.guards import raise_epoch
from filestore_gc.judging import Terms, is_removable
from filestore_gc.reaping import Reaper
from filestore_gc.stepping import settle, step
from filestore_gc.sweeping import key_of
from tests.contract.faulty import Fault, Kind
from tests.model.reference import Running
from tests.services.collecting import (
    DAY_S,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    start,
)
from tests.services.damage import fsck
from tests.services.hot_path import DOMAIN, TINY, Process, Site
from tests.services.limits import check_audit

T = TypeVar("T")

NOW = Terms(0, is_override=True)
_DAY_US = DAY_S * 1_000_000


_counts = ContextVar("counts", default=False)
"""Whether a commit is of the work that its process is to die in, and not of the background."""


class Crashed(DatabaseUnavailable):
    """The process is gone; its database says no more."""


class Mortal(Database):
    """A database connection of a process that dies at its ``left``-th commit from now.

    ``is_late``: right behind the commit, before anybody learns of it; otherwise right before.
    """

    def __init__(self, inner: Database) -> None:
        self.__dict__.update(inner.__dict__)
        self.left: int | None = None
        self.busy = 0
        self.is_late = False
        self.is_dead = False

    async def transact(self, act: Callable[[Tx], Awaitable[T]], *, at_once: bool = False) -> T:
        self._check()

        async def mortal(tx: Tx) -> T:
            found = await act(tx)
            self._check()
            if self.left == 1 and _counts.get() and not self.is_late:
                self.is_dead = True
                self._check()
            return found

        with self._at_work():
            found = await super().transact(mortal, at_once=at_once)
        if self.left is not None and _counts.get():
            self.left -= 1
            self.is_dead = self.is_dead or self.left == 0
        self._check()
        return found

    async def read(self, look: Callable[[Tx], Awaitable[T]]) -> T:
        self._check()
        with self._at_work():
            found = await super().read(look)
        self._check()
        return found

    async def rest(self) -> None:
        """Returns when nothing more is asked of it."""
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0)
            quiet = 0 if self.busy else quiet + 1

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    def _check(self) -> None:
        if self.is_dead:
            raise Crashed(retry_after_s=1)


@dataclass
class Held:
    """An append whose PUT does not come back. ``epoch``: of the upload when it began."""

    upload_id: str
    size: int
    offset: int
    epoch: int
    fault: Fault
    task: "asyncio.Task[Upload]"


@dataclass
class Removal:
    """Objects that a collector has sent to be removed, and whether that was recorded."""

    tasks: Sequence[Task]
    is_settled: bool = False


@dataclass
class House:
    """What runs. ``ground`` is a connection that never dies, for what looks at everything."""

    site: Site
    ground: Process
    processes: list[Process] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)

    @classmethod
    async def open(cls, site: Site) -> "House":
        """Two processes, on a fresh database."""
        house = cls(site, await start(site))
        house.processes = [await house._begin() for _ in range(2)]
        return house

    async def begin(self, at: int, wish: Running, actor: Actor) -> Upload:
        """A new upload."""
        request = Request(
            wish.group, DOMAIN, actor.user_id or "", Protocol.TUS, wish.length,
            name=parse_name(wish.name),
        )  # fmt: skip
        if wish.is_part:
            request = replace(request, part=UploadPart.PARTIAL, raw_concat=UploadPart.PARTIAL)
        return await self.processes[at].hot.transfers.begin(actor, request)

    async def concatenate(self, at: int, wish: Running) -> Upload:
        """The final upload of the parts: begun, or gone on with."""
        data = wish.data + b"?" if wish.is_doomed else wish.data
        request = Request(
            wish.group, DOMAIN, wish.user, Protocol.TUS, None,
            name=parse_name(wish.name), parts=wish.parts, part=UploadPart.FINAL,
            raw_concat="final;" + " ".join(wish.parts),
            idempotency_key=client_key(wish.key), raw_metadata=wish.key,
            expected=ExpectedDigest(blake3=blake3(data).digest()),
        )  # fmt: skip
        actor = Actor(wish.user, None, None)
        return await self.processes[at].hot.transfers.concatenate(actor, request)

    async def begun_as(self, key: str, known: Collection[str]) -> Upload | None:
        """What was begun for :meth:`concatenate` and is not ``known`` yet, however it ended."""
        query = sa.select(uploads.c.id).where(uploads.c.raw_metadata == key)
        found = [row.id for row in await self.ground.all(query) if row.id not in known]
        return await self.ground.look(found[0]) if found else None

    async def hold(self, at: int, upload_id: str, running: Running, size: int) -> Held | None:
        """Begins an append whose first PUT is held; None when it ended without any."""
        process = self.processes[at]
        fault = Fault("put", process.store.calls["put"] + 1, Kind.HOLD)
        process.store.plan = [fault]
        offset, epoch = running.offset, running.epoch + 1
        piece = running.data[offset : offset + size]
        task = asyncio.create_task(process.append(upload_id, offset, piece))
        reached = asyncio.create_task(fault.reached.wait())
        await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if fault.reached.is_set():
            assert isinstance(process.db, Mortal)
            await process.db.rest()
            return Held(upload_id, size, offset, epoch, fault, task)
        process.store.plan = []
        await task
        return None

    async def crash(self, at: int, landing: Held | None = None) -> None:
        """The process is gone as it is, and silent; another one takes its place.

        ``landing``: a PUT that was under way and arrives all the same.
        """
        process = self.processes[at]
        assert isinstance(process.db, Mortal)
        process.db.is_dead = True
        process.store.plan = [Fault("put", 0, Kind.BEFORE), Fault("remove", 0, Kind.BEFORE)]
        if landing is not None:
            landing.fault.gate.set()
            await asyncio.wait({landing.task})
        await self.site.stop(process)
        silent = sa.update(processes).where(processes.c.id == process.id).values(seen_at=1)
        await self.ground.change(silent)
        self.processes[at] = await self._begin()

    async def die_in(
        self, at: int, work: Coroutine[Any, Any, object], *, left: int, late: bool
    ) -> bool:
        """Whether the process died in the work; it is another one then."""
        db = self.processes[at].db
        assert isinstance(db, Mortal)
        db.left, db.is_late = left, late
        _counts.set(True)
        with contextlib.suppress(FilestoreError):
            await work
        _counts.set(False)
        died, db.left = db.is_dead, None
        if died:
            await self.crash(at)
        return died

    async def reap(self, at: int) -> None:
        await Reaper(self.processes[at].db, self.processes[at].id).reap(thorough=True)

    async def step(self, at: int, *, may_doom: bool) -> None:
        """One transaction of a collector over all that is queued."""
        process = self.processes[at]
        if may_doom:
            await raise_epoch(process.db, process.store)
        stepped = await process.transact(
            step, sorted(await process.queued()), NOW, may_doom=may_doom
        )
        assert stepped.alarms == []

    async def send_removal(self, at: int) -> None:
        """The objects of all blocks that are deleting are removed; nobody has recorded it yet."""
        process = self.processes[at]
        found = await process.transact(gc.pick, sorted(await process.queued()))
        tasks = [task for task in found if is_removable(task, NOW)]
        await process.store.remove([key_of(task) for task in tasks])
        self.removals.append(Removal(tasks))

    async def send_again(self, number: int) -> None:
        """A DELETE comes once more, however late."""
        tasks = self.removals[number].tasks
        await self.ground.store.remove([key_of(task) for task in tasks])

    async def settle(self, at: int, number: int) -> None:
        """A removal is recorded."""
        removal = self.removals[number]
        settled = await self.processes[at].transact(settle, removal.tasks)
        assert settled.alarms == []
        removal.is_settled = True

    async def collect(self, at: int) -> None:
        """A whole run."""
        report = await collector_of(self.processes[at]).run_once(grace_s=0)
        assert (report.result.is_good, report.alarms) == (True, ()), report

    async def grow_old(self) -> None:
        """All blocks and tasks are a day older: no PUT of theirs may still come."""
        for table, names in (
            (blocks, ("created_at", "state_at", "deadline_at")),
            (gc_queue, ("queued_at", "not_before", "removed_at")),
        ):
            await self.ground.change(
                sa.update(table).values({name: table.c[name] - _DAY_US for name in names})
            )

    async def bytes_of(self, group: str) -> dict[str, list[bytes]]:
        """All versions of all files of a group, the trash included, by entry or name."""
        query = (
            sa.select(entries.c.id, entries.c.name, entries.c.deleted_at, versions)
            .join(versions, versions.c.entry_id == entries.c.id)
            .where(entries.c.group_id == group)
            .order_by(versions.c.number)
        )
        found: dict[str, list[bytes]] = {}
        for row in await self.ground.all(query):
            data = await self.ground.read(row.content_id, 0, row.size)
            found.setdefault(row.name if row.deleted_at is None else row.id, []).append(data)
        return found

    async def counters(self) -> dict[str, tuple[int, int]]:
        """(used, reserved) of each group."""
        rows = await self.ground.all(sa.select(groups.c.id, groups.c.used, groups.c.reserved))
        return {row.id: (row.used, row.reserved) for row in rows}

    async def check(self) -> None:
        """The first oracle: all that is referred to is there and right."""
        await check_everything_referenced_reads(self.ground)

    async def check_books(self, groups: Sequence[str]) -> None:
        for group in groups:
            await self.ground.check_books(group)

    async def check_audit(self, groups: Sequence[str]) -> None:
        """The service's own audit finds no difference."""
        await check_audit(self.ground, groups)

    async def check_sound(self) -> None:
        """A check of everything finds no damage, whatever is under way."""
        report = await fsck(self.ground)
        assert report.is_good, report.to_text()

    async def converge(self) -> None:
        """Collects to the end, and holds the second oracle: nothing else is stored."""
        for _ in range(2):
            await self.collect(0)
            await self.grow_old()
        await self.collect(0)
        await check_everything_stored_is_referenced(self.ground)
        await self.ground.check_references()
        assert set(await self.ground.block_states()) <= {"live"}
        assert await self.ground.queued() == set()
        unused = ~sa.exists().where(content_blocks.c.block_id == blocks.c.id)
        assert await self.ground.all(sa.select(blocks.c.id).where(unused)) == []

    async def _begin(self) -> Process:
        ground = self.ground
        mortal = Process(ground.id, Mortal(ground.db), ground.store, ground.hot)
        return await self.site.beside(mortal, params=TINY, uploads__reserve_step_bytes=2**20)
