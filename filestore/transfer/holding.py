"""Who may go on with an upload: the rules alone, without any I/O.

Requests for one upload that reach one process stand in a :class:`Line`; :func:`next_step` says
what a request does about a holder in another process. Both only order requests. What keeps two of
them apart is the epoch: a holder that was passed by finds zero rows, whatever is decided here.

Invariants, checked over all interleavings in ``tests/model``: of the turns that nobody passed by
at most one holds; who holds while others wait was asked to let go; a turn that left is nowhere; as
long as turns end or their time runs out, every waiting one begins.
"""

from dataclasses import dataclass, replace
from enum import Enum


class Stage(Enum):
    """How far a request's turn is."""

    WAITS = "waits"
    HOLDS = "holds"
    PASSED = "passed"  # it did not let go in time: its epoch is another's, or will be at once


@dataclass(frozen=True, slots=True)
class Place:
    """One request in the line."""

    key: int
    stage: Stage = Stage.WAITS
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Tell this one to save what it has and let go."""

    key: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Let this one go on."""

    key: int


Effect = Ask | Begin


@dataclass(frozen=True, slots=True)
class Line:
    """The requests for one upload in the order in which they came. Values: nothing changes."""

    places: tuple[Place, ...] = ()

    def came(self, key: int) -> tuple["Line", tuple[Effect, ...]]:
        """A newcomer: everybody before it is asked to let go."""
        asks = tuple(Ask(place.key) for place in self.places if not place.is_asked)
        before = tuple(replace(place, is_asked=True) for place in self.places)
        return Line((*before, Place(key)))._begun(asks)

    def left(self, key: int) -> tuple["Line", tuple[Effect, ...]]:
        """A request ended, was cancelled, or gave up waiting. Again is harmless."""
        return Line(tuple(place for place in self.places if place.key != key))._begun()

    def late(self, key: int) -> tuple["Line", tuple[Effect, ...]]:
        """A waiting request has waited long enough: it goes on, past all before it.

        Those before it that wait, too, begin as well and are passed by at once: they find out
        by their epoch. Without effect on one that does not wait any more.
        """
        at = next((at for at, place in enumerate(self.places) if place.key == key), None)
        if at is None or self.places[at].stage is not Stage.WAITS:
            return self, ()
        early = tuple(Begin(p.key) for p in self.places[:at] if p.stage is Stage.WAITS)
        passed = tuple(replace(place, stage=Stage.PASSED) for place in self.places[:at])
        return Line((*passed, *self.places[at:]))._begun(early)

    def _begun(self, effects: tuple[Effect, ...] = ()) -> tuple["Line", tuple[Effect, ...]]:
        """The first that nobody passed by begins, if it waits."""
        for at, place in enumerate(self.places):
            if place.stage is Stage.HOLDS:
                break
            if place.stage is Stage.WAITS:
                begun = replace(place, stage=Stage.HOLDS)
                line = Line((*self.places[:at], begun, *self.places[at + 1 :]))
                return line, (*effects, Begin(place.key))
        return self, effects


class Step(Enum):
    """What a newcomer does next about the holder in another process."""

    GO = "go"
    ASK = "ask"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a newcomer finds in the upload's row, which it has locked.

    ``wanted``: the epoch whose holder was asked to let go. ``is_alive``: the holder's process
    shows signs of life.
    """

    epoch: int
    holder: str | None
    wanted: int | None = None
    is_open: bool = True
    is_alive: bool = True


def next_step(seen: Seen, me: str, *, is_late: bool) -> Step:
    """Ask once for each epoch, wait within the bound, then go on and fence whoever is left.

    ``me`` as the holder is a request of this process that ended, or was passed by in the line.
    """
    is_free = not seen.is_open or seen.holder in (None, me) or not seen.is_alive
    if is_free or is_late:
        return Step.GO
    return Step.WAIT if seen.wanted == seen.epoch else Step.ASK
