"""``filestore serve``: runs the service until it is told to stop.

Standard output carries one line, the address, once requests are taken; everything else goes
to standard error. SIGTERM and SIGINT stop it: no new connections, running requests flush.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer

from filestore.app import Service, listening, make_service
from filestore.settings import Settings, load
from filestore.telemetry import configure_logging

_log = structlog.get_logger("filestore.serve")


def serve(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder for everything embedded.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="URL", help="sqlite+aiosqlite:/// or postgresql+asyncpg://"
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option("--blocks", metavar="URL", help="file:DIR or s3://HOST:PORT/BUCKET"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="More than 1 needs PostgreSQL.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings, as TOML.")
    ] = None,
) -> None:
    """Run the service. It prints one line, its address, when it takes requests."""
    settings = load(
        config=config,
        environ=os.environ,
        flags={
            "data": data,
            "listen": listen,
            "database": database,
            "blocks": blocks,
            "workers": workers,
        },
    )
    configure_logging(settings.log.level, settings.log.format)
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    """Serves until a signal comes or the service fails.

    A signal that comes while everything is being opened stops it too, as soon as it is open.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with make_service(settings) as service:
        async with listening(service) as url:
            print(f"listening on {url}", flush=True)
            _log.info("service.listening", url=url, process=service.process_id)
            await _until(stop, service)
            _log.info("service.stopping")
    _log.info("service.stopped")


async def _until(stop: asyncio.Event, service: Service) -> None:
    """Returns when ``stop`` is set, or when the background work has failed; closing raises why."""
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({told, service.background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
