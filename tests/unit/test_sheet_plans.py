"""A page of what is behind a line costs what it shows: no plan walks through a group or a table."""

import re

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.acts.access import GroupAccess
from filestore.acts.log import page_of_records
from filestore.acts.sheets import page_of_items
from filestore.meta.log_reading import Wanted
from filestore.meta.sheet import Line
from filestore.names import parse_path
from tests.services.hot_path import ACTOR, DOMAIN, GROUP, USER, Process, Site, random_bytes
from tests.unit.test_gc_query_plans import listening, plans_of

ACCESS = GroupAccess(GROUP, GROUP, DOMAIN, None)
_TABLES = "entries|versions|uploads|audit_log"
_WALK = re.compile(rf"SCAN ({_TABLES})\b|Seq Scan on ({_TABLES})\b")
_WHOLE_GROUP = re.compile(
    r"ix_entries_group_id|ix_uploads_group_id|USING INDEX ix_versions_content"
)


async def furnished(site: Site) -> Process:
    """Something behind every line but what is temporary, in folders and beside them."""
    at = await site.start()
    for index in range(4):
        for place in ("", "f", "f/g"):
            await at.upload(random_bytes(100, index), f"a{index}", folder=parse_path(place))
    for _ in range(3):
        await at.upload(random_bytes(100, "again"), "a0")
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("a1"))
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("f/g"))
    for index in range(3):
        await at.begin(100, f"running{index}")
    return at


async def list_all(at: Process) -> dict[Line, int]:
    """How many items each line has, in pages of one."""
    counts = dict.fromkeys(Line, 0)
    for line in Line:
        after = None
        while True:
            page = await page_of_items(at.db, ACCESS, line, after=after, limit=1)
            counts[line] += len(page.items)
            if (after := page.next) is None:
                break
    return counts


async def read_log(at: Process) -> None:
    for wanted in (
        Wanted(),
        Wanted(from_us=1, to_us=2**62),
        Wanted(actor=USER),
        Wanted(group=GROUP),
        Wanted(act="file.write", from_us=1),
    ):
        await page_of_records(at.db, wanted, before=(2**62, 1), limit=2)


async def check_plans(at: Process) -> None:
    with listening() as asked:
        counts = await list_all(at)
        await read_log(at)
    assert counts[Line.LIVE] == 7 and counts[Line.TRASH] == 5, counts
    assert counts[Line.VERSIONS] == 3 and counts[Line.RESERVED] == 3, counts
    plans = await plans_of(
        at, {text: had for text, had in asked.items() if "SET TRANS" not in text}
    )
    assert len(plans) > 10
    for statement, plan in plans.items():
        assert not _WALK.search(plan), f"{statement}\n{plan}"
        assert not _WHOLE_GROUP.search(plan), f"{statement}\n{plan}"


async def test_no_page_on_sqlite_walks_through_a_group(memory_site: Site) -> None:
    await check_plans(await furnished(memory_site))


async def test_no_page_on_postgres_walks_through_a_group(postgres_site: Site) -> None:
    await check_plans(await furnished(postgres_site))


@pytest.mark.parametrize("line", [Line.LIVE, Line.TRASH])
async def test_a_page_goes_on_behind_a_folder_that_is_gone(memory_site: Site, line: Line) -> None:
    at = await memory_site.start()
    for place in ("a", "b", "c"):
        await at.upload(random_bytes(100, place), "x", folder=parse_path(f"top/{place}"))
    if line is Line.TRASH:
        await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("top"))
    first = await page_of_items(at.db, ACCESS, line, after=None, limit=2)
    assert [item.path for item in first.items] == ["/top/a/x", "/top/b/x"]
    moved = "UPDATE entries SET name_key = 'z' WHERE name = 'b'"
    await at.change(sa.text(moved))
    second = await page_of_items(at.db, ACCESS, line, after=first.next, limit=2)
    assert [item.path for item in second.items] == ["/top/c/x", "/top/b/x"], "under its new name"
