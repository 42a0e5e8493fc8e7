"""Jobs: long work that somebody asked for, done by any process, seen by all.

Of one kind one runs at a time, which an index sees to. A running job is its process's: every
change of it names the process, and zero rows mean that the job was taken from it, because it
was dead to the others.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.errors import Json
from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.processes import is_alive
from filestore.meta.tables import jobs, now_us, processes
from filestore.model import Actor, JobState


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times in microseconds; ``seen_at``: the last sign of life of its process."""

    id: str
    kind: str
    state: JobState
    parameters: dict[str, Json]
    progress: Json
    report: Json
    error: Json
    actor: Actor
    process_id: str | None
    created_at: int
    started_at: int | None
    seen_at: int | None
    cancelled_at: int | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended. ``error``: a code and a sentence, when it did not end well."""

    state: JobState
    report: Json = None
    error: Json = None


async def insert(tx: Tx, kind: str, parameters: dict[str, Json], actor: Actor) -> Job:
    """A new job, queued."""
    row = await tx.execute(
        jobs.insert()
        .values(
            id=new_id("job"),
            kind=kind,
            state=JobState.QUEUED,
            parameters=_dump(parameters),
            actor_id=actor.user_id,
            token_id=actor.token_id,
            request_id=actor.request_id,
        )
        .returning(jobs)
    )
    return _job(row.one())


async def count_queued(tx: Tx) -> int:
    query = sa.select(sa.func.count()).where(jobs.c.state == JobState.QUEUED)
    return await tx.scalar(query) or 0


async def find(tx: Tx, job_id: str, *, lock: bool = False) -> Job | None:
    """The job; its row locked FOR UPDATE on request."""
    query = sa.select(jobs).where(jobs.c.id == job_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _job(row)


async def newest(tx: Tx, *, before: tuple[int, str] | None, limit: int) -> list[Job]:
    """Jobs, the newest first, without their reports; ``before``: time and id of the last seen."""
    columns = [column for column in jobs.c if column is not jobs.c.report]
    query = sa.select(*columns, sa.null().label("report"))
    if before is not None:
        query = query.where(sa.tuple_(jobs.c.created_at, jobs.c.id) < sa.tuple_(*before))
    rows = await tx.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit))
    return [_job(row) for row in rows]


async def has_open(tx: Tx) -> bool:
    """Whether any job is queued or running."""
    return bool(await tx.scalar(sa.select(sa.exists().where(_is_open()))))


async def take(tx: Tx, kinds: Collection[str], process_id: str) -> Job | None:
    """The oldest queued job whose kind is not at work, running in this process from now on.

    :raises IntegrityError: ``uq_jobs_running``: another process took one of its kind just now.
    """
    busy = sa.select(jobs.c.kind).where(jobs.c.state == JobState.RUNNING)
    oldest = (
        sa.select(jobs.c.id)
        .where(jobs.c.state == JobState.QUEUED, jobs.c.kind.in_(kinds), jobs.c.kind.not_in(busy))
        .order_by(jobs.c.created_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = await tx.scalar(oldest)
    if job_id is None:
        return None
    row = await tx.execute(
        jobs.update()
        .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING, process_id=process_id, started_at=now_us(), seen_at=now_us()
        )
        .returning(jobs)
    )
    return _job(row.one())


async def beat(tx: Tx, job_id: str, process_id: str, progress: Json) -> Job | None:
    """Says that the job is at work and how far; None when it is no longer this process's."""
    row = await tx.execute(
        jobs.update()
        .where(_is_mine(job_id, process_id))
        .values(seen_at=now_us(), progress=_dump(progress))
        .returning(jobs)
    )
    found = row.one_or_none()
    return None if found is None else _job(found)


async def finish(tx: Tx, job: Job, process_id: str, end: End, *, progress: Json) -> bool:
    """Ends this process's job; False when it is not that any more."""
    last = {"seen_at": now_us(), "progress": _dump(progress)}
    done = await tx.execute(
        jobs.update().where(_is_mine(job.id, process_id)).values(_ended(end) | last)
    )
    return done.rowcount == 1


async def cancel(tx: Tx, job: Job) -> None:
    """Ends a locked job that is queued; asks the process of a running one to end it."""
    change: dict[str, Any] = {"cancelled_at": now_us()}
    if job.state is JobState.QUEUED:
        change |= _ended(End(JobState.CANCELLED))
    await tx.execute(jobs.update().where(jobs.c.id == job.id).values(change))


async def fail_orphaned(tx: Tx, process_id: str, end: End, *, alone: bool) -> list[Job]:
    """Ends the running jobs of dead processes: of all but this one when that is ``alone``."""
    living = sa.select(processes.c.id).where(is_alive())
    is_dead = sa.true() if alone else jobs.c.process_id.not_in(living)
    return await _fail(tx, sa.and_(jobs.c.process_id != process_id, is_dead), end)


async def fail_own(
    tx: Tx, process_id: str, end: End, *, besides: Collection[str] = ()
) -> list[Job]:
    """Ends the running jobs of a process ``besides`` these."""
    is_own = sa.and_(jobs.c.process_id == process_id, jobs.c.id.not_in(besides))
    return await _fail(tx, is_own, end)


async def _fail(tx: Tx, which: sa.ColumnElement[bool], end: End) -> list[Job]:
    running = jobs.update().where(jobs.c.state == JobState.RUNNING, which)
    rows = await tx.execute(running.values(_ended(end)).returning(jobs))
    return [_job(row) for row in rows]


async def forget_ended(tx: Tx, before: sa.ColumnElement[int] | int, limit: int) -> int:
    """Removes jobs that ended before a moment (microseconds), with their reports; how many.

    Oldest first, at most ``limit``. The audit log keeps that they were asked for and how they
    ended.
    """
    ended = (
        sa.select(jobs.c.id).where(jobs.c.ended_at < before).order_by(jobs.c.ended_at).limit(limit)
    )
    done = await tx.execute(sa.delete(jobs).where(jobs.c.id.in_(ended)))
    return done.rowcount


def _is_open() -> sa.ColumnElement[bool]:
    return jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])


def _is_mine(job_id: str, process_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        jobs.c.id == job_id, jobs.c.process_id == process_id, jobs.c.state == JobState.RUNNING
    )


def _ended(end: End) -> dict[str, Any]:
    return {
        "state": end.state,
        "report": _dump(end.report),
        "error": _dump(end.error),
        "ended_at": now_us(),
    }


def _dump(value: Json) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _load(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _job(row: Any) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        state=JobState(row.state),
        parameters=_load(row.parameters),
        progress=_load(row.progress),
        report=_load(row.report),
        error=_load(row.error),
        actor=Actor(row.actor_id, row.token_id, row.request_id),
        process_id=row.process_id,
        created_at=row.created_at,
        started_at=row.started_at,
        seen_at=row.seen_at,
        cancelled_at=row.cancelled_at,
        ended_at=row.ended_at,
    )
