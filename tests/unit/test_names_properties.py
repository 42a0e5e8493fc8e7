"""What holds for every name that anybody can think of."""

import re
import unicodedata
from urllib.parse import quote

from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import given
from hypothesis import strategies as st

from filestore.errors import BadName
from filestore.names import (
    MAX_NAME_BYTES,
    check_label,
    content_disposition,
    fold,
    parse_name,
    parse_path,
    shown,
    split_path,
)

_TRICKY = "./\\%2FfeE\0\r\n\"';:= \u202e\u2066\u2028\u200b\u00ad\u0301é\u212bİßſ\ud800\udcff\ufdfa"
_GOOD = [
    "a b",
    "100%",
    "%2F",
    "é",
    "e\u0301",
    "...",
    "a+b",
    "\u212b",
    'x"; y=',
    "a\u00a0b",
    "~`|^",
    ";;",
]
any_text = st.text() | st.text(st.sampled_from(_TRICKY), max_size=12)


def _is_name(text: str) -> bool:
    try:
        parse_name(text)
    except BadName:
        return False
    return True


_letters = st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"])
good_names = (st.text(_letters, min_size=1) | st.sampled_from(_GOOD)).filter(_is_name)
raw_paths = st.text(st.sampled_from("ab/.%25fFcC0aE2é\udcff\\"), max_size=20)


@given(any_text)
def test_a_name_is_refused_or_is_one_safe_segment(text: str) -> None:
    try:
        name = parse_name(text)
    except BadName as refused:
        assert str(refused).isprintable()
        str(refused).encode()
        return
    assert name.given == text
    assert 0 < len(name.key.encode()) <= MAX_NAME_BYTES
    assert name.key == unicodedata.normalize("NFC", name.key)
    for form in (name.given, name.key):
        assert form not in (".", "..")
        assert not set(form) & set("/\\\0\r\n")
        assert form == form.strip()


@given(good_names)
def test_the_key_of_a_name_is_itself_a_name_with_that_key(text: str) -> None:
    name = parse_name(text)
    assert parse_name(name.key).key == name.key
    assert parse_name(name.key).fold == name.fold


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_a_fold_does_not_depend_on_normalization(text: str, form: str) -> None:
    normalized = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert fold(normalized) == fold(text)


@given(st.lists(good_names, max_size=5))
def test_an_encoded_path_comes_back_as_it_was(names: list[str]) -> None:
    expected = tuple(parse_name(name) for name in names)
    raw = "/".join(quote(name, safe="") for name in names)
    assert split_path(raw) == expected
    assert parse_path("/".join(names)) == expected


@given(raw_paths)
def test_a_raw_path_is_refused_or_has_as_many_names_as_segments(raw: str) -> None:
    try:
        names = split_path(raw)
    except BadName as refused:
        assert str(refused).isprintable()
        return
    assert len(names) == (raw.count("/") + 1 if raw else 0)
    assert not any(set(name.given) & set("/\\\0") for name in names)


@given(any_text)
def test_a_label_is_refused_or_can_stand_before_a_colon(text: str) -> None:
    try:
        label = check_label(text, "group")
    except BadName as refused:
        assert str(refused).isprintable()
        return
    assert 1 <= len(label.given) <= 100
    assert not set(label.given) & set("/:\\\0\n")
    assert label.key == fold(label.key)


@given(any_text)
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 10 * 60 + 1


_QUOTED = re.compile(r'(?:inline|attachment); filename="([ !#-\[\]-~]*)"; filename\*=UTF-8\'\'(.*)')


@given(any_text, st.booleans())
def test_no_name_can_break_out_of_its_header(name: str, inline: bool) -> None:
    value = content_disposition(name, inline=inline)
    match = _QUOTED.fullmatch(value)
    assert match is not None, value
    assert re.fullmatch(r"(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*", match[2])


@given(good_names, st.booleans())
def test_a_client_reads_the_exact_name_back(name: str, inline: bool) -> None:
    kind, params = parse_content_disposition(content_disposition(name, inline=inline))
    assert kind == ("inline" if inline else "attachment")
    assert content_disposition_filename(params) == name
