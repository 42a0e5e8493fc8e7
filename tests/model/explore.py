"""Breadth first over every state that a model can reach, with the shortest trace of a failure.

Two questions are answered: does some state or move break a promise (safety), and can a clean
state still be reached from every state (liveness without clocks or fairness: nothing is ever
stuck). The order is fixed, so two runs give the same numbers and the same trace.
"""

import gc
from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that does not hold: what kind of promise, and what is the matter."""

    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Move(Generic[State]):
    """One step of one process. ``broken``: the step itself is what must never happen."""

    label: str
    state: State
    broken: Broken | None = None


class Model(Protocol[State]):
    """What can be explored. All of it is a pure function of the state."""

    def begin(self) -> State: ...

    def moves(self, state: State) -> Sequence[Move[State]]:
        """All steps that can be taken next, in a fixed order."""
        ...

    def check(self, state: State) -> Broken | None:
        """The first promise that does not hold in this state."""
        ...

    def is_clean(self, state: State) -> bool:
        """Whether nothing is left over: from every state such a one must be reachable."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a search saw. ``broken`` and ``trace`` name the first failure, if there is one."""

    states: int
    moves: int
    depth: int
    broken: Broken | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = f"{self.states} states, {self.moves} moves, depth {self.depth}"
        if self.broken is None:
            return f"nothing broken in {size}"
        steps = "\n".join(f"  {at:2}. {step}" for at, step in enumerate(self.trace, 1))
        return f"{self.broken.kind}: {self.broken.why}\n{steps}\n  ({size})"


class TooManyStates(Exception):
    """The search did not end within its bound, so it says nothing."""


class _Search(Generic[State]):
    """The graph as it grows: states by number, in the order in which they were found."""

    def __init__(self, model: Model[State], limit: int) -> None:
        self._model = model
        self._limit = limit
        self._numbers: dict[State, int] = {}
        self._parents = array("q")
        self._sources = array("q")
        self._targets = array("q")
        self._clean: list[int] = []
        self._depth = 0

    def run(self) -> Report:
        first = self._model.begin()
        level, broken = [(0, first)], self._found(first, parent=-1)
        while level and broken is None:
            level, broken = self._next_level(level)
            self._depth += bool(level)
        if broken is None:
            broken = self._stuck()
        if broken is None:
            return Report(len(self._numbers), len(self._targets), self._depth)
        number, what, last = broken
        trace = self._trace(number)
        if last:
            trace.append(last)
        return Report(len(self._numbers), len(self._targets), self._depth, what, tuple(trace))

    def _next_level(
        self, level: Sequence[tuple[int, State]]
    ) -> tuple[list[tuple[int, State]], tuple[int, Broken, str] | None]:
        found: list[tuple[int, State]] = []
        for number, state in level:
            for move in self._model.moves(state):
                if move.broken is not None:
                    return found, (number, move.broken, move.label)
                target = self._numbers.get(move.state)
                if target is None:
                    target = len(self._numbers)
                    found.append((target, move.state))
                    broken = self._found(move.state, parent=number)
                    if broken is not None:
                        return found, broken
                self._sources.append(number)
                self._targets.append(target)
        return found, None

    def _found(self, state: State, *, parent: int) -> tuple[int, Broken, str] | None:
        number = len(self._numbers)
        if number >= self._limit:
            raise TooManyStates(f"more than {self._limit} states")
        self._numbers[state] = number
        self._parents.append(parent)
        if self._model.is_clean(state):
            self._clean.append(number)
        what = self._model.check(state)
        return None if what is None else (number, what, "")

    def _stuck(self) -> tuple[int, Broken, str] | None:
        """The first state from which no clean one can be reached: backwards from the clean."""
        before: list[list[int]] = [[] for _ in self._numbers]
        for source, target in zip(self._sources, self._targets, strict=True):
            before[target].append(source)
        reaches = bytearray(len(before))
        todo = list(self._clean)
        for number in todo:
            reaches[number] = 1
        while todo:
            for source in before[todo.pop()]:
                if not reaches[source]:
                    reaches[source] = 1
                    todo.append(source)
        first = reaches.find(0)
        if first < 0:
            return None
        return first, Broken("stuck", "from here no clean state can be reached"), ""

    def _trace(self, number: int) -> list[str]:
        """The labels on the way to a state: numbers are kept, labels are found again."""
        path = [number]
        while (number := self._parents[number]) >= 0:
            path.append(number)
        path.reverse()
        state, labels = self._model.begin(), []
        for number in path[1:]:
            for move in self._model.moves(state):
                if self._numbers.get(move.state) == number:
                    labels.append(move.label)
                    state = move.state
                    break
        return labels


def explore(model: Model[State], *, limit: int = 5_000_000) -> Report:
    """Everything that can happen in a model. Time and memory grow with its states.

    :raises TooManyStates: it has more than ``limit``.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # states hold no cycles; to look for some in millions of them takes long
    try:
        return _Search(model, limit).run()
    finally:
        if was_enabled:
            gc.enable()
