"""What a repair does, decided by a pure function from what a check found.

Only what is safe: nothing that anybody could read is removed, no file is changed, and an
object that nothing names is set aside before it is removed.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from filestore.blocks.port import BlockKey
from filestore.errors import Json
from filestore.meta.healing import KnownBlock
from filestore.model import BlockState
from filestore_gc.fsck_report import LISTED, Finding, FsckReport, Kind, NoteKind

DAY_S: Final = 86_400


class Act(StrEnum):
    """One safe step, in the order in which they are taken."""

    LOSE = "mark-lost"
    CORRECT = "correct-size"
    ADOPT = "adopt"
    REVIVE = "revive"
    HEAL = "heal"
    RELEASE = "release"
    QUEUE = "queue"
    SET_ASIDE = "set-aside"
    EMPTY = "empty-quarantine"
    JOIN = "join-epochs"


@dataclass(frozen=True, slots=True)
class Action:
    """One step on one thing, and why."""

    act: Act
    subject: str
    why: str
    size: int = 0
    block: KnownBlock | None = None
    key: BlockKey | None = None
    content_id: int | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "act": self.act.value,
            "subject": self.subject,
            "why": self.why,
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True)
class Left:
    """Something that a repair leaves as it is, and why."""

    subject: str
    why: str

    def to_json(self) -> dict[str, Json]:
        return {"subject": self.subject, "why": self.why}


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a repair is planned.

    ``min_age_s``: orphans younger than this stay where they are; a belt, since a second look
    has shown that nothing will ever name them. ``keep_s``: how long the quarantine keeps them,
    and the collector what was adopted: the time in which people notice that they miss files,
    or that it was the wrong backup.
    """

    min_age_s: int = DAY_S
    keep_s: int = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair would do now. ``is_whole``: it deals with everything that was found.

    ``day``: under which orphans are set aside. ``keep_s``: how long adopted blocks are kept.
    """

    actions: tuple[Action, ...] = ()
    left: tuple[Left, ...] = ()
    is_whole: bool = True
    day: str = ""
    keep_s: int = 0

    def of(self, act: Act) -> list[Action]:
        return [action for action in self.actions if action.act is act]

    @property
    def counts(self) -> Counter[Act]:
        """How many steps of each kind."""
        return Counter(action.act for action in self.actions)

    def to_json(self, *, limit: int = LISTED) -> dict[str, Json]:
        """``omitted``: steps and things left beyond the ``limit`` of each."""
        omitted = max(0, len(self.actions) - limit) + max(0, len(self.left) - limit)
        return {
            "counts": {act.value: count for act, count in self.counts.items()},
            "actions": [action.to_json() for action in self.actions[:limit]],
            "left": [left.to_json() for left in self.left[:limit]],
            "omitted": omitted,
            "complete": self.is_whole,
        }


@dataclass
class _Planner:
    report: FsckReport
    terms: Terms
    actions: list[Action] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def forgets(self) -> bool:
        """Whether the database is older than its store, so that orphans may be its own."""
        return any(found.subject == "database-older" for found in self.report.of(Kind.EPOCH))

    def take(self, found: Finding, act: Act, why: str) -> None:
        thing = (found.block, found.key, found.content_id)
        self.actions.append(Action(act, found.subject, why, found.size, *thing))

    def leave(self, found: Finding, why: str) -> None:
        self.left.append(Left(found.subject, why))

    def orphan(self, found: Finding) -> None:
        if (self.forgets or found.is_forgotten) and found.reads_well:
            self.take(found, Act.ADOPT, "the database was restored and has forgotten it")
        elif self._is_old_enough(found):
            self.take(found, Act.SET_ASIDE, "no row names it")
        else:
            self.leave(found, f"it is younger than {self.terms.min_age_s} s")

    def _is_old_enough(self, found: Finding) -> bool:
        if not self.terms.min_age_s:
            return True
        oldest = self.report.started_at - self.terms.min_age_s * 1_000_000
        return 0 < found.written_at <= oldest

    def dead(self, found: Finding) -> None:
        if found.block is not None and found.block.state is BlockState.CONDEMNED:
            if found.reads_well:
                return self.take(found, Act.REVIVE, "files refer to it, and it reads well")
        self.leave(found, "only its bytes heal it: upload one of the files again")

    def wrong_size(self, found: Finding) -> None:
        if found.reads_well:
            self.take(found, Act.CORRECT, "it reads well, only the row is wrong")
        else:
            self.take(found, Act.LOSE, found.said)

    def unwanted(self, found: Finding) -> None:
        if found.reads_well:
            self.leave(found, "it may be all that is left of a file whose rows are gone")
        else:
            self.take(found, Act.RELEASE, "nobody can go on with it, and nobody can read it")

    def empty(self) -> None:
        """What was set aside long enough ago, by days."""
        first = day_of(self.report.started_at - self.terms.keep_s * 1_000_000)
        for note in self.report.notes:
            if note.kind is NoteKind.QUARANTINE:
                for day in note.examples:
                    if day < first:
                        why = f"it was set aside before {first}"
                        self.actions.append(Action(Act.EMPTY, day, why))

    def join(self) -> None:
        """The last step: only when nothing is left that the other epoch would explain."""
        for found in self.report.of(Kind.EPOCH):
            if self.report.is_whole and not self._leaves_orphans():
                self.take(found, Act.JOIN, "rows and objects have been brought together")
            else:
                self.leave(found, "there are objects left that no row names")

    def _leaves_orphans(self) -> bool:
        orphans = {found.subject for found in self.report.of(Kind.ORPHAN)}
        return any(left.subject in orphans for left in self.left)


def plan_repair(report: FsckReport, terms: Terms) -> Plan:
    """The steps that repair what the report says, and what they leave. Changes nothing.

    Empty for a check that was refused or broke off.
    """
    if report.problem is not None:
        return Plan(left=(Left("store", report.problem.reason),), is_whole=False)
    planner = _Planner(report, terms)
    ways: dict[Kind, Callable[[Finding], None]] = {
        Kind.ORPHAN: planner.orphan,
        Kind.WRONG_SIZE: planner.wrong_size,
        Kind.DEAD: planner.dead,
        Kind.EPOCH: lambda found: None,
        Kind.MISSING: lambda found: planner.take(found, Act.LOSE, found.said),
        Kind.UNWANTED: planner.unwanted,
        Kind.UNLISTED: lambda found: planner.take(found, Act.QUEUE, "nothing refers to it"),
        Kind.HEALABLE: lambda found: planner.take(found, Act.HEAL, found.said),
        Kind.READABLE: lambda found: planner.take(found, Act.REVIVE, found.said),
        Kind.COUNTERS: lambda found: planner.leave(found, "quota audit --repair corrects it"),
    }
    for found in report.findings:
        way = ways.get(found.kind)
        if way is None:
            planner.leave(found, "no step is safe; restore the file from elsewhere")
        else:
            way(found)
    planner.empty()
    planner.join()
    order = list(Act)
    actions = sorted(planner.actions, key=lambda action: order.index(action.act))
    day = day_of(report.started_at)
    return Plan(tuple(actions), tuple(planner.left), report.is_whole, day, terms.keep_s)


def day_of(at_us: int) -> str:
    """The day in UTC, as the quarantine's folders are called."""
    return dt.datetime.fromtimestamp(at_us / 1e6, tz=dt.UTC).strftime("%Y-%m-%d")


def batches(actions: Sequence[Action], size: int) -> Iterator[Sequence[Action]]:
    """The actions in order, some at a time."""
    return (actions[at : at + size] for at in range(0, len(actions), size))
