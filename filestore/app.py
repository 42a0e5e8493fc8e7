"""The composition root: from settings to a running service, and back down in reverse order."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from filestore.acts.begin import begin
from filestore.blocks.backend import Backend
from filestore.blocks.gated import GatedStore
from filestore.blocks.open import guard_store, make_store
from filestore.blocks.retrying import RetryPolicy
from filestore.errors import CannotStart, DatabaseUnavailable, StoreUnavailable
from filestore.http.application import make_application
from filestore.http.call import Services
from filestore.http.connection import make_runner
from filestore.meta.database import Database, open_database
from filestore.meta.instance import Instance, has_live_blocks
from filestore.meta.processes import (
    end_process,
    insert_process,
    living_processes,
    note_alive,
)
from filestore.settings import Settings
from filestore.telemetry import Metrics
from filestore.transfer.assembly import running_hot_path

HEARTBEAT_S: Final = 10.0
"""How often a process says that it is alive."""

SILENCE_S: Final = 60.0
"""After how long without a heartbeat a process counts as dead: five beats may be lost."""

ATTACH_S: Final = 5.0
"""How long to wait before a store that did not answer at the start is tried again."""

ADMIN_TOKEN: Final = "admin.token"  # noqa: S105  (a file's name)

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

    :raises CannotStart: a file is in use, the store belongs to another database, …
    :raises BadSetting: what a setting names is not possible.
    :raises DatabaseUnavailable: safe to retry.

    A store that does not answer yet keeps nobody from starting: ``/readyz`` says so, requests
    for bytes get 503, and it is tried again until it is there.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings.server.data.mkdir(parents=True, exist_ok=True)
        db = await open_database(settings.database_url, pool_size=settings.database.pool_size)
        stack.push_async_callback(db.close)
        instance = await begin(db, _keeper(settings.server.data / ADMIN_TOKEN))
        process_id = await db.transact(
            lambda tx: insert_process(tx, host=socket.gethostname(), pid=os.getpid())
        )
        stack.push_async_callback(_leave, db, process_id)
        store = GatedStore(_make_store(stack, settings, process_id))
        attach = partial(_attach, db, store, instance)
        is_attached = await _is_done(attach, store)
        hot = await stack.enter_async_context(running_hot_path(settings, db, store, process_id))
        services = Services(
            settings=settings,
            db=db,
            metrics=Metrics(),
            store=store,
            transfers=hot.transfers,
            egress=hot.egress,
        )
        work = [partial(_beat, db, process_id)]
        if not is_attached:
            work.append(partial(_attach_later, attach, store))
        background = await stack.enter_async_context(_running(_together(work)))
        yield Service(settings, services, make_application(services), process_id, background)


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


def _make_store(stack: contextlib.AsyncExitStack, settings: Settings, process_id: str) -> Backend:
    """The block store that the settings name, not open yet, with bounds and patience."""
    threads = ThreadPoolExecutor(settings.transfer.threads, thread_name_prefix="filestore-store")
    stack.callback(threads.shutdown)
    access, secret = settings.s3.access_key, settings.s3.secret_key
    plain = make_store(
        settings.blocks_url,
        process_id=process_id,
        threads=threads,
        access_key=None if access is None else access.get_secret_value(),
        secret_key=None if secret is None else secret.get_secret_value(),
        connections=settings.blocks.max_puts + settings.blocks.max_gets,
        timeout_s=settings.blocks.request_timeout_s,
        reserve=settings.blocks.free_reserve_bytes,
    )
    stack.push_async_callback(plain.close)
    return guard_store(
        plain,
        max_puts=settings.blocks.max_puts,
        max_gets=settings.blocks.max_gets,
        policy=RetryPolicy(attempts=settings.blocks.retries + 1),
    )


async def _attach(db: Database, store: GatedStore, instance: Instance) -> None:
    """Opens the store, makes sure that it is this database's, and lets requests through.

    :raises CannotStart: it is another's.
    :raises StoreUnavailable: it does not answer. Safe to retry.
    """
    await store.open()
    await _tie(db, store, instance)
    alive = await db.read(partial(living_processes, silent_s=SILENCE_S))
    await store.sweep(alive.__contains__)
    store.admit()


async def _is_done(attach: Callable[[], Awaitable[None]], store: GatedStore) -> bool:
    try:
        await attach()
    except StoreUnavailable as err:
        _log.error("store.unreachable", store=repr(store), reason=str(err), again_in_s=ATTACH_S)
        return False
    return True


async def _attach_later(attach: Callable[[], Awaitable[None]], store: GatedStore) -> None:
    """Tries until the store is there.

    :raises CannotStart: it came up, and is another database's.
    """
    is_done = False
    while not is_done:
        await asyncio.sleep(ATTACH_S)
        is_done = await _is_done(attach, store)
    _log.info("store.reached", store=repr(store))


async def _together(work: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Runs all of it; the first failure ends the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _tie(db: Database, store: GatedStore, instance: Instance) -> None:
    """Makes sure that store and database belong together.

    :raises CannotStart: the store carries another database's mark, or none where it must hold
        blocks: an unmounted disk, or the wrong folder or bucket.
    """
    mark = await store.read_identity()
    if mark is None:
        if await db.read(has_live_blocks):
            raise CannotStart(
                reason=f"the block store {store!r} carries no mark of a filestore, but the"
                " database has blocks in it; is it the right one, and mounted?"
            )
        await store.write_identity(instance.store_id, instance.epoch)
    elif mark[0] != instance.store_id:
        raise CannotStart(
            reason=f"the block store {store!r} belongs to another database ({mark[0]}, this"
            f" one has {instance.store_id})"
        )


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


async def _leave(db: Database, process_id: str) -> None:
    """Says good-bye. Without it the others wait for the silence, so failing is no harm."""
    with contextlib.suppress(DatabaseUnavailable):
        await db.transact(lambda tx: end_process(tx, process_id))


def _keeper(path: Path) -> Callable[[str], Coroutine[Any, Any, None]]:
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
