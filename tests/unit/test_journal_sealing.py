"""Seals: bytes that no two journals share, ranges that follow, and heads that lie outside."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from filestore.errors import StoreUnavailable
from filestore.meta import journal
from filestore.meta.columns import now_us
from filestore.meta.journal import Row
from filestore.meta.tables import journal_seals, quota_journal
from filestore.quota.sealing import (
    GENESIS,
    KIND,
    Chaining,
    Gap,
    Mark,
    Unreadable,
    encode_row,
    mark_seals,
    marks_of,
    seal_next,
    superseded,
)
from filestore.quota.verifying import verify_journal
from filestore_gc import run_fsck
from filestore_gc.metrics import Figures, GcMetrics
from filestore_gc.sealer import Sealer, running_sealer
from tests.contract.faulty import Fault, Kind
from tests.services.collecting import start
from tests.services.hot_path import GROUP, Process, Site, add_group, sqlite_site
from tests.services.journals import START, tamper, write_rows

NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ROWS = st.builds(Row, NUMBERS, NUMBERS, *[TEXTS] * 7, *[NUMBERS] * 8)


@given(ROWS, ROWS)
def test_two_rows_have_the_same_bytes_only_when_they_are_the_same(one: Row, other: Row) -> None:
    assert (encode_row(one) == encode_row(other)) == (one == other)


@given(ROWS, st.integers(2, 8), TEXTS)
def test_a_row_with_one_text_changed_has_other_bytes(row: Row, at: int, text: str | None) -> None:
    changed = Row._make([*row[:at], text, *row[at + 1 :]])
    assert (encode_row(changed) == encode_row(row)) == (changed == row)


@given(st.lists(ROWS, max_size=3), st.lists(ROWS, max_size=3))
def test_no_two_lists_of_rows_run_into_each_other(one: list[Row], other: list[Row]) -> None:
    encoded = [b"".join(map(encode_row, rows)) for rows in (one, other)]
    assert (encoded[0] == encoded[1]) == (one == other)


def test_the_head_of_a_known_range_stays_what_it_is() -> None:
    """Changing the encoding breaks the proof of every journal there is: make a new version."""
    row = Row(1, 2, "usr_1", "charge", None, "usr_1", "", "/a", "x/y", 5, -5, 1, -1, 5, 0, 1, 0)
    chaining = Chaining(GENESIS, "grp_1", 1, 1)
    chaining.feed([row])
    assert chaining.head().hex() == (
        "bd7355192f708d6c1e81c65d7ec515e358af45da49071e4f01e3a38caa54fea5"
    )


@pytest.mark.parametrize(
    "changed", [{"at": "now"}, {"cause": 5}, {"used_after": 2**63}, {"path": "\ud800"}]
)
def test_a_row_that_the_service_cannot_have_written_is_refused(changed: dict[str, Any]) -> None:
    row = Row(1, 2, None, "charge", None, None, None, None, None, 5, 0, 0, 0, 5, 0, 0, 0)
    with pytest.raises(Unreadable):
        encode_row(row._replace(**changed))


async def seals(process: Process) -> list[Any]:
    return list(await process.all(sa.select(journal_seals).order_by(journal_seals.c.last_seq)))


async def marked(process: Process, group: str = GROUP) -> list[int]:
    return [mark.seq for mark in await marks_of(process.store, group)]


def sealer_of(process: Process, site: Site, **journal_settings: int) -> Sealer:
    section = site.settings.journal.model_copy(update=journal_settings)
    settings = site.settings.model_copy(update={"journal": section})
    return Sealer(process.db, process.store, process.id, settings)


async def test_ranges_follow_one_another_and_the_newest_head_lies_outside(any_site: Site) -> None:
    process = await any_site.start()
    await write_rows(process, 25)
    assert await sealer_of(process, any_site, seal_rows=10).run_once() == 3
    found = await seals(process)
    assert [(row.first_seq, row.last_seq) for row in found] == [(1, 10), (11, 20), (21, 25)]
    assert [row.previous for row in found] == [GENESIS, *(row.head for row in found[:-1])]
    assert all(row.marked_at is not None for row in found), "one head stands for all before it"
    (mark,) = await marks_of(process.store, GROUP)
    assert (mark.seq, mark.head) == (25, found[-1].head)
    assert (await verify_journal(process.db, process.store)).is_good


async def test_what_is_due_is_an_old_row_or_many(any_site: Site) -> None:
    process = await any_site.start()
    now = await process.one(sa.select(now_us()))
    await write_rows(process, 4, start_us=now)
    sealer = sealer_of(process, any_site, seal_rows=5, seal_interval_s=3600)
    assert await sealer.run_if_due() == 0
    await write_rows(process, 1, start_us=now)
    assert await sealer.run_if_due() == 1
    await write_rows(process, 1, start_us=now - 3601 * 10**6)
    assert await sealer.run_if_due() == 1
    await write_rows(process, 1, start_us=now + 7200 * 10**6)
    assert await sealer.run_if_due() == 1, "the clock was set back since"
    assert await sealer.run_if_due() == 0


async def test_each_group_is_judged_by_its_own_seals(any_site: Site) -> None:
    process = await any_site.start()
    await process.transact(add_group, "grp_other")
    await write_rows(process, 30)
    await write_rows(process, 9, group="grp_other")
    sealer = sealer_of(process, any_site)
    await sealer.run_once()
    await write_rows(process, 2, group="grp_other")
    figures = await process.db.read(journal.seal_figures)
    assert (figures.unsealed, figures.oldest_at) == (2, START + 10**6)
    assert await sealer.run_if_due() == 1
    assert [(row.group_id, row.last_seq) for row in await seals(process)] == [
        ("grp_other", 9), ("grp_other", 11), (GROUP, 30),
    ]  # fmt: skip


async def test_a_store_that_is_away_keeps_no_seal_from_being_made_and_is_told_later(
    any_site: Site,
) -> None:
    process = await any_site.start()
    await write_rows(process, 3)
    process.store.plan = [Fault("write_mark", 0, Kind.BEFORE)]
    sealer = sealer_of(process, any_site)
    with pytest.raises(StoreUnavailable):
        await sealer.run_once()
    ((seal),) = await seals(process)
    assert (seal.last_seq, seal.marked_at) == (3, None)
    assert (await verify_journal(process.db, process.store)).is_good
    process.store.plan = []
    assert await sealer.run_if_due() == 0
    assert await marked(process) == [3]
    assert (await seals(process))[0].marked_at is not None


@pytest.mark.parametrize("operation", ["write_mark", "walk_marks", "remove_marks"])
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
async def test_a_break_at_any_step_of_marking_leaves_nothing_wrong(
    memory_site: Site, operation: Any, kind: Kind
) -> None:
    process = await memory_site.start()
    await write_rows(process, 3)
    sealer = sealer_of(process, memory_site)
    await sealer.run_once()
    await write_rows(process, 3)
    process.store.plan = [Fault(operation, process.store.calls[operation] + 1, kind)]
    with pytest.raises(StoreUnavailable):
        await sealer.run_once()
    assert (await verify_journal(process.db, process.store)).is_good
    await write_rows(process, 1)
    await sealer.run_once()
    assert await marked(process) == [7]
    assert (await verify_journal(process.db, process.store)).is_good


async def test_of_two_that_seal_the_same_rows_one_is_refused(any_site: Site) -> None:
    process = await any_site.start()
    await write_rows(process, 10)
    found = await asyncio.gather(
        *(seal_next(process.db, GROUP, limit=limit) for limit in (3, 5, 7, 9))
    )
    assert sum(seal is not None for seal in found) >= 1
    rows = await seals(process)
    assert len({row.first_seq for row in rows}) == len(rows)
    while await seal_next(process.db, GROUP, limit=4):
        continue
    assert (await verify_journal(process.db, process.store)).is_good


async def test_a_journal_with_a_gap_is_not_sealed_and_keeps_no_other_from_it(
    memory_site: Site,
) -> None:
    process = await memory_site.start()
    await process.transact(add_group, "grp_other")
    await write_rows(process, 5)
    await write_rows(process, 5, group="grp_other")
    await tamper(process, quota_journal.delete().where(
        quota_journal.c.group_id == GROUP, quota_journal.c.seq == 2
    ))  # fmt: skip
    with pytest.raises(Gap):
        await seal_next(process.db, GROUP, limit=10)
    sealer = sealer_of(process, memory_site)
    assert await sealer.run_once() == 1
    assert [row.group_id for row in await seals(process)] == ["grp_other"]
    assert await sealer.run_if_due() == 0


def mark(seq: int, day: dt.date) -> Mark:
    return Mark("grp_1", seq, day, bytes([seq % 256]) * 32)


def test_marks_are_kept_of_each_day_for_a_month_and_then_of_each_month() -> None:
    first = dt.date(2026, 1, 1)
    days = [first + dt.timedelta(number) for number in range(365)]
    every = [mark(2 * number + half, day) for number, day in enumerate(days) for half in (0, 1)]
    gone = superseded(every)
    kept = [one for one in every if one not in gone]
    assert kept[-1] == every[-1]
    assert [one.day for one in kept[-32:]] == days[-32:]
    assert len(kept) == 32 + 11 and all(one.seq % 2 for one in kept)
    assert superseded(kept) == []


def test_the_newest_mark_stays_also_when_the_clock_was_set_back() -> None:
    days = (dt.date(2026, 5, 2), dt.date(2026, 5, 1), dt.date(2020, 1, 1))
    marks = [mark(number, day) for number, day in enumerate(days)]
    assert marks[2] not in superseded(marks)


def test_a_mark_says_in_its_name_what_it_is() -> None:
    one = mark(7, dt.date(2026, 1, 31))
    assert Mark.parse(one.name) == one
    for name in ("", "grp_1/7", "grp_1/x.2026-01-31.00", one.name[:-1], f"{one.name}.x"):
        assert Mark.parse(name) is None, name


async def test_fsck_knows_marks_for_what_they_are(tmp_path: Path) -> None:
    async with sqlite_site(tmp_path, in_memory=False) as site:
        process = await start(site)
        await process.upload(b"x" * 1000)
        await sealer_of(process, site).run_once()
        assert len(await marked(process)) == 1
        found = (await run_fsck(process.db, process.store, site.settings)).to_json()
        assert (found["is_good"], found["notes"]) == (True, [])


async def test_superseded_marks_go_and_heads_of_another_chain_stay(memory_site: Site) -> None:
    process = await memory_site.start()
    strange = Mark(GROUP, 2, dt.date(2026, 1, 1), bytes(32))
    await process.store.write_mark(KIND, strange.name)
    for _ in range(3):
        await write_rows(process, 3)
        assert await seal_next(process.db, GROUP, limit=10) is not None
        assert await mark_seals(process.db, process.store) == 1
    assert await marked(process) == [2, 9]


async def test_the_service_seals_by_itself_and_shows_how_far(memory_site: Site) -> None:
    process = await memory_site.start(journal__seal_rows=5)
    registry = CollectorRegistry()
    figures = Figures(process.db, GcMetrics(registry))

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"filestore_journal_{name}")

    await write_rows(process, 3)
    await figures.refresh()
    assert shown("unsealed_rows") == 3 and shown("last_seal_timestamp_seconds") == 0
    assert shown("unsealed_oldest_timestamp_seconds") == START / 1e6 + 1
    process.store.plan = [held := Fault("write_mark", 1, Kind.HOLD)]
    async with running_sealer(memory_site.settings, process.db, process.store, process.id):
        async with asyncio.timeout(20):
            await held.reached.wait()
        await figures.refresh()
        assert shown("unsealed_rows") == 0 and shown("unmarked_seals") == 1
        assert (shown("last_seal_timestamp_seconds") or 0) > START / 1e6
        assert shown("unsealed_oldest_timestamp_seconds") == 0
