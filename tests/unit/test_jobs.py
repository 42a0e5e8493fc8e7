"""Jobs: one of a kind at a time, seen by all, ended by whoever should, and never left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from filestore.acts import jobs as acts
from filestore.errors import Conflict, NotFound, StoreUnavailable, TooMany
from filestore.meta import jobs as jobs_of_db
from filestore.meta.jobs import Job
from filestore.meta.processes import SILENCE_S, end_process
from filestore.meta.tables import audit_log, events, jobs
from filestore.model import JobState
from filestore_gc import jobs as runner
from filestore_gc.jobs import Asked, Ended, Jobs, Kind, running_jobs
from filestore_gc.report import Problem
from tests.services.collecting import pass_time
from tests.services.hot_path import ACTOR, Process, Site


class Wishes(BaseModel):
    """What the kinds of these tests take."""

    number: int = 0


class Scene:
    """Kinds of work that do what the test says."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running: list[int] = []
        self.begun = asyncio.Event()
        self.most = 0

    async def wait(self, wishes: Wishes, asked: Asked) -> Ended:
        """Works until the gate opens."""
        self.running.append(wishes.number)
        self.most = max(self.most, len(self.running))
        asked.tell({"number": wishes.number})
        self.begun.set()
        try:
            await self.gate.wait()
        finally:
            self.running.remove(wishes.number)
        return Ended({"number": wishes.number})

    async def refuse(self, wishes: Wishes, asked: Asked) -> Ended:
        return Ended({"found": 1}, Problem("database-older", "it is older"))

    async def fail(self, wishes: Wishes, asked: Asked) -> Ended:
        raise StoreUnavailable(reason="it is away")

    async def crash(self, wishes: Wishes, asked: Asked) -> Ended:
        raise ZeroDivisionError

    @property
    def kinds(self) -> dict[str, Kind]:
        works = {"wait": self.wait, "refuse": self.refuse, "fail": self.fail, "crash": self.crash}
        return {name: Kind(Wishes, work) for name, work in works.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BEAT_S", 0.02)
    monkeypatch.setattr(runner, "POLL_S", 0.05)


@pytest.fixture
async def at(any_site: Site) -> Process:
    return await any_site.start()


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
async def running(at: Process, scene: Scene) -> AsyncIterator[Jobs]:
    async with running_jobs(at.db, at.id, scene.kinds) as made:
        yield made


async def _ask(at: Process, kind: str = "wait", number: int = 0) -> Job:
    return await acts.ask(at.db, ACTOR, kind, {"number": number})


async def _until(at: Process, job: Job, *states: JobState) -> Job:
    async with asyncio.timeout(10):
        while (found := await acts.show(at.db, job.id)).state not in states:
            continue
    return found


async def _log(at: Process) -> tuple[list[str], list[str]]:
    acts_done = await at.all(sa.select(audit_log.c.act).where(audit_log.c.act.startswith("job.")))
    told = await at.all(sa.select(events.c.kind).where(events.c.kind.startswith("job.")))
    return [row.act for row in acts_done], [row.kind for row in told]


async def test_a_job_is_done_and_says_how_far_it_is_and_what_it_came_to(
    at: Process, running: Jobs, scene: Scene
) -> None:
    job = await _ask(at, number=7)
    assert (job.state, job.parameters, job.process_id) == (JobState.QUEUED, {"number": 7}, None)
    running.wake()
    async with asyncio.timeout(10):
        while (seen := await acts.show(at.db, job.id)).progress is None:
            continue
    assert (seen.state, seen.progress, seen.process_id) == ("running", {"number": 7}, at.id)
    assert seen.started_at is not None and seen.seen_at is not None
    scene.gate.set()

    done = await _until(at, job, JobState.DONE)
    assert (done.report, done.error) == ({"number": 7}, None)
    assert done.ended_at is not None and done.ended_at >= seen.started_at
    assert await _log(at) == (["job.ask", "job.end"], ["job.asked", "job.ended"])


async def test_of_one_kind_one_runs_at_a_time_and_of_others_at_once(
    at: Process, running: Jobs, scene: Scene
) -> None:
    waiting = [await _ask(at, number=number) for number in range(3)]
    failing = await _ask(at, "fail")
    await _until(at, failing, JobState.FAILED)
    states = [(await acts.show(at.db, job.id)).state for job in waiting]
    assert states == [JobState.RUNNING, JobState.QUEUED, JobState.QUEUED]
    scene.gate.set()
    for job in waiting:
        await _until(at, job, JobState.DONE)
    assert scene.most == 1


@pytest.mark.parametrize(
    ("kind", "code", "report"),
    [
        ("refuse", "database-older", {"found": 1}),
        ("fail", "store-unavailable", None),
        ("crash", "internal", None),
    ],
)
async def test_a_job_that_does_not_end_well_says_why(
    at: Process, running: Jobs, kind: str, code: str, report: Any
) -> None:
    failed = await _until(at, await _ask(at, kind), JobState.FAILED)
    assert isinstance(failed.error, dict)
    assert (failed.error["code"], failed.report) == (code, report)


async def test_jobs_are_cancelled_while_they_wait_and_while_they_run(
    at: Process, running: Jobs, scene: Scene
) -> None:
    first, second = await _ask(at), await _ask(at)
    await _until(at, first, JobState.RUNNING)
    for job in (second, first):
        await acts.cancel(at.db, ACTOR, job.id)
        await acts.cancel(at.db, ACTOR, job.id)  # as when the first answer was lost
        await _until(at, job, JobState.CANCELLED)
    assert scene.running == []
    done = await _until(at, await _ask(at, "fail"), JobState.FAILED)
    with pytest.raises(Conflict):
        await acts.cancel(at.db, ACTOR, done.id)
    with pytest.raises(NotFound):
        await acts.cancel(at.db, ACTOR, "job_nothing")


async def test_a_job_ends_with_its_service_and_may_be_asked_again(
    at: Process, scene: Scene
) -> None:
    async with running_jobs(at.db, at.id, scene.kinds):
        job = await _ask(at)
        await _until(at, job, JobState.RUNNING)
    ended = await acts.show(at.db, job.id)
    assert ended.state is JobState.FAILED
    assert isinstance(ended.error, dict) and ended.error["code"] == "stopping"
    scene.gate.set()
    async with running_jobs(at.db, at.id, scene.kinds):
        await _until(at, await _ask(at), JobState.DONE)


async def test_a_job_that_was_taken_but_not_begun_ends_with_its_service_too(
    at: Process, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = asyncio.Event()
    take = jobs_of_db.take

    async def and_stall(*args: Any, **more: Any) -> Job | None:
        found = await take(*args, **more)
        if found is not None:
            taken.set()
            await asyncio.sleep(0)  # the end arrives here, before the transaction has ended
        return found

    monkeypatch.setattr(jobs_of_db, "take", and_stall)
    job = await _ask(at)
    async with running_jobs(at.db, at.id, scene.kinds):
        await taken.wait()
    ended = await acts.show(at.db, job.id)
    assert (ended.state, scene.running) in ((JobState.FAILED, []), (JobState.QUEUED, []))


async def test_a_job_of_a_dead_process_fails_and_the_next_of_its_kind_goes_on(
    any_site: Site, scene: Scene
) -> None:
    dead = await any_site.start()
    job = await _ask(dead)
    await dead.change(
        jobs.update().values(state="running", process_id=dead.id, started_at=1, seen_at=1)
    )
    await any_site.stop(dead)
    at = await any_site.start()
    await at.transact(end_process, dead.id)
    scene.gate.set()
    after = await _ask(at)
    async with running_jobs(at.db, at.id, scene.kinds):
        failed = await _until(at, job, JobState.FAILED)
        await _until(at, after, JobState.DONE)
    assert isinstance(failed.error, dict) and failed.error["code"] == "process-died"
    assert (await _log(at))[1].count("job.ended") == 2


@pytest.mark.needs("postgres")
async def test_a_process_that_was_taken_for_dead_stops_its_work_and_changes_nothing(
    postgres_site: Site, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = await postgres_site.start(), await postgres_site.start()
    monkeypatch.setattr(runner, "BEAT_S", 0.2)
    async with running_jobs(silent.db, silent.id, scene.kinds):
        job = await _ask(silent)
        await _until(silent, job, JobState.RUNNING)
        await scene.begun.wait()
        await pass_time(other, SILENCE_S + 1, of_processes=True)
        assert await other.transact(acts.fail_orphaned, other.id, alone=False) == [job.id]
        async with asyncio.timeout(10):
            while scene.running:
                await other.db.read(lambda tx: tx.scalar(sa.select(1)))
    assert (await acts.show(other.db, job.id)).state is JobState.FAILED


@pytest.mark.needs("postgres")
async def test_many_processes_do_each_job_once(postgres_site: Site, scene: Scene) -> None:
    processes = [await postgres_site.start() for _ in range(3)]
    asked = [await _ask(processes[0], number=number) for number in range(6)]
    scene.gate.set()
    async with contextlib.AsyncExitStack() as stack:
        for process in processes:
            await stack.enter_async_context(running_jobs(process.db, process.id, scene.kinds))
        for job in asked:
            await _until(processes[0], job, JobState.DONE)
    assert scene.most == 1
    assert (await _log(processes[0]))[0].count("job.end") == len(asked)


async def test_more_jobs_than_anybody_needs_are_refused(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "MAX_QUEUED", 2)
    for _ in range(2):
        await _ask(at)
    with pytest.raises(TooMany):
        await _ask(at)
