"""fsck as a command or a job runs it: plan first, progress, cancelled, and what nobody releases."""

import asyncio
import contextlib
import json

import pytest
import sqlalchemy as sa

from filestore.meta.tables import blocks, contents, events, uploads, versions
from filestore.model import Actor, ContentState, UploadState
from filestore_gc.fsck_plan import Act, plan_repair
from filestore_gc.fsck_repair import Repair
from filestore_gc.fsck_report import FsckResult, Kind
from filestore_gc.fsck_run import FsckRun, run_fsck
from tests.contract.faulty import Fault, Operation
from tests.contract.faulty import Kind as Fails
from tests.services.collecting import collector_of, start
from tests.services.damage import (
    AT_ONCE,
    FILE,
    aside,
    audited,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    fsck,
    kinds,
    paths,
    put_file,
    put_orphan,
    read_file,
    until_reached,
)
from tests.services.hot_path import Process, Site, random_bytes

PATIENCE_S = 10


async def run(process: Process, site: Site, **options: object) -> FsckRun:
    """A run whose repairs do not wait for orphans to grow old."""
    at_once = site.settings.fsck.model_copy(update={"orphan_age_s": 0})
    settings = site.settings.model_copy(update={"fsck": at_once})
    return await run_fsck(process.db, process.store, settings, **options)  # type: ignore[arg-type]


async def break_things(process: Process) -> bytes:
    """Two blocks without object and three objects without row; the file's bytes."""
    data = await put_file(process, "a", 1)
    for gone in (await blocks_of(process, await content_of(process, "a")))[:2]:
        await delete_object(process, gone)
    for number in range(3):
        await put_orphan(process, random_bytes(50, number))
    return data


async def test_a_run_without_repair_shows_the_plan_and_changes_nothing(memory_site: Site) -> None:
    process = await start(memory_site)
    await break_things(process)
    before = await paths(process)

    shown = await run(process, memory_site)

    assert shown.plan.counts == {Act.LOSE: 2, Act.SET_ASIDE: 3}
    assert (shown.is_good, shown.exit_code, shown.repaired.moved) == (False, 1, 0)
    assert await paths(process) == before and await aside(process) == []
    assert set(await process.block_states()) == {"live"}
    said = json.loads(json.dumps(shown.to_json()))
    assert (said["result"], said["damage"]) == ("damage", 5)
    assert said["plan"]["counts"] == {"mark-lost": 2, "set-aside": 3}
    assert "repaired" not in said
    assert "repair: 2 mark-lost, 3 set-aside" in shown.to_text()


async def test_a_repair_says_what_it_planned_did_and_left(memory_site: Site) -> None:
    process = await start(memory_site)
    data = await break_things(process)
    done = await run(process, memory_site, repair=True, actor=Actor("usr_admin"))
    assert done.repaired.done == {Act.LOSE: 2, Act.SET_ASIDE: 3}
    assert kinds(done.after) == {"reference-to-dead-block": 2}
    assert not done.is_good, "the bytes are still missing"
    said = done.to_json()
    assert said["damage"] == 2 and said["repaired"] and said["before"]
    assert "done: 2 mark-lost, 3 set-aside" in done.to_text()
    (row,) = await audited(process, "fsck.repair")
    assert row.actor_id == "usr_admin"

    await process.upload(data, "again")
    assert (await run(process, memory_site, repair=True)).is_good


