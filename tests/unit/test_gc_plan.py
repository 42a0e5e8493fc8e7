"""A dry run is the plan: what it says is what a run then does, and it changes nothing."""

import json
from typing import Any

from filestore.meta import gc_figures
from filestore.meta.leases import last_turn
from filestore.model import KIB, BlockState
from filestore_gc import Report, Result
from tests.services.collecting import (
    DAY_S,
    block_rows,
    collector_of,
    delete,
    objects,
    pass_time,
    put_in_trash,
    start,
)
from tests.services.hot_path import GROUP, Process, Site, add_group, random_bytes

SIZE = 12 * KIB


async def _scene(process: Process) -> None:
    """A file that stays; one deleted, one long in the trash, and an upload that has run out,
    each of which shares the stayer's bytes and has some of its own."""
    shared = random_bytes(SIZE, "shared")
    await process.upload(shared, "stays")
    await process.upload(shared + random_bytes(SIZE, "gone"), "gone")
    await process.upload(shared + random_bytes(SIZE, "trash"), "trash")
    upload = await process.begin(4 * SIZE, "upload")
    await process.append(upload, 0, shared + random_bytes(SIZE, "upload"))
    await put_in_trash(process, "trash")
    await pass_time(process, 2 * DAY_S)
    await delete(process, "gone")


def _sums(report: Report) -> dict[str, Any]:
    """What a plan and its run must agree in. The plan knows better why something ends."""
    return {
        "groups": {line.group for line in report.freed},
        "blocks": report.blocks,
        "bytes": report.bytes,
        "reaped": (report.reaped.uploads, report.reaped.entries, report.reaped.unfinished),
    }


async def test_a_plan_says_what_a_run_then_frees_and_changes_nothing(any_site: Site) -> None:
    process = await start(any_site)
    await _scene(process)
    collector = collector_of(process)
    stored, rows = objects(process), await block_rows(process)

    plan = await collector.plan(grace_s=0)
    assert (objects(process), await block_rows(process)) == (stored, rows)
    run = await collector.run_once(grace_s=0)

    assert plan.result is Result.PLANNED
    assert {line.reason for line in plan.freed} == {"released", "trash", "expired"}
    assert plan.bytes > 3 * SIZE
    assert _sums(plan) == _sums(run)
    assert plan.waiting == run.waiting == (), "they are too old for tombstones"
    assert {row.state for row in await block_rows(process)} == {"live"}


async def test_a_plan_with_a_grace_says_what_waits_until_when(any_site: Site) -> None:
    process = await start(any_site)
    await _scene(process)
    collector = collector_of(process, grace_s=3600)

    plan = await collector.plan()
    run = await collector.run_once()

    assert (plan.blocks, run.blocks) == (0, 0)
    (planned,), (waits,) = plan.waiting, run.waiting
    assert (planned.why, planned.blocks, planned.bytes) == ("grace", waits.blocks, waits.bytes)
    assert abs(planned.last_at - waits.last_at) < 60e6
    later = await collector.plan(grace_s=0)
    assert (later.blocks, later.bytes) == (waits.blocks, waits.bytes)
    assert {line.age for line in later.freed} == {"under an hour"}


async def test_two_groups_are_told_apart_by_whose_upload_brought_the_bytes(any_site: Site) -> None:
    process = await start(any_site)
    await process.transact(add_group, "grp_other")
    await process.upload(random_bytes(SIZE, 1), "a")
    await process.upload(random_bytes(2 * SIZE, 2), "a", group="grp_other")
    await delete(process, "a")
    await delete(process, "a", "grp_other")

    collector = collector_of(process)
    for report in (await collector.plan(grace_s=0), await collector.run_once(grace_s=0)):
        sizes = {line.group: line.bytes for line in report.freed}
        assert list(sizes) == ["grp_other", GROUP], "the largest first"
        assert sizes["grp_other"] > 2 * SIZE > sizes[GROUP] > SIZE
        assert {line.group_name for line in report.freed} == {"grp_other", GROUP}


async def test_a_plan_of_an_idle_store_is_empty_and_says_so(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    plan = await collector_of(process).plan(grace_s=0)
    assert (plan.freed, plan.waiting, plan.did_something) == ((), (), False)


async def test_a_report_is_json_with_times_that_people_read(any_site: Site) -> None:
    process = await start(any_site)
    await _scene(process)
    report = await collector_of(process, grace_s=3600).run_once()
    said = json.loads(json.dumps(report.to_json()))
    assert said["result"] == "done"
    assert said["started_at"].endswith("Z") and said["waiting"][0]["first_at"].endswith("Z")
    assert said["waiting"][0]["blocks"] == report.condemned
    assert said["problem"] is None
    assert said.keys() >= {"blocks", "bytes", "freed", "reaped", "alarms", "busy", "failed"}


async def test_the_figures_name_each_state_with_its_oldest_and_the_last_run(any_site: Site) -> None:
    process = await start(any_site)
    await _scene(process)
    report = await collector_of(process, grace_s=3600).run_once()

    figures = {each.state: each for each in await process.db.read(gc_figures.state_figures)}

    assert set(figures) == {BlockState.LIVE, BlockState.CONDEMNED}
    assert figures[BlockState.CONDEMNED].blocks == report.condemned
    assert figures[BlockState.CONDEMNED].oldest_at >= report.started_at
    assert figures[BlockState.LIVE].bytes > SIZE
    tasks, oldest = await process.db.read(gc_figures.queue_figures)
    assert tasks == report.condemned and oldest is not None
    last = await process.transact(last_turn, "gc")
    assert last is not None and last.ended_at is not None
    assert (last.result, last.process_id) == ("done", None)
    assert last.ended_at >= last.taken_at
    assert json.loads(last.report or "")["condemned"] == report.condemned
