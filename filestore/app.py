"""The composition root: from settings to a running service, and back down in reverse order."""

import asyncio
import contextlib
import os
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from filestore.acts.begin import begin
from filestore.attaching import Attachment, join, make_backend
from filestore.errors import CannotStart, DatabaseUnavailable
from filestore.hooks.worker import Tuning, running_hooks
from filestore.http.application import make_application
from filestore.http.call import Services
from filestore.http.connection import make_runner
from filestore.meta.database import Database, open_database
from filestore.meta.processes import note_alive
from filestore.meta.reach import cause_of, place_of
from filestore.settings import Settings
from filestore.telemetry import Metrics
from filestore.transfer.assembly import HotPath, running_hot_path
from filestore.transfer.downloaded import running_downloaded
from filestore_gc import Doubt, running_collector, running_scrubber
from filestore_gc.auditing import running_auditor
from filestore_gc.jobs import running_jobs
from filestore_gc.kinds import Ground, known_kinds
from filestore_gc.metrics import running_figures
from filestore_gc.sealer import running_sealer

HEARTBEAT_S: Final = 10.0
"""How often a process says that it is alive; after six missed ones it counts as dead
(``meta.processes.SILENCE_S``)."""

ADMIN_TOKEN: Final = "admin.token"  # noqa: S105  (a file's name)

_ADVICE: Final = "other accounts may read what is stored; chmod -R go= takes that away"

_log: Final = structlog.get_logger("filestore.app")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready to be listened to. ``background`` never ends while it is well."""

    settings: Settings
    services: Services
    web: web.Application
    process_id: str
    background: asyncio.Task[None]


@contextlib.asynccontextmanager
async def make_service(settings: Settings) -> AsyncIterator[Service]:
    """Opens everything, in order; closes it in reverse when the block ends.

    :raises CannotStart: a file is in use, the store belongs to another database, the database
        does not answer, …
    :raises BadSetting: what a setting names is not possible.

    A store that does not answer yet keeps nobody from starting: ``/readyz`` says so, requests
    for bytes get 503, and it is tried again until it is there. Then the collector begins, too.
    """
    async with contextlib.AsyncExitStack() as stack:
        _make_own_folder(settings.server.data)
        db = await _open_database(settings)
        stack.push_async_callback(db.close)
        instance = await begin(db, keep_in(settings.server.data / ADMIN_TOKEN))
        process_id = await join(stack, db)
        attachment = Attachment(db, instance, make_backend(stack, settings, process_id))
        store = attachment.gate
        await attachment.attempt()
        hot = await stack.enter_async_context(
            running_hot_path(settings, db, store, process_id, sift=Doubt(db, store).sift)
        )
        collector = await stack.enter_async_context(
            running_collector(settings, db, store, process_id, begin=attachment.wait)
        )
        scrubber = await stack.enter_async_context(
            running_scrubber(settings, db, store, process_id, begin=attachment.wait)
        )
        await stack.enter_async_context(running_sealer(settings, db, store, process_id))
        auditor = await stack.enter_async_context(running_auditor(settings, db, store, process_id))
        kinds = known_kinds(Ground(db, store, settings, collector, scrubber, auditor))
        jobs = await stack.enter_async_context(running_jobs(db, process_id, kinds))
        metrics = _make_metrics(hot)
        await stack.enter_async_context(running_figures(db, metrics.registry))
        hooks = await stack.enter_async_context(
            running_hooks(db, Tuning.of(settings), metrics.registry)
        )
        services = Services(
            settings=settings,
            db=db,
            metrics=metrics,
            store=store,
            transfers=hot.transfers,
            egress=hot.egress,
            collector=collector,
            jobs=jobs,
            hooks=hooks,
            downloaded=await stack.enter_async_context(running_downloaded(db)),
        )
        work = _together([partial(_beat, db, process_id), attachment.keep_trying])
        background = await stack.enter_async_context(_running(work))
        yield Service(settings, services, make_application(services), process_id, background)


def _make_metrics(hot: HotPath) -> Metrics:
    metrics = Metrics()
    for part, budget in (("uploads", hot.engine.budget), ("downloads", hot.egress.budget)):
        metrics.watch_memory(part, lambda budget=budget: budget.used, budget.total)  # type: ignore[misc]
    return metrics


def _make_own_folder(path: Path) -> None:
    """Makes the data folder for this user alone. One that others can enter is left as it is,
    since somebody may want that, and named in the log.

    :raises CannotStart: something else lies there, or it may not be made.
    """
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (FileExistsError, NotADirectoryError) as err:
        reason = f"{err.filename} is a file; the setting server.data (--data) names a folder"
        raise CannotStart(reason=reason) from err
    except OSError as err:
        raise CannotStart(reason=f"the data folder {path} cannot be made: {err.strerror}") from err
    if mode & 0o077:
        _log.warning("data.open_to_others", folder=str(path), mode=f"{mode:04o}", advice=_ADVICE)


async def prepare_database(settings: Settings) -> None:
    """Brings the schema to the newest revision, however long that takes.

    :raises CannotStart: it does not answer; says which and why.
    """
    await (await _open_database(settings)).close()


async def _open_database(settings: Settings) -> Database:
    """:raises CannotStart: it does not answer; says which and why."""
    url = settings.database_url
    try:
        return await open_database(url, pool_size=settings.database.pool_size)
    except DatabaseUnavailable as err:
        reason = f"the database {place_of(url)} cannot be used: {cause_of(err)}"
        raise CannotStart(reason=reason) from err


@contextlib.asynccontextmanager
async def listening(service: Service, *, sock: socket.socket | None = None) -> AsyncIterator[str]:
    """Takes requests while the block runs; gives the URL. ``sock`` listens already, if given.

    At the end running requests get the time that ``server.shutdown_s`` says.

    :raises CannotStart: the address cannot be listened on.
    """
    server = service.settings.server
    runner = make_runner(service.web, service.settings)
    await runner.setup()
    try:
        site: web.BaseSite = (
            web.TCPSite(runner, server.host, server.port)
            if sock is None
            else web.SockSite(runner, sock)
        )
        try:
            await site.start()
        except OSError as err:
            why = err.strerror or str(err)
            raise CannotStart(reason=f"{server.listen} cannot be listened on: {why}") from err
        yield _url(server.host, runner.addresses[0][1])
    finally:
        service.services.transfers.stop()
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _together(work: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Runs all of it; the first failure ends the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs ``work`` beside the block and ends it with the block; its failure is raised then."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(db: Database, process_id: str) -> None:
    """Says that the process is alive, for ever; a database that is away is asked again.

    :raises CannotStart: somebody has taken this process for dead. Its unfinished blocks may be
        gone, so it must not go on under this id.
    """
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        try:
            is_known = await db.transact(lambda tx: note_alive(tx, process_id))
        except DatabaseUnavailable:
            _log.warning("heartbeat.failed", process=process_id)
            continue
        if not is_known:
            raise CannotStart(reason=f"process {process_id} was taken for dead; start it again")


def keep_in(path: Path) -> Callable[[str], Coroutine[Any, Any, None]]:
    """What stores a token in the file ``path``, in place of what is there."""

    async def keep(secret: str) -> None:
        await asyncio.to_thread(_write_secret, path, secret)

    return keep


def _write_secret(path: Path, secret: str) -> None:
    """Writes ``secret`` durably, readable by its owner alone, never half."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
