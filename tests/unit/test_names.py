"""Hostile names are refused with a reason; unusual ones are kept as they are."""

import unicodedata

import pytest

from filestore.errors import BadName
from filestore.names import (
    MAX_DEPTH,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    check_label,
    content_disposition,
    fold,
    parse_name,
    parse_path,
    split_path,
)

REFUSED_NAMES = [
    ("", "empty"),
    (".", "dots"),
    ("..", "dots"),
    ("a/b", "slash"),
    ("a\\b", "backslash"),
    ("..\\..\\boot.ini", "backslash"),
    ("nul\0", "control"),
    ("line\nbreak", "control"),
    ("tab\t", "control"),
    ("del\x7f", "control"),
    ("c1\x85", "control"),
    ("line\u2028separator", "control"),
    ("paragraph\u2029separator", "control"),
    ("invoice\u202efdp.exe", "bidi"),
    ("a\u2066b", "bidi"),
    ("half\ud800", "surrogate"),
    ("\udfff", "surrogate"),
    (" leading", "space"),
    ("trailing ", "space"),
    ("trailing\u00a0", "space"),
    ("\u3000", "space"),
    ("\u200b", "invisible"),
    ("\ufeff\u2060", "invisible"),
    ("x" * 256, "too-long"),
    ("x" * 300, "too-long"),
    ("\u00e9" * 128, "too-long"),
    ("\U0001f600" * 64, "too-long"),
    ("a" + "\u0301\u0323" * 50_000, "too-long"),
]

ALLOWED_NAMES = [
    "report.pdf",
    "...",
    ".hidden",
    "a:b",
    "CON",
    "100%",
    "%2F",
    "-rf",
    "quote\"'`$(x)",
    "報告書 2024.pdf",
    "Screenshot 3.04.05\u202fPM.png",
    "👩\u200d🚀.txt",
    "می\u200cخواهم",
    "\u05d0\u200f.txt",
    "\U0010ffff",
    "x" * 255,
    "\u00e9" * 127,
]


@pytest.mark.parametrize(("text", "rule"), REFUSED_NAMES)
def test_a_hostile_name_is_refused_with_its_rule(text: str, rule: str) -> None:
    with pytest.raises(BadName) as refused:
        parse_name(text)
    assert refused.value.members["rule"] == rule


@pytest.mark.parametrize(("text", "rule"), REFUSED_NAMES)
def test_a_refusal_shows_the_name_safely(text: str, rule: str) -> None:
    with pytest.raises(BadName) as refused:
        parse_name(text)
    sentence = str(refused.value)
    assert sentence.isprintable()
    assert len(sentence) < 750, "a name cannot make an error as long as itself"
    sentence.encode()


@pytest.mark.parametrize("text", ALLOWED_NAMES)
def test_an_unusual_name_is_kept_as_given(text: str) -> None:
    assert parse_name(text).given == text


def test_names_that_differ_only_in_normalization_have_one_key() -> None:
    composed, decomposed = parse_name("caf\u00e9"), parse_name("cafe\u0301")
    assert composed.given != decomposed.given
    assert composed.key == decomposed.key == "caf\u00e9"


def test_the_limit_of_255_bytes_is_on_the_composed_form() -> None:
    korean = "\ud55c" * 85
    assert len(korean.encode()) == MAX_NAME_BYTES
    assert parse_name(unicodedata.normalize("NFD", korean)).key == korean


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("README", "readme"),
        ("Straße", "STRASSE"),
        ("ﬁle", "file"),
        ("ｆｕｌｌ", "full"),
        ("a\u200bb", "ab"),
        ("soft\u00adhyphen", "softhyphen"),
        ("cafe\u0301", "CAF\u00c9"),
        ("\u0391\u03a3", "\u03b1\u03c2"),
    ],
)
def test_names_that_read_alike_have_one_fold_and_two_keys(one: str, other: str) -> None:
    assert parse_name(one).key != parse_name(other).key
    assert parse_name(one).fold == parse_name(other).fold


def test_a_fold_is_bounded_although_one_letter_can_become_eighteen() -> None:
    name = parse_name("\ufdfa" * 85)
    assert len(name.fold) == 255


