"""GROUP:/PATH, sizes, lifetimes and local files, as the command line reads them."""

import os
from pathlib import Path

import pytest
import typer

from filestore.cli.options import duration_s, size_value
from filestore.cli.people import lifetime_s
from filestore.cli.places import Place, parse_entry, parse_place
from filestore.cli.sources import Found, Source, check_distinct, find_sources
from filestore.errors import BadName


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("team", Place("team", "", True)),
        ("team:", Place("team", "", True)),
        ("team:/", Place("team", "", True)),
        ("team:/docs/", Place("team", "docs", True)),
        ("team:/docs/a b:c.txt", Place("team", "docs/a b:c.txt", False)),
        ("项目:/计划.txt", Place("项目", "计划.txt", False)),
    ],
)
def test_a_place_is_a_group_and_a_path(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", ":/a", "team:a"])
def test_what_is_no_place_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="GROUP:/PATH"):
        parse_place(text)


@pytest.mark.parametrize("text", ["team:/../a", "team:/a//b", "team:/a\nb"])
def test_a_path_with_a_bad_name_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(BadName):
        parse_place(text)


def test_an_entry_is_not_the_root_folder() -> None:
    with pytest.raises(typer.BadParameter, match="names no file or folder"):
        parse_entry("team:/")


def test_a_place_knows_its_name_its_folder_and_what_lies_below() -> None:
    place = parse_place("team:/docs/plan.txt")

    assert (place.folder, place.name, str(place)) == ("docs", "plan.txt", "team:/docs/plan.txt")
    assert parse_place("team").below("a") == Place("team", "a", False)
    assert parse_place("team:/docs/").below("a") == Place("team", "docs/a", False)


def test_sizes_are_read_and_nonsense_is_a_usage_error() -> None:
    assert size_value("1.5KiB") == 1536
    with pytest.raises(typer.BadParameter, match="10GiB"):
        size_value("ten")


def test_a_lifetime_is_days_or_a_time_with_a_zone() -> None:
    assert 2 * 86_400 - 2 <= lifetime_s("2d") <= 2 * 86_400
    assert lifetime_s("9000-01-01T00:00:00+08:00") > 86_400
    for text, says in [("soon", "neither"), ("9000-01-01", "zone"), ("2001-01-01T00:00Z", "past")]:
        with pytest.raises(typer.BadParameter, match=says):
            lifetime_s(text)


def test_files_come_as_they_were_named(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()

    assert find_sources([file], recursive=False) == Found([Source(file, "")])
    assert duration_s("30d") == 30 * 86_400


def test_a_folder_needs_recursive_and_then_keeps_its_shape(tmp_path: Path) -> None:
    inner = tmp_path / "top" / "inner"
    inner.mkdir(parents=True)
    (inner / "b").touch()
    (tmp_path / "top" / "a").touch()
    (tmp_path / "top" / "none").mkdir()

    with pytest.raises(typer.BadParameter, match="--recursive"):
        find_sources([tmp_path / "top"], recursive=False)
    assert find_sources([tmp_path / "top"], recursive=True) == Found(
        [Source(tmp_path / "top" / "a", "top"), Source(inner / "b", "top/inner")],
        empty_folders=["top/none"],
    )


def test_what_cannot_be_sent_is_named_and_the_rest_is_found(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "a").touch()
    (top / "gone").symlink_to("nowhere")
    (top / "loop").symlink_to(top)
    (top / "self").symlink_to("self")
    (top / "linked").symlink_to("a")
    os.mkfifo(top / "pipe")
    found = find_sources([top, tmp_path / "missing"], recursive=True)

    assert [source.path.name for source in found.files] == ["a", "linked"]
    assert {item.path.name: item.reason for item in found.skipped} == {
        "loop": "it is a link to a folder",
        "pipe": "it is a pipe, not a regular file",
    }
    assert [str(error).removeprefix(f"{tmp_path}/") for error in found.failed] == [
        "top/gone: it is a link to something that is not there.",
        "top/self: Too many levels of symbolic links.",
        "missing: there is no such file.",
    ]


def test_two_files_with_one_target_are_refused(tmp_path: Path) -> None:
    files = [Source(tmp_path / "a" / "\u00e9", ""), Source(tmp_path / "b" / "e\u0301", "")]

    with pytest.raises(typer.BadParameter, match=r"would both become team:/in/"):
        check_distinct(files, parse_place("team:/in/"))
