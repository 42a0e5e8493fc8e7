"""Several server processes behind one address: ``filestore serve --workers N``.

The parent opens the socket, starts the workers, and serves nothing itself. A worker that dies
is replaced, later each time it did not last; at the start, one that dies before it is ready is
an error of the set-up and ends all. A worker that gets SIGTERM saves what its uploads sent, ends,
and is replaced while its clients go on at the others: so workers can be changed one by one.
Workers watch a pipe that closes with the parent, so they stop even when it is killed.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from types import FrameType
from typing import Final

import structlog

from filestore.cli.serving import LEAST_END_S, announce, run
from filestore.errors import CannotStart, FilestoreError
from filestore.settings import Settings
from filestore.telemetry import configure_logging

BACKLOG: Final = 1024
"""Connections that wait for a worker; more clients than that begin at once only in a storm."""

START_TIMEOUT_S: Final = 120.0
"""How long workers may take to be ready: a migration, and patience with a store."""

STEADY_S: Final = 10.0
"""Who lasted this long is replaced at once."""

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Before a worker that did not last is replaced: doubled each time, so that one that cannot live
does not take the machine from those that can."""

_SPARE_S: Final = 2.0
"""What a parent grants beyond the time in which workers end by themselves, or are cut off."""

_log: Final = structlog.get_logger("filestore.workers")
_FAILED: Final = 1


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    said: Connection
    """Gets one text: the URL when the worker is ready, or why it cannot start."""
    is_ready: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        return self.process.exitcode is not None


@dataclass(slots=True)
class _Gone:
    """A worker that is to be replaced at ``due``, of the clock of :func:`time.monotonic`."""

    due: float


