"""Long work from the command line: as a job of the server, or on the store itself."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO, TypeVar

import typer

from filestore.cli.connect import run
from filestore.cli.output import printable
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import CannotStart, ClientFailed, Json, NotFound
from filestore.model import format_size

if TYPE_CHECKING:
    from filestore_gc.kinds import Ground

T = TypeVar("T")

DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Work on this folder itself, without a server on it."
    ),
]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="The same, as for serve.")
]
BlocksUrl = Annotated[
    str | None, typer.Option("--blocks", metavar="URL", help="The same, as for serve.")
]

LINE_EVERY_S: Final = 5.0

_BESIDE_SERVER: Final = (
    "Stop the server, or let it do the work: leave out --data, --database and --blocks, and set"
    " FILESTORE_URL"
)


@dataclass(frozen=True, slots=True)
class Where:
    """What the flags say of where to work; nothing: ask the server."""

    data: Path | None
    database: str | None
    blocks: str | None

    @property
    def is_direct(self) -> bool:
        return any(value is not None for value in (self.data, self.database, self.blocks))


def work_directly(where: Where, act: Callable[["Ground"], Awaitable[T]]) -> T:
    """What ``act`` gives on database and store themselves. Other settings: the environment.

    :raises CannotStart: there is none, or a server has the SQLite file.
    """
    from filestore.meta.database import DatabaseInUse
    from filestore.offline import working_on  # the service takes a while to import
    from filestore.settings import load
    from filestore.telemetry import configure_logging

    flags = {"data": where.data, "database": where.database, "blocks": where.blocks}
    settings = load(environ=os.environ, flags=flags)
    configure_logging("error", settings.log.format)

    async def with_ground() -> T:
        async with working_on(settings) as ground:
            return await act(ground)

    try:
        return asyncio.run(with_ground())
    except DatabaseInUse as err:
        raise CannotStart(reason=f"{err.members['reason']}. {_BESIDE_SERVER}") from err


def work_as_job(kind: str, parameters: dict[str, Json], *, as_json: bool, quiet: bool) -> Document:
    """The report of a job of the server, when it has ended.

    :raises NotFound: there is no such group.
    :raises ClientFailed: it ended without one; says why.
    """

    async def act(client: Client) -> Document:
        asked = await client.jobs.ask(kind, parameters)
        watch = Watch(sys.stderr, as_json=as_json, quiet=quiet)
        return await client.jobs.wait(str(asked.get("id")), watch.see)

    job = run(act)
    report, error = job.get("report"), job.get("error")
    if isinstance(report, dict):
        return {"job": job.get("id"), **report}
    if isinstance(error, dict) and error.get("code") == NotFound.code:
        raise NotFound(what="group")
    why = error.get("detail") if isinstance(error, dict) else None
    told = str(why).rstrip(".") if why else f"it is {job.get('state')}"
    raise ClientFailed(reason=f"job {job.get('id')}: {told}")


class Watch:
    """Says how far a job is: a line when its stage changes, and every few seconds."""

    def __init__(
        self,
        stream: TextIO,
        *,
        as_json: bool,
        quiet: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._as_json = as_json
        self._quiet = quiet
        self._clock = clock
        self._stage = ""
        self._said_at = clock()

    def see(self, job: Document) -> None:
        """The job as it is now."""
        found = job.get("progress")
        progress = found if isinstance(found, dict) else {}
        stage = str(progress.get("stage") or job.get("state"))
        now = self._clock()
        if self._quiet or (stage == self._stage and now - self._said_at < LINE_EVERY_S):
            return
        self._stage, self._said_at = stage, now
        if self._as_json:
            line = json.dumps({"event": "progress", "job": job.get("id"), **progress})
        else:
            line = f"{job.get('id')}: {_told(stage, progress)}"
        print(printable(line), file=self._stream, flush=True)


def _told(stage: str, progress: Document) -> str:
    parts = [stage]
    for name, value in progress.items():
        if isinstance(value, int) and not isinstance(value, bool):
            is_size = name == "bytes" or name.endswith("_bytes")
            parts.append(format_size(value) if is_size else f"{value} {name.replace('_', ' ')}")
    return ", ".join(parts)
