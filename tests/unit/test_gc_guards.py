"""What a collection refuses, and that a refusal changes nothing that was stored."""

import asyncio

import pytest
import sqlalchemy as sa
import structlog.testing

from filestore.meta.blocks import enqueue
from filestore.meta.database import Tx
from filestore.meta.instance import Instance, find_instance
from filestore.meta.tables import blocks, content_blocks, instance
from filestore.model import KIB
from filestore_gc import Collector, Result, collector
from tests.contract.faulty import Fault
from tests.contract.faulty import Kind as Fails
from tests.services.collecting import acts, block_rows, collector_of, delete, objects, start
from tests.services.damage import until_reached
from tests.services.hot_path import DOMAIN, Process, Site, random_bytes

SIZE = 12 * KIB


async def _refused(process: Process, code: str) -> None:
    """A plan and a run say that they refuse and why; the objects stay."""
    stored = objects(process)
    states = [row.state for row in await block_rows(process)]
    asked = collector_of(process)
    for report in (await asked.plan(grace_s=0), await asked.run_once(grace_s=0)):
        assert report.result is Result.REFUSED
        assert not report.result.is_good
        assert report.problem is not None and report.problem.code == code
    assert objects(process) == stored
    assert [row.state for row in await block_rows(process)] == states


async def _with_a_deleted_file(site: Site) -> Process:
    process = await start(site)
    await process.upload(random_bytes(SIZE, "a"), "a")
    await process.upload(random_bytes(SIZE, "b"), "b")
    await delete(process, "a")
    return process


async def test_a_store_of_another_database_is_refused(any_site: Site) -> None:
    process = await _with_a_deleted_file(any_site)
    await process.change(instance.update().values(store_id="sto_other"))
    await _refused(process, "store-foreign")


async def test_a_store_without_a_mark_is_refused(any_site: Site) -> None:
    process = await _with_a_deleted_file(any_site)
    process.store.inner.marks.clear()  # type: ignore[attr-defined]
    await _refused(process, "store-unmarked")


async def test_a_database_from_a_backup_before_the_last_collection_is_refused(
    any_site: Site,
) -> None:
    process = await _with_a_deleted_file(any_site)
    backup = await process.db.read(find_instance)
    assert backup is not None
    await collector_of(process).run_once(grace_s=0)
    await process.upload(random_bytes(SIZE, "c"), "c")
    await delete(process, "c")

    await process.change(instance.update().values(epoch=backup.epoch))

    await _refused(process, "database-older")


async def test_a_collection_that_dooms_nothing_raises_no_epoch(any_site: Site) -> None:
    process = await _with_a_deleted_file(any_site)
    before = await process.db.read(find_instance)
    await collector_of(process, grace_s=3600).run_once()
    assert await process.db.read(find_instance) == before


async def test_the_first_run_by_itself_of_a_process_raises_the_epoch_once(any_site: Site) -> None:
    process = await start(any_site)
    before = await process.db.read(find_instance)
    assert before is not None
    by_itself = collector_of(process, rest_s=0)
    for _ in range(3):
        assert await by_itself.run_if_due() is not None
    raised = Instance(before.store_id, before.epoch + 1)
    assert await process.db.read(find_instance) == raised
    assert await process.store.read_identity() == (raised.store_id, raised.epoch)


