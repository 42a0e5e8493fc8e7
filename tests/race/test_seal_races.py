"""Sealers and writers at once on PostgreSQL: nobody waits, and nothing slips below a seal."""

import asyncio

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import groups, journal_seals, quota_journal
from filestore.quota.sealing import seal_next
from filestore.quota.verifying import verify_journal
from filestore_gc.sealer import Sealer
from tests.services.hot_path import GROUP, Process, Site, add_group
from tests.services.journals import write_rows

OTHER = "grp_other"


async def last_seals(process: Process) -> list[tuple[int, int]]:
    query = sa.select(journal_seals.c.first_seq, journal_seals.c.last_seq).where(
        journal_seals.c.group_id == GROUP
    )
    rows = await process.all(query.order_by(journal_seals.c.last_seq))
    return [(row.first_seq, row.last_seq) for row in rows]


async def test_a_row_that_commits_late_is_sealed_later_and_its_writer_keeps_nobody_waiting(
    postgres_site: Site,
) -> None:
    """The writer holds the group's row, has written its row, and has not committed."""
    process = await postgres_site.start()
    await write_rows(process, 5)
    has_written, may_commit = asyncio.Event(), asyncio.Event()

    async def late(tx: Tx) -> None:
        row = await tx.execute(
            groups.update()
            .where(groups.c.id == GROUP)
            .values(used=groups.c.used + 7, journal_seq=groups.c.journal_seq + 1)
            .returning(groups)
        )
        group = row.one()
        await tx.execute(
            quota_journal.insert().values(
                group_id=GROUP, seq=group.journal_seq, cause="charge", delta_used=7,
                delta_reserved=0, used_after=group.used, reserved_after=group.reserved,
                files_after=group.files, reserved_files_after=group.reserved_files,
            )
        )  # fmt: skip
        has_written.set()
        await may_commit.wait()

    writing = asyncio.create_task(process.db.transact(late))
    await has_written.wait()
    next_writer = asyncio.create_task(write_rows(process, 3))
    async with asyncio.timeout(20):
        sealed = await seal_next(process.db, GROUP, limit=100)
    assert sealed is not None and sealed.last_seq == 5
    assert await seal_next(process.db, GROUP, limit=100) is None
    may_commit.set()
    await asyncio.gather(writing, next_writer)
    assert await seal_next(process.db, GROUP, limit=100) is not None
    assert await last_seals(process) == [(1, 5), (6, 9)]
    assert (await verify_journal(process.db, process.store)).is_good


async def test_a_seal_under_way_keeps_no_writer_waiting(postgres_site: Site) -> None:
    """The seal is written and not committed when rows of its group come."""
    process = await postgres_site.start()
    await write_rows(process, 5)
    sealed = await seal_next(process.db, GROUP, limit=3)
    assert sealed is not None
    has_written, may_commit = asyncio.Event(), asyncio.Event()

    async def under_way(tx: Tx) -> None:
        values = {"first_seq": 4, "last_seq": 5, "previous": sealed.head, "head": bytes(32)}
        await tx.execute(journal_seals.insert().values(group_id=GROUP, **values))
        has_written.set()
        await may_commit.wait()
        raise TimeoutError

    sealing = asyncio.create_task(process.db.transact(under_way))
    await has_written.wait()
    async with asyncio.timeout(20):
        await write_rows(process, 3)
    other = asyncio.create_task(seal_next(process.db, GROUP, limit=100))
    may_commit.set()
    await asyncio.gather(sealing, return_exceptions=True)
    assert (await other) is not None, "the other one was rolled back"
    assert await last_seals(process) == [(1, 3), (4, 8)]
    assert (await verify_journal(process.db, process.store)).is_good


async def test_sealers_of_two_processes_and_writers_make_one_chain(postgres_site: Site) -> None:
    first, second = await postgres_site.start(), await postgres_site.start()
    await first.transact(add_group, OTHER)
    is_over = asyncio.Event()

    async def write(process: Process, group: str) -> None:
        for number in range(25):
            await write_rows(process, 1 + number % 3, group=group, seed=number)

    async def seal(process: Process) -> None:
        section = postgres_site.settings.journal.model_copy(update={"seal_rows": 4})
        settings = postgres_site.settings.model_copy(update={"journal": section})
        sealer = Sealer(process.db, process.store, process.id, settings)
        while not is_over.is_set():
            await sealer.run_if_due()
            for group in (GROUP, OTHER):  # beside the lease, as one that was taken for dead
                await seal_next(process.db, group, limit=4)

    async def verify() -> None:
        while not is_over.is_set():
            report = await verify_journal(second.db, second.store)
            assert report.is_good, report

    async with asyncio.TaskGroup() as tasks:
        for process in (first, second):
            tasks.create_task(seal(process))
        tasks.create_task(verify())
        writers = [
            tasks.create_task(write(process, group))
            for process in (first, second)
            for group in (GROUP, OTHER)
        ]
        await asyncio.wait(writers)
        is_over.set()

    await Sealer(first.db, first.store, first.id, postgres_site.settings).run_once()
    report = await verify_journal(first.db, first.store)
    assert report.is_good and report.sealed_rows == report.rows > 100, report
