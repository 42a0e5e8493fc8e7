"""fsck and the store as a whole: a wrong, absent or vanishing one, and a restored database."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.blocks.memory import MemoryStore
from filestore.blocks.port import Leftover, LeftoverKind
from filestore.ids import new_generation
from filestore.meta.healing import COLUMNS, known
from filestore.meta.instance import find_instance
from filestore.meta.tables import blocks, instance, now_us, processes
from filestore_gc import Result, guards
from filestore_gc.fsck_plan import DAY_S, Act, Terms, plan_repair
from filestore_gc.fsck_repair import Repair
from filestore_gc.fsck_report import FsckResult, Kind, NoteKind
from filestore_gc.guards import raise_epoch
from filestore_gc.heal import find_problem, key_of
from tests.contract.faulty import Fault, Operation
from tests.contract.faulty import Kind as Fails
from tests.services.collecting import collector_of, pass_time, start
from tests.services.damage import (
    AT_ONCE,
    aside,
    audited,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    fsck,
    kinds,
    on_disk,
    put_file,
    put_orphan,
    read_file,
    repaired,
    stored,
    stored_site,
    until_reached,
)
from tests.services.hot_path import Process, Site, random_bytes, site_on
from tests.services.needs import is_available, require
from tests.services.s3 import S3Service

__all__ = ["on_disk", "stored", "stored_site"]


def memory_of(process: Process) -> MemoryStore:
    store = process.store.inner
    assert isinstance(store, MemoryStore)
    return store


async def check_nothing_is_lost(process: Process) -> None:
    assert set(await process.block_states()) == {"live"}


# ---- a store that cannot be believed -------------------------------------------------------


async def test_an_empty_folder_in_place_of_the_store_marks_nothing(
    on_disk: Site, tmp_path: Path
) -> None:
    process = await start(on_disk)
    data = await put_file(process, "a", 1)
    kept = tmp_path / "kept"
    (tmp_path / "blocks").rename(kept)
    (tmp_path / "blocks").mkdir()

    outcome = await repaired(process)
    assert outcome.before.result is FsckResult.FAILED and outcome.exit_code == 1
    assert outcome.repaired.moved == 0
    await check_nothing_is_lost(process)

    (tmp_path / "blocks").rmdir()
    kept.rename(tmp_path / "blocks")
    await check_clean(process)
    assert await read_file(process, "a") == data


async def test_a_store_that_was_emptied_marks_nothing(on_disk: Site, tmp_path: Path) -> None:
    """The folder is the same one, and even its identity is gone."""
    process = await start(on_disk)
    await put_file(process, "a", 1)
    for folder in ("default", ".identity"):
        shutil.rmtree(tmp_path / "blocks" / folder)

    outcome = await repaired(process)
    assert outcome.before.result is FsckResult.REFUSED
    assert outcome.before.problem is not None
    assert outcome.before.problem.code == "store-unmarked"
    assert "store-unmarked" in str(outcome.to_json())
    assert (outcome.exit_code, outcome.repaired.moved) == (1, 0)
    await check_nothing_is_lost(process)


async def test_a_store_that_vanishes_during_the_check_is_not_believed(memory_site: Site) -> None:
    """It shows its mark at the beginning; then its disk is unmounted."""
    process = await start(memory_site)
    await put_file(process, "a", 1)
    store = memory_of(process)
    stored, marks = store.objects, store.marks
    last_look = Fault("read_identity", 2, Fails.HOLD)
    process.store.plan = [last_look]

    store.objects = {}
    check = asyncio.create_task(fsck(process))
    await until_reached(last_look, check)
    store.marks = []
    last_look.gate.set()
    report = await check
    assert report.result is FsckResult.REFUSED and kinds(report) == {}
    assert plan_repair(report, AT_ONCE).actions == ()

    store.objects, store.marks = stored, marks
    await check_clean(process)


async def test_a_mark_that_is_gone_when_a_block_would_be_lost_keeps_it_live(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, first)
    report = await fsck(process)
    plan = plan_repair(report, AT_ONCE)
    memory_of(process).marks = []

    done = await Repair(process.db, process.store).apply(plan)
    assert done.moved == 0 and done.problem is not None
    assert done.problem.code == "store-unavailable"
    await check_nothing_is_lost(process)


async def test_a_store_of_another_database_is_refused(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    store = memory_of(process)
    store.marks, store.objects = ["sto_other.1"], {}
    report = await fsck(process)
    assert report.result is FsckResult.REFUSED and report.problem is not None
    assert report.problem.code == "store-foreign"
    await check_nothing_is_lost(process)


@pytest.mark.parametrize("operation", ["read_identity", "walk", "get"])
async def test_a_store_that_does_not_answer_is_no_damage(
    memory_site: Site, operation: Operation
) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, first)
    process.store.plan = [Fault(operation, 0, Fails.BEFORE)]

    outcome = await repaired(process)
    assert outcome.before.result is FsckResult.FAILED
    assert outcome.exit_code == 1
    await check_nothing_is_lost(process)


async def test_a_first_read_that_fails_is_no_damage(memory_site: Site) -> None:
    """Wrong bytes once, from a bad cable or a cache: the second look decides."""
    process = await start(memory_site)
    await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    change = sa.update(blocks).where(blocks.c.id == first.block_id)
    await process.change(change.values(stored_size=(first.stored_size or 0) + 1))
    process.store.plan = [Fault("get", 1, Fails.WRONG_BYTES)]
    report = await fsck(process)
    assert [finding.reads_well for finding in report.findings] == [True]


# ---- a database that was restored ----------------------------------------------------------


async def age_epoch(process: Process) -> int:
    """The store's epoch goes on, and the database's is as it was: a backup was restored."""
    before = await process.db.read(find_instance)
    assert before is not None
    await raise_epoch(process.db, process.store)
    await process.change(sa.update(instance).values(epoch=before.epoch))
    return before.epoch


async def live_paths(process: Process) -> set[str]:
    rows = await process.all(sa.select(*COLUMNS).where(blocks.c.state == "live"))
    return {key_of(known(row)).path for row in rows}


async def test_a_restored_database_is_recognised_and_brought_together_with_its_store(
    any_site: Site,
) -> None:
    """Since the backup ``a`` was deleted, collected and uploaded again, and another file came."""
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    await put_file(process, "b", 2)
    content_id = await content_of(process, "a")
    for gone in await blocks_of(process, content_id):
        await delete_object(process, gone)
    rows = await process.rows(content_id)
    pieces = [data[row.offset : row.offset + row.size] for row in rows]
    again = [await put_orphan(process, piece) for piece in pieces]
    lone = await put_orphan(process, b"new" * 999)
    broken = await put_orphan(process, b"broken" * 99, stored=b"FSTB" + bytes(50))
    epoch = await age_epoch(process)

    refused = await collector_of(process).run_once(grace_s=0)
    assert refused.result is Result.REFUSED and refused.problem is not None
    assert refused.problem.code == "database-older"
    report = await fsck(process)
    assert report.result is FsckResult.DAMAGE
    assert kinds(report) == {
        "epochs-differ": 1,
        "object-without-row": len(again) + 2,
        "row-without-object": len(again),
    }

    outcome = await repaired(process)
    acts = [action.act for action in outcome.plan.actions]
    assert acts == sorted(acts, key=list(Act).index) and acts[-1] is Act.JOIN
    assert outcome.repaired.done == {
        Act.LOSE: len(again),
        Act.ADOPT: len(again) + 1,
        Act.SET_ASIDE: 1,
        Act.JOIN: 1,
    }
    assert (outcome.exit_code, outcome.repaired.healed) == (0, len(again))
    assert await read_file(process, "a") == data
    assert lone.path in await live_paths(process)
    assert [path[11:] for path in await aside(process)] == [broken.path]
    assert len(await audited(process, "block.adopt")) == len(again) + 1
    assert await find_problem(process.db, process.store) is None
    joined = await process.db.read(find_instance)
    assert joined is not None and joined.epoch > epoch + 1
    assert await process.store.read_identity() == (joined.store_id, joined.epoch)


async def test_adopted_blocks_serve_whoever_sends_the_same_bytes_and_go_after_a_month(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: that they go is explained."""
    monkeypatch.setattr(guards, "FEW", 0)
    monkeypatch.setattr(guards, "PART", 0)
    process = await start(any_site)
    data = random_bytes(1000, "lone")
    key, other = await put_orphan(process, data), await put_orphan(process, b"other" * 99)
    await age_epoch(process)
    assert (await repaired(process)).repaired.done == {Act.ADOPT: 2, Act.JOIN: 1}

    await process.upload(data, "again")
    collector = collector_of(process)
    await collector.run_once()
    assert await live_paths(process) == {key.path, other.path}
    await pass_time(process, 30 * DAY_S - 60)
    await collector.run_once()
    assert await live_paths(process) == {key.path, other.path}
    await pass_time(process, 60)
    assert (await collector.run_once()).problem is None
    assert await live_paths(process) == {key.path}
    assert await read_file(process, "again") == data
    await check_clean(process)


