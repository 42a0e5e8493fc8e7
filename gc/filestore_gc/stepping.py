"""The three transactions of a block's end, each for a batch of at most 100.

1. :func:`step` on a live block: in use, and its task goes; or condemned.
2. :func:`step` on a condemned one, when the grace is over: looked at again, then deleting.
3. :func:`settle`, after the store has acknowledged: the rows go, or stay as tombstones.

Stop after any of them, and the next collection goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from filestore.errors import Json
from filestore.meta import gc
from filestore.meta.database import Tx
from filestore.meta.gc import Task
from filestore.meta.log import audit, emit
from filestore.model import SYSTEM, BlockState
from filestore_gc.judging import (
    ALARM_US,
    TOMBSTONE_US,
    Terms,
    Verdict,
    backoff_us,
    is_young,
    judge,
)

BATCH: Final = 100
"""Blocks locked together: a writer that wants one of them waits some milliseconds."""


@dataclass(slots=True)
class Stepped:
    """What one transaction did, by the blocks as they were when it looked."""

    looked: int = 0
    dropped: list[Task] = field(default_factory=list)
    condemned: list[Task] = field(default_factory=list)
    doomed: list[Task] = field(default_factory=list)
    alarms: list[Task] = field(default_factory=list)

    @property
    def moved(self) -> int:
        return len(self.dropped) + len(self.condemned) + len(self.doomed)


@dataclass(slots=True)
class Settled:
    """What one transaction did behind a removal. ``freed``: whose bytes went with this one."""

    looked: int = 0
    freed: list[Task] = field(default_factory=list)
    rows: int = 0
    alarms: list[Task] = field(default_factory=list)


async def step(tx: Tx, ids: Sequence[int], terms: Terms, *, may_doom: bool) -> Stepped:
    """One step for each of the blocks that is ready and that no writer holds now.

    The step of deleting ones is the store's; they are left alone here, but for alarms.
    """
    looked = await gc.look(tx, ids)
    by_verdict: dict[Verdict, list[Task]] = {verdict: [] for verdict in Verdict}
    for task in looked:
        by_verdict[judge(task, terms)].append(task)
    done = Stepped(
        looked=len(looked),
        dropped=by_verdict[Verdict.DROP],
        condemned=by_verdict[Verdict.CONDEMN],
        doomed=by_verdict[Verdict.DOOM] if may_doom else [],
        alarms=by_verdict[Verdict.ALARM],
    )
    await _apply(tx, done, terms)
    return done


async def _apply(tx: Tx, done: Stepped, terms: Terms) -> None:
    if done.dropped:
        await gc.drop(tx, done.dropped)
    if done.condemned:
        await gc.condemn(tx, done.condemned, grace_us=terms.grace_us)
    if done.doomed:
        await gc.doom(tx, done.doomed)
    await _raise_alarms(tx, done.alarms)


async def settle(tx: Tx, removed: Sequence[Task]) -> Settled:
    """Records that the objects of these deleting blocks are gone.

    ``removed`` is what they were *before* their DELETE was sent: only a row that was old
    enough then may go now.
    """
    before = {task.block_id: task for task in removed}
    done = Settled()
    old: list[Task] = []
    young: list[Task] = []
    looked = await gc.look(tx, list(before))
    done.looked = len(looked)
    for task in looked:
        if task.state is not BlockState.DELETING:
            continue
        if task.is_referenced:
            done.alarms.append(task)
            continue
        (young if is_young(before[task.block_id]) else old).append(task)
        if task.removed_at is None:
            done.freed.append(task)
    if young:
        await gc.bury(tx, young, age_us=TOMBSTONE_US)
    await gc.forget(tx, old)
    await _raise_alarms(tx, done.alarms)
    done.rows = len(old)
    return done


async def put_off(tx: Tx, unremoved: Sequence[Task]) -> None:
    """The store has not acknowledged the removal of these: tried again, later each time."""
    for attempts in {task.attempts for task in unremoved}:
        some = [task for task in unremoved if task.attempts == attempts]
        await gc.postpone(tx, some, delay_us=backoff_us(attempts))


async def _raise_alarms(tx: Tx, alarms: Sequence[Task]) -> None:
    """Reports blocks that are in use and on their way out, once each, and leaves them alone."""
    if not alarms:
        return
    await gc.postpone(tx, alarms, delay_us=ALARM_US)
    for task in alarms:
        if task.attempts == 0:
            seen: dict[str, Json] = {"state": task.state, "reason": task.reason}
            await audit(tx, SYSTEM, "gc.alarm", target=name_of(task), before=seen)
            await emit(tx, "gc.alarm", {"block": name_of(task), **seen})


def name_of(task: Task) -> str:
    """What a block is called in reports: its hash and generation, as in its object's key."""
    return f"{task.hash.hex()}.{task.generation}"
