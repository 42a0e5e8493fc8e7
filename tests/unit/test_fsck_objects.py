"""fsck, objects against rows: each damage made on purpose, found, repaired where that is safe."""

import asyncio
import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from filestore.meta.tables import blocks
from filestore.model import KIB
from filestore_gc.fsck_plan import DAY_S, Act, Terms, plan_repair
from filestore_gc.fsck_report import Kind, NoteKind
from filestore_gc.heal import key_of
from tests.services.collecting import collector_of, delete, pass_time, start
from tests.services.damage import (
    FILE,
    aside,
    block,
    blocks_of,
    change_object,
    check_clean,
    content_of,
    delete_object,
    found,
    fsck,
    kinds,
    on_disk,
    paths,
    put_file,
    put_orphan,
    read_file,
    repaired,
    stored,
    stored_site,
)
from tests.services.hot_path import Process, Site, random_bytes

__all__ = ["on_disk", "stored", "stored_site"]


async def test_a_store_in_use_is_clean_and_the_report_says_what_was_looked_at(
    stored: Process,
) -> None:
    assert (await check_clean(stored)).objects == 0
    await put_file(stored, "a", 1)
    await put_file(stored, "b", 1)
    upload = await stored.begin(FILE, "c")
    await stored.append(upload, 0, random_bytes(FILE // 2, 3))

    report = await check_clean(stored)

    every = await paths(stored)
    assert (report.objects, report.blocks) == (len(every), len(every))
    assert report.object_bytes > FILE
    assert report.to_json()["damage"] == 0
    assert "damage: none" in report.to_text()
    assert (await repaired(stored)).repaired.moved == 0


async def test_a_block_without_its_object_becomes_lost_and_the_same_bytes_heal_it(
    stored: Process,
) -> None:
    data = await put_file(stored, "a", 1)
    await put_file(stored, "b", 1)
    gone = (await blocks_of(stored, await content_of(stored, "a")))[3]
    await delete_object(stored, gone)

    report = await fsck(stored)
    assert kinds(report) == {"row-without-object": 1}
    assert (report.exit_code, report.damage) == (1, 1)
    (finding,) = report.findings
    assert finding.subject == key_of(gone).path
    assert sorted(file.path for file in finding.affected.files) == ["/a", "/b"]
    assert "/a version 1" in report.to_text()
    assert (await block(stored, gone.block_id)).state == "live", "a check changes nothing"

    outcome = await repaired(stored)
    assert [action.act for action in outcome.plan.actions] == [Act.LOSE]
    assert outcome.repaired.done == {Act.LOSE: 1}
    assert kinds(outcome.after) == {"reference-to-dead-block": 1}
    assert outcome.exit_code == 1, "the bytes are still missing"

    await stored.upload(data, "again")
    assert await read_file(stored, "a") == await read_file(stored, "b") == data
    await check_clean(stored)
    await collector_of(stored).run_once(grace_s=0)
    await check_clean(stored)


@pytest.mark.parametrize("size", [10, 32, 500])
async def test_a_truncated_object_is_lost_by_repair(stored: Process, size: int) -> None:
    data = await put_file(stored, "a", 1)
    short = (await blocks_of(stored, await content_of(stored, "a")))[0]
    await change_object(stored, short, size=size)

    report = await fsck(stored)
    assert kinds(report) == {"object-of-wrong-size": 1}
    assert report.findings[0].affected.count == 1

    assert (await repaired(stored)).repaired.done == {Act.LOSE: 1}
    assert (await block(stored, short.block_id)).state == "lost"
    await stored.upload(data, "again")
    assert await read_file(stored, "a") == data
    await check_clean(stored)


async def test_a_row_that_tells_a_wrong_size_of_a_good_object_is_corrected(
    stored: Process,
) -> None:
    await put_file(stored, "a", 1)
    (first, *_) = await blocks_of(stored, await content_of(stored, "a"))
    wrong = sa.update(blocks).where(blocks.c.id == first.block_id)
    await stored.change(wrong.values(stored_size=7, codec="zstd"))

    report = await fsck(stored)
    assert kinds(report) == {"object-of-wrong-size": 1}
    assert report.findings[0].affected.count == 0, "nothing is wrong with the files"
    outcome = await repaired(stored)
    assert outcome.repaired.done == {Act.CORRECT: 1}
    assert await block(stored, first.block_id) == first
    assert outcome.exit_code == 0


async def test_orphans_go_to_quarantine_and_later_for_good(stored: Process) -> None:
    await put_file(stored, "a", 1)
    kept = await paths(stored)
    whole = await put_orphan(stored, random_bytes(5000, "w"))
    empty = await put_orphan(stored, random_bytes(5000, "e"), stored=b"")
    twin = (await blocks_of(stored, await content_of(stored, "a")))[2]
    same = await put_orphan(stored, random_bytes(10, "t"))

    report = await fsck(stored)
    assert kinds(report) == {"object-without-row": 3}
    assert found(report, Kind.ORPHAN) == sorted(key.path for key in (whole, empty, same))
    assert {item.subject: item.reads_well for item in report.findings} == {
        whole.path: True,
        empty.path: False,
        same.path: True,
    }
    outcome = await repaired(stored)
    assert outcome.repaired.done == {Act.SET_ASIDE: 3}
    assert outcome.exit_code == 0
    assert await paths(stored) == kept and (await block(stored, twin.block_id)) == twin
    assert [path[11:] for path in await aside(stored)] == found(report, Kind.ORPHAN)
    (note,) = [note for note in outcome.after.notes if note.kind is NoteKind.QUARANTINE]
    assert note.count == 3 and note.size > 5000

    assert (await repaired(stored, Terms(keep_s=DAY_S))).repaired.moved == 0
    emptied = await repaired(stored, Terms(keep_s=-2 * DAY_S))
    assert emptied.repaired.done == {Act.EMPTY: 1}
    assert await aside(stored) == []
    assert (await check_clean(stored)).notes == ()


async def test_young_orphans_are_left_where_they_are(on_disk: Site, tmp_path: Path) -> None:
    process = await start(on_disk)
    old = await put_orphan(process, b"old" * 100)
    young = await put_orphan(process, b"young" * 100)
    before = time.time() - DAY_S - 60
    os.utime(tmp_path / "blocks" / old.path, (before, before))

    report = await fsck(process)
    assert kinds(report) == {"object-without-row": 2}
    plan = plan_repair(report, Terms())
    assert [action.subject for action in plan.actions] == [old.path]
    assert [left.subject for left in plan.left] == [young.path]

    assert (await repaired(process, Terms())).exit_code == 1
    assert await paths(process) == [young.path]


async def test_files_that_are_no_blocks_are_noted_and_left(on_disk: Site, tmp_path: Path) -> None:
    process = await start(on_disk)
    await put_file(process, "a", 1)
    for name in ("ab/README", "ab/" + "0" * 64 + ".0123456789abcdef", "zz/" + "f" * 90):
        path = tmp_path / "blocks" / "default" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not ours")

    report = await check_clean(process)
    (note,) = report.notes
    assert (note.kind, note.count, note.size) == (NoteKind.FOREIGN, 3, 24)
    assert "default/ab/README" in note.examples
    assert (await repaired(process)).repaired.moved == 0
    assert (tmp_path / "blocks" / "default" / "ab" / "README").exists()


async def test_orphans_of_domains_that_the_database_does_not_know_are_found(
    stored: Process,
) -> None:
    key = await put_orphan(stored, b"elsewhere" * 100, domain="forgotten")
    report = await fsck(stored)
    assert found(report, Kind.ORPHAN) == [key.path]
    assert (await repaired(stored)).exit_code == 0
    assert await paths(stored, "forgotten") == []


async def test_what_a_crash_leaves_are_notes(stored: Process) -> None:
    """Rows on their way, with and without their objects."""
    await put_file(stored, "a", 1)
    await put_file(stored, "b", 2)
    every = await blocks_of(stored, await content_of(stored, "a"))
    await delete(stored, "a")
    await collector_of(stored, grace_s=3600).run_once()
    states = ("condemned", "condemned", "deleting", "deleting", "uploading", "uploading")
    for at, state in enumerate(states):
        change = sa.update(blocks).where(blocks.c.id == every[at].block_id)
        await stored.change(
            change.values(state=state, process_id=stored.id, deadline_at=sa.literal(2**50))
        )
        if at % 2:
            await delete_object(stored, every[at])

    report = await check_clean(stored)
    counts = {note.kind: note.count for note in report.notes}
    assert counts[NoteKind.DELETING] == 2 and counts[NoteKind.UPLOADING] == 2
    assert counts[NoteKind.CONDEMNED] == len(every) - 4
    assert counts[NoteKind.QUEUED] == len(every)
    assert all(note.oldest_at > 0 for note in report.notes)
    assert "condemned blocks" in report.to_text()


async def test_unfinished_writes_are_notes(on_disk: Site, tmp_path: Path) -> None:
    process = await start(on_disk)
    (tmp_path / "blocks" / ".tmp" / "prc_dead.7").write_bytes(b"half")
    (note,) = (await check_clean(process)).notes
    assert (note.kind, note.count, note.size) == (NoteKind.TEMPORARY, 1, 4)
    assert note.examples == ("prc_dead.7",)


async def test_a_lost_block_that_reads_well_again_comes_back(stored: Process) -> None:
    data = await put_file(stored, "a", 1)
    (first, second, *_) = await blocks_of(stored, await content_of(stored, "a"))
    good = await change_object(stored, first)
    await stored.change(sa.update(blocks).where(blocks.c.id == first.block_id).values(state="lost"))
    await stored.change(
        sa.update(blocks).where(blocks.c.id == second.block_id).values(state="lost")
    )

    outcome = await repaired(stored)
    assert kinds(outcome.before) == {"readable-again": 1, "reference-to-dead-block": 2}
    assert outcome.repaired.done == {Act.REVIVE: 1}
    assert (await block(stored, first.block_id)).state == "lost"
    assert (await block(stored, second.block_id)).state == "live"

    await stored.store.inner.put(key_of(first), [good])
    assert (await repaired(stored)).exit_code == 0
    assert await read_file(stored, "a") == data


async def test_uploads_that_run_meanwhile_are_nothing_to_report(any_site: Site) -> None:
    process = await start(any_site)
    stop = asyncio.Event()
    done = 0

    async def upload_and_delete(who: int) -> None:
        nonlocal done
        while not stop.is_set():
            name = f"{who}-{done}"
            await process.upload(random_bytes(4 * KIB, name), name)
            await process.upload(random_bytes(4 * KIB, who), f"shared-{who}")
            if done % 2:
                await delete(process, name)
            done += 1

    async with asyncio.TaskGroup() as work:
        for who in range(3):
            work.create_task(upload_and_delete(who))
        for _ in range(6):
            report = await fsck(process, page=20)
            assert kinds(report) == {}, report.to_text()
            await collector_of(process).run_once(grace_s=0)
        stop.set()
    assert done > 3
    await check_clean(process)


async def test_collection_and_fsck_agree_when_all_is_gone(stored: Process) -> None:
    await put_file(stored, "a", 1)
    await delete(stored, "a")
    await collector_of(stored).run_once(grace_s=0)
    await pass_time(stored, DAY_S)
    await collector_of(stored).run_once(grace_s=0)
    report = await check_clean(stored)
    assert (report.objects, report.blocks, report.notes) == (0, 0, ())