async def test_an_orphan_that_another_block_makes_superfluous_is_set_aside(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = random_bytes(1000, "twice")
    await process.upload(data, "a")
    same = await put_orphan(process, data)
    elsewhere = await put_orphan(process, data, domain="forgotten")
    await age_epoch(process)

    outcome = await repaired(process)
    assert outcome.repaired.done == {Act.SET_ASIDE: 2, Act.JOIN: 1}
    assert outcome.exit_code == 0
    assert sorted(path[11:] for path in await aside(process)) == [same.path, elsewhere.path]
    assert await read_file(process, "a") == data


async def test_epochs_stay_apart_while_orphans_are_too_young_to_be_set_aside(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await put_orphan(process, b"broken" * 99, stored=bytes(50))
    await age_epoch(process)
    outcome = await repaired(process, Terms())
    assert outcome.repaired.moved == 0 and outcome.exit_code == 1
    assert kinds(outcome.after) == {"epochs-differ": 1, "object-without-row": 1}
    assert (await repaired(process)).exit_code == 0


async def test_what_was_written_while_no_known_process_ran_is_adopted_at_equal_epochs(
    stored: Process,
) -> None:
    """The database was restored from a backup, and its epoch had not been raised since that."""
    forgotten = await put_orphan(stored, b"forgotten" * 99)
    broken = await put_orphan(stored, b"broken" * 99, stored=b"FSTB" + bytes(50))
    hour = 3_600 * 1_000_000
    lives = sa.update(processes).values(started_at=now_us() - 2 * hour, seen_at=now_us() - hour)
    await stored.change(lives)

    outcome = await repaired(stored, Terms())
    assert outcome.repaired.done == {Act.ADOPT: 1}
    assert outcome.exit_code == 1, "what holds no block is too young to be set aside"
    assert (await repaired(stored)).repaired.done == {Act.SET_ASIDE: 1}
    assert forgotten.path in await live_paths(stored)
    assert [path[11:] for path in await aside(stored)] == [broken.path]
    await check_clean(stored)


async def test_a_store_that_is_an_older_copy_is_recognised(memory_site: Site) -> None:
    process = await start(memory_site)
    data = await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, first)
    await process.change(sa.update(instance).values(epoch=instance.c.epoch + 2))

    report = await fsck(process)
    assert [finding.subject for finding in report.of(Kind.EPOCH)] == ["store-older"]
    outcome = await repaired(process)
    assert outcome.repaired.done == {Act.LOSE: 1, Act.JOIN: 1}
    assert await find_problem(process.db, process.store) is None
    await process.upload(data, "again")
    await check_clean(process)


async def test_epochs_that_are_raised_meanwhile_are_no_problem(memory_site: Site) -> None:
    process = await start(memory_site)
    look = Fault("read_identity", 1, Fails.HOLD)
    process.store.plan = [look]
    asked = asyncio.create_task(find_problem(process.db, process.store))
    await until_reached(look, asked)
    for _ in range(3):
        await raise_epoch(process.db, process.store.inner)
    look.gate.set()
    assert await asked is None


# ---- what else lies in a store -------------------------------------------------------------


@pytest.mark.parametrize("name", ["seaweedfs", "minio"])
async def test_multipart_uploads_of_others_are_noted(
    name: str, request: pytest.FixtureRequest, sqlite_database: str, tmp_path: Path
) -> None:
    require(name, is_available(name))
    service: S3Service = request.getfixturevalue(f"{name}_service")
    bucket, url = f"parts-{new_generation()}", sqlite_database
    keys: dict[str, Any] = {
        "s3__access_key": service.access_key,
        "s3__secret_key": service.secret_key,
    }
    async with site_on(tmp_path, url, blocks=service.bucket_url(bucket), **keys) as site:
        process = await start(site)
        for path in ("elsewhere/big", "blocks/default/ab/never"):
            service.client()._create_multipart_upload(bucket, path, {})
        (note,) = (await check_clean(process)).notes
    assert (note.kind, note.count) == (NoteKind.MULTIPART, 2)
    assert sorted(note.examples) == ["blocks/default/ab/never", "elsewhere/big"]
    assert note.oldest_at > 0


async def test_many_leftovers_are_counted_and_some_are_named(memory_site: Site) -> None:
    process = await start(memory_site)
    memory_of(process).leftovers = [
        Leftover(LeftoverKind.MULTIPART, f"big-{at:02}", 0, 1000 - at) for at in range(50)
    ]
    (note,) = (await check_clean(process)).notes
    assert (note.count, note.oldest_at, len(note.examples)) == (50, 951, 10)
