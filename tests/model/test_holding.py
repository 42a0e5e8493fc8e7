"""The newcomer wins: no interleaving of holders and newcomers breaks it or gets stuck."""

import itertools
import sys

import pytest

from filestore.transfer.holding import Ask, Begin, Line, Seen, Stage, Step, next_step
from tests.model.explore import explore
from tests.model.holding import Holding, Kind, Request

HERE, THERE = 0, 1
FEW = [
    ((Kind.APPEND, Kind.LOOK), (HERE, THERE)),
    ((Kind.LOOK, Kind.APPEND), (THERE, THERE)),
    ((Kind.END, Kind.APPEND), (THERE, HERE)),
]
ALL = [
    pytest.param(kinds, places, marks=pytest.mark.e2e)
    for kinds in itertools.product(Kind, repeat=2)
    for places in ((HERE, HERE), (HERE, THERE), (THERE, THERE))
]
"""What two newcomers want, and at which process; the holder is here. All: minutes."""


def _cast(kinds: tuple[Kind, ...], places: tuple[int, ...]) -> tuple[Request, ...]:
    newcomers = (Request(place, kind) for kind, place in zip(kinds, places, strict=True))
    return (Request(HERE, Kind.APPEND), *newcomers)


@pytest.mark.parametrize(("kinds", "places"), FEW)
def test_nothing_interleaves_and_everybody_comes_to_an_end(
    kinds: tuple[Kind, ...], places: tuple[int, ...]
) -> None:
    report = explore(Holding(_cast(kinds, places), size=1))
    assert report.broken is None, report


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kinds", "places"), ALL)
def test_nothing_interleaves_whoever_comes_and_wherever(
    kinds: tuple[Kind, ...], places: tuple[int, ...]
) -> None:
    report = explore(Holding(_cast(kinds, places)))
    sys.stderr.write(f"{report}\n")
    assert report.broken is None, report


@pytest.mark.parametrize(("kinds", "places"), FEW)
def test_a_holder_that_never_answers_keeps_nobody(
    kinds: tuple[Kind, ...], places: tuple[int, ...]
) -> None:
    cast = _cast(kinds, places)
    report = explore(Holding(cast, size=1, frozen=0, may_crash=False, may_cancel=False))
    assert report.broken is None, report


def test_every_kind_of_step_was_taken() -> None:
    seen: set[str] = set()
    for kind in Kind:
        model = Holding(_cast((kind,), (THERE,)))
        explore(model)
        seen |= set(model.labels)
    assert seen == {
        *("comes", "waited long", "asks elsewhere", "takes over", "looks"),
        *("ends it", "finds it over", "reads", "hears", "records", "is fenced", "saved"),
        *("lets go", "cannot say so", "is cancelled waiting", "is cancelled holding"),
        *("crashes", "is missed"),
    }


def test_without_the_fence_a_holder_that_was_passed_by_would_record() -> None:
    for kind in Kind:
        report = explore(Holding(_cast((kind,), (THERE,)), has_fence=False))
        assert report.broken is not None and report.broken.kind == "safety", kind


def test_without_a_bound_a_holder_that_never_answers_would_keep_everybody() -> None:
    for place in (HERE, THERE):
        cast = _cast((Kind.LOOK,), (place,))
        model = Holding(cast, frozen=0, may_crash=False, may_cancel=False, has_bound=False)
        report = explore(model)
        assert report.broken is not None and report.broken.kind == "stuck", place


def test_newcomers_begin_in_the_order_in_which_they_came_and_each_asks_who_is_before() -> None:
    line, effects = Line().came(1)
    assert effects == (Begin(1),)
    line, effects = line.came(2)
    assert effects == (Ask(1),)
    line, effects = line.came(3)
    assert effects == (Ask(2),)
    line, effects = line.left(1)
    assert effects == (Begin(2),)
    line, effects = line.left(2)
    assert effects == (Begin(3),)
    assert line.left(3) == (Line(), ())


def test_who_gives_up_waiting_leaves_the_others_where_they_were() -> None:
    line = Line().came(1)[0].came(2)[0].came(3)[0]
    line, effects = line.left(2)
    assert effects == ()
    assert line.left(1)[1] == (Begin(3),)
    assert line.left(2) == (line, ())


def test_who_waited_long_passes_all_before_it_and_they_are_told() -> None:
    line = Line().came(1)[0].came(2)[0].came(3)[0]
    line, effects = line.late(3)
    assert effects == (Begin(2), Begin(3))
    assert [place.stage for place in line.places] == [Stage.PASSED, Stage.PASSED, Stage.HOLDS]
    assert line.late(2) == line.late(3) == (line, ())


def test_a_holder_elsewhere_is_asked_once_for_each_epoch() -> None:
    held = Seen(7, "other")
    assert next_step(held, "me", is_late=False) is Step.ASK
    assert next_step(Seen(7, "other", wanted=7), "me", is_late=False) is Step.WAIT
    assert next_step(Seen(8, "other", wanted=7), "me", is_late=False) is Step.ASK
    for free in (
        Seen(7, None),
        Seen(7, "me"),
        Seen(7, "other", is_open=False),
        Seen(7, "other", is_alive=False),
    ):
        assert next_step(free, "me", is_late=False) is Step.GO
    assert next_step(held, "me", is_late=True) is Step.GO
