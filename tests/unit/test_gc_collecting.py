"""Collection from release to removed row, on both databases: what goes, what stays, and when."""

from filestore.acts import tree
from filestore.model import KIB
from filestore.names import parse_name
from filestore_gc import Result
from filestore_gc.reaping import RELEASE_BATCH
from tests.services.collecting import (
    DAY_S,
    acts,
    block_rows,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    objects,
    pass_time,
    put_in_trash,
    start,
)
from tests.services.hot_path import ACTOR, GROUP, Site, random_bytes

BIG = 30 * KIB


async def test_with_grace_0_the_bytes_of_a_deleted_file_are_gone_when_the_run_returns(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG, "a"), "a")
    await process.upload(random_bytes(BIG, "b"), "b")
    before = objects(process)
    await delete(process, "a")

    report = await collector_of(process).run_once(grace_s=0)

    assert report.result is Result.DONE
    assert report.reaped.contents == 1
    assert report.blocks == len(before) - len(objects(process)) > 5
    assert {line.group for line in report.freed} == {GROUP}
    assert {line.reason for line in report.freed} == {"released"}
    assert BIG < report.bytes < 2 * BIG
    assert await check_everything_referenced_reads(process) > 5
    await check_everything_stored_is_referenced(process)
    await process.check_books()


async def test_a_store_whose_last_file_was_deleted_is_collected_to_nothing(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG), "only")
    await delete(process, "only")
    collector = collector_of(process)

    await collector.run_once(grace_s=0)
    assert objects(process) == set()
    assert {row.state for row in await block_rows(process)} == {"deleting"}

    await pass_time(process, DAY_S)
    report = await collector.run_once(grace_s=0)
    assert (report.result, report.blocks) == (Result.DONE, 0)
    assert report.removed_rows > 5
    assert await block_rows(process) == []
    assert (await collector.run_once(grace_s=0)).result is Result.NOTHING


async def test_a_block_that_two_files_share_goes_with_the_second(any_site: Site) -> None:
    process = await start(any_site)
    data = random_bytes(BIG)
    first = await process.upload(data, "a")
    await process.upload(data, "b")
    collector = collector_of(process)

    await delete(process, "a")
    report = await collector.run_once(grace_s=0)
    assert (report.blocks, report.reaped.contents) == (0, 1)
    assert await process.queued() == set(), "their tasks are done: the blocks are in use"
    upload = await process.look(first)
    assert upload.content_id is None

    await delete(process, "b")
    assert (await collector.run_once(grace_s=0)).bytes > BIG
    assert objects(process) == set()


async def test_the_grace_is_waited_for_and_a_given_one_overrides_it(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG), "a")
    await delete(process, "a")
    collector = collector_of(process, grace_s=3600)
    stored = objects(process)

    report = await collector.run_once()
    assert (report.blocks, report.condemned) == (0, len(stored))
    (wait,) = report.waiting
    assert (wait.why, wait.blocks) == ("grace", len(stored))
    assert 3590e6 < wait.first_at - report.ended_at <= 3600e6
    assert objects(process) == stored

    await pass_time(process, 3000)
    assert (await collector.run_once()).result is Result.NOTHING
    assert (await collector.run_once(grace_s=3500)).blocks == 0
    assert (await collector.run_once(grace_s=3000)).blocks == len(stored)
    assert objects(process) == set()


async def test_the_collector_by_itself_frees_what_the_grace_no_longer_keeps(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG), "a")
    await delete(process, "a")
    collector = collector_of(process, grace_s=3600, rest_s=60)

    first = await collector.run_if_due()
    assert first is not None and first.condemned > 5
    assert await collector.run_if_due() is None, "somebody collected within the rest"
    await pass_time(process, 3600)
    second = await collector.run_if_due()
    assert second is not None and second.blocks == first.condemned
    assert objects(process) == set()


