"""One server process: from settings to requests, and to an orderly end."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from filestore import failpoints
from filestore.app import Service, listening, make_service
from filestore.cli.allocator import bound_allocator
from filestore.errors import CannotStart
from filestore.settings import Server, Settings

OTHER_FILES: Final = 512
"""Open files besides connections: up to 200 of the database's, 48 of a store's, and threads that
each read or write a block."""

LEAST_END_S: Final = 5.0
"""A service that was told to stop is cut off after ``server.shutdown_s``, but not before this."""

_SAY_S: Final = 0.5
"""How long the last line of the log may take."""

CUT_OFF: Final = 1
"""Exit code of a service that was cut off."""

_log = structlog.get_logger("filestore.serve")


def announce(url: str) -> None:
    """The one line on standard output."""
    print(f"listening on {url}", flush=True)


def run(
    settings: Settings,
    ready: Callable[[str], None],
    *,
    sock: socket.socket | None = None,
    stop_when_readable: int | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT comes, a descriptor becomes readable, or the service fails.

    ``ready`` gets the URL when requests are taken.

    :raises FilestoreError: it cannot start, or its background work failed. An address in use
        is found before anything is made.
    """
    allow_open_files(settings.server.max_connections + OTHER_FILES)
    if sock is None:
        refuse_if_taken(settings.server)
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    bound_allocator()
    asyncio.run(_serve(settings, ready, sock, stop_when_readable))


def allow_open_files(wanted: int) -> None:
    """Raises this process's limit of open files to ``wanted`` as far as it may; says if it
    may not. Services often begin with 1,024, which 1,000 connections and their files exceed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    reached = wanted if hard == unlimited else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    if reached < wanted:
        _log.warning("files.few", allowed=reached, wanted=wanted, setting="server.max_connections")


def leave_out_what_stays() -> None:
    """What is there by now, half a million objects of modules, stays for good. Looking through all
    of it for garbage would stop everything for 0.1 s each time, whoever waits."""
    gc.collect()
    gc.freeze()


def refuse_if_taken(server: Server) -> None:
    """Goes on if the address can be listened on now. It is taken later, so this is no promise.

    :raises CannotStart: it cannot be listened on; says why.
    """
    try:
        for family, kind, number, _, address in socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, number) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as err:
        why = err.strerror or str(err)
        raise CannotStart(reason=f"{server.listen} cannot be listened on: {why}") from err


async def _serve(
    settings: Settings,
    ready: Callable[[str], None],
    sock: socket.socket | None,
    stop_when_readable: int | None,
) -> None:
    """A signal that comes while everything is being opened stops it as soon as it is open, or
    cuts it off when that takes too long."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with _deadline(settings.server.shutdown_s) as begin_to_end:

        def told() -> None:
            if stop_when_readable is not None:
                loop.remove_reader(stop_when_readable)
            begin_to_end()
            stop.set()

        hear_signals(begin_to_end, told)
        if stop_when_readable is not None:
            loop.add_reader(stop_when_readable, told)
        async with make_service(settings) as service:
            async with listening(service, sock=sock) as url:
                _log.info("service.listening", url=url, process=service.process_id, pid=os.getpid())
                leave_out_what_stays()
                ready(url)
                await _until(stop, service)
                told()
                _log.info("service.stopping")
        _log.info("service.stopped")


def hear_signals(at_once: Callable[[], None], told: Callable[[], None]) -> None:
    """Has SIGTERM and SIGINT call ``at_once`` wherever the process is, and ``told`` in its turn on
    the running loop.

    A loop that is behind with its work comes late to its handlers, and the time in which the
    process has to end would begin late. The wake-up that asyncio has set comes in any case.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told)
        signal.signal(number, lambda _number, _frame: at_once())


@contextlib.contextmanager
def _deadline(shutdown_s: float) -> Iterator[Callable[[], None]]:
    """What begins the time in which the block has to end; then the process is cut off. Again is
    harmless.

    A store or a database that hangs would keep threads and connections, and with them the
    process, for a minute. Dying is safe at any instruction: all that is acknowledged is durable.
    """
    timer = threading.Timer(max(shutdown_s, LEAST_END_S), _cut_off)
    timer.daemon = True
    has_begun = False

    def begin() -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True  # first: a signal may come in between
            timer.start()

    try:
        yield begin
    finally:
        timer.cancel()


def _cut_off() -> None:
    """Says so, unless nobody reads the log: who writes to a full pipe waits for ever."""
    saying = threading.Thread(target=_say_cut_off, daemon=True)
    saying.start()
    saying.join(_SAY_S)
    os._exit(CUT_OFF)


def _say_cut_off() -> None:
    _log.error("service.cut_off", reason="it did not end in time", setting="server.shutdown_s")


async def _until(stop: asyncio.Event, service: Service) -> None:
    """Returns when ``stop`` is set, or when the background work has failed; closing raises why."""
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({told, service.background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
