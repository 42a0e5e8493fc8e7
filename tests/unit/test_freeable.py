"""“What would this free?”: for members from their group's references only; for admins the store."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.cli.space import freeable_lines
from filestore.errors import NotFound
from filestore.meta import freeable as meta
from filestore.meta.tables import blocks, entries
from filestore.model import KIB
from filestore.names import parse_path
from filestore_gc.freeable import FreeableReport, show_freeable, show_trashed
from tests.services.collecting import collector_of, objects, put_in_trash, start
from tests.services.hot_path import ACTOR, GROUP, Process, Site, add_group, random_bytes

OTHER = "grp_other"
SIZE = 6 * KIB
"""Bytes of a file with some three blocks."""
MINE, SHARED, THEIRS = (random_bytes(SIZE, seed) for seed in ("mine", "shared", "theirs"))


@pytest.fixture
async def process(any_site: Site) -> Process:
    """``/f/mine`` and ``/f/g/shared``; ``/shared`` outside, and ``/theirs`` in both groups."""
    made = await start(any_site)
    await made.transact(add_group, OTHER)
    await made.upload(MINE, "mine", folder=parse_path("/f"))
    await made.upload(SHARED, "shared", folder=parse_path("/f/g"))
    await made.upload(SHARED, "shared")
    await made.upload(THEIRS, "theirs", folder=parse_path("/f"))
    await made.upload(THEIRS, "theirs", group=OTHER)
    return made


async def freeable(process: Process, path: str = "/f", **options: Any) -> FreeableReport:
    return await show_freeable(process.db, GROUP, parse_path(path), **options)


@pytest.mark.parametrize("few", [500, 0])
async def test_quota_unique_and_shared_bytes_of_a_folder(
    process: Process, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its entries are few, and named one by one, or many."""
    monkeypatch.setattr(meta, "_FEW", few)
    report = await freeable(process)
    found = report.freeable
    assert (found.quota, found.versions) == (3 * SIZE, 3)
    assert (found.unique, found.shared) == (2 * SIZE, SIZE)
    (holder,) = found.holders
    assert (holder.path, holder.bytes, holder.is_trashed) == ("/shared", SIZE, False)
    assert report.physical is None

    assert (await freeable(process, "/f/mine")).freeable.shared == 0
    whole = (await freeable(process, "")).freeable
    assert (whole.quota, whole.unique, whole.shared) == (4 * SIZE, 3 * SIZE, 0)


async def test_nothing_that_a_member_sees_depends_on_other_groups(process: Process) -> None:
    before = json.dumps((await freeable(process)).to_json())
    for data in (MINE, SHARED):
        await process.upload(data, "copied", group=OTHER)
    assert json.dumps((await freeable(process)).to_json()) == before
    assert OTHER not in before


async def test_an_admin_sees_what_the_store_frees_and_which_groups_hold_the_rest(
    process: Process,
) -> None:
    report = await freeable(process, is_admin=True)
    _check_formats(report)
    physical = report.physical
    assert physical is not None
    assert SIZE < physical.freed < 1.1 * SIZE and 2 * SIZE < physical.kept < 2.2 * SIZE
    assert {holder.group_id: holder.name for holder in physical.groups} == {
        GROUP: GROUP,
        OTHER: OTHER,
    }
    before = len(objects(process))
    stored = await process.one(sa.select(sa.func.sum(blocks.c.stored_size)))
    await process.transact(tree.remove, ACTOR, GROUP, parse_path("/f"))
    run = await collector_of(process).run_once(grace_s=0)
    assert run.bytes == physical.freed, "as foretold"
    assert len(objects(process)) < before and stored > run.bytes
    counters = await process.check_books()
    assert counters.used == SIZE


def _check_formats(report: FreeableReport) -> None:
    """As JSON, and for people."""
    said = report.to_json()
    lines = list(freeable_lines(said))
    assert lines[0] == "/f: 18 KiB of quota, 3 versions"
    assert "    6 KiB in /shared" in lines
    assert any(line.startswith("  the store would free ") for line in lines)
    assert said["quota_bytes"] == 3 * SIZE
    assert said["held_by"] == [
        {"path": "/shared", "bytes": SIZE, "trashed": False, "upload": False}
    ]
    json.dumps(said)


async def test_versions_trash_and_running_uploads_hold_blocks_too(process: Process) -> None:
    await process.upload(MINE, "old")
    await process.upload(random_bytes(10), "old")
    await process.upload(MINE, "gone")
    await put_in_trash(process, "gone")
    upload = await process.begin(2 * SIZE, "running")
    await process.append(upload, 0, MINE)

    found = (await freeable(process, "/f/mine")).freeable
    assert (found.quota, found.unique, found.shared) == (SIZE, 0, SIZE)
    holders = {holder.path: holder for holder in found.holders}
    assert holders.keys() == {"/old", "/gone", upload.id}
    assert holders["/gone"].is_trashed and not holders["/old"].is_trashed
    assert holders[upload.id].is_upload
    assert 0 < holders[upload.id].bytes <= SIZE


async def test_an_empty_folder_frees_nothing_and_a_file_s_own_versions_share_with_nobody(
    process: Process,
) -> None:
    await process.transact(tree.make_folder, ACTOR, GROUP, parse_path("/empty"))
    found = (await freeable(process, "/empty", is_admin=True)).freeable
    assert (found.quota, found.unique, found.shared, found.holders) == (0, 0, 0, ())
    for data in (MINE, MINE[: SIZE // 2], MINE):
        await process.upload(data, "v")
    found = (await freeable(process, "/v")).freeable
    assert (found.quota, found.versions) == (2 * SIZE + SIZE // 2, 3)
    assert found.unique < SIZE, "only the tail of the short version is its own"


async def test_what_lies_in_the_trash_is_told_by_its_id(process: Process) -> None:
    entry_id = (await process.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/f/g"))).id
    report = await show_trashed(process.db, GROUP, entry_id)
    assert (report.path, report.freeable.quota) == ("/f/g", SIZE)
    assert (await freeable(process)).freeable.quota == 2 * SIZE, "it does not go with its folder"
    with pytest.raises(NotFound):
        await show_trashed(process.db, OTHER, entry_id)
    with pytest.raises(NotFound):
        await freeable(process, "/f/g")
    (root,) = await process.all(
        sa.select(entries.c.id).where(entries.c.group_id == GROUP, entries.c.kind == "root")
    )
    with pytest.raises(NotFound):
        await show_trashed(process.db, GROUP, root.id)
