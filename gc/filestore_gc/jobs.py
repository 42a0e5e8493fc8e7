"""Runs the jobs that are asked for: one of a kind at a time, over all processes.

    async with running_jobs(db, process_id, kinds) as jobs:
        jobs.wake()

A job at work shows signs of life and how far it is. It ends early when somebody cancels it or
the service stops; one whose process died is marked failed by whoever looks next, and may be
asked for again. Kinds of work are safe to break off anywhere.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from filestore.acts import jobs as acts
from filestore.errors import DatabaseUnavailable, FilestoreError, Json
from filestore.meta import jobs
from filestore.meta.database import Database, Tx
from filestore.meta.jobs import End, Job
from filestore.model import Actor, JobState
from filestore_gc.report import Problem
from filestore_gc.stopping import STOP_S
from filestore_gc.stopping import end as end_task

POLL_S: Final = 2.0
"""How often a process looks for what was asked of another one."""
BEAT_S: Final = 1.0
"""How often a job at work says how far it is, and hears that it is cancelled."""
FINISH_S: Final = 5.0
"""How long to try to record the end of a job."""

_STOPPED: Final = End(
    JobState.FAILED, error={"code": "stopping", "detail": "The service stopped. Ask again."}
)

_UNBEGUN: Final = End(
    JobState.FAILED,
    error={"code": "stopping", "detail": "It was taken and could not be begun. Ask again."},
)

_log: Final = structlog.get_logger("filestore.jobs")


@dataclass(slots=True)
class Asked:
    """What a kind of work is told of its job. ``tell`` is cheap; only the last word is kept."""

    actor: Actor
    progress: Json = None

    def tell(self, progress: Json) -> None:
        self.progress = progress


@dataclass(frozen=True, slots=True)
class Ended:
    """What a kind of work comes to. With a ``problem`` its job has failed."""

    report: Json
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work: what may be asked with it (a model that forbids the rest), and doing it."""

    parameters: type[BaseModel]
    work: Callable[[Any, Asked], Awaitable[Ended]]


class Jobs:
    """The jobs that this process can do, and does."""

    def __init__(self, db: Database, process_id: str, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self._db = db
        self._process_id = process_id
        self._woken = asyncio.Event()
        self._at_work: set[str] = set()
        self._may_have_taken = False

    def __repr__(self) -> str:
        return f"<Jobs of {self._process_id}, {len(self._at_work)} at work>"

    def wake(self) -> None:
        """There is something to do: looks at once."""
        self._woken.set()

    async def run_forever(self) -> None:
        """Takes what is asked for and does it, until it is cancelled; then that breaks off."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    try:
                        await self._take_all(tasks)
                    except FilestoreError as err:
                        _log.warning("jobs.failed", error=str(err))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._woken.wait()
                    self._woken.clear()
        finally:
            if self._may_have_taken:
                await self._fail_unbegun()

    async def _take_all(self, tasks: asyncio.TaskGroup) -> None:
        if self._may_have_taken:
            await self._fail_unbegun()
        if not await self._db.read(jobs.has_open):
            return
        alone = self._db.is_sqlite
        orphans = partial(acts.fail_orphaned, process_id=self._process_id, alone=alone)
        for job_id in await self._db.transact(orphans):
            _log.warning("job.process_died", job=job_id)
        while (job := await self._take()) is not None:
            tasks.create_task(self._do(job))
            await asyncio.sleep(0)  # it has begun, and ends whatever comes

    async def _take(self) -> Job | None:
        act = partial(jobs.take, kinds=tuple(self.kinds), process_id=self._process_id)
        self._may_have_taken = True  # until the outcome is known
        try:
            job = await self._db.transact(act)
        except IntegrityError:
            job = None  # another process was first; it is looked for again soon
        self._may_have_taken = False
        return job

    async def _do(self, job: Job) -> None:
        asked = Asked(job.actor)
        self._at_work.add(job.id)
        work = asyncio.create_task(self._work(job, asked))
        beat = asyncio.create_task(self._beat(job, asked, work))
        found = _STOPPED
        try:
            await asyncio.wait({work})
            found = End(JobState.CANCELLED) if work.cancelled() else work.result()
        finally:
            await end_task(beat)
            await end_task(work)
            await self._finish(job, found, asked.progress)
            self._at_work.discard(job.id)
            self.wake()

    async def _finish(self, job: Job, found: End, progress: Json) -> None:
        act = partial(acts.finish, job=job, process_id=self._process_id, end=found)
        await self._record(partial(act, progress=progress), job=job.id)

    async def _fail_unbegun(self) -> None:
        """Ends what was taken and not begun: the answer was lost, or the end came between."""
        act = partial(acts.fail_own, process_id=self._process_id, end=_UNBEGUN)
        if await self._record(partial(act, besides=tuple(self._at_work))):
            self._may_have_taken = False

    async def _record(self, act: Callable[[Tx], Awaitable[object]], **of: str) -> bool:
        """Records how something ended. If that fails, it is an orphan when this process ends."""
        try:
            async with asyncio.timeout(FINISH_S):
                await self._db.transact(act)
        except (DatabaseUnavailable, TimeoutError) as err:
            _log.warning("job.end_not_recorded", **of, error=str(err))
            return False
        return True

    async def _work(self, job: Job, asked: Asked) -> End:
        _log.info("job.begins", job=job.id, kind=job.kind)
        kind = self.kinds[job.kind]
        try:
            ended = await kind.work(kind.parameters.model_validate(job.parameters), asked)
        except FilestoreError as err:
            return End(JobState.FAILED, error=_error(err.code, str(err)))
        except Exception:
            _log.exception("job.crashed", job=job.id)
            return End(JobState.FAILED, error=_error("internal", "It crashed; see the log."))
        if ended.problem is None:
            return End(JobState.DONE, ended.report)
        error = _error(ended.problem.code, ended.problem.reason)
        return End(JobState.FAILED, ended.report, error)

    async def _beat(self, job: Job, asked: Asked, work: asyncio.Task[End]) -> None:
        """Shows signs of life; ends the work when it is cancelled or no longer this process's."""
        while True:
            await asyncio.sleep(BEAT_S)
            act = partial(jobs.beat, job_id=job.id, process_id=self._process_id)
            try:
                seen = await self._db.transact(partial(act, progress=asked.progress))
            except DatabaseUnavailable:
                continue
            if seen is None or seen.cancelled_at is not None:
                work.cancel()
                return


@contextlib.asynccontextmanager
async def running_jobs(
    db: Database, process_id: str, kinds: Mapping[str, Kind]
) -> AsyncIterator[Jobs]:
    """Does what is asked for while the block runs; what is at work at its end fails."""
    made = Jobs(db, process_id, kinds)
    background = asyncio.create_task(made.run_forever())
    try:
        yield made
    finally:
        await end_task(background, within_s=2 * STOP_S + FINISH_S)


def _error(code: str, detail: str) -> Json:
    return {"code": code, "detail": detail}
