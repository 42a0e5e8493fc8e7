"""``filestore serve``: runs the service until it is told to stop.

Standard output carries one line, the address, once requests are taken; everything else goes
to standard error. SIGTERM and SIGINT stop it: no new connections, running requests flush.
"""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from filestore.cli.serving import announce, run
from filestore.cli.workers import serve_with_workers
from filestore.settings import load
from filestore.telemetry import configure_logging

OWN_FILES_ONLY: Final = 0o077
"""What the service makes, SQLite's files too, is for its own account alone."""


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
    os.umask(OWN_FILES_ONLY)
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
    if settings.server.workers > 1:
        serve_with_workers(settings)
    else:
        run(settings, announce)
