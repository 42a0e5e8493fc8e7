"""Structured fields and file names as the draft's adapter reads them: strictly, or not at all."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from filestore.errors import BadHeader
from filestore.http.disposition import parse_filename
from filestore.http.ietf_fields import (
    Interop,
    format_limit,
    parse_boolean,
    parse_integer,
    parse_size,
    spoken,
)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(("?1", True), ("?0", False), ("  ?1  ", True), ("?1;a", True), ("?0; a=?1;b=1.5", False)),
        *(('?1;a="\\"x\\\\"', True), ("?1;a=*tok:/", True), ("?1;a=@-5", True)),
        *(("?1;a=:YQ==:", True), ('?1;a=%"%c3%a9"', True), ("?1;a=-1.125", True)),
        *((value, None) for value in ("", "?", "?2", "1", "?1 ;a", "?1;", "?1;A", "?1;a= 1")),
        *((value, None) for value in ('?1;a="x', "?1;a=1.", "?1;a=1.1234", "\t?1", "?1,?0")),
    ],
)
def test_a_boolean_is_one_or_nothing(value: str, found: bool | None) -> None:
    assert parse_boolean(value) is found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(("0", 0), ("007", 7), ("-3", -3), ("9" * 15, 10**15 - 1), ("5;x=y", 5)),
        *((value, None) for value in ("", "-", "--1", "+1", "1.0", "9" * 16, "1_0", "٣", "1\n")),
    ],
)
def test_an_integer_is_one_or_nothing(value: str, found: int | None) -> None:
    assert parse_integer(value) == found
    assert parse_size(value) == (found if found is not None and found >= 0 else None)


def test_nothing_is_neither() -> None:
    assert parse_boolean(None) is None
    assert parse_integer(None) is None


@given(st.text(alphabet='?01;a="\\:@%*., -', max_size=40))
@example("?1" + ";a" * 5000 + "!")
@example('?1;a="' + "\\\\" * 5000)
@example("?1;" + " " * 10_000 + "!")
def test_what_is_read_takes_time_in_proportion_to_its_length(value: str) -> None:
    began = time.process_time()
    parse_boolean(value)
    parse_integer(value)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ({"upload-draft-interop-version": "6"}, Interop.V6),
        ({"Upload-Draft-Interop-Version": "8;a"}, Interop.V8),
        ({"Upload-Draft-Interop-Version": "7"}, None),
        ({"Upload-Draft-Interop-Version": "6", "Tus-Resumable": "1.0.0"}, None),
        ({}, None),
    ],
)
def test_two_versions_are_spoken(fields: dict[str, str], version: Interop | None) -> None:
    assert spoken(CIMultiDict(fields)) is version


def test_limits_have_the_name_of_their_version_and_are_never_negative() -> None:
    assert format_limit(Interop.V6, 5, 7) == "max-size=5, min-size=0, expires=7"
    assert format_limit(Interop.V8, 5, -7) == "max-size=5, min-size=0, max-age=0"
    assert format_limit(None, 5, 7) == "max-size=5, min-size=0, max-age=7"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, None),
        ("inline", None),
        ("attachment; x=y", None),
        ('attachment; filename="a b.txt"', "a b.txt"),
        (r'attachment; filename="a\"b\\c"', r"a\"b\c".replace("\\", "", 1)),
        ("attachment; FILENAME=plain.txt", "plain.txt"),
        ("attachment; filename=fallback; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename*=utf-8'de'na%C3%AFve.txt; filename=x", "naïve.txt"),
        ('attachment; filename="é.txt"', "é.txt"),
    ],
)
def test_the_name_of_a_file(value: str | None, name: str | None) -> None:
    assert parse_filename(value) == name


@given(st.text(max_size=60))
@example("inline; " + 'filename="' + "\\a" * 5000)
@example("inline" + ";a=b" * 5000)
def test_a_disposition_is_read_or_refused(value: str) -> None:
    try:
        parse_filename("inline; " + value)
    except BadHeader as err:
        assert err.members["header"] == "Content-Disposition"
