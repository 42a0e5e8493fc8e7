"""One upload, two processes, a holder and newcomers: everything that can happen between them.

The order is decided by the service's own rules (:mod:`filestore.transfer.holding`); the rows are
modelled as its transactions change them: each is one step, and steps of all come in any order.
A process that hangs is one that takes no step, so nothing more is needed for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from filestore.transfer.holding import Begin, Line, Seen, Step, next_step
from tests.model.explore import Broken, Move


class Kind(Enum):
    """What a request is there for: PATCH, HEAD, DELETE."""

    APPEND = "append"
    LOOK = "look"
    END = "end"


class At(Enum):
    """How far a request is."""

    OUT = "has not come"
    LINE = "waits in its process"
    CLAIM = "waits for other processes"
    HOLD = "holds"
    SAVED = "saved what it had"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``has``: a byte was read that is not recorded."""

    process: int
    kind: Kind
    at: At = At.OUT
    epoch: int = -1
    base: int = 0
    has: bool = False
    is_asked: bool = False
    is_late: bool = False


class Life(Enum):
    """A process runs, was killed, or is known to be dead."""

    UP = "up"
    DOWN = "down"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Row:
    """The upload as it is recorded."""

    epoch: int = 0
    offset: int = 0
    holder: int | None = None
    wanted: int | None = None
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """``floor``: the epoch up to which nobody may record any more, because HEAD has answered."""

    row: Row
    requests: tuple[Request, ...]
    lines: tuple[Line, ...] = (Line(), Line())
    lives: tuple[Life, ...] = (Life.UP, Life.UP)
    floor: int = -1


@dataclass(frozen=True)
class Holding:
    """The model. ``frozen``: a request that does nothing more as soon as it holds.

    ``has_fence`` and ``has_bound`` take a rule away, to show what would happen.
    """

    requests: tuple[Request, ...]
    size: int = 2
    frozen: int | None = None
    may_crash: bool = True
    may_cancel: bool = True
    has_fence: bool = True
    has_bound: bool = True
    labels: dict[str, int] = field(default_factory=dict, compare=False)

    def begin(self) -> World:
        return World(Row(), self.requests)

    def moves(self, state: World) -> Sequence[Move[World]]:
        found: list[Move[World]] = []
        for number, request in enumerate(state.requests):
            if number == self.frozen and request.at is At.HOLD:
                continue
            for step in _STEPS:
                found += step(self, state, number, request)
        if self.may_crash:
            found += self._crashes(state)
        for move in found:
            kind = move.label.partition(" ")[2]
            self.labels[kind] = self.labels.get(kind, 0) + 1
        return found

    def check(self, state: World) -> Broken | None:
        held = [one.epoch for one in state.requests if one.at is At.HOLD]
        if len(held) != len(set(held)):
            return Broken("safety", "two holders of one epoch")
        for request in state.requests:
            if request.at is At.OVER and (request.has or request.is_late and not self.has_bound):
                return Broken("safety", "what is over holds something")
        for line in state.lines:
            waits = [place for place in line.places if place.stage.value == "waits"]
            if waits and not any(place.stage.value == "holds" for place in line.places):
                return Broken("safety", "somebody waits for nobody")
        return None

    def is_clean(self, state: World) -> bool:
        """Everybody's turn is over, but for who is frozen; nobody stands in a line."""
        for number, request in enumerate(state.requests):
            if number != self.frozen and request.at is not At.OVER:
                return False
        places = [place.key for line in state.lines for place in line.places]
        return [key for key in places if key != self.frozen] == []

    def _crashes(self, state: World) -> list[Move[World]]:
        moves = []
        for process, life in enumerate(state.lives):
            if life is Life.UP:
                requests = tuple(
                    replace(one, at=At.OVER, has=False) if one.process == process else one
                    for one in state.requests
                )
                after = replace(state, requests=requests, lines=_put(state.lines, process, Line()))
                lives = _put(state.lives, process, Life.DOWN)
                moves.append(Move(f"{process} crashes", replace(after, lives=lives)))
            elif life is Life.DOWN:
                lives = _put(state.lives, process, Life.MISSED)
                moves.append(Move(f"{process} is missed", replace(state, lives=lives)))
        return moves


Moves = list[Move[World]]
_Found = Callable[[Holding, World, int, Request], Moves]


def _put(all_of: tuple, at: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*all_of[:at], value, *all_of[at + 1 :])


def _with(state: World, number: int, request: Request, **changes: object) -> World:
    changed = replace(state, requests=_put(state.requests, number, request))
    return replace(changed, **changes)  # type: ignore[arg-type]


def _lined(state: World, process: int, answer: tuple[Line, tuple[object, ...]]) -> World:
    """The world after a step of a line: whoever is asked or begins knows it at once."""
    line, effects = answer
    requests = list(state.requests)
    for effect in effects:
        key = effect.key  # type: ignore[attr-defined]
        if isinstance(effect, Begin):
            requests[key] = replace(requests[key], at=At.CLAIM)
        else:
            requests[key] = replace(requests[key], is_asked=True)
    lines = _put(state.lines, process, line)
    return replace(state, requests=tuple(requests), lines=lines)


