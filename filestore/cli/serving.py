"""One server process: from settings to requests, and to an orderly end."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import structlog

from filestore.app import Service, listening, make_service
from filestore.cli.allocator import bound_allocator
from filestore.settings import Settings

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

    :raises FilestoreError: it cannot start, or its background work failed.
    """
    bound_allocator()
    asyncio.run(_serve(settings, ready, sock, stop_when_readable))


async def _serve(
    settings: Settings,
    ready: Callable[[str], None],
    sock: socket.socket | None,
    stop_when_readable: int | None,
) -> None:
    """A signal that comes while everything is being opened stops it as soon as it is open."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if stop_when_readable is not None:
        loop.add_reader(stop_when_readable, stop.set)
    try:
        async with make_service(settings) as service:
            async with listening(service, sock=sock) as url:
                _log.info("service.listening", url=url, process=service.process_id, pid=os.getpid())
                ready(url)
                await _until(stop, service)
                _log.info("service.stopping")
        _log.info("service.stopped")
    finally:
        if stop_when_readable is not None:
            loop.remove_reader(stop_when_readable)


async def _until(stop: asyncio.Event, service: Service) -> None:
    """Returns when ``stop`` is set, or when the background work has failed; closing raises why."""
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({told, service.background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
