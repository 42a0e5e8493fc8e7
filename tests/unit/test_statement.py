"""Statements: periods that adjoin, totals that sum up exactly, and forms that nothing breaks."""

import csv
import datetime as dt
import io
import json
import random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from filestore.errors import BadRequest
from filestore.http.statement_forms import COLUMNS, CsvForm, Form, Heading, JsonForm, member_of
from filestore.meta.journal import Balance, Row
from filestore.meta.tables import groups, quota_journal
from filestore.quota import statement
from filestore.quota.statement import (
    OTHERS,
    Period,
    Totals,
    entries,
    find_balance,
    find_period,
    parse_moment,
    parse_zone,
    top_folder,
)
from tests.services.hot_path import GROUP, Process, Site
from tests.services.journals import DAY, SECOND, START, tamper, write_rows

HEADING = Heading(GROUP, "maths", START, None, "UTC")


async def written(
    process: Process, form: Form, *, begin: int | None = None, end: int | None = None
) -> tuple[bytes, Period, Totals]:
    period = await find_period(process.db, GROUP, begin=begin, end=end)
    totals = Totals(dt.UTC)
    pieces = [form.begin(HEADING, period)]
    async for rows, names in entries(process.db, period):
        for row in rows:
            totals.add(row, member_of(row, names))
        pieces.append(form.page(rows, names))
    pieces.append(form.end(period, totals))
    return b"".join(pieces), period, totals


def moved(period: Period) -> list[int]:
    return [after - before for before, after in zip(period.opening, period.closing, strict=True)]


@pytest.mark.parametrize("seed", range(5))
async def test_totals_of_random_journals_sum_up_to_closing_minus_opening(
    any_site: Site, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement, "PAGE", 17)
    process = await any_site.start()
    await write_rows(process, 120, seed=seed, step_us=DAY // 11)
    chance = random.Random(seed)
    cuts = sorted(START + chance.randrange(12 * DAY) for _ in range(3))
    edges = [None, *cuts, None]
    closing, rows = Balance(), 0
    for begin, end in zip(edges, edges[1:], strict=False):
        body, period, totals = await written(process, JsonForm(), begin=begin, end=end)
        assert period.opening == closing, "it begins where the one before ended"
        closing, rows = period.closing, rows + period.last - period.first + 1
        assert totals.moved == moved(period) and not any(totals.unexplained(period))
        for table in (totals.members, totals.folders, totals.types, totals.days):
            assert [sum(column) for column in zip(*table.values(), strict=True)] in (
                moved(period),
                [],
            )
        document = json.loads(body)
        assert len(document["entries"]) == period.last - period.first + 1
        lines = document["totals"]["types"]
        assert sum(line["bytes"] for line in lines) == moved(period)[0]
    assert rows == 120
    row = (await process.all(sa.select(groups).where(groups.c.id == GROUP)))[0]
    assert closing == (row.used, row.reserved, row.files, row.reserved_files)


async def test_a_period_is_a_range_of_rows_also_where_the_clock_was_set_back(
    any_site: Site,
) -> None:
    process = await any_site.start()
    for seconds in (0, 5, -60, 10):
        await write_rows(process, 1, start_us=START + seconds * SECOND - SECOND, seed=seconds)
    spans = {}
    for seconds in (-100, 0, 1, 6, 11):
        at = START + seconds * SECOND
        period = await find_period(process.db, GROUP, begin=at, end=None)
        before = await find_period(process.db, GROUP, begin=None, end=at)
        assert before.last == period.first - 1 and before.closing == period.opening
        assert await find_balance(process.db, GROUP, at) == (before.last, before.closing)
        spans[seconds] = period.first, period.last
    assert spans == {-100: (1, 4), 0: (1, 4), 1: (2, 4), 6: (4, 4), 11: (5, 4)}


async def test_an_empty_journal_and_an_empty_period_are_statements_too(any_site: Site) -> None:
    process = await any_site.start()
    for begin, end in ((None, None), (START, None), (None, START), (START, START)):
        body, period, _ = await written(process, JsonForm(), begin=begin, end=end)
        assert json.loads(body)["entries"] == []
        assert period.opening == period.closing == Balance()
    assert await find_balance(process.db, GROUP, None) == (0, Balance())
    with pytest.raises(BadRequest):
        await find_period(process.db, GROUP, begin=2, end=1)


async def test_what_is_written_meanwhile_is_left_for_the_next_statement(memory_site: Site) -> None:
    process = await memory_site.start()
    await write_rows(process, 5)
    period = await find_period(process.db, GROUP, begin=None, end=None)
    await write_rows(process, 5)
    pages = [rows async for rows, _ in entries(process.db, period)]
    assert [row.seq for rows in pages for row in rows] == [1, 2, 3, 4, 5]
    assert pages[-1][-1][13:] == period.closing


async def test_a_counter_that_moved_without_a_row_is_told_as_unexplained(memory_site: Site) -> None:
    process = await memory_site.start()
    await write_rows(process, 3)
    await process.change(groups.update().values(used=groups.c.used + 9))
    await write_rows(process, 3)
    body, period, totals = await written(process, CsvForm())
    assert totals.unexplained(period) == Balance(9, 0, 0, 0)
    lines = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    (line,) = [line for line in lines if line["line"] == "unexplained"]
    assert line["bytes"] == "9"


async def test_csv_is_one_table_that_no_spreadsheet_computes(memory_site: Site) -> None:
    process = await memory_site.start()
    await write_rows(process, 60)
    hostile = '=HYPERLINK("x"),\n+1'
    change = quota_journal.update().where(quota_journal.c.seq == 60)
    await tamper(process, change.values(mime=hostile, path="@x", actor_id="+SUM(1)"))
    body, period, _ = await written(process, CsvForm())
    text = body.decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(COLUMNS)} and rows[0] == list(COLUMNS)
    lines = [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]
    assert [line["line"] for line in lines[:61]] == ["opening", *["entry"] * 60]
    assert lines[61]["line"] == "closing" and int(lines[61]["used_after"]) == period.closing[0]
    assert (lines[60]["type"], lines[60]["path"], lines[60]["actor"]) == (
        f"'{hostile}", "'@x", "'+SUM(1)",
    )  # fmt: skip
    for line in lines:
        for column in ("at", "actor", "member", "cause", "path", "type", "line"):
            assert not line[column].startswith(("=", "+", "-", "@", "\t")), line
    for kind in ("member", "folder", "type", "day"):
        sums = [int(line["bytes"]) for line in lines if line["line"] == kind]
        assert sum(sums) == moved(period)[0], kind
    assert text.count("\r\n") == len(rows) and text.endswith("\r\n")


