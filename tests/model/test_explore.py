"""The search and the locks themselves: what the life cycle's tests rest on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.model.explore import Broken, Move, TooManyStates, explore
from tests.model.life import Life, Program
from tests.model.rules import Rules
from tests.model.world import ENTRIES, Blocked, Db, Entry, Mode, Process, World


@dataclass
class Walk:
    """Numbers that lead to others; ``bad`` ones break a promise, ``clean`` ones are tidy."""

    edges: dict[int, list[int]]
    bad: set[int] = field(default_factory=set)
    clean: set[int] = field(default_factory=set)

    def begin(self) -> int:
        return 0

    def moves(self, state: int) -> Sequence[Move[int]]:
        return [Move(f"{state} to {to}", to) for to in self.edges.get(state, [])]

    def check(self, state: int) -> Broken | None:
        return Broken("bad", str(state)) if state in self.bad else None

    def is_clean(self, state: int) -> bool:
        return state in self.clean


def test_the_shortest_way_to_a_failure_is_told() -> None:
    report = explore(Walk({0: [1, 2], 1: [3], 3: [4], 2: [4]}, bad={4}))
    assert report.broken == Broken("bad", "4")
    assert report.trace == ("0 to 2", "2 to 4")


def test_a_state_that_cannot_become_clean_again_is_stuck() -> None:
    report = explore(Walk({0: [1, 2], 1: [0], 2: [3], 3: [2]}, clean={0}))
    assert report.broken is not None
    assert (report.broken.kind, report.trace) == ("stuck", ("0 to 2",))


def test_a_model_without_failure_is_seen_whole() -> None:
    report = explore(Walk({0: [1, 2], 1: [0], 2: [0]}, clean={0}))
    assert (report.broken, report.states, report.moves, report.depth) == (None, 3, 4, 1)


def test_a_search_that_did_not_end_says_nothing() -> None:
    with pytest.raises(TooManyStates):
        explore(Walk({0: [1], 1: [2], 2: [0]}, clean={0}), limit=2)


ONLY_TOGETHER = {
    Mode.KEY_SHARE: {Mode.KEY_SHARE, Mode.SHARE, Mode.NO_KEY_UPDATE},
    Mode.SHARE: {Mode.KEY_SHARE, Mode.SHARE},
    Mode.NO_KEY_UPDATE: {Mode.KEY_SHARE},
    Mode.UPDATE: set(),
}
"""Row locks that two transactions can have at once. Source: PostgreSQL 18, table 13.3."""


@pytest.mark.parametrize("held", Mode)
@pytest.mark.parametrize("wanted", Mode)
def test_row_locks_conflict_as_in_postgresql(held: Mode, wanted: Mode) -> None:
    world = _world_of_two()
    first = Db(world, "a", Rules(), ())
    first.lock(ENTRIES, "e", held)
    second = Db(first.result(), "b", Rules(), ())
    if wanted in ONLY_TOGETHER[held]:
        assert second.lock(ENTRIES, "e", wanted) == Entry(False)
    else:
        with pytest.raises(Blocked):
            second.lock(ENTRIES, "e", wanted)


def test_what_is_not_committed_is_seen_by_nobody_else() -> None:
    first = Db(_world_of_two(), "a", Rules(), ())
    first.update(ENTRIES, "e", Entry(True))
    assert first.get(ENTRIES, "e") == Entry(True)
    assert Db(first.result(), "b", Rules(), ()).get(ENTRIES, "e") == Entry(False)
    first.commit()
    second = Db(first.result(), "b", Rules(), ())
    assert second.lock(ENTRIES, "e", Mode.UPDATE) == Entry(True)


def test_two_that_wait_for_each_other_are_a_deadlock() -> None:
    class Both(Program):
        def __init__(self, *entries: str) -> None:
            super().__init__()
            self._entries = entries

        def begin(self, db: Db, my: object) -> None:
            db.lock(ENTRIES, self._entries[0], Mode.UPDATE)
            db.go("second")

        def second(self, db: Db, my: object) -> None:
            db.lock(ENTRIES, self._entries[1], Mode.UPDATE)
            db.end()

    rows = {ENTRIES: {"e": Entry(False), "f": Entry(False)}}
    crossed = explore(Life({"a": Both("e", "f"), "b": Both("f", "e")}, rows))
    assert crossed.broken is not None
    assert crossed.broken.kind == "deadlock"
    assert explore(Life({"a": Both("e", "f"), "b": Both("e", "f")}, rows)).broken is None


def _world_of_two() -> World:
    life = Life({"a": Program(), "b": Program()}, {ENTRIES: {"e": Entry(False)}})
    assert dict(life.begin()[-1])["a"] == Process("begin", Program.memory)
    return life.begin()
