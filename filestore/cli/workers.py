"""Several server processes behind one address: ``filestore serve --workers N``.

The parent opens the socket, starts the workers, and serves nothing itself. A worker that dies, or
hangs while it starts, is replaced (:mod:`filestore.cli.crew`). One that gets SIGTERM saves what its
uploads sent, ends, and is replaced while its clients go on at the others: so workers can be changed
one by one. Workers watch a pipe that closes with the parent, so they stop even when it is killed.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from types import FrameType
from typing import Final

from filestore.app import prepare_database
from filestore.cli.crew import Crew, Worker
from filestore.cli.serving import LEAST_END_S, announce, run
from filestore.errors import CannotStart, FilestoreError
from filestore.settings import Settings
from filestore.telemetry import configure_logging

BACKLOG: Final = 1024
"""Connections that wait for a worker; more clients than that begin at once only in a storm."""

_SPARE_S: Final = 1.0
"""What a parent grants beyond the time in which workers end by themselves, or are cut off."""

_FAILED: Final = 1


def serve_with_workers(settings: Settings) -> None:
    """Serves with ``server.workers`` processes until a signal comes.

    The schema is brought up to date before any is started: their time to be ready is bounded.

    :raises CannotStart: the address cannot be listened on, the database cannot be used, or a
        worker cannot start; says why.
    """
    server = settings.server
    with _listening_socket(settings) as sock, _prepared(settings), _signals() as told:
        crew = Crew(server.workers, partial(_start, settings, sock), start_s=server.start_s)
        try:
            if url := crew.begin(told):
                announce(url)
                crew.keep(told)
        finally:
            crew.stop(_end_s(settings))


@contextlib.contextmanager
def _prepared(settings: Settings) -> Iterator[None]:
    """A signal ends the process on the spot meanwhile: a migration happens wholly or not at all."""
    asyncio.run(prepare_database(settings))
    yield


def _start(settings: Settings, sock: socket.socket) -> Worker:
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
    return Worker(process, said)


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