class Pauses:
    """How long to wait before the next replacement of one worker."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def after(self, lasted_s: float, *, was_told: bool) -> float:
        """Nothing behind one that lasted or was told to end; else longer each time."""
        if was_told or lasted_s >= STEADY_S:
            self._next_s = FIRST_PAUSE_S
            return 0.0
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_PAUSE_S)
        return pause_s


def serve_with_workers(settings: Settings) -> None:
    """Serves with ``server.workers`` processes until a signal comes.

    :raises CannotStart: the address cannot be listened on, or a worker cannot start; says why.
    """
    with _listening_socket(settings) as sock, _signals() as told:
        workers = [_start(settings, sock) for _ in range(settings.server.workers)]
        places: list[_Worker | _Gone] = [*workers]
        try:
            if url := _await_ready(workers, told):
                announce(url)
                _replace_the_dead(places, settings, sock, told)
        finally:
            _stop([place for place in places if isinstance(place, _Worker)], settings)


def _start(settings: Settings, sock: socket.socket) -> _Worker:
    context = multiprocessing.get_context("spawn")
    said, say = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(settings, sock, say))
    try:
        process.start()
    except BaseException:
        said.close()
        raise
    finally:
        say.close()
    return _Worker(process, said)


def _work(settings: Settings, sock: socket.socket, say: Connection) -> None:
    """The life of one worker."""
    parent = parent_process()
    assert parent is not None
    configure_logging(settings.log.level, settings.log.format)
    threading.Thread(target=_end_with, args=(parent.sentinel, settings), daemon=True).start()
    try:
        run(settings, say.send, sock=sock, stop_when_readable=parent.sentinel)
    except FilestoreError as err:
        say.send(f"!{err}")
        raise SystemExit(_FAILED) from None


def _end_with(parent: int, settings: Settings) -> None:
    """Ends this worker some time after its parent, also when it hangs; mostly it has ended."""
    wait([parent])
    time.sleep(_end_s(settings))
    os._exit(_FAILED)


def _end_s(settings: Settings) -> float:
    return max(settings.server.shutdown_s, LEAST_END_S) + _SPARE_S


def _await_ready(workers: list[_Worker], told: int) -> str | None:
    """The URL when all are ready; None when a signal came first.

    :raises CannotStart: one ended, or was not ready in time.
    """
    url = None
    for worker in workers:
        ready = wait([worker.said, told], START_TIMEOUT_S)
        if told in ready:
            return None
        url = _heard(worker)
        if url is None:
            raise CannotStart(reason="a worker did not become ready; see the log")
        worker.is_ready = True
    return url


def _heard(worker: _Worker) -> str | None:
    """What the worker says: its URL, or None when it is silent or has ended.

    :raises CannotStart: it says why it cannot start.
    """
    if not worker.said.poll():
        return None
    try:
        text = str(worker.said.recv())
    except EOFError:
        return None
    if text.startswith("!"):
        raise CannotStart(reason=text[1:].rstrip("."))
    return text


def _replace_the_dead(
    places: list[_Worker | _Gone], settings: Settings, sock: socket.socket, told: int
) -> None:
    """Returns when a signal comes."""
    pauses = [Pauses() for _ in places]
    while told not in _await_change(places, told):
        for at, place in enumerate(places):
            if isinstance(place, _Gone):
                if time.monotonic() >= place.due:
                    places[at] = _start_again(settings, sock, pauses[at])
                continue
            if not place.is_ready and place.said.poll():
                place.is_ready = _says_ready(place)
            if place.has_ended:
                places[at] = _bury(place, pauses[at])


def _start_again(settings: Settings, sock: socket.socket, pauses: Pauses) -> _Worker | _Gone:
    """The replacement; or when it is due again, where the machine has no memory, process or file
    left for it: that must not end those that serve."""
    try:
        return _start(settings, sock)
    except OSError as err:
        pause_s = pauses.after(0.0, was_told=False)
        _log.error("worker.cannot_start", reason=str(err), again_in_s=pause_s)
        return _Gone(time.monotonic() + pause_s)


def _await_change(places: list[_Worker | _Gone], told: int) -> list[object]:
    """What happened first: a signal, the word or the end of a worker, or that one is due."""
    workers = [place for place in places if isinstance(place, _Worker)]
    due = [place.due for place in places if isinstance(place, _Gone)]
    said = [worker.said for worker in workers if not (worker.is_ready or worker.said.closed)]
    ended = [worker.process.sentinel for worker in workers]
    timeout_s = max(0.0, min(due) - time.monotonic()) if due else None
    return list(wait([told, *said, *ended], timeout_s))


def _says_ready(worker: _Worker) -> bool:
    """Whether a replacement is ready; one that cannot start is tried again after a while."""
    try:
        return _heard(worker) is not None
    except CannotStart as err:
        _log.error("worker.cannot_start", pid=worker.process.pid, reason=str(err))
        return False


def _bury(worker: _Worker, pauses: Pauses) -> _Gone:
    """Says how a worker ended, and when another one takes its place."""
    code = worker.process.exitcode
    lasted_s = time.monotonic() - worker.began
    was_told = worker.is_ready and code == 0
    pause_s = pauses.after(lasted_s, was_told=was_told)
    say = _log.info if was_told else _log.warning
    event = "worker.ended" if was_told else "worker.died"
    say(event, pid=worker.process.pid, exit_code=code, replaced_in_s=pause_s)
    worker.said.close()
    return _Gone(time.monotonic() + pause_s)


def _stop(workers: list[_Worker], settings: Settings) -> None:
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + _end_s(settings)
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if not worker.has_ended:
            worker.process.kill()
            worker.process.join()
        worker.said.close()


def _listening_socket(settings: Settings) -> socket.socket:
    server = settings.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        return socket.create_server((server.host, server.port), family=family, backlog=BACKLOG)
    except OSError as err:
        why = err.strerror or str(err)
        raise CannotStart(reason=f"{server.listen} cannot be listened on: {why}") from err


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable when SIGTERM or SIGINT comes."""
    heard, tell = os.pipe()

    def note(_number: int, _frame: FrameType | None) -> None:
        os.write(tell, b"x")

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(heard)
        os.close(tell)
