"""What the processes of the model share: tables, an object store, and row locks.

The database is PostgreSQL's READ COMMITTED, as far as the life cycle needs it. One step of a
process is one statement, or the part of it up to a lock: it sees what is committed at that
moment and what its own transaction wrote. Locks have PostgreSQL's four strengths and last
until the transaction ends. A statement that finds a row, waits for its lock and looks at it
again is two steps, because the first snapshot may be old when the lock is there.

Source: PostgreSQL 18 documentation, sections 13.2.1 and 13.3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tests.model.explore import Broken
from tests.model.rules import Rules

K = TypeVar("K")
R = TypeVar("R", bound=tuple[Any, ...])
T = TypeVar("T")

Rows = tuple[tuple[Any, Any], ...]
World = tuple[Rows, ...]
"""One state: the rows of each table in the order of their keys, at the table's index."""


class Block(NamedTuple):
    """``hash`` is the plain bytes themselves: equal bytes, equal hash."""

    hash: str
    generation: int
    state: str
    owner: str
    age: int


class Content(NamedTuple):
    """``data``: what its rows must read as, whole or up to the upload's offset."""

    data: str
    state: str


class Ref(NamedTuple):
    """A row of content_blocks; the key is (content, offset)."""

    size: int
    block: int
    is_tail: bool


class Upload(NamedTuple):
    """``is_due``: its ``expires_at`` has passed, which by itself changes nothing.

    ``part``: partial or final, where it is one. ``taken_by``: the final one that reserves for it.
    """

    content: str
    state: str
    offset: int
    epoch: int
    reserved: int
    is_due: bool
    part: str = ""
    taken_by: str = ""


class Version(NamedTuple):
    """``was_visible``: its entry was alive when it was committed."""

    entry: str
    content: str
    was_visible: bool


class Entry(NamedTuple):
    is_deleted: bool


class Group(NamedTuple):
    reserved: int


class Task(NamedTuple):
    """A row of gc_queue; the key is the block's id."""


class Object(NamedTuple):
    """A stored object, or a PUT or DELETE that is still on its way to the store."""

    data: str


class Mark(NamedTuple):
    """A number that is no row: the next id, an offset that a client was told."""

    value: int


