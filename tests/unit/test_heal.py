"""Healing: who sends the bytes of a lost block again heals every file that refers to it."""

import json

import pytest
import sqlalchemy as sa

from filestore.errors import DatabaseUnavailable
from filestore.meta import healing
from filestore.meta.affected import find_affected
from filestore.meta.healing import HEAL_BATCH, KnownBlock, heal, heal_batch, mark_lost
from filestore.meta.tables import blocks, content_blocks
from filestore.transfer import recording
from filestore_gc.heal import heal_all, list_damaged
from tests.services.collecting import (
    check_everything_referenced_reads,
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
    put_file,
    read_file,
    stored,
    stored_site,
    told,
)
from tests.services.hot_path import DOMAIN, GROUP, Process, Site, add_group, random_bytes

__all__ = ["stored", "stored_site"]

OTHER = "grp_other"


async def lose(process: Process, block: KnownBlock) -> None:
    """The block's object is gone, and its row says so."""
    await delete_object(process, block)
    assert await process.transact(mark_lost, block, "gone") is not None


async def unavailable(*_: object, **__: object) -> int:
    """In the place of healing: the database goes away behind the commit."""
    raise DatabaseUnavailable(retry_after_s=5)


async def references(process: Process, block_id: int) -> int:
    query = sa.select(sa.func.count()).where(content_blocks.c.block_id == block_id)
    return int(await process.one(query))


async def test_an_upload_heals_every_file_of_every_group_and_the_tail_of_an_upload(
    stored: Process,
) -> None:
    await stored.transact(add_group, OTHER)
    data = await put_file(stored, "a", 1)
    await put_file(stored, "b", 1)
    await put_file(stored, "c", 1, group=OTHER)
    await put_in_trash(stored, "b")
    running = await stored.begin(2 * FILE, "running")
    running = await stored.append(running, 0, data)
    every = await blocks_of(stored, await content_of(stored, "a"))
    for gone in every[2:5]:
        await lose(stored, gone)

    await stored.upload(data, "again")

    for name in ("a", "b", "c", "again"):
        assert await read_file(stored, name) == data
    rest = random_bytes(FILE, "rest")
    done = await stored.append(running, running.offset, rest)
    assert done.state == "done" and await read_file(stored, "running") == data + rest
    await check_everything_referenced_reads(stored)
    await check_clean(stored)
    assert {gone.block_id for gone in every[2:5]} <= await stored.queued()
    await collector_of(stored).run_once(grace_s=0)
    assert set(await stored.block_states()) == {"live", "deleting"}
    await check_clean(stored)


async def test_each_group_hears_of_its_own_files_only(stored: Process) -> None:
    await stored.transact(add_group, OTHER)
    data = await put_file(stored, "mine", 1)
    await put_file(stored, "mine", 1)
    await put_in_trash(stored, "mine")
    await put_file(stored, "theirs", 1, group=OTHER)
    (first, *_) = await blocks_of(stored, await content_of(stored, "mine"))
    await lose(stored, first)
    await stored.upload(data, "again", group=OTHER)

    for kind in ("file.damaged", "file.healed"):
        said = {event.group_id: json.loads(event.payload) for event in await told(stored, kind)}
        assert said.keys() == {GROUP, OTHER}
        assert [file["path"] for file in said[OTHER]["files"]] == ["/theirs"]
        assert sorted(said[GROUP]["files"], key=lambda file: file["version"]) == [
            {"path": "/mine", "version": 1, "current": False, "trashed": True},
            {"path": "/mine", "version": 2, "current": True, "trashed": True},
        ]
        assert said[GROUP]["count"] == 2
    for act in ("file.damage", "file.heal"):
        assert sorted(row.group_id for row in await audited(stored, act)) == [OTHER, GROUP]
    (row,) = await audited(stored, "block.lose")
    assert row.group_id is None and '"files":3' in row.after


