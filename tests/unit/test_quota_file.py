"""Quotas as a CSV file: what goes out comes in the same, and what is wrong is said by its line."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filestore.cells import plain_cell, safe_cell
from filestore.cli.quota_file import read_rows, write_rows
from filestore.cli.quota_text import bar, forecast_text, outcome_line, quota_lines
from filestore.client.transport import Document
from filestore.errors import BadRequest, Json

HEAD = "group,quota_bytes,soft_limit,files_limit\n"


def read(folder: Path, text: str) -> list[Json]:
    file = folder / "quotas.csv"
    file.write_bytes(text.encode())
    return read_rows(file)


@given(st.text())
def test_every_text_comes_back_from_a_safe_cell(text: str) -> None:
    cell = safe_cell(text)
    assert plain_cell(cell) == text
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "'=a", "''a", "'a", "a,b", 'a"b', "格"])
def test_names_come_back_as_they_were_and_no_spreadsheet_computes_them(
    tmp_path: Path, name: str
) -> None:
    item: Document = {"group": name, "quota_bytes": 2**40, "soft_limit": None, "files_limit": 0}
    text = write_rows([item])
    assert read(tmp_path, text) == [{**item, "line": 2}]
    (cell, *_) = list(csv.reader(io.StringIO(text)))[1]
    assert cell[0] not in "=+-@"


def test_sizes_are_taken_as_people_write_them(tmp_path: Path) -> None:
    text = "\ufeff" + HEAD + "lab,10GiB,1.5 MB,\n\nshop,0,,10\n"
    assert read(tmp_path, text) == [
        {"line": 2, "group": "lab", "quota_bytes": 10 * 2**30, "soft_limit": 1_500_000}
        | {"files_limit": None},
        {"line": 4, "group": "shop", "quota_bytes": 0, "soft_limit": None, "files_limit": 10},
    ]
    assert read(tmp_path, HEAD + "lab,1,none,None\n") == [
        {"line": 2, "group": "lab", "quota_bytes": 1, "soft_limit": None, "files_limit": None}
    ]
    assert read(tmp_path, "Quota_Bytes,group\r\n5,lab\r\n") == [
        {"line": 2, "quota_bytes": 5, "group": "lab"}
    ]


def test_all_wrong_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    text = HEAD + "lab,10 apples,,\nshop,1,,\n,1,,\nlab,1,2\nlab,1,,-1\nlab,,,\n"
    with pytest.raises(BadRequest) as refused:
        read(tmp_path, text)
    errors = refused.value.members["errors"]
    assert isinstance(errors, list)
    fields = [one["field"] for one in errors if isinstance(one, dict)]
    assert fields == [
        "line 2, quota_bytes",
        "line 4, group",
        "line 5, row",
        "line 6, files_limit",
        "line 7, quota_bytes",
    ]
    assert str(refused.value).startswith("line 2, quota_bytes: '10 apples' is not a size")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the header is missing"),
        ("lab,10GiB\n", "the header is missing"),
        ("group;quota_bytes\nlab;1\n", "separated by semicolons; save it with commas"),
        ("Group\tquota_bytes\tsoft_limit\n", "separated by tabs; save it with commas"),
        ("group,quota_bytes,owner\n", "there is no column 'owner'"),
        ("group,quota_bytes,group\n", "twice"),
        (HEAD, "no rows"),
        (HEAD + '"lab,1,,\n', "no CSV"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(tmp_path, text)
    assert reason in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"group,quota_bytes\n\xff\xfe,1\n")
    with pytest.raises(BadRequest) as refused:
        read_rows(tmp_path / "x.csv")
    assert "not UTF-8" in str(refused.value)


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 100, "[....................]   0%"),
        (50, 100, "[##########..........]  50%"),
        (1, 10**6, "[#...................]  <1%"),
        (300, 100, "[####################] 300%"),
        (5, 0, "[#...................]   0%"),
    ],
)
def test_bars_never_show_something_as_nothing(part: int, whole: int, shown: str) -> None:
    assert bar(part, whole) == shown


def test_a_quota_reads_like_a_sheet() -> None:
    quota = {
        "limit_bytes": 100 * 2**20, "used_bytes": 50 * 2**20, "live_bytes": 30 * 2**20,
        "versions_bytes": 10 * 2**20, "trash_bytes": 10 * 2**20, "reserved_bytes": 0,
        "free_bytes": 50 * 2**20, "unique_bytes": 40 * 2**20, "shared_bytes": 10 * 2**20,
        "soft_limit_bytes": 80 * 2**20, "temporary_bytes": 2**20, "files": 3, "files_limit": 10,
        "overflows": True,
        "forecast": {"outlook": "growing", "days_to_full": 5, "bytes_per_day": 10 * 2**20},
    }  # fmt: skip
    text = "\n".join(quota_lines("lab", quota))
    assert text.startswith("lab: 50 MiB used of 100 MiB\n")
    assert "trash                  10 MiB  [##..................]  10%" in text
    assert "not charged to the group" in text and "3 files of 10" in text
    assert text.endswith("full in 5 days, at 10 MiB a day")
    assert forecast_text({"outlook": "new word", "bytes_per_day": None}) == "new word"


def test_a_changed_quota_says_what_it_was_and_whether_it_is_too_small() -> None:
    before = {"quota_bytes": 2**30, "soft_limit": None, "files_limit": 5}
    after = {"quota_bytes": 2**20, "soft_limit": 2**10, "files_limit": 5}
    row = {"group": "lab", "before": before, "after": after, "used_bytes": 2**21}
    said = outcome_line(row | {"below_use": True})
    assert said == (
        "lab: quota_bytes 1 GiB -> 1 MiB, soft_limit none -> 1 KiB (used 2 MiB);"
        " BELOW what it holds"
    )
