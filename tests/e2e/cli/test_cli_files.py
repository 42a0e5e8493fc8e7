"""Folders, moving, versions, trash: files over the command line."""

import re

import pytest

from tests.e2e.cli.conftest import Cli


@pytest.fixture
async def note(admin: Cli, team: str) -> str:
    """A small file in the group: its name on the command line."""
    (admin.folder / "note.txt").write_text("one")
    await admin.json("upload", "note.txt", f"{team}:/docs/")
    return f"{team}:/docs/note.txt"


async def names(admin: Cli, place: str) -> list[str]:
    return [item["name"] for item in (await admin.json("ls", place))["items"]]


async def test_a_folder_is_made_and_listed(admin: Cli, team: str, note: str) -> None:
    await admin.json("mkdir", f"{team}:/a/b/c")
    await admin.json("mkdir", f"{team}:/a/b/c")

    assert sorted(await names(admin, team)) == ["a", "docs"]
    assert await names(admin, f"{team}:/a/b/") == ["c"]
    assert await names(admin, f"{team}:/docs") == ["note.txt"]
    listed = (await admin.run("ls", f"{team}:/docs")).out
    assert listed.splitlines()[0].split() == ["SIZE", "MODIFIED", "NAME"]
    assert listed.splitlines()[1].split()[:2] == ["3", "B"]


async def test_a_file_is_moved_and_copied(admin: Cli, team: str, note: str) -> None:
    await admin.json("cp", note, f"{team}:/copies/")
    await admin.json("mv", note, f"{team}:/docs/renamed.txt")

    assert await names(admin, f"{team}:/copies") == ["note.txt"]
    assert await names(admin, f"{team}:/docs") == ["renamed.txt"]
    assert (await admin.json("quota", "show", team))["used_bytes"] == 6


async def test_moving_what_is_not_there_or_to_where_nobody_may_says_so(
    admin: Cli, team: str, note: str
) -> None:
    assert (await admin.run("mv", f"{team}:/nosuch", f"{team}:/a")).code == 4
    assert (await admin.run("mv", note, "nowhere:/a")).code == 4
    assert await names(admin, f"{team}:/docs") == ["note.txt"]


async def test_a_file_moves_to_another_group_with_its_quota(
    admin: Cli, team: str, note: str
) -> None:
    other = f"{team}-2"
    await admin.json("group", "create", other)
    await admin.json("mv", note, f"{other}:/moved.txt")

    assert await names(admin, other) == ["moved.txt"]
    assert (await admin.json("quota", "show", other))["used_bytes"] == 3
    assert (await admin.json("quota", "show", team))["used_bytes"] == 0


async def test_what_was_removed_comes_back_from_the_trash(admin: Cli, team: str, note: str) -> None:
    await admin.json("rm", note)
    (item,) = (await admin.json("trash", "list", team))["items"]
    assert (await admin.run("ls", note)).code == 4
    assert (await admin.json("quota", "show", team))["used_bytes"] == 3
    await admin.json("trash", "restore", team, item["id"])

    assert await names(admin, f"{team}:/docs") == ["note.txt"]
    assert (await admin.json("trash", "list", team))["items"] == []


async def test_what_is_purged_or_removed_permanently_frees_the_quota(
    admin: Cli, team: str, note: str
) -> None:
    await admin.json("cp", note, f"{team}:/copy.txt")
    await admin.json("rm", note)
    (item,) = (await admin.json("trash", "list", team))["items"]
    await admin.json("trash", "purge", team, item["id"])
    assert (await admin.json("quota", "show", team))["used_bytes"] == 3
    await admin.json("rm", "--permanent", f"{team}:/copy.txt")

    assert (await admin.json("quota", "show", team))["used_bytes"] == 0
    assert (await admin.json("trash", "list", team))["items"] == []


async def test_the_trash_is_emptied_at_once(admin: Cli, team: str, note: str) -> None:
    await admin.json("cp", note, f"{team}:/copy.txt")
    await admin.json("rm", note)
    await admin.json("rm", f"{team}:/copy.txt")

    assert await admin.json("trash", "empty", team) == {"group": team, "purged": 2}
    assert (await admin.json("quota", "show", team))["used_bytes"] == 0


async def test_a_second_upload_is_a_second_version(admin: Cli, team: str, note: str) -> None:
    (admin.folder / "note.txt").write_text("second")
    await admin.json("upload", "note.txt", note)
    versions = (await admin.json("versions", "ls", note))["items"]

    assert sorted(version["size"] for version in versions) == [3, 6]
    shown = (await admin.run("quota", "show", team)).out
    assert re.search(r"^  older versions +3 B ", shown, re.MULTILINE), shown
    assert (await admin.run("versions", "ls", note)).out.count("\n") == 3
    assert "version 3 now" in (await admin.run("versions", "restore", note, "1")).out
    await admin.json("versions", "rm", note, "1")
    assert (await admin.run("versions", "rm", note)).code == 2
    await admin.json("versions", "rm", note, "--before", "3")
    (left,) = (await admin.json("versions", "ls", note))["items"]
    assert (left["number"], left["size"]) == (3, 3)


async def test_a_name_that_is_not_allowed_is_a_usage_error(admin: Cli, team: str) -> None:
    outcome = await admin.run("mkdir", f"{team}:/a/../b", "--json")

    assert outcome.code == 2
    assert outcome.problem["type"] == "urn:filestore:problem:bad-name"
