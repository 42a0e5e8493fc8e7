"""fsck, rows against rows: what SQL can break, found again under locks, repaired where safe."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.meta.gc_reaper import release_batch
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    gc_queue,
    groups,
    member_accounts,
    uploads,
    versions,
)
from filestore.model import KIB, ContentState
from filestore_gc.fsck_plan import Act, Terms, plan_repair
from filestore_gc.fsck_report import Kind
from tests.services.collecting import (
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    put_in_trash,
    start,
)
from tests.services.damage import (
    FILE,
    audited,
    block,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    fsck,
    kinds,
    put_file,
    repaired,
)
from tests.services.hot_path import GROUP, Process, Site, random_bytes


@pytest.fixture
async def process(any_site: Site) -> Process:
    """A process whose group holds a file of some ten blocks, of bytes of its own."""
    made = await start(any_site)
    await put_file(made, "a", 1)
    await put_file(made, "b", 2)
    return made


async def offsets(process: Process, name: str) -> list[int]:
    """Where the blocks of a file begin."""
    return [row.offset for row in await process.rows(await content_of(process, name))]


def reference(content_id: int, offset: int) -> sa.ColumnElement[bool]:
    at = content_blocks.c
    return sa.and_(at.content_id == content_id, at.byte_offset == offset)


async def test_a_gap_in_a_file_is_found_with_the_file(process: Process) -> None:
    content_id, places = await content_of(process, "a"), await offsets(process, "a")
    gone = (await blocks_of(process, content_id))[4]
    await process.change(sa.delete(content_blocks).where(reference(content_id, places[4])))

    report = await fsck(process)
    assert kinds(report) == {"block-nobody-collects": 1, "references-do-not-fit": 1}
    (finding,) = report.of(Kind.REFERENCE)
    assert finding.said == f"bytes {places[4]} to {places[5]} are missing"
    assert [file.path for file in finding.affected.files] == ["/a"]

    outcome = await repaired(process)
    assert outcome.repaired.done == {Act.QUEUE: 1}
    assert [left.subject for left in outcome.plan.left] == [f"content {content_id}"]
    assert await process.queued() == {gone.block_id}
    assert kinds(outcome.after) == {"references-do-not-fit": 1}


async def test_an_overlap_is_found(process: Process) -> None:
    content_id, places = await content_of(process, "a"), await offsets(process, "a")
    moved = sa.update(content_blocks).where(reference(content_id, places[4]))
    await process.change(moved.values(byte_offset=places[4] - 5))

    report = await fsck(process)
    assert kinds(report) == {"references-do-not-fit": 2}
    assert sorted(finding.said for finding in report.findings) == [
        f"bytes {places[4] - 5} to {places[4]} are there twice",
        f"bytes {places[5] - 5} to {places[5]} are missing",
    ]


async def test_a_missing_beginning_and_a_missing_end_are_found(process: Process) -> None:
    for name, at, kind in (("a", 0, Kind.REFERENCE), ("b", -1, Kind.CONTENT)):
        content_id, places = await content_of(process, name), await offsets(process, name)
        await process.change(sa.delete(content_blocks).where(reference(content_id, places[at])))
        report = await fsck(process)
        (finding,) = [each for each in report.of(kind) if str(content_id) in each.subject]
        assert [file.path for file in finding.affected.files] == [f"/{name}"]
    assert report.of(Kind.CONTENT)[0].said.startswith(f"it has {FILE} bytes")


async def test_a_content_without_any_block_is_found(process: Process) -> None:
    content_id = await content_of(process, "a")
    await process.change(sa.delete(content_blocks).where(content_blocks.c.content_id == content_id))
    report = await fsck(process)
    assert report.counts[Kind.CONTENT] == 1


async def test_an_empty_file_is_no_damage(process: Process) -> None:
    await process.upload(b"", "empty")
    await check_clean(process)


async def test_a_reference_that_is_not_as_its_block_is_found(process: Process) -> None:
    content_id, places = await content_of(process, "a"), await offsets(process, "a")
    other = (await blocks_of(process, await content_of(process, "b")))[0]
    change = sa.update(content_blocks).where(reference(content_id, places[2]))
    await process.change(change.values(block_id=other.block_id))

    report = await fsck(process)
    assert report.counts[Kind.REFERENCE] == 1
    assert report.of(Kind.REFERENCE)[0].said.endswith("does not fit its block")


async def test_a_version_of_another_size_than_its_content_is_found(process: Process) -> None:
    content_id = await content_of(process, "a")
    await process.change(
        sa.update(versions).where(versions.c.content_id == content_id).values(size=FILE + 1)
    )
    report = await fsck(process)
    assert kinds(report) == {"quota-counters": 1, "version-of-wrong-size": 1}
    assert report.of(Kind.VERSION)[0].affected.count == 1


async def test_a_version_of_a_content_that_goes_is_found(process: Process) -> None:
    content_id = await content_of(process, "a")
    going = sa.update(contents).where(contents.c.id == content_id)
    await process.change(going.values(state=ContentState.DELETING))
    report = await fsck(process)
    assert kinds(report) == {"version-of-wrong-size": 1}


async def test_an_upload_is_judged_up_to_its_offset(process: Process) -> None:
    data = random_bytes(FILE, "up")
    upload = await process.begin(FILE, "up")
    upload = await process.append(upload, 0, data[: FILE // 2])
    await check_clean(process)
    place = sa.update(uploads).where(uploads.c.id == upload.id)

    await process.change(place.values(byte_offset=upload.offset + 1))
    report = await fsck(process)
    assert kinds(report) == {"upload-at-wrong-offset": 1}
    (finding,) = report.findings
    assert finding.said == (
        f"its offset is {upload.offset + 1}, what is recorded before ends at {upload.offset}"
    )
    assert [(file.path, file.version) for file in finding.affected.files] == [(upload.id, None)]

    rows = await process.rows(upload.building)
    await process.change(place.values(byte_offset=rows[1].offset))
    await check_clean(process)
    await process.change(sa.delete(content_blocks).where(reference(upload.building, 0)))
    report = await fsck(process)
    assert kinds(report) == {"block-nobody-collects": 1, "upload-at-wrong-offset": 1}


COUNTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "used": lambda: {"used": groups.c.used + 7},
    "reserved": lambda: {"reserved": groups.c.reserved + 7},
    "files": lambda: {"files": groups.c.files + 7},
    "reserved_files": lambda: {"reserved_files": groups.c.reserved_files + 7},
}


@pytest.mark.parametrize("counter", COUNTERS)
async def test_a_wrong_counter_is_found_and_left_to_the_audit(
    process: Process, counter: str
) -> None:
    await put_in_trash(process, "b")
    await process.begin(5 * KIB, "up")
    await check_clean(process)
    change = sa.update(groups).where(groups.c.id == GROUP)
    await process.change(change.values(COUNTERS[counter]()))

    report = await fsck(process)
    assert kinds(report) == {"quota-counters": 1}
    assert report.findings[0].size == (0 if "files" in counter else 7)
    assert f"{counter} is" in report.findings[0].said
    plan = plan_repair(report, Terms())
    assert plan.actions == () and "audit" in plan.left[0].why


async def test_a_wrong_account_of_a_member_is_found_and_left_to_the_audit(process: Process) -> None:
    await process.change(sa.update(member_accounts).values(used=member_accounts.c.used + 7))

    report = await fsck(process)

    assert kinds(report) == {"quota-counters": 1}
    assert report.findings[0].said == "of 1 members the accounts are not what they take"


@pytest.mark.parametrize("state", ["live", "lost"])
async def test_a_block_that_nobody_collects_is_queued_and_then_collected(
    process: Process, state: str
) -> None:
    content_id = await content_of(process, "a")
    (first, *_) = await blocks_of(process, content_id)
    await delete(process, "a")
    await process.transact(release_batch, content_id, limit=1000)
    await process.change(sa.delete(gc_queue).where(gc_queue.c.block_id == first.block_id))
    await process.change(sa.update(blocks).where(blocks.c.id == first.block_id).values(state=state))

    report = await fsck(process)
    assert report.counts[Kind.UNLISTED] == 1 and report.damage == 1
    outcome = await repaired(process)
    assert outcome.exit_code == 0
    assert outcome.repaired.done[Act.QUEUE] == 1
    assert await process.queued() >= {first.block_id}
    await collector_of(process).run_once(grace_s=0)
    await check_everything_stored_is_referenced(process)


async def test_files_that_refer_to_a_condemned_block_get_it_back(process: Process) -> None:
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    doom = sa.update(blocks).where(blocks.c.id == first.block_id)
    await process.change(doom.values(state="condemned"))

    report = await fsck(process)
    assert kinds(report) == {"reference-to-dead-block": 1}
    assert report.findings[0].said == "it is condemned; it still reads well"
    outcome = await repaired(process)
    assert outcome.repaired.done == {Act.REVIVE: 1} and outcome.exit_code == 0
    assert (await block(process, first.block_id)).state == "live"
    (row,) = await audited(process, "block.revive")
    assert row.before == '{"state":"condemned"}'


async def test_files_that_refer_to_a_deleting_block_are_named_and_left(process: Process) -> None:
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    doom = sa.update(blocks).where(blocks.c.id == first.block_id)
    await process.change(doom.values(state="deleting"))

    outcome = await repaired(process)
    assert outcome.repaired.moved == 0 and outcome.exit_code == 1
    assert (await block(process, first.block_id)).state == "deleting", "its object may go"


async def test_a_lost_block_that_only_a_released_content_refers_to_is_no_damage(
    process: Process,
) -> None:
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await process.change(
        sa.update(blocks).where(blocks.c.id == first.block_id).values(state="lost")
    )
    await delete_object(process, first)
    assert (await fsck(process)).damage == 1
    await delete(process, "a")
    assert (await check_clean(process)).damage == 0


async def test_small_pages_and_batches_find_the_same(process: Process) -> None:
    """The spans of pages meet without a gap: every reference is looked at, whatever their size."""
    for name in "ab":
        content_id = await content_of(process, name)
        for place in (await offsets(process, name))[1::2]:
            await process.change(sa.delete(content_blocks).where(reference(content_id, place)))
    whole = await fsck(process)
    assert whole.counts[Kind.REFERENCE] > 4
    for page in (1, 2, 3, 7):
        report = await fsck(process, page=page)
        assert (report.counts, report.objects) == (whole.counts, whole.objects)
