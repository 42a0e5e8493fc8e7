"""What is behind each line of a sheet sums to the line, whatever happened, page by page."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts.access import GroupAccess
from filestore.acts.sheets import page_of_items, show_sheet
from filestore.blocks.memory import MemoryStore
from filestore.meta import sheet_walk
from filestore.meta.growth import DAY_US
from filestore.meta.sheet import Line, Sheet
from filestore.meta.sheet_items import Item, Key
from filestore.meta.tables import groups, now_us, uploads, versions
from tests.race.histories import LARGEST, History, add_actors
from tests.services.hot_path import DOMAIN, GROUP, Process, Site, random_bytes, site_on

ACCESS = GroupAccess(GROUP, GROUP, DOMAIN, None)
STEPS = 120


@pytest.fixture
def open_site(any_database: str, tmp_path: Path) -> Site:
    return site_on(tmp_path, any_database, store=MemoryStore())


async def items_of(at: Process, line: Line, limit: int) -> list[Item]:
    """All items of a line, from pages of ``limit``; no page is longer, and the walk ends."""
    found: list[Item] = []
    after: Key | None = None
    seen: set[Key] = set()
    while True:
        page = await page_of_items(at.db, ACCESS, line, after=after, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        if page.next is None:
            return found
        assert page.next not in seen, page
        seen.add(page.next)
        after = page.next


async def check_lines(at: Process, limit: int) -> Sheet:
    """Every line against its items, and the charged lines against the counters."""
    sheet = (await show_sheet(at.db, ACCESS)).sheet
    for line, size in sheet.lines.items():
        items = await items_of(at, line, limit)
        assert sum(item.bytes for item in items) == size, (line, items)
        names = [(item.path, item.version, item.upload and item.upload.id) for item in items]
        if line is not Line.TRASH:  # where one path may have been deleted twice
            assert len(names) == len(set(names)), line
        assert all((item.upload is None) != (item.version is None) for item in items)
        assert all(item.path.startswith("/") and item.author for item in items)
    assert sheet.charged == sheet.used
    counted = sa.select(groups.c.files).where(groups.c.id == GROUP)
    assert sheet.files == await at.one(counted)
    assert sheet.lines[Line.RESERVED] == sheet.reserved
    assert 0 <= sheet.unique <= sheet.charged
    return sheet


@pytest.mark.parametrize("seed", range(3))
async def test_items_sum_to_their_line_after_random_histories(
    open_site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    sums: dict[Line, int] = dict.fromkeys(Line, 0)
    async with open_site as site:
        at = await site.start(uploads__reserve_step_bytes=2**20)
        await at.transact(add_actors)
        history = History(at, GROUP, rng.randrange, [])
        limits = (history._limit, history._limit_files, history._limit_share)
        history.acts = [act for act in history.acts if act not in limits]
        history.acts.append(partial(history._one_path, "put_in_trash"))
        for step in range(STEPS):
            await history.step()
            if step % 20 == 19:
                monkeypatch.setattr(sheet_walk, "MOST_QUERIES", rng.choice([1, 2, 200]))
                sheet = await check_lines(at, limit=rng.choice([1, 2, 3, 100]))
                sums = {line: sums[line] + size for line, size in sheet.lines.items()}
    assert all(sums[line] for line in (Line.LIVE, Line.VERSIONS, Line.TRASH)), sums


async def test_what_is_temporary_stands_beside_what_is_charged(any_site: Site) -> None:
    at = await any_site.start()
    for name in "ab":
        await at.upload(random_bytes(LARGEST, name), name)
    running = await at.begin(2 * LARGEST, "c")
    pooled = {"pool_id": "grp_pool"}
    await at.change(
        sa.update(versions)
        .where(versions.c.id == await _version_of(at, "b"))
        .values(pooled | {"expires_at": now_us() + DAY_US})
    )
    await at.change(sa.update(uploads).where(uploads.c.id == running.id).values(pooled))
    sheet = (await show_sheet(at.db, ACCESS)).sheet

    assert sheet.lines == {
        Line.LIVE: LARGEST,
        Line.VERSIONS: 0,
        Line.TRASH: 0,
        Line.RESERVED: 0,
        Line.TEMPORARY: LARGEST,
        Line.TEMPORARY_RESERVED: 2 * LARGEST,
    }
    assert (sheet.unique, sheet.saved) == (LARGEST, 0), "of what is charged alone"
    (live,) = await items_of(at, Line.LIVE, 1)
    (temporary,) = await items_of(at, Line.TEMPORARY, 1)
    (reserved,) = await items_of(at, Line.TEMPORARY_RESERVED, 1)
    assert (live.path, temporary.path, temporary.version) == ("/a", "/b", 1)
    assert temporary.expires_at is not None and reserved.upload is not None
    assert (reserved.path, reserved.upload.offset, reserved.upload.length) == ("/c", 0, 2 * LARGEST)


async def _version_of(at: Process, name: str) -> Any:
    return await at.one(
        sa.text(
            "SELECT versions.id FROM versions JOIN entries ON entries.id = versions.entry_id"
            f" WHERE entries.name = '{name}'"
        )
    )
