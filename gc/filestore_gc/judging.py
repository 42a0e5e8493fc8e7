"""What is to be done with a block, decided by pure functions: the same for a plan and a run.

    live ──▶ condemned ──▶ deleting ──▶ object gone ──▶ row gone
      │          │ (after the grace)        │ (a row younger than a day waits, then DELETE again)
      ▼          ▼
     in use: the task goes     in use: an alarm, the block stays readable

A verdict is one step. A look under locks says what is so; the verdict says what follows.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from filestore.meta.gc import Task
from filestore.model import BlockState

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
DAY_US: Final = 24 * HOUR_US

TOMBSTONE_US: Final = DAY_US
"""How old a row is before it may go. No PUT is sent later than ``blocks.put_deadline_s`` (at
most a day) after its row was made, so the DELETE that is sent then is behind every PUT."""

ALARM_US: Final = HOUR_US
"""How long until a block is looked at again that is in use and should not be."""


class Verdict(StrEnum):
    """The next step of one block, or why there is none."""

    WAIT = "wait"
    DROP = "drop"
    CONDEMN = "condemn"
    DOOM = "doom"
    REMOVE = "remove"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a run judges.

    ``is_override``: the grace was given with the run, and also counts for what is queued or
    condemned already; what the queue says of when to look is then nothing.
    """

    grace_us: int
    is_override: bool = False


def ready_at(task: Task, terms: Terms) -> int:
    """When the next step of the block may happen; 0: at any time."""
    planned = 0 if terms.is_override else task.not_before
    match task.state:
        case BlockState.CONDEMNED if terms.is_override:
            return task.state_at + terms.grace_us
        case BlockState.DELETING if task.removed_at is not None:
            return task.created_at + TOMBSTONE_US
        case _:
            return planned


def judge(task: Task, terms: Terms) -> Verdict:
    """The next step of the block as it was seen.

    An ``uploading`` block is never the collector's: its writer makes it live, or the reaper
    condemns and queues it.
    """
    if task.now < ready_at(task, terms):
        return Verdict.WAIT
    match task.state:
        case BlockState.UPLOADING:
            return Verdict.DROP
        case BlockState.LIVE | BlockState.LOST:
            return Verdict.DROP if task.is_referenced else Verdict.CONDEMN
        case BlockState.CONDEMNED:
            return Verdict.ALARM if task.is_referenced else Verdict.DOOM
        case BlockState.DELETING:
            return Verdict.ALARM if task.is_referenced else Verdict.REMOVE


def is_removable(task: Task, terms: Terms) -> bool:
    """Whether the block's object may be removed now: what was doomed, and in use by nobody."""
    return task.state is BlockState.DELETING and judge(task, terms) is Verdict.REMOVE


def frees_now(task: Task, terms: Terms) -> bool:
    """Whether a run by these terms frees the block's bytes before it ends."""
    verdict = judge(task, terms)
    if verdict is Verdict.CONDEMN:
        return terms.grace_us == 0
    return verdict is Verdict.DOOM or (verdict is Verdict.REMOVE and task.removed_at is None)


def is_young(task: Task) -> bool:
    """Whether a PUT of the block may still come, so that its row has to stay."""
    return task.now < task.created_at + TOMBSTONE_US


def backoff_us(attempts: int) -> int:
    """How long to leave a block alone that the store failed to remove: 10 s, doubling, to 1 h."""
    return int(min(10 * SECOND_US * 2 ** min(attempts, 12), HOUR_US))


def age_word(waited_us: int) -> str:
    """How long ago a block was let go, in words that sum up well."""
    steps = ((HOUR_US, "under an hour"), (DAY_US, "under a day"), (7 * DAY_US, "under a week"))
    return next((word for limit, word in steps if waited_us < limit), "over a week")
