"""Range, conditions, digests and media types as headers: pure functions on hostile text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from filestore.errors import BadHeader, FilestoreError, PreconditionFailed, RangeNotSatisfiable
from filestore.http.conditions import Conditions, Validators, range_applies
from filestore.http.digests import format_blake3, parse_expected
from filestore.http.media_types import OCTETS, may_be_inline, parse_media_type
from filestore.http.ranges import MAX_RANGES, Span, parse_range
from filestore.http.tus_headers import parse_checksum, parse_metadata, parse_number

SIZE = 1000
HERE = Validators('"cnt_a"', 1_700_000_000)
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 1000)]),
        ("bytes=999-", [(999, 1000)]),
        ("bytes=990-5000", [(990, 1000)]),
        ("bytes=-1", [(999, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("Bytes=5-9", [(5, 10)]),
        ("bytes=5-9, 20-29", [(5, 10), (20, 30)]),
        ("bytes=20-29,5-9", [(20, 30), (5, 10)]),
        ("bytes= ,5-9 ,\t, 20-29,", [(5, 10), (20, 30)]),
        ("bytes=5-9,2000-3000", [(5, 10)]),
        ("bytes=0-9,5-19", [(0, 20)]),
        ("bytes=10-19,0-9", [(0, 20)]),
        ("bytes=0-,0-,0-", [(0, 1000)]),
        ("bytes=500-,0-599,-1", [(0, 1000)]),
        ("bytes=0-" + "9" * 5000, [(0, 1000)]),
        ("bytes=" + "0" * 5000 + "7-8", [(7, 9)]),
    ],
)
def test_a_range_names_bytes(header: str, spans: list[tuple[int, int]]) -> None:
    assert parse_range(header, SIZE) == [Span(*span) for span in spans]


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5", "bytes=9-5"),
        *("bytes=0-1,x", "lines=0-5", "bytes 0-5", "bytes=+1-5", "bytes=1--5", "bytes=٣-5"),
        *("bytes=0x1-5", "bytes=1-5;q=1", "bytes=1_0-20", "bytes=0-1 2-3"),
    ],
)
def test_a_range_that_is_not_well_formed_is_ignored(header: str) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(
    "header",
    ["bytes=1000-", "bytes=-0", "bytes=1000-2000,3000-", f"bytes={'9' * 4000}-"],
)
def test_ranges_that_all_lie_outside_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, SIZE)
    assert caught.value.members["size"] == SIZE


def test_an_empty_file_has_no_byte_and_gives_its_last_ones() -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)
    assert parse_range("bytes=-5", 0) is None


def test_too_many_ranges_are_refused() -> None:
    many = "bytes=" + ",".join(f"{2 * number}-{2 * number}" for number in range(MAX_RANGES))
    assert len(parse_range(many, SIZE) or []) == MAX_RANGES
    with pytest.raises(RangeNotSatisfiable):
        parse_range(many + ",500-501", SIZE)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20),
    st.integers(1, 40),
)
def test_ranges_give_each_byte_once_and_only_what_was_asked(
    pairs: list[tuple[int, int]], size: int
) -> None:
    ordered = [(min(pair), max(pair)) for pair in pairs]
    wanted = {at for first, last in ordered for at in range(first, last + 1) if at < size}
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in ordered)
    try:
        spans = parse_range(header, size)
    except RangeNotSatisfiable:
        assert not wanted
        return
    assert spans is not None
    given_out = [at for span in spans for at in range(span.start, span.end)]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == wanted


@pytest.mark.parametrize(
    ("fields", "is_fresh"),
    [
        ({}, False),
        ({"If-None-Match": '"cnt_a"'}, True),
        ({"If-None-Match": 'W/"cnt_a"'}, True),
        ({"If-None-Match": "*"}, True),
        ({"If-None-Match": '"x", ,W/"y,z",\t"cnt_a"'}, True),
        ({"If-None-Match": '"x"'}, False),
        ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, False),
        ({"If-Modified-Since": DATE}, True),
        ({"If-Modified-Since": EARLIER}, False),
        ({"If-Modified-Since": "yesterday"}, False),
        ({"If-Modified-Since": "Tue, 99 Nov 99999 22:13:20 GMT"}, False),
        ({"If-Modified-Since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, True),
        ({"If-Modified-Since": "Tue Nov 14 22:13:20 2023"}, True),
        ({"If-Match": '"x", "cnt_a"'}, False),
        ({"If-Match": "*"}, False),
        ({"If-Unmodified-Since": DATE}, False),
        ({"If-Match": '"cnt_a"', "If-Unmodified-Since": EARLIER}, False),
    ],
)
def test_conditions_of_a_reader_hold(fields: dict[str, str], is_fresh: bool) -> None:
    assert Conditions.of(fields).check_read(HERE) is is_fresh


@pytest.mark.parametrize(
    "fields",
    [
        {"If-Match": '"x"'},
        {"If-Match": 'W/"cnt_a"'},
        {"If-Match": ""},
        {"If-Unmodified-Since": EARLIER},
    ],
)
def test_conditions_that_do_not_hold_are_named(fields: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        Conditions.of(fields).check_read(HERE)
    assert caught.value.members["header"] in fields


@pytest.mark.parametrize(
    ("fields", "found", "holds"),
    [
        ({"If-None-Match": "*"}, None, True),
        ({"If-None-Match": "*"}, HERE, False),
        ({"If-None-Match": '"cnt_a"'}, HERE, False),
        ({"If-None-Match": '"x"'}, HERE, True),
        ({"If-Match": "*"}, None, False),
        ({"If-Match": "*"}, HERE, True),
        ({"If-Match": '"cnt_a"'}, HERE, True),
        ({"If-Match": '"x"'}, HERE, False),
        ({"If-Unmodified-Since": EARLIER}, HERE, False),
        ({"If-Unmodified-Since": EARLIER}, None, True),
    ],
)
def test_conditions_of_a_writer(
    fields: dict[str, str], found: Validators | None, holds: bool
) -> None:
    conditions = Conditions.of(fields)
    if holds:
        conditions.check_write(found)
    else:
        with pytest.raises(PreconditionFailed):
            conditions.check_write(found)


@pytest.mark.parametrize("value", ["x", '"x', 'x"', '"a" "b"', 'w/"x"', "*, *", '"a"b', '"\x00"'])
def test_a_list_of_tags_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(BadHeader):
        Conditions.of({"If-None-Match": value})


@pytest.mark.parametrize(
    ("value", "is_strong", "applies"),
    [
        (None, False, True),
        ('"cnt_a"', False, True),
        ('"x"', True, False),
        ('W/"cnt_a"', True, False),
        (DATE, True, True),
        (DATE, False, False),
        (EARLIER, True, False),
        ("never", True, False),
    ],
)
def test_a_range_counts_only_for_the_same_representation(
    value: str | None, is_strong: bool, applies: bool
) -> None:
    assert range_applies(value, HERE, is_date_strong=is_strong) is applies


@pytest.mark.parametrize(
    "value",
    [" " * 60_000, '"a"' + " " * 60_000 + "x", "," * 60_000 + "x", '"' * 60_000, "/" * 60_000],
)
def test_long_hostile_headers_take_no_time(value: str) -> None:
    began = time.process_time()
    for attempt in (
        lambda: Conditions.of({"If-Match": value}),
        lambda: parse_range(f"bytes={value}", SIZE),
        lambda: parse_expected(value),
        lambda: parse_media_type("Content-Type", f"text/plain{value}"),
        lambda: parse_metadata(value),
        lambda: parse_checksum(CIMultiDict({"Upload-Checksum": value})),
        lambda: parse_number("Upload-Offset", value),
    ):
        try:
            attempt()
        except FilestoreError:
            continue
    assert time.process_time() - began < 1


@given(st.text(max_size=60))
def test_no_text_breaks_a_reader_of_headers(value: str) -> None:
    for attempt in (
        lambda: Conditions.of({"If-Match": value, "If-Modified-Since": value}).check_read(HERE),
        lambda: range_applies(value, HERE, is_date_strong=True),
        lambda: parse_range(value, SIZE),
        lambda: parse_expected(value),
        lambda: parse_media_type("Content-Type", value),
        lambda: parse_metadata(value),
        lambda: parse_checksum(CIMultiDict({"Upload-Checksum": value})),
        lambda: parse_number("Upload-Offset", value),
    ):
        try:
            attempt()
        except FilestoreError:
            continue


def test_a_digest_is_read_and_written_as_the_header_has_it() -> None:
    digest = bytes(range(32))
    assert parse_expected(format_blake3(digest)).blake3 == digest
    both = format_blake3(digest) + ", sha-512=:AAAA:,sha-256=:" + "A" * 43 + "=:"
    assert parse_expected(both).sha256 == bytes(32)
    assert not parse_expected(None)


@pytest.mark.parametrize(
    "value",
    [
        *("", "sha-256", "sha-256=AAAA", "sha-256=:AAAA:", "sha-512=:AAAA:", "blake3=:A:"),
        "sha-256=:" + "A" * 43 + "=: x",
    ],
)
def test_a_digest_that_could_not_be_checked_is_refused(value: str) -> None:
    with pytest.raises(BadHeader):
        parse_expected(value)


def test_media_types_are_kept_and_only_harmless_ones_are_shown() -> None:
    assert parse_media_type("Content-Type", "") == OCTETS
    kept = 'text/plain; charset="utf-8";x=y'
    assert parse_media_type("Content-Type", f" {kept}\t") == kept
    for bad in (
        "text",
        "text/",
        "/x",
        "a/b/c",
        "text/plain;",
        "text/html\r\nX: y",
        "a/b; c",
        "é/x",
    ):
        with pytest.raises(BadHeader):
            parse_media_type("Content-Type", bad)
    assert may_be_inline("IMAGE/png; a=b")
    for active in ("text/html", "image/svg+xml", "application/pdf", "text/xml", OCTETS):
        assert not may_be_inline(active)
