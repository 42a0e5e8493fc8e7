"""What a run would free, without changing anything, and what waits until when.

The queue is judged by the functions that a run uses, page by page. What the reaper has not
released yet is summed up by the database. A plan takes no lock, so uploads and deletions that
go on meanwhile make it an estimate; a run looks again under locks.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from filestore.meta import gc, gc_figures
from filestore.meta.database import Database
from filestore.meta.gc import Task
from filestore.meta.gc_figures import Waiting
from filestore.model import BlockState
from filestore_gc.judging import Terms, Verdict, frees_now, judge, ready_at
from filestore_gc.report import Reaped, Tally, Wait

_PAGE: Final = 1000


class Plan:
    """The sums of a plan. Memory is that of the sums."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._waits: dict[str, Wait] = {}
        self.freed = Tally()
        self.reaped = Reaped()

    def __repr__(self) -> str:
        return f"<Plan by {self._terms}, {self.freed!r}>"

    @property
    def waiting(self) -> tuple[Wait, ...]:
        return tuple(sorted(self._waits.values(), key=lambda wait: wait.why))

    def add_task(self, task: Task) -> None:
        """One block of the queue."""
        verdict = judge(task, self._terms)
        if frees_now(task, self._terms):
            self.freed.add_task(task)
        elif verdict is Verdict.CONDEMN:
            self.add_wait(Wait("grace", 1, task.size, *[task.now + self._terms.grace_us] * 2))
        elif verdict is Verdict.WAIT:
            why = why_waiting(task.state, is_removed=task.removed_at is not None, attempts=1)
            size = 0 if task.removed_at is not None else task.size
            self.add_wait(Wait(why, 1, size, *[ready_at(task, self._terms)] * 2))
        elif verdict is Verdict.ALARM:
            self.add_wait(Wait("in-use", 1, task.size, task.now, task.now))

    def add_unreleased(self, found: gc_figures.Unreleased, now: int) -> None:
        """Blocks that the reaper lets go before the queue is looked at."""
        if self._terms.grace_us == 0:
            self.freed.add(found.group_id, found.reason, 0, found.blocks, found.bytes)
        else:
            due = now + self._terms.grace_us
            self.add_wait(Wait("grace", found.blocks, found.bytes, due, due))

    def add_wait(self, more: Wait) -> None:
        old = self._waits.get(more.why, more)
        counted = self._waits.get(more.why, Wait(more.why, 0, 0, 0, 0))
        self._waits[more.why] = Wait(
            more.why,
            counted.blocks + more.blocks,
            counted.bytes + more.bytes,
            min(old.first_at, more.first_at),
            max(old.last_at, more.last_at),
        )


async def make_plan(db: Database, process_id: str, terms: Terms) -> Plan:
    """What a run by these terms would do now."""
    plan = Plan(terms)
    now = await db.read(gc_figures.clock)
    due = await db.read(partial(gc_figures.to_reap, process_id=process_id, alone=db.is_sqlite))
    plan.reaped = Reaped(
        uploads=due.uploads,
        entries=due.entries,
        versions=due.versions,
        contents=due.contents,
        unfinished=due.unfinished,
    )
    for found in await db.read(gc_figures.unreleased):
        plan.add_unreleased(found, now)
    after = 0
    while tasks := await db.read(partial(gc.page, after=after, limit=_PAGE)):
        after = tasks[-1].block_id
        for task in tasks:
            plan.add_task(task)
    return plan


def why_waiting(state: BlockState, *, is_removed: bool, attempts: int) -> str:
    """Why a block on its way out is not gone yet."""
    if state is BlockState.CONDEMNED:
        return "grace"
    if state is not BlockState.DELETING:
        return "queued"
    if is_removed:
        return "tombstone"
    return "retry" if attempts else "queued"


def waits_of(found: Iterable[Waiting]) -> tuple[Wait, ...]:
    """What waits behind a run, in the shape of a plan."""
    plan = Plan(Terms(0))
    for item in found:
        why = why_waiting(item.state, is_removed=item.is_removed, attempts=item.attempts)
        if item.state is BlockState.CONDEMNED and item.attempts:
            why = "in-use"
        size = 0 if item.is_removed else item.bytes
        plan.add_wait(Wait(why, item.blocks, size, item.first_at, item.last_at))
    return plan.waiting
