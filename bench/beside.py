"""What ``collecting.py`` runs beside each other: a collection, and small uploads by streams.

Each gets a database whose transactions are timed and a store that costs nothing. As a program
it does one task, given as JSON, in a process of its own, and prints what it measured.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.filling import (  # noqa: E402
    DOMAIN,
    FILE_SIZE,
    SMALL,
    USER,
    file_bytes,
    upload_group,
)
from bench.timing import Figures, TimedDatabase  # noqa: E402
from filestore.acts.uploads import Request  # noqa: E402
from filestore.blocks.backend import mark_name  # noqa: E402
from filestore.blocks.memory import MemoryStore  # noqa: E402
from filestore.blocks.port import BlockKey, Buffer, StoredObject  # noqa: E402
from filestore.cli.serving import leave_out_what_stays  # noqa: E402
from filestore.meta import fsck  # noqa: E402
from filestore.meta.database import Database, Tx, open_database  # noqa: E402
from filestore.meta.instance import find_instance  # noqa: E402
from filestore.meta.processes import insert_process, note_alive  # noqa: E402
from filestore.meta.tables import gc_queue  # noqa: E402
from filestore.model import Actor, BlockState, Protocol  # noqa: E402
from filestore.names import parse_name  # noqa: E402
from filestore.settings import Settings, load  # noqa: E402
from filestore.transfer.assembly import HotPath, running_hot_path  # noqa: E402
from filestore.transfer.claiming import Piece  # noqa: E402
from filestore_gc import Progress, make_collector, run_fsck, run_scrub  # noqa: E402
from filestore_gc.heal import key_of  # noqa: E402
from tests.services.hot_path import Body  # noqa: E402

T = TypeVar("T")

NO_LIMIT: Final = 1_000_000
"""Of what the settings ration, per second: the store is not what is measured."""
REST_S: Final = 0.02
"""Between two uploads of a stream: with none the figures are of two cores that are short."""
BEAT_S: Final = 10.0


@dataclass(frozen=True)
class Task:
    """``do``: some of collect, uploads, fsck, scrub; the first two run together."""

    url: str
    do: Sequence[str]
    seed: str
    files: tuple[int, int] = (0, 0)
    streams: int = 0
    seconds: float = 0


class NullStore(MemoryStore):
    """Keeps marks and no objects. What it is asked to read counts as read and right."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db

    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        pass

    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        return cast(T, None)  # scrub and fsck look at the error only

    async def remove(self, keys: Sequence[BlockKey]) -> None:
        pass

    async def domains(self) -> list[str]:
        return [DOMAIN]

    async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        """The objects that must be there, by the rows: so it costs reading these once more."""
        last = (b"", "")
        look = partial(fsck.block_page, domain_id=domain, limit=1000)
        while rows := await self._db.read(partial(look, after=last)):
            last = (rows[-1].hash, rows[-1].generation)
            for row in rows:
                if row.state is BlockState.LIVE:
                    yield StoredObject(key_of(row).path, row.stored_size or 0)


