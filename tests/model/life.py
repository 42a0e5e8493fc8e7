"""The life cycle as a model to explore: processes that take turns, one step at a time.

A process is a :class:`Program`: its methods are its steps. Any process may be next at any
time, so every interleaving is tried; one that dies does so before any of its steps.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from tests.model.checks import first_broken, is_clean
from tests.model.explore import Broken, Move
from tests.model.rules import Rules
from tests.model.world import (
    PROCESSES,
    TABLES,
    Blocked,
    Conflict,
    Db,
    Idle,
    Never,
    Process,
    Table,
    World,
    rows_of,
    with_process,
)


class Nothing(NamedTuple):
    """What a program without a memory remembers."""


class Program:
    """The steps of a process. A step is a method; it ends with ``db.go`` or ``db.end``."""

    first: ClassVar[str] = "begin"
    memory: ClassVar[Any] = Nothing()
    restarts: ClassVar[bool] = False
    """Whether it begins again, without memory, when it died."""

    def __init__(self, *, may_die: bool = False) -> None:
        self.may_die = may_die
        self.never_waits = False  # True makes that a promise


@dataclass(frozen=True)
class Life:
    """A bounded configuration: who runs, on which rows, under which rules.

    ``twins`` are processes that run the same program and are named nowhere else: states that
    differ only in who of them is where count as one.
    """

    programs: dict[str, Program]
    rows: dict[Table[Any, Any], dict[Any, Any]]
    rules: Rules = field(default_factory=Rules)
    twins: tuple[str, ...] = ()

    def begin(self) -> World:
        tables: list[dict[Any, Any]] = [{} for _ in range(TABLES)]
        for table, rows in self.rows.items():
            tables[table.index] = rows
        tables[PROCESSES.index] = {
            name: Process(program.first, program.memory) for name, program in self.programs.items()
        }
        return tuple(tuple(sorted(rows.items())) for rows in tables)

    def moves(self, state: World) -> list[Move[World]]:
        found: list[Move[World]] = []
        waits: dict[str, tuple[str, ...]] = {}
        for name, process in rows_of(state, PROCESSES):
            if process.step:
                program = self.programs[name]
                moves, holders = self._step(state, name, process, program)
                found += moves
                if holders and not moves:
                    waits[name] = holders
                if program.may_die and not (program.restarts and process.step == program.first):
                    found.append(self._death(state, name, program))
        broken = self._wrong_waits(waits)
        if broken is not None:
            found.insert(0, Move("the transactions wait", state, broken))
        return found

    def check(self, state: World) -> Broken | None:
        return first_broken(state)

    def is_clean(self, state: World) -> bool:
        return is_clean(state)

    def _step(
        self, state: World, name: str, process: Process, program: Program
    ) -> tuple[list[Move[World]], tuple[str, ...]]:
        """All outcomes of a process's next step, or who holds what it waits for."""
        found: list[Move[World]] = []
        holders: tuple[str, ...] = ()
        scripts: list[tuple[int, ...]] = [()]
        for script in scripts:
            db = Db(state, name, self.rules, script)
            try:
                getattr(program, process.step)(db, process.my)
                found.append(Move(_label(name, process, db), self._same(db.result())))
            except Blocked as err:
                holders += err.holders
            except Conflict:
                db = Db(state, name, self.rules, ())
                db.end()
                found.append(Move(f"{name} {process.step}: refused by a constraint", db.result()))
            except Idle:
                pass
            except Never as err:
                found.append(Move(_label(name, process, db), state, err.broken))
            for at in range(len(script), len(db.taken)):
                scripts += [(*db.taken[:at], n) for n in range(1, db.options[at])]
        return found, holders

    def _death(self, state: World, name: str, program: Program) -> Move[World]:
        """The database rolls its transaction back; what it remembered is gone."""
        after = Process(program.first, program.memory) if program.restarts else Process("", None)
        label = f"{name} dies" + (" and begins again" if program.restarts else "")
        processes = with_process(state, name, after)
        return Move(label, self._same((*state[: PROCESSES.index], processes)))

    def _same(self, state: World) -> World:
        """One for all states that differ only in the names of twins."""
        if len(self.twins) < 2:
            return state
        processes = dict(rows_of(state, PROCESSES))
        twins = [processes[name] for name in self.twins]
        ordered = sorted(twins, key=repr)
        if ordered == twins:
            return state
        processes.update(zip(self.twins, ordered, strict=True))
        return (*state[: PROCESSES.index], tuple(sorted(processes.items())))

    def _wrong_waits(self, waits: dict[str, tuple[str, ...]]) -> Broken | None:
        for name, holders in waits.items():
            if self.programs[name].never_waits:
                return Broken("wait", f"{name} waits for {', '.join(holders)}")
            seen: list[str] = []
            todo = [name]
            while todo:
                for holder in waits.get(todo.pop(), ()):
                    if holder == name:
                        return Broken("deadlock", f"{name} waits for itself by {', '.join(waits)}")
                    if holder not in seen:
                        seen.append(holder)
                        todo.append(holder)
        return None


def _label(name: str, process: Process, db: Db) -> str:
    return f"{name} {process.step.replace('_', ' ')}" + (f": {db.note}" if db.note else "")
