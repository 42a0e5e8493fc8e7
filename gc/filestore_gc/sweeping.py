"""One collection: passes over the queue until nothing moves any more.

A pass goes through the queue by block, in pages. Of each page, batches of blocks make a step,
several at once on PostgreSQL, and those that are deleting are removed from the store, with no
transaction open. A transaction takes as many blocks of its batch as go quickly. Memory is that
of one page.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from filestore.blocks.port import BlockKey
from filestore.errors import StoreError
from filestore.failpoints import reached
from filestore.meta import gc
from filestore.meta.database import Database, Tx
from filestore.meta.gc import Task
from filestore.model import BlockState
from filestore_gc.guards import CollectorStore, raise_epoch
from filestore_gc.judging import Terms, Verdict, is_removable, judge
from filestore_gc.pacing import LANES, Pace, Stride, transact_in
from filestore_gc.report import Alarm, Problem, Tally
from filestore_gc.stepping import BATCH, Settled, Stepped, name_of, put_off, settle, step

PAGE: Final = 1000
"""Tasks read at once: some milliseconds, and 10 batches for the workers."""
GIVE_UP_AFTER: Final = 3
"""Batches in a row that the store failed to remove, each after all its patience."""
BUSY_WAIT_S: Final = 0.1
BUSY_WAITS: Final = 50
"""How long a run that was asked for waits, without moving, for blocks that writers hold: 5 s.
A transaction takes milliseconds."""
MAX_ALARMS: Final = 100
"""Alarms that a report names; the audit log has all of them."""

T = TypeVar("T")

_log: Final = structlog.get_logger("filestore.gc")


@dataclass(frozen=True, slots=True)
class Way:
    """How a collection goes. Tasks queued after ``queued_until`` are for the next one.

    ``patient``: waits for blocks that writers hold just now.
    """

    terms: Terms
    queued_until: int
    workers: int
    patient: bool


@dataclass(slots=True)
class Swept:
    """What a collection has done so far."""

    freed: Tally = field(default_factory=Tally)
    alarms: dict[int, Alarm] = field(default_factory=dict)
    condemned: int = 0
    removed_rows: int = 0
    busy: int = 0
    failed: set[int] = field(default_factory=set)
    problem: Problem | None = None
    """The last answer of the store to a removal that it did not do."""


class Sweep:
    """Made for one collection. The caller has the lease, and the guards have agreed."""

    def __init__(
        self,
        db: Database,
        store: CollectorStore,
        way: Way,
        *,
        pace: Pace,
        keep: Callable[[], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._store = store
        self._way = way
        self._pace = pace
        self._keep = keep
        self._sleep = sleep
        self._clock = clock
        self._stride = Stride(BATCH, is_one=db.is_sqlite)
        self._lanes = asyncio.Semaphore(LANES)
        self._workers = asyncio.Semaphore(1 if db.is_sqlite else way.workers)
        self._may_doom = False
        self._failures = 0
        self.done = Swept()

    def __repr__(self) -> str:
        return f"<Sweep {self._way}, {self._stride!r}>"

    async def run(self) -> Swept:
        """Goes on until nothing moves.

        :raises DatabaseUnavailable, StoreUnavailable: what is done is done; ``done`` says it.
        """
        waits = 0
        while True:
            self.done.busy = 0
            if await self._pass():
                continue
            if not (self.done.busy and self._way.patient and waits < BUSY_WAITS):
                break
            waits += 1
            await self._sleep(BUSY_WAIT_S)
        if self._may_doom:  # a backup made meanwhile may call a block live that has gone since
            await raise_epoch(self._db, self._store)
        return self.done

    async def _pass(self) -> int:
        """How many blocks made a step."""
        moved, after = 0, 0
        page = partial(
            gc.page,
            limit=PAGE,
            queued_until=self._way.queued_until,
            due_only=not self._way.terms.is_override,
        )
        while tasks := await self._db.read(partial(page, after=after)):
            after = tasks[-1].block_id
            moved += await self._work(tasks)
        return moved

    async def _work(self, tasks: Sequence[Task]) -> int:
        ready = [task for task in tasks if judge(task, self._way.terms) is not Verdict.WAIT]
        if not self._may_doom and any(task.state is BlockState.CONDEMNED for task in ready):
            await raise_epoch(self._db, self._store)
            self._may_doom = True
        batches = [ready[at : at + BATCH] for at in range(0, len(ready), BATCH)]
        return sum(await _together([self._batch(batch) for batch in batches]))

    async def _batch(self, tasks: Sequence[Task]) -> int:
        async with self._workers:
            await self._keep()
            moved = 0
            verdicts = {task.block_id: judge(task, self._way.terms) for task in tasks}
            ids = [block for block, verdict in verdicts.items() if verdict is not Verdict.REMOVE]
            removable = [block for block, verdict in verdicts.items() if verdict is Verdict.REMOVE]
            for some in self._strides(ids):
                stepped = await self._step(some)
                moved += stepped.moved
                removable += [task.block_id for task in stepped.doomed]
            if removable and self._failures < GIVE_UP_AFTER:
                moved += await self._remove(removable)
            return moved

    async def _step(self, ids: Sequence[int]) -> Stepped:
        act = partial(step, ids=ids, terms=self._way.terms, may_doom=self._may_doom)
        stepped = await self._transact(act)
        _say(stepped)
        self.done.busy += len(ids) - stepped.looked
        self.done.condemned += len(stepped.condemned)
        self._note_alarms(stepped.alarms)
        return stepped

    async def _remove(self, ids: Sequence[int]) -> int:
        """Removes the objects of deleting blocks; how many rows this changed.

        What they are is read after ``deleting`` was committed and before the DELETE is sent.
        """
        found = await self._db.read(partial(gc.pick, ids=ids))
        tasks = [task for task in found if is_removable(task, self._way.terms)]
        if not tasks:
            return 0
        await self._pace.take(len(tasks))
        try:
            await self._store.remove([key_of(task) for task in tasks])
            reached("collect.removed")
        except StoreError as err:
            await self._put_off(tasks, err)
            return 0
        self._failures = 0
        return sum([await self._settle(some) for some in self._strides(tasks)])

    async def _settle(self, tasks: Sequence[Task]) -> int:
        settled = await self._transact(partial(settle, removed=tasks))
        reached("collect.settled")
        self.done.busy += len(tasks) - settled.looked
        self._note(settled)
        return len(settled.freed) + settled.rows

    def _strides(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """The items in pieces, each as large as a transaction may be by then."""
        at = 0
        while at < len(items):
            size = self._stride.size
            yield items[at : at + size]
            at += size

    async def _transact(self, act: Callable[[Tx], Awaitable[T]]) -> T:
        """A transaction that others may have to wait for; how long it took is noted."""
        async with self._lanes:
            return await transact_in(self._stride, self._db, act, clock=self._clock)

    async def _put_off(self, tasks: Sequence[Task], err: StoreError) -> None:
        self._failures += 1
        self.done.failed |= {task.block_id for task in tasks}
        self.done.problem = Problem(err.code, str(err))
        _log.warning("gc.not_removed", blocks=len(tasks), error=str(err))
        await self._db.transact(partial(put_off, unremoved=tasks))

    def _note(self, settled: Settled) -> None:
        for task in settled.freed:
            self.done.freed.add_task(task)
            self.done.failed.discard(task.block_id)
        self.done.removed_rows += settled.rows
        self._note_alarms(settled.alarms)

    def _note_alarms(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if len(self.done.alarms) < MAX_ALARMS or task.block_id in self.done.alarms:
                self.done.alarms[task.block_id] = Alarm(name_of(task), task.state, task.state_at)


def key_of(task: Task) -> BlockKey:
    """The key of the block's object."""
    return BlockKey(task.domain, task.hash, task.generation)


def _say(stepped: Stepped) -> None:
    """Which of a block's first steps were committed just now."""
    if stepped.dropped:
        reached("collect.dropped")
    if stepped.condemned:
        reached("collect.condemned")
    if stepped.doomed:
        reached("collect.doomed")


async def _together(work: Sequence[Coroutine[Any, Any, int]]) -> list[int]:
    """The answers of all; the first failure ends the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in running]