# ---- paths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        ("a/b/c.txt", ["a", "b", "c.txt"]),
        ("a%20b/c%C3%A9", ["a b", "cé"]),
        ("a%252Fb", ["a%2Fb"]),
        ("a+b", ["a+b"]),
        ("%e5%a0%b1", ["報"]),
        ("報", ["報"]),
        ("...", ["..."]),
        ("a%3Fb%23c", ["a?b#c"]),
    ],
)
def test_a_raw_path_is_split_before_each_segment_is_decoded_once(
    raw: str, expected: list[str]
) -> None:
    assert [name.given for name in split_path(raw)] == expected


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ("a%2Fb", "slash"),
        ("a%2fb", "slash"),
        ("%2e%2e/etc", "dots"),
        ("a/../b", "dots"),
        ("a/./b", "dots"),
        ("a%5Cb", "backslash"),
        ("a%00", "control"),
        ("a%0d%0aSet-Cookie:%20x", "control"),
        ("a%", "percent"),
        ("a%2", "percent"),
        ("a%zz", "percent"),
        ("a%u0041", "percent"),
        ("%ff", "utf-8"),
        ("%C0%AF", "utf-8"),
        ("%ED%A0%80", "utf-8"),
        ("a\udcff", "utf-8"),
        ("\ud800", "utf-8"),
        ("%E2%80%AE", "bidi"),
        ("/a", "empty"),
        ("a/", "empty"),
        ("a//b", "empty"),
        ("/", "empty"),
        ("a%20", "space"),
        ("x" * 300, "too-long"),
        ("/".join("a" * 65), "too-deep"),
        ("/".join(["x" * 250] * 17), "path-too-long"),
        ("%41" * 5000, "path-too-long"),
        ("a" * 1_000_000, "path-too-long"),
    ],
)
def test_a_hostile_raw_path_is_refused_with_its_rule(raw: str, rule: str) -> None:
    with pytest.raises(BadName) as refused:
        split_path(raw)
    assert refused.value.members["rule"] == rule
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["a/b", "/a/b", "a/b/", "/a/b/"])
def test_a_decoded_path_may_have_one_slash_at_each_end(text: str) -> None:
    assert [name.given for name in parse_path(text)] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "/"])
def test_no_names_mean_the_root_folder(text: str) -> None:
    assert parse_path(text) == ()


@pytest.mark.parametrize("text", ["//", "//a", "a//", "a//b", "/../a", "a/\ud800", "a/\0"])
def test_a_hostile_decoded_path_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        parse_path(text)


def test_a_decoded_path_keeps_percent_signs() -> None:
    assert [name.given for name in parse_path("100%/%2F")] == ["100%", "%2F"]


def test_the_longest_and_the_deepest_path_are_allowed() -> None:
    assert len(parse_path("/".join("a" * MAX_DEPTH))) == MAX_DEPTH
    longest = "/".join(["x" * 255] * 16)
    assert len(longest) == MAX_PATH_BYTES - 1
    assert len(split_path(longest)) == 16


# ---- labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["research", "Team A", "研究室：一", "a.b-c_d", "x" * 100])
def test_a_label_is_kept_as_given(text: str) -> None:
    assert check_label(text, "group").given == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("..", "dots"),
        ("a/b", "slash"),
        ("a\\b", "backslash"),
        ("group:path", "colon"),
        ("tab\tbed", "control"),
        (" a", "space"),
        ("a ", "space"),
        ("\u200b", "invisible"),
        ("\u202eabc", "bidi"),
        ("x" * 101, "too-long"),
        ("grp_" + "0" * 26, "id"),
        ("GRP_" + "A" * 26, "id"),
        ("ｇｒｐ_" + "0" * 26, "id"),
    ],
)
def test_a_bad_label_is_refused_with_its_rule(text: str, rule: str) -> None:
    with pytest.raises(BadName) as refused:
        check_label(text, "group")
    assert refused.value.members["rule"] == rule


@pytest.mark.parametrize(
    ("one", "other"), [("Team", "team"), ("Team", "ＴＥＡＭ"), ("team", "te\u200dam")]
)
def test_labels_that_read_alike_have_one_key(one: str, other: str) -> None:
    assert check_label(one, "group").key == check_label(other, "user").key


def test_a_fold_is_not_cut_where_it_must_be_unique() -> None:
    assert fold("\ufdfa") * 100 == check_label("\ufdfa" * 100, "group").key


# ---- Content-Disposition -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
        ("a b.txt", "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
        ("café.txt", "attachment; filename=\"cafe.txt\"; filename*=UTF-8''caf%C3%A9.txt"),
        ("報告.pdf", "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E5%A0%B1%E5%91%8A.pdf"),
        ('a"; x="y', "attachment; filename=\"a__ x=_y\"; filename*=UTF-8''a%22%3B%20x%3D%22y"),
        ("50%41", "attachment; filename=\"50_41\"; filename*=UTF-8''50%2541"),
        ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_a_disposition_names_the_file_twice(name: str, expected: str) -> None:
    assert content_disposition(name, inline=False) == expected


def test_a_disposition_can_be_inline() -> None:
    assert content_disposition("a.png", inline=True).startswith("inline; ")