async def test_a_condemned_block_is_stored_again_and_only_the_old_one_goes(any_site: Site) -> None:
    process = await start(any_site)
    data = random_bytes(BIG)
    await process.upload(data, "a")
    await delete(process, "a")
    collector = collector_of(process, grace_s=3600)
    condemned = (await collector.run_once()).condemned
    old = objects(process)

    upload = await process.upload(data, "b")

    assert len(objects(process)) == 2 * condemned
    assert (await collector.run_once(grace_s=0)).blocks == condemned
    assert objects(process).isdisjoint(old)
    assert upload.content_id is not None
    assert await process.read(upload.content_id, 0, BIG) == data


async def test_an_upload_that_expired_lets_go_of_its_blocks_and_its_reservation(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = random_bytes(BIG)
    upload = await process.begin(BIG)
    await process.append(upload, 0, data[: BIG // 2])
    collector = collector_of(process)
    assert (await collector.run_once(grace_s=0)).reaped.uploads == 0
    assert (await process.look(upload)).is_open, "a running upload is left alone"

    await pass_time(process, 2 * DAY_S)
    report = await collector.run_once(grace_s=0)

    assert report.reaped.uploads == 1
    assert (await process.look(upload)).state == "expired"
    assert objects(process) == set()
    assert (await process.check_books()).reserved == 0


async def test_the_trash_is_purged_when_its_time_is_over_and_not_before(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG, "a"), "a")
    await process.upload(random_bytes(BIG, "b"), "b")
    await put_in_trash(process, "a")
    collector = collector_of(process)
    assert (await collector.run_once(grace_s=0)).reaped.entries == 0

    await pass_time(process, 30)
    await put_in_trash(process, "b")
    assert (await collector.run_once(grace_s=0)).reaped.entries == 0
    await pass_time(process, 30)
    report = await collector.run_once(grace_s=0)

    assert (report.reaped.entries, report.reaped.bytes) == (1, BIG)
    assert (await process.check_books()).used == BIG
    assert await check_everything_referenced_reads(process) > 5
    await check_everything_stored_is_referenced(process)


async def test_what_was_restored_and_thrown_away_again_has_its_whole_time_again(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG), "a")
    entry = await put_in_trash(process, "a")
    await pass_time(process, 60)
    await process.transact(tree.restore, ACTOR, GROUP, entry)
    await process.transact(tree.put_in_trash, ACTOR, GROUP, (parse_name("a"),))

    assert (await collector_of(process).run_once(grace_s=0)).reaped.entries == 0
    assert await check_everything_referenced_reads(process) > 5


async def test_a_large_content_is_released_in_short_transactions(any_site: Site) -> None:
    process = await start(any_site)
    upload = await process.upload(random_bytes(3000 * KIB), "large")
    assert upload.content_id is not None
    assert len(await process.rows(upload.content_id)) > RELEASE_BATCH
    await delete(process, "large")

    report = await collector_of(process).run_once(grace_s=0)

    assert report.reaped.references > RELEASE_BATCH
    assert objects(process) == set()


async def test_replaced_tails_go_and_the_upload_goes_on(any_site: Site) -> None:
    process = await start(any_site)
    data = random_bytes(BIG)
    upload = await process.begin(BIG)
    collector = collector_of(process)
    for offset in range(0, BIG, 700):
        await process.append(upload, offset, data[offset : offset + 700])
        await collector.run_once(grace_s=0)
    done = await process.look(upload)
    assert done.state == "done" and done.content_id is not None
    assert await process.read(done.content_id, 0, BIG) == data
    await check_everything_stored_is_referenced(process)


async def test_what_was_done_is_in_the_audit_log_and_idle_runs_are_not(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(BIG), "a")
    collector = collector_of(process, rest_s=0)
    idle = await collector.run_if_due()
    assert idle is not None and idle.result is Result.NOTHING
    assert await acts(process) == []

    await delete(process, "a")
    await collector.run_if_due()
    assert await acts(process) == ["gc.run"]
    await collector.run_once()
    assert await acts(process) == ["gc.run", "gc.run"], "who asks is told that there was nothing"
