"""The workers of one parent: who is there, who hangs, who is replaced, and when.

A worker that is not ready within its time is killed: one that hangs would hold its place for
ever. At the start, one that ends before it is ready is an error of the set-up and ends all, and
so does a place whose workers hang again and again; later nothing ends those that serve.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

import structlog

from filestore.errors import CannotStart

STEADY_S: Final = 10.0
"""Who served this long is replaced at once."""

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Before a worker that did not last is replaced: doubled each time, so that one that cannot live
does not take the machine from those that can."""

FIRST_ATTEMPTS: Final = 3
"""Workers that may hang in one place at the start: what hung once may go well, what hung three
times is told to whoever starts the service."""

_log: Final = structlog.get_logger("filestore.workers")


@dataclass(slots=True)
class Worker:
    process: SpawnProcess
    said: Connection
    """Gets one text: the URL when the worker is ready, or ``!`` and why it cannot start."""
    began: float = field(default_factory=time.monotonic)
    url: str | None = None
    """Where it takes requests; None while it is not ready."""
    has_spoken: bool = False
    is_hung: bool = False

    @property
    def has_ended(self) -> bool:
        return self.process.exitcode is not None


@dataclass(slots=True)
class Gone:
    """A worker that is to be replaced at ``due``, of the clock of :func:`time.monotonic`."""

    due: float


class Pauses:
    """How long to wait before the next replacement of one worker."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def after(self, served_s: float, *, was_told: bool) -> float:
        """Nothing behind one that served for long or was told to end; else longer each time."""
        if was_told or served_s >= STEADY_S:
            self._next_s = FIRST_PAUSE_S
            return 0.0
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_PAUSE_S)
        return pause_s


@dataclass(slots=True)
class _Place:
    """Where one worker stands after another."""

    holder: Worker | Gone
    pauses: Pauses = field(default_factory=Pauses)
    hung: int = 0
    """Workers in a row that were not ready in time."""


class Crew:
    """``size`` workers made by ``start``, each of which has ``start_s`` seconds to be ready."""

    def __init__(self, size: int, start: Callable[[], Worker], *, start_s: float) -> None:
        self._start = start
        self._start_s = start_s
        self._is_first = True
        self._places = [_Place(Gone(0.0)) for _ in range(size)]

    def __repr__(self) -> str:
        ready = sum(worker.url is not None for worker in self._workers)
        return f"<Crew of {len(self._places)}, {ready} ready>"

    def begin(self, told: int) -> str | None:
        """The URL when all are ready for the first time; None when ``told`` became readable first.

        :raises CannotStart: one cannot be started, ended, or hung once too often; says why.
        """
        while not all(isinstance(at.holder, Worker) and at.holder.url for at in self._places):
            if not self._step(told):
                return None
        self._is_first = False
        return self._workers[0].url

    def keep(self, told: int) -> None:
        """Replaces who ends or hangs, until ``told`` becomes readable."""
        while self._step(told):
            pass

    def stop(self, within_s: float) -> None:
        """Tells all to end; who has not after that time is killed."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + within_s
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if not worker.has_ended:
                _log.error("worker.killed", pid=worker.process.pid, reason="it did not end in time")
                worker.process.kill()
                worker.process.join()
            worker.said.close()

    @property
    def _workers(self) -> list[Worker]:
        return [at.holder for at in self._places if isinstance(at.holder, Worker)]

    def _step(self, told: int) -> bool:
        """Waits for the next change and follows it; False when it is ``told``."""
        if told in self._await_change(told):
            return False
        for place in self._places:
            if isinstance(place.holder, Worker):
                self._look_at(place, place.holder)
            elif time.monotonic() >= place.holder.due:
                place.holder = self._started(place)
        return True

    def _await_change(self, told: int) -> list[object]:
        """What happened first: a signal, the word or the end of a worker, or a time that is due."""
        silent = [worker for worker in self._workers if worker.url is None and not worker.is_hung]
        due = [worker.began + self._start_s for worker in silent]
        due += [at.holder.due for at in self._places if isinstance(at.holder, Gone)]
        said = [worker.said for worker in silent if not worker.has_spoken]
        ended = [worker.process.sentinel for worker in self._workers]
        timeout_s = max(0.0, min(due) - time.monotonic()) if due else None
        return list(wait([told, *said, *ended], timeout_s))

    def _started(self, place: _Place) -> Worker | Gone:
        """The next worker; or when it is due again, where the machine has no memory, process or
        file left for it: that must not end those that serve.

        :raises CannotStart: it is the first one there.
        """
        try:
            return self._start()
        except OSError as err:
            if self._is_first:
                raise CannotStart(reason=f"no process for a worker: {err}") from err
            pause_s = place.pauses.after(0.0, was_told=False)
            _log.error("worker.cannot_start", reason=str(err), again_in_s=pause_s)
            return Gone(time.monotonic() + pause_s)

    def _look_at(self, place: _Place, worker: Worker) -> None:
        if not worker.has_spoken and worker.said.poll():
            self._listen(worker)
        if worker.has_ended:
            place.holder = self._bury(place, worker)
        elif worker.url is not None:
            place.hung = 0
        elif not worker.is_hung and time.monotonic() >= worker.began + self._start_s:
            self._give_up(place, worker)

    def _listen(self, worker: Worker) -> None:
        """Takes the worker's one word; the end of its pipe is none.

        :raises CannotStart: it is a first one, and says that it cannot start.
        """
        worker.has_spoken = True
        try:
            text = str(worker.said.recv())
        except (EOFError, OSError):
            return
        if not text.startswith("!"):
            worker.url = text
            return
        reason = text[1:].rstrip(".")
        if self._is_first:
            raise CannotStart(reason=reason)
        _log.error("worker.cannot_start", pid=worker.process.pid, reason=reason)

    def _give_up(self, place: _Place, worker: Worker) -> None:
        """Kills a worker that hangs; its end is noticed as that of any other."""
        place.hung += 1
        worker.is_hung = True
        _log.error(
            "worker.hangs",
            pid=worker.process.pid,
            reason=f"it was not ready within {self._start_s:g} s and is killed",
            in_a_row=place.hung,
            setting="server.start_s",
        )
        worker.process.kill()

    def _bury(self, place: _Place, worker: Worker) -> Gone:
        """Says how a worker ended, and when another one takes its place.

        :raises CannotStart: it was a first one, and did not hang; or too many did.
        """
        code = worker.process.exitcode
        served_s = 0.0 if worker.url is None else time.monotonic() - worker.began
        was_told = worker.url is not None and code == 0
        if self._is_first and not (worker.is_hung and place.hung < FIRST_ATTEMPTS):
            raise CannotStart(reason=_why_not(worker, self._start_s))
        pause_s = place.pauses.after(served_s, was_told=was_told)
        say = _log.info if was_told else _log.warning
        event = "worker.ended" if was_told else "worker.died"
        say(event, pid=worker.process.pid, exit_code=code, replaced_in_s=pause_s)
        worker.said.close()
        return Gone(time.monotonic() + pause_s)


def _why_not(worker: Worker, start_s: float) -> str:
    if worker.is_hung:
        return f"{FIRST_ATTEMPTS} workers were not ready within {start_s:g} s each (server.start_s)"
    return "a worker did not become ready; see the log"
