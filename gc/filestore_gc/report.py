"""What a plan says and what a run reports, in one shape; all of it can be written as JSON."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum

from filestore.errors import Json
from filestore.meta.gc import Task
from filestore.model import format_instant
from filestore_gc.judging import age_word


class Result(StrEnum):
    """How it ended."""

    PLANNED = "planned"
    DONE = "done"
    NOTHING = "nothing"
    """There was nothing to do."""
    REFUSED = "refused"
    """A guard refused; nothing was collected."""
    FAILED = "failed"
    """The store did not answer, or not for all; what was done is done, the rest is tried again."""
    TAKEN_OVER = "taken-over"
    """Another process took this one for dead and goes on."""
    STOPPED = "stopped"
    """The process ended, or the database went away, in the middle."""

    @property
    def is_good(self) -> bool:
        return self in (Result.PLANNED, Result.DONE, Result.NOTHING)


@dataclass(frozen=True, slots=True)
class Line:
    """Blocks that were freed, or would be. ``group`` is the id of the one whose upload brought
    the bytes; None: not known. ``age``: how long ago they were let go."""

    group: str | None
    group_name: str | None
    reason: str
    age: str
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Blocks that go later, and when the first and the last of them is due (microseconds).

    ``why``: ``grace``, ``tombstone`` (the object is gone, its row stays for a day), ``retry``
    (the store has not acknowledged), ``in-use`` (an alarm), ``queued``.
    """

    why: str
    blocks: int
    bytes: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper ended, or would. ``bytes``: of quota."""

    uploads: int = 0
    entries: int = 0
    versions: int = 0
    bytes: int = 0
    contents: int = 0
    references: int = 0
    unfinished: int = 0
    found: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Alarm:
    """A block on its way out that something refers to. It must never happen."""

    block: str
    state: str
    since: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a run refused or failed: a stable word, and a sentence."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """One plan or run. Times in microseconds, sizes in bytes.

    ``removed_rows``: of blocks whose objects went before. ``busy``: blocks that writers held
    whenever they were looked at; ``failed``: whose removal the store has not acknowledged.
    """

    result: Result
    grace_s: int
    started_at: int
    ended_at: int
    freed: tuple[Line, ...] = ()
    waiting: tuple[Wait, ...] = ()
    reaped: Reaped = field(default_factory=Reaped)
    alarms: tuple[Alarm, ...] = ()
    problem: Problem | None = None
    condemned: int = 0
    removed_rows: int = 0
    busy: int = 0
    failed: int = 0

    @property
    def blocks(self) -> int:
        return sum(line.blocks for line in self.freed)

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in self.freed)

    @property
    def did_something(self) -> bool:
        moved = self.blocks or self.condemned or self.removed_rows
        return bool(moved or self.reaped or self.alarms)

    def to_json(self) -> dict[str, Json]:
        """Plain values; times are RFC 3339."""
        return {
            "result": self.result.value,
            "grace_s": self.grace_s,
            "started_at": format_instant(self.started_at),
            "ended_at": format_instant(self.ended_at),
            "blocks": self.blocks,
            "bytes": self.bytes,
            "freed": [asdict(line) for line in self.freed],
            "waiting": [
                asdict(wait)
                | {
                    "first_at": format_instant(wait.first_at),
                    "last_at": format_instant(wait.last_at),
                }
                for wait in self.waiting
            ],
            "reaped": asdict(self.reaped),
            "alarms": [
                asdict(alarm) | {"since": format_instant(alarm.since)} for alarm in self.alarms
            ],
            "problem": None if self.problem is None else asdict(self.problem),
            "condemned": self.condemned,
            "removed_rows": self.removed_rows,
            "busy": self.busy,
            "failed": self.failed,
        }


class Tally:
    """Sums blocks up by group, reason and age. Memory is that of the sums."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, str, str], tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Tally of {len(self._sums)} lines>"

    @property
    def groups(self) -> set[str]:
        """Ids of the groups that appear."""
        return {group for group, _, _ in self._sums if group is not None}

    @property
    def blocks(self) -> int:
        return sum(blocks for blocks, _ in self._sums.values())

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self._sums.values())

    def add_task(self, task: Task) -> None:
        """One block."""
        self.add(task.group_id, task.reason, task.now - task.queued_at, 1, task.size)

    def add(self, group: str | None, reason: str, waited_us: int, blocks: int, size: int) -> None:
        """Some blocks that are alike."""
        key = (group, reason, age_word(waited_us))
        before = self._sums.get(key, (0, 0))
        self._sums[key] = (before[0] + blocks, before[1] + size)

    def lines(self, names: dict[str, str]) -> tuple[Line, ...]:
        """The sums, largest first."""
        lines = [
            Line(group, names.get(group or ""), reason, age, blocks, size)
            for (group, reason, age), (blocks, size) in self._sums.items()
        ]
        return tuple(sorted(lines, key=lambda line: (-line.bytes, line.reason, line.group or "")))
