"""Acts on jobs: ask for one, look, cancel, and what is written when one ends."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Final

from filestore.errors import Conflict, Json, NotFound, TooMany
from filestore.meta import jobs
from filestore.meta.database import Database, Tx
from filestore.meta.jobs import End, Job
from filestore.meta.log import audit, emit
from filestore.model import Actor, JobState

MAX_QUEUED: Final = 100
"""Jobs that wait at once: what people ask for fits; a script in a loop does not."""

_DEAD: Final = End(
    JobState.FAILED,
    error={"code": "process-died", "detail": "The process died that was at work on it. Ask again."},
)


async def ask(db: Database, actor: Actor, kind: str, parameters: dict[str, Json]) -> Job:
    """A new job of a known kind, queued.

    :raises TooMany: too many wait already.
    """

    async def act(tx: Tx) -> Job:
        if await jobs.count_queued(tx) >= MAX_QUEUED:
            raise TooMany(what="jobs that wait", limit=MAX_QUEUED, retry_after_s=60)
        job = await jobs.insert(tx, kind, parameters, actor)
        asked: dict[str, Json] = {"kind": kind, "parameters": parameters}
        await audit(tx, actor, "job.ask", target=job.id, after=asked)
        await emit(tx, "job.asked", {"job": job.id, **asked})
        return job

    return await db.transact(act)


async def show(db: Database, job_id: str) -> Job:
    """:raises NotFound: there is no such job."""
    job = await db.read(partial(jobs.find, job_id=job_id))
    if job is None:
        raise NotFound(what="job")
    return job


async def cancel(db: Database, actor: Actor, job_id: str) -> None:
    """Ends a job that waits; asks one at work to end, which takes a moment. Safe to repeat.

    :raises NotFound: there is no such job.
    :raises Conflict: it has ended already.
    """

    async def act(tx: Tx) -> None:
        job = await jobs.find(tx, job_id, lock=True)
        if job is None:
            raise NotFound(what="job")
        if job.cancelled_at is not None:
            return
        if job.state.is_over:
            raise Conflict(what="the end of the job", reason=f"it is {job.state} already")
        await jobs.cancel(tx, job)
        await audit(tx, actor, "job.cancel", target=job.id, before=job.state)
        if job.state is JobState.QUEUED:
            await _tell(tx, job, JobState.CANCELLED)

    await db.transact(act)


async def finish(tx: Tx, job: Job, process_id: str, end: End, *, progress: Json) -> None:
    """Records how a job of this process ended, unless it was taken from it."""
    if await jobs.finish(tx, job, process_id, end, progress=progress):
        await audit(tx, job.actor, "job.end", target=job.id, after=_said(end))
        await _tell(tx, job, end.state)


async def fail_orphaned(tx: Tx, process_id: str, *, alone: bool) -> list[str]:
    """Jobs of dead processes fail, so that they can be asked for again; their ids."""
    found = await jobs.fail_orphaned(tx, process_id, _DEAD, alone=alone)
    await _note(tx, found, _DEAD)
    return [job.id for job in found]


async def fail_own(tx: Tx, process_id: str, end: End, *, besides: Collection[str] = ()) -> None:
    """The jobs that a process has taken and that did not end, end now, ``besides`` these."""
    await _note(tx, await jobs.fail_own(tx, process_id, end, besides=besides), end)


async def _note(tx: Tx, ended: Iterable[Job], end: End) -> None:
    for job in ended:
        await audit(tx, job.actor, "job.end", target=job.id, after=_said(end))
        await _tell(tx, job, end.state)


async def _tell(tx: Tx, job: Job, state: JobState) -> None:
    await emit(tx, "job.ended", {"job": job.id, "kind": job.kind, "state": state.value})


def _said(end: End) -> Json:
    """What the audit log keeps: the report is with the job."""
    return {"state": end.state.value, "error": end.error}