class Process(NamedTuple):
    """One process: the step it takes next, what it remembers, its open transaction."""

    step: str
    my: Any
    writes: tuple[tuple[tuple[int, Any], Any], ...] = ()
    held: tuple[tuple[int, Any, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[K, R]):
    """Names a table, and what its keys and rows are."""

    name: str
    index: int


BLOCKS: Final[Table[int, Block]] = Table("blocks", 0)
CONTENTS: Final[Table[str, Content]] = Table("contents", 1)
REFS: Final[Table[tuple[str, int], Ref]] = Table("content_blocks", 2)
UPLOADS: Final[Table[str, Upload]] = Table("uploads", 3)
VERSIONS: Final[Table[str, Version]] = Table("versions", 4)
ENTRIES: Final[Table[str, Entry]] = Table("entries", 5)
GROUPS: Final[Table[str, Group]] = Table("groups", 6)
QUEUE: Final[Table[int, Task]] = Table("gc_queue", 7)
OBJECTS: Final[Table[int, Object]] = Table("objects", 8)
FLYING: Final[Table[tuple[str, int], Object]] = Table("requests under way", 9)
MARKS: Final[Table[str, Mark]] = Table("marks", 10)
PROCESSES: Final[Table[str, Process]] = Table("processes", 11)
TABLES: Final = 12

YOUNG, LATE, OLD = 0, 1, 2
"""Ages of a block's row: a PUT may still be sent; no more; and a day has passed."""


class Mode(IntEnum):
    """Strengths of a row lock. Two of different processes conflict if they add up to 5."""

    KEY_SHARE = 1
    SHARE = 2
    NO_KEY_UPDATE = 3
    UPDATE = 4


_CONFLICT: Final = 5


class Blocked(Exception):
    """The step waits for a lock; ``holders`` have it."""

    def __init__(self, holders: tuple[str, ...]) -> None:
        super().__init__(holders)
        self.holders = holders


class Idle(Exception):
    """There is nothing for this step to do now."""


class Never(Exception):
    """The step has met what must never happen."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.broken = Broken(kind, why)


class Conflict(Exception):
    """A unique index refuses the row; the statement aborts the transaction."""


def rows_of(world: World, table: Table[K, R]) -> tuple[tuple[K, R], ...]:
    """The committed rows of a table, by key."""
    return world[table.index]


def with_process(world: World, name: str, process: Process) -> Rows:
    """The processes with one of them in another state; the others' rows are shared."""
    rows = world[PROCESSES.index]
    return tuple([(name, process) if row[0] == name else row for row in rows])


class Db:
    """One process's step in a world: reads, locks and writes, then :meth:`result`.

    A step that raises leaves nothing behind. ``script`` decides what :meth:`any` answers.
    """

    def __init__(self, world: World, name: str, rules: Rules, script: tuple[int, ...]) -> None:
        self.name = name
        self.rules = rules
        self.note = ""
        self.taken: list[int] = []
        self.options: list[int] = []
        self._script = script
        self._world = world
        self._open: dict[int, dict[Any, Any]] = {}
        self._changed: set[int] = set()
        me: Process = dict(world[PROCESSES.index])[name]
        self._step, self._my = me.step, me.my
        self._writes: dict[tuple[int, Any], Any] = dict(me.writes)
        self._held: dict[tuple[int, Any], int] = {(at, key): mode for at, key, mode in me.held}

    def any(self, options: Sequence[T]) -> T:
        """One of the options: each is explored.

        :raises Idle: there is none.
        """
        if not options:
            raise Idle
        at = len(self.taken)
        choice = self._script[at] if at < len(self._script) else 0
        self.taken.append(choice)
        self.options.append(len(options))
        return options[choice]

    def go(self, step: str, **changes: object) -> None:
        """The process takes ``step`` next and remembers the changes."""
        self._step = step
        if changes:
            self._my = self._my._replace(**changes)

    @property
    def my(self) -> Any:
        """What the process remembers by now."""
        return self._my

    def end(self) -> None:
        """The process is done; a transaction that is still open is rolled back."""
        self.rollback()
        self._step, self._my = "", None

    def find(self, table: Table[K, R], key: K) -> R | None:
        """The row as this transaction sees it, without a lock."""
        mine = (table.index, key)
        if mine in self._writes:
            row: R | None = self._writes[mine]
            return row
        return self._committed(table).get(key)

    def get(self, table: Table[K, R], key: K) -> R:
        row = self.find(table, key)
        assert row is not None, f"{self.name}: {table.name} has no row {key}"
        return row

    def rows(self, table: Table[K, R]) -> list[tuple[K, R]]:
        """All rows as this transaction sees them, by key."""
        seen = dict(self._committed(table))
        for (index, key), row in self._writes.items():
            if index == table.index:
                seen[key] = row
        return sorted((key, row) for key, row in seen.items() if row is not None)

    def lock(self, table: Table[K, R], key: K, mode: Mode) -> R | None:
        """The row as it is under the lock; None if it is gone.

        :raises Blocked: another transaction has a lock that conflicts.
        """
        self.wait_for(self._holders(table, key, mode))
        at = (table.index, key)
        self._held[at] = max(mode, self._held.get(at, 0))
        return self.find(table, key)

    def try_lock(self, table: Table[K, R], key: K, mode: Mode) -> R | None:
        """As :meth:`lock`, but a row that is locked is skipped: None."""
        if self._holders(table, key, mode):
            return None
        return self.lock(table, key, mode)

    def holds(self, table: Table[K, R], key: K) -> bool:
        """Whether this transaction has any lock on the row."""
        return (table.index, key) in self._held

    def update(self, table: Table[K, R], key: K, row: R) -> None:
        """Changes columns that no key contains, which foreign keys do not wait for."""
        self.lock(table, key, Mode.NO_KEY_UPDATE)
        self._writes[table.index, key] = row

    def insert(self, table: Table[K, R], key: K, row: R) -> None:
        """Adds a row; waits for a transaction that is adding or removing the same key.

        :raises Conflict: there is one.
        """
        if self.lock(table, key, Mode.UPDATE) is not None:
            raise Conflict
        self._writes[table.index, key] = row

    def delete(self, table: Table[K, R], key: K) -> None:
        if self.lock(table, key, Mode.UPDATE) is not None:
            self._writes[table.index, key] = None

    def wait_for(self, holders: tuple[str, ...]) -> None:
        """Goes on when none of these transactions is open any more.

        :raises Blocked: there is one.
        """
        if holders:
            raise Blocked(holders)

    def pending(self, table: Table[K, R]) -> list[tuple[str, R]]:
        """Rows that other transactions wrote and have not committed, with their writers."""
        return [
            (name, row)
            for name, process in self._world[PROCESSES.index]
            if name != self.name
            for (index, _), row in process.writes
            if index == table.index and row is not None
        ]

    def put_now(self, table: Table[K, R], key: K, row: R | None) -> None:
        """Changes what has no transactions: the object store, and marks."""
        self._set(table.index, key, row)

    def next_number(self, mark: str) -> int:
        """A number that was never given before."""
        number = self.get(MARKS, mark).value
        self.put_now(MARKS, mark, Mark(number + 1))
        return number

    def commit(self) -> None:
        for (index, key), row in self._writes.items():
            self._set(index, key, row)
        self.rollback()

    def rollback(self) -> None:
        self._writes = {}
        self._held = {}

    def result(self) -> World:
        """The world after this step."""
        me = Process(
            self._step,
            self._my,
            tuple(sorted(self._writes.items())) if self._writes else (),
            tuple(sorted((*at, mode) for at, mode in self._held.items())) if self._held else (),
        )
        tables = list(self._world)
        tables[PROCESSES.index] = with_process(self._world, self.name, me)
        for index in self._changed:
            tables[index] = tuple(sorted(self._open[index].items()))
        return tuple(tables)

    def _set(self, index: int, key: object, row: object) -> None:
        rows = self._rows_at(index)
        self._changed.add(index)
        if row is not None:
            rows[key] = row
        else:
            rows.pop(key, None)

    def _committed(self, table: Table[K, R]) -> dict[K, R]:
        return self._rows_at(table.index)

    def _rows_at(self, index: int) -> dict[Any, Any]:
        rows = self._open.get(index)
        if rows is None:
            rows = self._open[index] = dict(self._world[index])
        return rows

    def _holders(self, table: Table[K, R], key: K, mode: Mode) -> tuple[str, ...]:
        return tuple(
            name
            for name, process in self._world[PROCESSES.index]
            if process.held and name != self.name
            for index, locked, other in process.held
            if index == table.index and locked == key and mode + other >= _CONFLICT
        )