async def test_a_thorough_run_by_itself_raises_the_epoch_when_blocks_have_come(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a backup that knows nothing of what was uploaded since is older, within the hour."""
    monkeypatch.setattr(collector, "THOROUGH_EVERY", 2)
    process = await start(any_site)
    by_itself = collector_of(process, rest_s=0)

    async def raised_by(runs: int) -> int:
        before = await process.db.read(find_instance)
        for _ in range(runs):
            assert await by_itself.run_if_due() is not None
        after = await process.db.read(find_instance)
        assert before is not None and after is not None
        return after.epoch - before.epoch

    assert await raised_by(2) == 1, "it begins"
    assert await raised_by(4) == 0, "nothing has come"
    await process.upload(random_bytes(SIZE, "a"), "a")
    assert await raised_by(4) == 1


async def test_a_database_from_a_backup_made_during_a_collection_is_refused(
    any_site: Site,
) -> None:
    """It may call a block live that the rest of the collection has removed."""
    process = await _with_a_deleted_file(any_site)
    removal = Fault("remove", 1, Fails.HOLD)
    process.store.plan = [removal]
    run = asyncio.create_task(collector_of(process).run_once(grace_s=0))
    await until_reached(removal, run)
    backup = await process.db.read(find_instance)
    assert backup is not None
    removal.gate.set()
    assert (await run).result is Result.DONE

    await process.change(instance.update().values(epoch=backup.epoch))
    await process.upload(random_bytes(SIZE, "c"), "c")
    await delete(process, "c")
    await _refused(process, "database-older")


async def test_an_epoch_that_could_not_be_raised_behind_a_collection_is_raised_by_the_next_run(
    any_site: Site,
) -> None:
    process = await _with_a_deleted_file(any_site)
    by_itself = collector_of(process, rest_s=0)
    third = process.store.calls["write_identity"] + 3
    process.store.plan = [Fault("write_identity", third, Fails.BEFORE)]

    broken = await by_itself.run_if_due()
    assert broken is not None and broken.result is Result.FAILED
    assert broken.blocks > 0, "it broke off at its end"
    before = await process.db.read(find_instance)
    again = await by_itself.run_if_due()
    assert again is not None and again.result.is_good
    after = await process.db.read(find_instance)
    assert before is not None and after is not None and after.epoch > before.epoch
    assert await process.store.read_identity() == (after.store_id, after.epoch)


async def test_a_database_from_a_backup_before_the_last_start_is_refused_in_report_and_log(
    any_site: Site,
) -> None:
    process = await _with_a_deleted_file(any_site)
    backup = await process.db.read(find_instance)
    assert backup is not None
    await collector_of(process, rest_s=0, grace_s=3600).run_if_due()
    await process.change(instance.update().values(epoch=backup.epoch))

    with structlog.testing.capture_logs() as logged:
        late = collector_of(process, rest_s=0)
        reports = [await late.run_if_due() for _ in range(2)]

    assert [report.result for report in reports if report] == [Result.REFUSED] * 2
    (complaint,) = [line for line in logged if line["event"] == "gc.not_collected"]
    assert (complaint["code"], complaint["log_level"]) == ("database-older", "error")
    assert "restored from an older backup" in complaint["reason"]
    assert await process.db.read(find_instance) == backup, "a refusal raises nothing"
    await _refused(process, "database-older")


@pytest.mark.needs("postgres")
async def test_processes_that_begin_at_once_take_nobody_for_older(postgres_site: Site) -> None:
    processes = [await start(postgres_site) for _ in range(3)]
    collectors = [collector_of(process, rest_s=0) for process in processes]

    async def begin(mine: Collector) -> None:
        while (report := await mine.run_if_due()) is None:
            continue
        assert report.result is Result.NOTHING

    async def plan(mine: Collector) -> None:
        assert (await mine.plan()).problem is None

    await asyncio.gather(*map(begin, collectors), *map(plan, collectors * 3))
    found = await processes[0].db.read(find_instance)
    assert found is not None and found.epoch == 1 + len(processes)


async def test_files_without_any_reference_left_are_refused(any_site: Site) -> None:
    process = await _with_a_deleted_file(any_site)
    await process.change(content_blocks.delete())
    await _refused(process, "references-missing")


async def test_much_garbage_that_no_deletion_explains_is_refused(any_site: Site) -> None:
    process = await _with_a_deleted_file(any_site)

    async def queue_strangers(tx: Tx) -> None:
        """As fsck would find them after references had vanished from the database."""
        rows = [_row(number) for number in range(1001)]
        await tx.execute(blocks.insert(), rows)
        found = sa.select(blocks.c.id).where(blocks.c.generation.startswith("stranger"))
        await enqueue(tx, (await tx.scalars(found)).all(), "unreferenced")

    await process.db.transact(queue_strangers)
    await _refused(process, "too-many-unexplained")

    one = sa.select(sa.func.min(blocks.c.id)).where(blocks.c.generation.startswith("stranger"))
    await process.change(
        sa.text("DELETE FROM gc_queue WHERE block_id = :id").bindparams(id=await process.one(one))
    )
    assert (await collector_of(process).run_once(grace_s=0)).blocks > 1000


async def test_the_same_refusal_is_in_the_audit_log_once(any_site: Site) -> None:
    process = await start(any_site)
    process.store.inner.marks.clear()  # type: ignore[attr-defined]
    by_itself = collector_of(process, rest_s=0)
    for _ in range(3):
        report = await by_itself.run_if_due()
        assert report is not None and report.result is Result.REFUSED
    assert await acts(process) == ["gc.run"]


def _row(number: int) -> dict[str, object]:
    return {
        "domain_id": DOMAIN,
        "hash": number.to_bytes(32),
        "generation": f"stranger{number:08}",
        "size": 1,
        "stored_size": 33,
        "codec": "plain",
        "state": "live",
    }
