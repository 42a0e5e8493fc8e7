"""Groups for admins: who holds, grows and wastes most, and when each is full."""

import sqlalchemy as sa

from filestore.acts import tree
from filestore.acts.access import GroupAccess
from filestore.acts.sheets import page_of_reports, show_sheet
from filestore.meta.growth import DAY_US
from filestore.meta.reports import Key, Sort
from filestore.meta.tables import groups, now_us, quota_journal, versions
from filestore.names import parse_path
from filestore.quota.forecast import Forecast, Outlook
from tests.services.hot_path import ACTOR, DOMAIN, Process, Site, add_group, random_bytes

SIZE = 1000


async def add_history(at: Process, group: str, used: dict[int, int], limit: int) -> None:
    """A group whose journal says what it held so many days ago."""
    await at.transact(add_group, group, quota=limit)
    before = 0
    for seq, (days, size) in enumerate(sorted(used.items(), reverse=True), 1):
        await at.change(
            quota_journal.insert().values(
                group_id=group,
                seq=seq,
                at=now_us() - sa.literal(days * DAY_US, sa.BigInteger),
                cause="charge",
                delta_used=size - before,
                delta_reserved=0,
                used_after=size,
                reserved_after=0,
            )
        )
        before = size
    held = {"used": before, "journal_seq": len(used)}
    await at.change(sa.update(groups).where(groups.c.id == group).values(held))


async def order(at: Process, sort: Sort, limit: int = 1) -> list[str]:
    """The groups in this order, from pages of ``limit``."""
    found: list[str] = []
    after: Key | None = None
    while True:
        rows = await page_of_reports(at.db, sort, unread_days=90, after=after, limit=limit)
        found += [report.sheet.group_id for report, _ in rows]
        if len(rows) < limit:
            return found
        after = (rows[-1][0].key, rows[-1][0].sheet.group_id)


async def test_groups_come_by_what_they_hold_and_how_they_grow(any_site: Site) -> None:
    at = await any_site.start()
    await add_history(at, "grp_b", {40: 900, 20: 950, 3: 1000}, 10_000)
    await add_history(at, "grp_a", {40: 100, 20: 600, 3: 700}, 800)
    await add_history(at, "grp_c", {40: 500, 20: 400, 3: 300}, 0)

    assert await order(at, Sort.USAGE) == ["grp_b", "grp_a", "grp_c", "grp_test"]
    assert await order(at, Sort.GROWTH) == ["grp_a", "grp_b", "grp_test", "grp_c"]
    assert await order(at, Sort.USAGE_PERCENT) == ["grp_c", "grp_a", "grp_b", "grp_test"]
    assert await order(at, Sort.NAME, limit=3) == ["grp_a", "grp_b", "grp_c", "grp_test"]
    rows = await page_of_reports(at.db, Sort.NAME, unread_days=90, after=None, limit=3)
    growth = [(report.growth_7, report.growth_30) for report, _ in rows]
    assert growth == [(100, 600), (50, 100), (-100, -200)]
    assert all(report.active_at is not None for report, _ in rows)


async def test_the_forecast_comes_from_the_closing_balances_of_the_journal(any_site: Site) -> None:
    at = await any_site.start()
    await add_history(at, "grp_a", {days: 100 * (40 - days) for days in range(40)}, 14_000)
    await add_history(at, "grp_b", {3: 5, 1: 6}, 100)
    rows = await page_of_reports(at.db, Sort.NAME, unread_days=90, after=None, limit=2)
    assert rows[0][1] == Forecast(Outlook.GROWING, days_to_full=100, bytes_per_day=100)
    assert rows[1][1] == Forecast(Outlook.TOO_SHORT)
    found = await show_sheet(at.db, GroupAccess("grp_a", "grp_a", DOMAIN, None), days=7)
    assert found.forecast == rows[0][1]


async def test_waste_is_trash_old_versions_duplicates_and_what_nobody_read(any_site: Site) -> None:
    at = await any_site.start()
    for group in ("grp_a", "grp_b"):
        await at.transact(add_group, group)
    for group, names in (("grp_a", "xxyz"), ("grp_b", "x")):
        for index, name in enumerate(names):
            data = random_bytes(SIZE, name if name != "y" else "x")
            await at.upload(data, name if index != 1 else "x", group=group)
    await at.upload(random_bytes(SIZE, "trash"), "t", group="grp_a")
    await at.transact(tree.put_in_trash, ACTOR, "grp_a", parse_path("t"))
    old = now_us() - sa.literal(100 * DAY_US, sa.BigInteger)
    await at.change(sa.update(versions).values(created_at=old))
    unread = sa.text(
        "UPDATE versions SET downloaded_at = 1 WHERE entry_id IN"
        " (SELECT id FROM entries WHERE name <> 'z')"
    )
    await at.change(unread)

    assert await order(at, Sort.WASTE) == ["grp_a", "grp_b", "grp_test"]
    (first, _), (second, _), _ = await page_of_reports(
        at.db, Sort.WASTE, unread_days=90, after=None, limit=5
    )
    sheet = first.sheet
    assert (sheet.lines["trash"], sheet.lines["versions"], sheet.saved) == (SIZE, SIZE, 2 * SIZE)  # type: ignore[index]
    assert (first.never_read, first.waste, first.key) == (SIZE, 5 * SIZE, 5 * SIZE)
    assert (second.waste, second.never_read) == (0, 0)
    (fresh, _), *_ = await page_of_reports(at.db, Sort.WASTE, unread_days=101, after=None, limit=1)
    assert fresh.never_read == 0
