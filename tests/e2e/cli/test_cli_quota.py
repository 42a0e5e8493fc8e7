"""Quotas over the command line: the sheet, its items, files of limits, reports, and the log."""

import json
import secrets

from tests.e2e.cli.conftest import Cli
from tests.e2e.cli.test_cli_people import newcomer


async def test_a_sheet_is_shown_with_bars_and_its_items_sum_to_it(admin: Cli, team: str) -> None:
    (admin.folder / "a.bin").write_bytes(b"a" * 5000)
    await admin.json("upload", "a.bin", f"{team}:/f/")
    await admin.json("quota", "set", team, "1MiB", "--soft", "900kB", "--files", "9", "--overflow")

    shown = await admin.run("quota", "show", team)
    assert shown.out.startswith(f"{team}: 4.9 KiB used of 1 MiB\n")
    assert "[#...................]  <1%" in shown.out and "1 files of 9" in shown.out
    items = (await admin.json("quota", "items", team, "live"))["items"]
    assert [(item["path"], item["bytes"]) for item in items] == [("/f/a.bin", 5000)]
    listed = await admin.run("quota", "items", team, "live", "--limit", "1")
    assert "/f/a.bin" in listed.out and "BY" in listed.out
    assert "nothing is behind reserved" in (await admin.run("quota", "items", team, "reserved")).err
    assert (await admin.run("quota", "items", team, "nothing")).code == 2
    group = (await admin.run("group", "show", team)).out.splitlines()
    assert group[1:4] == ["quota        1 MiB", "soft limit   878.9 KiB", "files limit  9"]
    assert "overflow     taken as temporary" in group and "versions     all are kept" in group
    assert "warned       of nothing" in group
    said = await admin.run("quota", "set", team, "--soft", "800KiB", "--no-overflow")
    assert said.out.splitlines() == [
        f"quota of {team} is 1 MiB",
        "soft limit   800 KiB",
        "overflow     no",
    ], "all that was set, and the size is as before"
    assert (await admin.run("quota", "set", team)).code == 2
    await admin.json("quota", "set", team, "--overflow")
    cleared = await admin.json("quota", "set", team, "1MiB", "--soft", "none", "--files", "none")
    assert (cleared["soft_limit"], cleared["files_limit"], cleared["overflows"]) == (
        None,
        None,
        True,
    )


async def test_the_site_and_its_pool_are_for_admins(admin: Cli, team: str) -> None:
    site = await admin.run("quota", "site")
    assert site.code == 0 and "shared between groups" in site.out, site.err
    assert (await admin.json("quota", "pool"))["pool_bytes"] is None
    limited = await admin.json("quota", "pool", "1GiB", "--overcommit", "1")
    assert limited["allowed_bytes"] == 2**30 // 100
    refused = await admin.run("quota", "set", team, "2GiB")
    assert (
        refused.code,
        "at most 10.2 MiB are allowed, 1 % of the pool of 1 GiB" in refused.err,
    ) == (3, True)
    assert (await admin.run("quota", "pool", "none")).out.startswith("pool      nobody said")
    viewer = await newcomer(admin, groups=(team,), role="viewer")
    assert (await viewer.run("quota", "site")).code == 3


async def test_a_temporary_file_without_room_says_so_in_units_of_people(
    admin: Cli, team: str
) -> None:
    await admin.json("temporary", "set-pool", "1MiB")
    await admin.json("quota", "set", team, "8KiB", "--soft", "1KiB", "--overflow")
    (admin.folder / "b.bin").write_bytes(b"b" * 5120)
    await admin.json("upload", "b.bin", f"{team}:/")
    await admin.json("quota", "set", team, "3KiB")
    kept = await admin.run("temporary", "keep", f"{team}:/b.bin")
    assert kept.code == 3
    assert f"Group {team} has no room for /b.bin: 5 KiB are needed, 3 KiB of 3 KiB" in kept.err
    await admin.json("rm", f"{team}:/b.bin", "--permanent")
    await admin.json("temporary", "set-pool", "0")


async def test_limits_go_out_as_a_file_and_come_back_from_one(admin: Cli, team: str) -> None:
    other = f"=team-{secrets.token_hex(4)}"
    await admin.json("group", "create", other, "--quota", "1GiB")
    exported = await admin.run("quota", "export")
    assert exported.out.startswith("group,quota_bytes,soft_limit,files_limit\n")
    assert f"'{other},{2**30},,\n" in exported.out
    file = admin.folder / "quotas.csv"
    file.write_text(exported.out)
    assert (await admin.json("quota", "import", "quotas.csv"))["changed"] == 0

    file.write_text(f"group,quota_bytes,files_limit\n{team},2GiB,5\n'{other},3GiB,\n")
    dry = await admin.run("quota", "import", "quotas.csv", "--dry-run")
    assert f"{team}: quota_bytes 1 GiB -> 2 GiB, files_limit none -> 5 (used 0 B)\n" in dry.out
    assert dry.out.endswith("would change 2 of 2 groups\n")
    assert (await admin.json("group", "show", team))["quota_bytes"] == 2**30
    assert (await admin.json("quota", "import", "quotas.csv"))["changed"] == 2
    assert (await admin.json("group", "show", other))["quota_bytes"] == 3 * 2**30

    file.write_text(f"group,quota_bytes\n{team},1GiB\nnobody,1GiB\nnor this,1GiB\n")
    refused = await admin.run("quota", "import", "quotas.csv")
    assert refused.code == 2
    assert "line 3, group: there is no group 'nobody'" in refused.err
    assert "line 4, group: there is no group 'nor this'" in refused.err
    assert refused.err.index("line 3,") < refused.err.index("line 4,"), "by line"
    assert (await admin.json("group", "show", team))["quota_bytes"] == 2 * 2**30, "all or none"
    missing = await admin.run("quota", "import", "missing.csv")
    assert (missing.code, "missing.csv" in missing.err) == (1, True)


async def test_groups_are_reported_and_the_log_is_read_and_taken_away(
    admin: Cli, team: str
) -> None:
    reports = (await admin.json("admin", "groups", "--sort", "waste", "--limit", "1000"))["items"]
    assert team in [report["name"] for report in reports]
    shown = await admin.run("admin", "groups", "--sort", "usage_percent")
    assert "OUTLOOK" in shown.out and "no forecast yet" in shown.out

    (made,) = (await admin.json("admin", "log", "--group", team, "--act", "group.create"))["items"]
    assert (made["actor"], made["after"]["quota_bytes"]) == ("admin", 2**30)
    assert "group.create" in (await admin.run("admin", "log", "--group", team)).out
    (admin.folder / "told.txt").write_text("told")
    await admin.json("upload", "told.txt", f"{team}:/")
    log = await admin.run("admin", "log", "--group", team, "--act", "file.write")
    assert " /told.txt " in log.out.splitlines()[1], "what has no name is shown as it is"
    none = await admin.run("admin", "log", "--group", team, "--to", "2020-01-31")
    assert "nothing was done" in none.err
    lines = await admin.run_process("admin", "log", "--group", team, "--format", "jsonl")
    acts = [json.loads(line)["act"] for line in lines.out.splitlines()]
    assert acts == ["file.write", "group.create"]
    table = await admin.run_process("admin", "log", "--group", team, "--format", "csv")
    assert table.out.startswith("id,at,act,") and len(table.out.splitlines()) == 3
    assert (await admin.run("admin", "log", "--from", "yesterday")).code == 2
    for unknown in (("--group", "nogroup"), ("--actor", "nobody", "--format", "csv")):
        assert (await admin.run("admin", "log", *unknown)).code == 4, unknown
