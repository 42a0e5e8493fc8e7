"""``filestore quota statement``, ``balance`` and ``verify-journal``."""

import csv
import io
from pathlib import Path

from tests.e2e.cli.conftest import Cli
from tests.e2e.cli.test_cli_upkeep import with_a_file


async def _with_two_files(admin: Cli, team: str) -> None:
    for name in ("one", "two"):
        path = admin.folder / f"{name}.bin"
        path.write_bytes(bytes(2048))
        await admin.json("upload", path, f"{team}:/{name}/")


async def test_a_statement_comes_for_people_as_csv_and_as_json(admin: Cli, team: str) -> None:
    await _with_two_files(admin, team)
    told = await admin.run("quota", "statement", team, "--from", "2020-01-01")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[0] == "opening balance: 0 B in 0 files, 0 B reserved"
    assert any(line.startswith("closing balance: 4 KiB") for line in lines)
    assert any("reserve" in line and "+2 KiB reserved" in line for line in lines)

    table = await admin.run("quota", "statement", team, "--csv", "--tz", "Asia/Shanghai")
    rows = list(csv.DictReader(io.StringIO(table.out, newline="")))
    assert [row["line"] for row in rows][:2] == ["opening", "entry"]
    document = await admin.json("quota", "statement", team)
    assert document["closing"]["used_bytes"] == 4096
    assert len(document["entries"]) == sum(row["line"] == "entry" for row in rows)
    nothing = await admin.json("quota", "statement", team, "--to", "2020-01-01")
    assert nothing["entries"] == []

    assert (await admin.run("quota", "statement", team, "--csv", "--json")).code == 2
    assert (await admin.run("quota", "statement", team, "--from", "soon")).code == 2
    assert (await admin.run("quota", "statement", "nobody")).code == 4


async def test_the_balance_of_a_moment(admin: Cli, team: str) -> None:
    await _with_two_files(admin, team)
    assert (await admin.json("quota", "balance", team))["used_bytes"] == 4096
    old = await admin.run("quota", "balance", team, "--at", "2020-01-01")
    assert (old.code, "used      0 B in 0 files" in old.out) == (0, True)


async def test_the_journal_is_verified_by_the_server_and_on_the_store_itself(
    admin: Cli, team: str, tmp_path: Path
) -> None:
    await _with_two_files(admin, team)
    told = await admin.run("quota", "verify-journal", team, "--quiet")
    assert told.code == 0, told.err
    assert told.out.endswith("all is intact\n")
    assert (await admin.json("quota", "verify-journal"))["result"] == "intact"
    assert (await admin.run("quota", "verify-journal", "nobody")).code == 4

    data = tmp_path / "data"
    await with_a_file(data)
    direct = await admin.json("quota", "verify-journal", "--data", data)
    assert (direct["is_good"], direct["groups"]) == (True, 1)
    assert (await admin.run("quota", "verify-journal", "nobody", "--data", data)).code == 4
