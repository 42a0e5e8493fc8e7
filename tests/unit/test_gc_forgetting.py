"""What ended long ago is forgotten: rows of uploads and of jobs, and nothing else."""

import sqlalchemy as sa

from filestore.acts import jobs as acts
from filestore.meta import jobs as queries
from filestore.meta.tables import jobs, uploads
from filestore.model import JobState
from filestore_gc.collector import make_collector
from tests.services.collecting import DAY_S, start
from tests.services.damage import read_file
from tests.services.hot_path import ACTOR, Process, Site, random_bytes


async def _ended_job(process: Process) -> str:
    job = await acts.ask(process.db, ACTOR, "gc", {})
    taken = await process.transact(queries.take, ["gc"], process.id)
    assert taken is not None and taken.id == job.id
    end = queries.End(JobState.DONE, {"result": "done"})
    await process.transact(acts.finish, taken, process.id, end, progress=None)
    return job.id


async def test_a_collection_forgets_what_ended_before_the_time_that_the_settings_say(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = random_bytes(5000)
    await process.upload(data, "a")
    running = await process.begin(5, "running")
    old, young = await _ended_job(process), await _ended_job(process)
    waiting = await acts.ask(process.db, ACTOR, "gc", {})
    settings = any_site.settings
    uploads_us, jobs_us = settings.uploads.keep_ended_s * 10**6, settings.jobs.keep_s * 10**6
    day_us = DAY_S * 10**6

    async def pass_time(upload_us: int, job_us: int) -> tuple[set[str], set[str]]:
        """What is left after a collection, when things are so much older."""
        changed, ended = uploads.c.changed_at, jobs.c.ended_at
        await process.change(sa.update(uploads).values(changed_at=changed - upload_us))
        late = sa.update(jobs).where(jobs.c.id == old)
        await process.change(late.values(ended_at=ended - job_us))
        collector = make_collector(settings, process.db, process.store, process.id)
        assert (await collector.run_once()).problem is None
        left = [await process.all(sa.select(table.c.id)) for table in (uploads, jobs)]
        return {row.id for row in left[0]}, {row.id for row in left[1]}

    kept = await pass_time(uploads_us - day_us, jobs_us - day_us)
    assert (len(kept[0]), kept[1]) == (2, {old, young, waiting.id})
    kept = await pass_time(2 * day_us, 2 * day_us)
    assert kept == ({running.id}, {young, waiting.id})
    assert await read_file(process, "a") == data
    await process.check_books()