@dataclass
class Uploads:
    """Streams of small files, of which three in four are made of blocks that are being
    collected, and one of new ones."""

    hot: HotPath
    task: Task
    done: int = 0

    async def run(self, until: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            for stream in range(self.task.streams):
                tasks.create_task(self._stream(stream, until))

    async def _stream(self, stream: int, until: asyncio.Event) -> None:
        number = stream
        while not until.is_set():
            await self._upload(stream, number)
            number += self.task.streams
            await asyncio.sleep(REST_S)

    async def _upload(self, stream: int, number: int) -> None:
        first, end = self.task.files
        known = first + number * 7919 % (end - first)  # all over them, a prime apart
        data = file_bytes(self.task.seed, known if number // self.task.streams % 4 else -self._new)
        request = Request(
            upload_group(stream),
            DOMAIN,
            USER,
            Protocol.TUS,
            FILE_SIZE,
            name=parse_name(f"{os.getpid()} {number}"),
        )
        actor = Actor(USER, None, None)
        upload = await self.hot.transfers.begin(actor, request)
        await self.hot.transfers.append(actor, upload.id, Piece(0, Body(data)))
        self.done += 1

    @property
    def _new(self) -> int:
        """A number that no file had yet, in no run."""
        return time.time_ns()


@dataclass
class Course:
    """How uploads go: ``said`` at their end, of what came behind the last ``begin``."""

    timed: TimedDatabase
    said: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        self.timed.figures = Figures()


@contextlib.asynccontextmanager
async def uploading(task: Task, db: Database) -> AsyncIterator[Course]:
    """Uploads while the block runs."""
    timed, until = TimedDatabase(db), asyncio.Event()
    course = Course(timed)
    process_id = await db.transact(partial(insert_process, host="bench", pid=os.getpid()))
    settings, store = _settings(task), NullStore(db)
    async with running_hot_path(settings, timed, store, process_id, params=SMALL) as hot:
        uploads = Uploads(hot, task)
        running = asyncio.create_task(uploads.run(until))
        beat = asyncio.create_task(_beat(db, process_id))
        leave_out_what_stays()  # as the service does
        try:
            yield course
        finally:
            until.set()
            await running
            beat.cancel()
    course.said |= timed.figures.report() | {"uploads": uploads.done}


async def upload_for(task: Task, db: Database) -> dict[str, Any]:
    """The figures of uploads beside nothing else."""
    async with uploading(task, db) as course:
        await asyncio.sleep(task.seconds / 2)
        course.begin()
        await asyncio.sleep(task.seconds)
    return course.said


async def collect(task: Task, timed: TimedDatabase, begin: Callable[[], None]) -> dict[str, Any]:
    """One collection with the settings of a service, except that nothing is rationed.

    A small one goes before it, so that statements are compiled and pages are in memory.
    """
    process_id = await timed.transact(partial(insert_process, host="bench", pid=os.getpid()))
    collector = make_collector(_settings(task), timed, await _marked(timed), process_id)
    await collector.run_once(grace_s=0)
    await timed.transact(_let_all_be_due)
    begin()
    timed.figures = Figures()
    before, began, cpu = _peak(), time.perf_counter(), time.process_time()
    report = await collector.run_once(grace_s=0)
    seconds = time.perf_counter() - began
    if not report.result.is_good or report.alarms or report.failed:
        raise RuntimeError(json.dumps(report.to_json()))
    return timed.figures.report() | {
        "freed": report.blocks,
        "removed_rows": report.removed_rows,
        "seconds": round(seconds, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "memory_mib": {"before": before, "peak": _peak()},
    }


async def _let_all_be_due(tx: Tx) -> None:
    await tx.execute(sa.update(gc_queue).values(queued_at=0))


async def check(task: Task, db: Database) -> dict[str, Any]:
    """A whole fsck; the objects are listed from the rows."""
    steps: dict[int, float] = {}
    peaks: dict[int, float] = {}
    began = time.perf_counter()

    def tell(news: dict[str, int]) -> None:
        steps.setdefault(news["step"], time.perf_counter() - began)
        peaks.setdefault(news["step"], _peak())

    run = await run_fsck(db, await _marked(db), _settings(task), progress=tell)
    if not run.is_good:
        raise RuntimeError(run.to_text())
    return {
        "blocks": run.after.blocks,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_s": round(time.process_time(), 1),
        "objects_s": round(steps[1], 1),
        "memory_mib": {"before": peaks[0], "objects": peaks[1], "peak": _peak()},
    }


async def scrub(task: Task, db: Database) -> dict[str, Any]:
    """A scrub for so many seconds of reading; what comes before the first read is timed apart."""
    seen: list[tuple[float, int, float]] = []

    def tell(news: dict[str, int]) -> None:
        seen.append((time.perf_counter(), news["blocks"], _peak()))
        if seen[-1][0] - seen[0][0] > task.seconds:
            asyncio.get_running_loop().call_soon(running.cancel)

    timed = TimedDatabase(db)
    store, began = await _marked(db), time.perf_counter()
    running = asyncio.create_task(_scrub(timed, store, _settings(task), tell))
    with contextlib.suppress(asyncio.CancelledError):
        await running
    (first, _, before), (last, blocks, peak) = seen[0], seen[-1]
    return {
        "head_s": round(first - began, 1),
        "blocks": blocks,
        "blocks_per_s": round(blocks / (last - first)),
        "max_held_ms": timed.figures.report()["max_held_ms"],
        "memory_mib": {"before": before, "peak": peak},
    }


async def _scrub(db: Database, store: NullStore, settings: Settings, tell: Progress) -> None:
    await run_scrub(db, store, settings, bytes_per_s=2**60, progress=tell)


async def _marked(db: Database) -> NullStore:
    """A store that says that it is the database's."""
    store, found = NullStore(db), await db.read(find_instance)
    assert found is not None
    store.marks.append(mark_name(found.store_id, found.epoch))
    return store


async def _beat(db: Database, process_id: str) -> None:
    """Shows that the process lives, as the service does; else its blocks are taken for dead."""
    while True:
        await asyncio.sleep(BEAT_S)
        await db.transact(partial(note_alive, process_id=process_id))


def _settings(task: Task) -> Settings:
    flags = {"data": tempfile.gettempdir(), "database": task.url, "gc.removals_per_s": NO_LIMIT}
    return load(environ={}, flags=flags)


def _peak() -> float:
    """MiB of memory that this process has had at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 1024, 1)


async def run(task: Task) -> dict[str, Any]:
    """Everything that the task names, and what each said."""
    db = await open_database(task.url)
    try:
        if "collect" in task.do:
            collector = TimedDatabase(db)
            if "uploads" not in task.do:
                return {"collect": await collect(task, collector, _say_begin)}
            async with uploading(task, db) as course:
                collected = await collect(task, collector, course.begin)
            course.said |= course.timed.figures.behind(collector.figures)
            return {"collect": collected, "uploads": course.said}
        (name,) = task.do
        return {name: await {"uploads": upload_for, "fsck": check, "scrub": scrub}[name](task, db)}
    finally:
        await db.close()


def _say_begin() -> None:
    print("{}", flush=True)


async def run_apart(task: Task, begin: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The same in a process of its own. ``begin``: called when it is warm."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, json.dumps(asdict(task)), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    found: dict[str, Any] = {}
    while line := await child.stdout.readline():
        found = json.loads(line)
        if not found:
            begin()
    if await child.wait():
        raise RuntimeError(f"{', '.join(task.do)} failed; its error is above")
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Task(**json.loads(sys.argv[1]))))))