def _over(state: World, number: int, **changes: object) -> World:
    """The request leaves its line, and nothing of it is left."""
    request = replace(state.requests[number], at=At.OVER, has=False)
    left = _with(state, number, request, **changes)
    return _lined(left, request.process, left.lines[request.process].left(number))


def _come(model: Holding, state: World, number: int, request: Request) -> Moves:
    if request.at is not At.OUT:
        return []
    waiting = _with(state, number, replace(request, at=At.LINE))
    line = waiting.lines[request.process]
    return [Move(f"{number} comes", _lined(waiting, request.process, line.came(number)))]


def _time_out(model: Holding, state: World, number: int, request: Request) -> Moves:
    if not model.has_bound or request.is_late or request.at not in (At.LINE, At.CLAIM):
        return []
    late = _with(state, number, replace(request, is_late=True))
    line = late.lines[request.process]
    return [Move(f"{number} waited long", _lined(late, request.process, line.late(number)))]


def _claim(model: Holding, state: World, number: int, request: Request) -> Moves:
    if request.at is not At.CLAIM:
        return []
    row = state.row
    is_alive = row.holder is None or state.lives[row.holder] is not Life.MISSED
    holder = None if row.holder is None else str(row.holder)
    seen = Seen(row.epoch, holder, row.wanted, row.is_open, is_alive)
    step = next_step(seen, str(request.process), is_late=request.is_late)
    if step is Step.WAIT:
        return []
    if step is Step.ASK:
        asked = replace(state, row=replace(row, wanted=row.epoch))
        return [Move(f"{number} asks elsewhere", asked)]
    return [_go(state, number, request)]


def _go(state: World, number: int, request: Request) -> Move[World]:
    """The transaction that takes the upload over, fences a holder off, or ends the upload."""
    row = state.row
    if not row.is_open:
        return Move(f"{number} finds it over", _over(state, number))
    raised = replace(row, epoch=row.epoch + 1, holder=None, wanted=None)
    if request.kind is Kind.END:
        return Move(f"{number} ends it", _over(state, number, row=replace(raised, is_open=False)))
    if request.kind is Kind.LOOK:
        row = row if row.holder is None else raised
        return Move(f"{number} looks", _over(state, number, row=row, floor=row.epoch))
    held = replace(request, at=At.HOLD, epoch=raised.epoch, base=row.offset)
    taken = replace(raised, holder=request.process)
    return Move(f"{number} takes over", _with(state, number, held, row=taken))


def _receive(model: Holding, state: World, number: int, request: Request) -> Moves:
    is_reading = request.at is At.HOLD and not request.has and not request.is_asked
    if not is_reading or request.base >= model.size:
        return []
    return [Move(f"{number} reads", _with(state, number, replace(request, has=True)))]


def _hear(model: Holding, state: World, number: int, request: Request) -> Moves:
    row = state.row
    is_meant = row.holder == request.process and row.wanted == row.epoch == request.epoch
    if request.at is not At.HOLD or request.is_asked or not is_meant:
        return []
    return [Move(f"{number} hears", _with(state, number, replace(request, is_asked=True)))]


def _record(model: Holding, state: World, number: int, request: Request) -> Moves:
    if request.at is not At.HOLD or not request.has:
        return []
    row = state.row
    is_mine = row.is_open and row.epoch == request.epoch and row.offset == request.base
    if model.has_fence and not is_mine:
        fenced = replace(request, at=At.SAVED, has=False)
        return [Move(f"{number} is fenced", _with(state, number, fenced))]
    broken = None
    if not row.is_open:
        broken = Broken("safety", "recorded into an upload that is over")
    elif request.base < row.offset:
        broken = Broken("safety", "recorded where others have recorded")
    elif request.epoch <= state.floor:
        broken = Broken("safety", "the offset moved behind the answer to HEAD")
    after = replace(request, has=False, base=request.base + 1)
    moved = replace(row, offset=request.base + 1)
    return [Move(f"{number} records", _with(state, number, after, row=moved), broken)]


def _finish(model: Holding, state: World, number: int, request: Request) -> Moves:
    """The body ended, or everything is saved that was there when somebody asked."""
    if request.at is not At.HOLD or request.has:
        return []
    return [Move(f"{number} saved", _with(state, number, replace(request, at=At.SAVED)))]


def _let_go(model: Holding, state: World, number: int, request: Request) -> Moves:
    if request.at is not At.SAVED:
        return []
    row = state.row
    free = replace(row, holder=None) if row.epoch == request.epoch else row
    return [
        Move(f"{number} lets go", _over(state, number, row=free)),
        Move(f"{number} cannot say so", _over(state, number)),
    ]


def _cancel(model: Holding, state: World, number: int, request: Request) -> Moves:
    if not model.may_cancel:
        return []
    if request.at in (At.LINE, At.CLAIM):
        return [Move(f"{number} is cancelled waiting", _over(state, number))]
    if request.at is At.HOLD:
        dropped = replace(request, at=At.SAVED, has=False)
        return [Move(f"{number} is cancelled holding", _with(state, number, dropped))]
    return []


_STEPS: tuple[_Found, ...] = (
    *(_come, _time_out, _claim, _receive, _hear, _record, _finish, _let_go, _cancel),
)