@given(st.lists(st.text(max_size=5) | st.none(), min_size=1, max_size=5))
def test_both_forms_are_valid_whatever_the_names(names: list[str | None]) -> None:
    rows = [
        Row(number, 1, name, "charge", None, name, None, name, name, 1, 0, 0, 0, number, 0, 0, 0)
        for number, name in enumerate(names, 1)
    ]
    period = Period(GROUP, 1, len(rows), Balance(), Balance(len(rows)))
    totals = Totals(dt.UTC)
    for row in rows:
        totals.add(row, member_of(row, {}))

    def whole(form: Form) -> bytes:
        body = form.begin(HEADING, period) + form.page(rows, {})
        return body + form.end(period, totals)

    document = json.loads(whole(JsonForm()))
    assert [entry["type"] for entry in document["entries"]] == names
    text = whole(CsvForm()).decode()
    table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in table} == {len(COLUMNS)}


def test_what_is_told_apart_is_bounded_and_still_sums_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement, "MAX_LINES", 3)
    totals = Totals(dt.UTC)
    for number in range(10):
        path, at = f"/f{number}/x", number * DAY
        totals.add(
            Row(number, at, None, "c", None, None, None, path, None, 2, 0, 1, 0, 0, 0, 0, 0), None
        )
    assert set(totals.folders) == {"/f0", "/f1", "/f2", OTHERS}
    assert totals.folders[OTHERS] == [14, 0, 7, 0]
    assert sum(line[0] for line in totals.days.values()) == 20


def test_days_are_those_of_the_zone() -> None:
    totals = Totals(ZoneInfo("Asia/Shanghai"))
    at = parse_moment("2026-03-01T18:00:00Z", dt.UTC, "at")
    totals.add(Row(1, at, None, "c", None, None, None, None, None, 1, 0, 0, 0, 1, 0, 0, 0), None)
    assert list(totals.days) == ["2026-03-02"]


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-01-01", "UTC", START),
        ("2026-01-01T00:00:00Z", "Asia/Shanghai", START),
        ("2026-01-01", "Asia/Shanghai", START - DAY // 3),
        ("2026-01-01T08:00:00", "Asia/Shanghai", START),
        ("2026-01-01T00:00:01.5+00:00", "UTC", START + SECOND * 3 // 2),
    ],
)
def test_moments_are_read(text: str, zone: str, expected: int) -> None:
    assert parse_moment(text, parse_zone(zone), "from") == expected


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01", "0001-01-01", "9999-12-31", "1" * 41, "2026-01-01T25:00:00Z"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_moment(text, dt.UTC, "from")
    assert refused.value.members["field"] == "from"


@pytest.mark.parametrize("name", ["", "nowhere", "../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        parse_zone(name)


@pytest.mark.parametrize(
    ("path", "top"),
    [(None, None), ("/a", "/"), ("/a/b", "/a"), ("/a/b/c", "/a"), ("a/b", "/a"), ("a", "/")],
)
def test_the_folder_at_the_top(path: Any, top: Any) -> None:
    assert top_folder(path) == top