async def test_readers_use_the_twin_before_the_references_are_repointed(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    await lose(process, first)
    monkeypatch.setattr(recording, "heal", unavailable)

    again = await process.upload(data, "again")
    assert again.state == "done", "it is committed, whatever becomes of the healing"
    assert await references(process, first.block_id) == 1
    assert await read_file(process, "a") == data

    assert await heal_all(process.db) == 1
    assert await references(process, first.block_id) == 0
    await check_clean(process)


async def test_a_block_that_very_many_refer_to_is_healed_in_batches(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_HEAL_BATCHES", 1)
    process = await start(any_site)
    data = random_bytes(1000)
    await process.upload(data, "a")
    content_id = await content_of(process, "a")
    (first,) = await blocks_of(process, content_id)
    count = HEAL_BATCH + 600
    same = {"content_id": content_id, "size": 1000, "block_id": first.block_id}
    rows = [same | {"byte_offset": at * 1000} for at in range(1, count)]
    for at in range(0, len(rows), 1000):
        await process.change(sa.insert(content_blocks).values(rows[at : at + 1000]))
    await lose(process, first)

    await process.upload(data, "again")
    assert await references(process, first.block_id) == 600, "one upload does only so much"
    assert first.block_id in await process.queued()
    (twin,) = await blocks_of(process, await content_of(process, "again"))
    assert await process.transact(heal_batch, first.block_id, limit=100) == healing.Healed(
        100, True
    )
    assert await heal(process.db, first.block_id) == 500
    assert await references(process, twin.block_id) == count + 1
    assert await heal(process.db, first.block_id) == 0


async def test_nothing_is_healed_without_a_live_twin(any_site: Site) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    assert await heal(process.db, first.block_id) == 0, "it is live itself"
    await lose(process, first)
    assert await heal(process.db, first.block_id) == 0
    assert await process.queued() == set()

    await delete(process, "a")
    await process.upload(data, "again")
    twin = (await blocks_of(process, await content_of(process, "again")))[0]
    assert twin.block_id != first.block_id
    await process.change(
        sa.update(content_blocks)
        .where(content_blocks.c.block_id == twin.block_id)
        .values(block_id=first.block_id)
    )
    condemned = sa.update(blocks).where(blocks.c.id == twin.block_id)
    await process.change(condemned.values(state="condemned"))
    assert await heal(process.db, first.block_id) == 0
    assert await references(process, first.block_id) == 2


async def test_a_block_is_lost_only_as_it_was_seen(any_site: Site) -> None:
    process = await start(any_site)
    await put_file(process, "a", 1)
    (first, *_) = await blocks_of(process, await content_of(process, "a"))
    other = KnownBlock(
        first.block_id, DOMAIN, first.hash, "f" * 16, first.size, None, None, first.state
    )
    assert await process.transact(mark_lost, other, "gone") is None
    assert (await block(process, first.block_id)).state == "live"
    assert await process.transact(mark_lost, first, "gone") is not None
    assert await process.transact(mark_lost, first, "gone") is None, "it is lost already"
    assert len(await told(process, "block.lost")) == 1


async def test_many_files_are_counted_and_some_are_named(any_site: Site) -> None:
    process = await start(any_site)
    data = random_bytes(500)
    for number in range(6):
        await process.upload(data, "same" if number % 2 else f"f{number}")
    query = sa.select(content_blocks.c.content_id)
    affected = await process.db.read(lambda tx: find_affected(tx, query, named=4))
    assert affected.counts == {GROUP: 6}
    assert len(affected.files) == 4 and affected.count == 6
    assert (await process.db.read(lambda tx: find_affected(tx, []))).count == 0


async def test_a_group_can_list_its_damaged_files_until_they_read_well_again(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await start(any_site)
    await process.transact(add_group, OTHER)
    data = await put_file(process, "a", 1)
    await put_file(process, "b", 1)
    await put_file(process, "well", 2)
    await put_file(process, "theirs", 1, group=OTHER)
    await put_in_trash(process, "b")
    (first, second, *_) = await blocks_of(process, await content_of(process, "a"))
    assert (await list_damaged(process.db, GROUP)).files == ()
    await lose(process, first)
    await lose(process, second)

    page = await list_damaged(process.db, GROUP, limit=1)
    assert len(page.files) == 1 and page.next == page.files[0].id
    rest = await list_damaged(process.db, GROUP, after=page.next, limit=1)
    assert rest.next is None
    found = {each.file.path: each.file for each in (*page.files, *rest.files)}
    assert found.keys() == {"/a", "/b"}, "each once, and not those of others"
    assert found["/b"].is_trashed and not found["/a"].is_trashed
    said = json.loads(json.dumps(page.to_json()))
    assert said["items"][0]["bytes"] == FILE
    assert [f.file.path for f in (await list_damaged(process.db, OTHER)).files] == ["/theirs"]

    monkeypatch.setattr(recording, "heal", unavailable)
    await process.upload(data, "again")
    assert await references(process, first.block_id) > 0, "readers use the twin already"
    assert (await list_damaged(process.db, GROUP)).files == ()