async def test_default_settings_leave_young_orphans_alone(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_orphan(process, random_bytes(50))
    shown = await run_fsck(process.db, process.store, memory_site.settings)
    assert shown.plan.actions == () and "younger" in shown.plan.left[0].why


async def test_an_orphan_that_has_a_row_by_now_is_left_where_it_is(memory_site: Site) -> None:
    process = await start(memory_site)
    key = await put_orphan(process, random_bytes(50))
    plan = (await run(process, memory_site)).plan
    await process.change(
        sa.insert(blocks).values(
            domain_id=key.domain,
            hash=key.hash,
            generation=key.generation,
            size=50,
            stored_size=82,
            codec="plain",
            state="live",
        )
    )
    done = await Repair(process.db, process.store).apply(plan)
    assert done.moved == 0 and [left.why for left in done.skipped] == ["it has a row"]
    assert await paths(process) == [key.path] and await aside(process) == []


async def test_progress_is_told_and_ends_with_all_steps(memory_site: Site) -> None:
    process = await start(memory_site)
    await break_things(process)
    told: list[dict[str, int]] = []
    await run(process, memory_site, repair=True, progress=told.append)

    steps = [counts["step"] for counts in told if "step" in counts]
    assert steps[0] == 0 and steps[-1] == told[-1]["steps"]
    checks = [counts for counts in told if "objects" in counts]
    assert checks[-1]["objects"] == len(await paths(process))
    moved = [counts["repaired"] for counts in told]
    assert moved == sorted(moved) and moved[-1] == 5
    assert told[-1]["planned"] == 5


async def test_text_and_json_list_so_many_and_count_all(memory_site: Site) -> None:
    process = await start(memory_site)
    await break_things(process)
    shown = await run(process, memory_site)
    said = shown.before.to_json(limit=2)
    assert isinstance(said["findings"], list)
    assert (len(said["findings"]), said["omitted"], said["damage"]) == (2, 3, 5)
    planned = shown.plan.to_json(limit=2)
    assert planned["omitted"] == 3 and planned["counts"] == {"mark-lost": 2, "set-aside": 3}
    assert "there is more" in shown.before.to_text(limit=2)
    assert "there is more" not in shown.before.to_text()


CALLS: list[tuple[Operation, int]] = [
    ("read_identity", 1),
    ("get", 2),  # the check reads back what it suspects
    ("get", 8),  # so does the repair
    ("set_aside", 1),
    ("read_identity", 6),
]


@pytest.mark.parametrize(("operation", "nth"), CALLS)
async def test_a_repair_that_is_cancelled_anywhere_is_finished_by_the_next(
    memory_site: Site, operation: Operation, nth: int
) -> None:
    process = await start(memory_site)
    data = await break_things(process)
    held = Fault(operation, nth, Fails.HOLD)
    process.store.plan = [held]
    running = asyncio.create_task(run(process, memory_site, repair=True))
    async with asyncio.timeout(PATIENCE_S):
        await until_reached(held, running)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert running.cancelled()
    states = await process.block_states()
    assert bool(await audited(process, "fsck.repair")) == ("lost" in states), "no act is silent"

    process.store.plan = []
    await run(process, memory_site, repair=True)
    assert len(await aside(process)) == 3
    await process.upload(data, "again")
    assert await read_file(process, "a") == data
    await check_clean(process)


async def test_what_is_done_is_told_also_when_the_store_goes_in_the_middle(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await break_things(process)
    process.store.plan = [Fault("set_aside", 1, Fails.BEFORE)]
    done = await run(process, memory_site, repair=True)
    assert done.repaired.problem is not None and not done.is_good
    assert done.repaired.done == {Act.LOSE: 2}
    assert done.after.result is FsckResult.DAMAGE and "broke off" in done.to_text()
    rows = await process.all(sa.select(events.c.payload).where(events.c.kind == "fsck.repaired"))
    assert [row.payload for row in rows] == ['{"mark-lost":2}']


# ---- contents that nobody releases ---------------------------------------------------------


async def end_silently(process: Process, upload_id: str) -> None:
    """The upload ends, and its content is forgotten: no act of the service does that."""
    ended = sa.update(uploads).where(uploads.c.id == upload_id)
    await process.change(ended.values(state=UploadState.TERMINATED, reserved=0, reserved_files=0))


async def test_an_unfinished_content_of_no_upload_is_found_released_and_collected(
    any_site: Site,
) -> None:
    process = await start(any_site)
    kept = await put_file(process, "kept", 1)
    await process.upload(b"", "empty")
    upload = await process.begin(FILE, "up")
    upload = await process.append(upload, 0, random_bytes(FILE // 2, "up"))
    await check_clean(process)
    await end_silently(process, upload.id)

    report = await fsck(process)
    found = report.of(Kind.UNWANTED)
    assert [each.subject for each in found] == [f"content {upload.building}"]
    assert found[0].size == FILE // 2

    done = await run(process, any_site, repair=True)
    assert done.repaired.done[Act.RELEASE] == 1
    assert done.after.of(Kind.UNWANTED) == []
    assert len(await audited(process, "content.abandon")) == 1
    await collector_of(process).run_once(grace_s=0)
    assert await process.all(sa.select(contents).where(contents.c.id == upload.building)) == []
    assert await read_file(process, "kept") == kept


async def test_a_whole_content_of_no_version_is_damage_that_a_repair_leaves(
    any_site: Site,
) -> None:
    """Its version's row is gone, and who knows why: the bytes may be wanted."""
    process = await start(any_site)
    await put_file(process, "a", 1)
    content_id = await content_of(process, "a")
    await process.change(sa.delete(versions).where(versions.c.content_id == content_id))

    report = await fsck(process)
    assert [each.content_id for each in report.of(Kind.UNWANTED)] == [content_id]
    plan = plan_repair(report, AT_ONCE)
    assert Act.RELEASE not in plan.counts
    assert f"content {content_id}" in {left.subject for left in plan.left}
    await run(process, any_site, repair=True)
    state = await process.one(sa.select(contents.c.state).where(contents.c.id == content_id))
    assert state == ContentState.COMPLETE
