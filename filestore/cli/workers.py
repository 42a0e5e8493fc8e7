"""Several server processes behind one address: ``filestore serve --workers N``.

The parent opens the socket, starts the workers, and serves nothing itself. A worker that dies
is replaced; one that dies before it was ever ready is an error of the set-up, and ends all.
Workers watch a pipe that closes with the parent, so they stop even when it is killed.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from types import FrameType
from typing import Final

import structlog

from filestore.cli.serving import announce, run
from filestore.errors import CannotStart, FilestoreError
from filestore.settings import Settings
from filestore.telemetry import configure_logging

BACKLOG: Final = 1024
"""Connections that wait for a worker; more clients than that begin at once only in a storm."""

START_TIMEOUT_S: Final = 120.0
"""How long workers may take to be ready: a migration, and patience with a store."""

_log: Final = structlog.get_logger("filestore.workers")
_FAILED: Final = 1


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    said: Connection
    """Gets one text: the URL when the worker is ready, or why it cannot start."""
    is_ready: bool = False


def serve_with_workers(settings: Settings) -> None:
    """Serves with ``server.workers`` processes until a signal comes.

    :raises CannotStart: the address cannot be listened on, or a worker cannot start; says why.
    """
    with _listening_socket(settings) as sock, _signals() as told:
        workers = [_start(settings, sock) for _ in range(settings.server.workers)]
        try:
            if url := _await_ready(workers, told):
                announce(url)
                _replace_the_dead(workers, settings, sock, told)
        finally:
            _stop(workers, settings)


def _start(settings: Settings, sock: socket.socket) -> _Worker:
    context = multiprocessing.get_context("spawn")
    said, say = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(settings, sock, say))
    process.start()
    say.close()
    return _Worker(process, said)


def _work(settings: Settings, sock: socket.socket, say: Connection) -> None:
    """The life of one worker."""
    parent = parent_process()
    assert parent is not None
    configure_logging(settings.log.level, settings.log.format)
    try:
        run(settings, say.send, sock=sock, stop_when_readable=parent.sentinel)
    except FilestoreError as err:
        say.send(f"!{err}")
        raise SystemExit(_FAILED) from None


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
    workers: list[_Worker], settings: Settings, sock: socket.socket, told: int
) -> None:
    """Returns when a signal comes.

    :raises CannotStart: a worker that was to replace another cannot start.
    """
    while True:
        waiting = [worker.said for worker in workers if not worker.is_ready]
        done = wait([told, *waiting, *(worker.process.sentinel for worker in workers)])
        if told in done:
            return
        for place, worker in enumerate(workers):
            if not worker.is_ready and worker.said in done:
                worker.is_ready = _heard(worker) is not None
            if worker.process.exitcode is not None:
                if not worker.is_ready:
                    raise CannotStart(reason="a worker did not become ready; see the log")
                _log.warning(
                    "worker.died", pid=worker.process.pid, exit_code=worker.process.exitcode
                )
                worker.said.close()
                workers[place] = _start(settings, sock)


def _stop(workers: list[_Worker], settings: Settings) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(settings.server.shutdown_s + 5)
        if worker.process.exitcode is None:
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
