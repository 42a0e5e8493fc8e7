"""``filestore fsck``, ``scrub``, ``quota audit``: as jobs of the server, on the store itself."""

import contextlib
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from filestore.app import ADMIN_TOKEN, listening, make_service
from filestore.settings import load
from tests.e2e.cli.conftest import Cli
from tests.http.api import Api

FILE = "/api/v1/groups/lab/files/a"


async def with_a_file(data: Path) -> Path:
    """A folder of a service that has ended, with one block; where that lies."""
    settings = load(flags={"data": data, "listen": "127.0.0.1:0"})
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(make_service(settings))
        url = await stack.enter_async_context(listening(service))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = Api(session, url, (data / ADMIN_TOKEN).read_text().strip())
        await api.post("/api/v1/groups", {"name": "lab"})
        assert (await api.put(FILE, data=b"x" * 1000)).status == 201
    (block,) = [path for path in (data / "blocks" / "default").rglob("*") if path.is_file()]
    return block


async def test_a_server_is_checked_and_scrubbed_as_jobs(admin: Cli, team: str) -> None:
    path = admin.folder / "data.bin"
    path.write_bytes(bytes(3000) + team.encode())
    await admin.json("upload", path, f"{team}:/")

    checked = await admin.run("fsck")
    assert checked.code == 0, checked.err
    assert "blocks looked at" in checked.out and "damage: none" in checked.out
    repaired = await admin.json("fsck", "--repair")
    assert (repaired["is_good"], repaired["job"][:4]) == (True, "job_")
    assert "before" in repaired

    scrubbed = await admin.run("scrub", "--rate", "100MiB", "--quiet")
    assert (scrubbed.code, scrubbed.err) == (0, "")
    assert "read and verified" in scrubbed.out
    again = await admin.json("scrub", "--older-than", "1h")
    assert (again["blocks"], again["is_good"]) == (0, True)

    for wrong in (("--rate", "1"), ("--rate", "fast"), ("--older-than", "soon")):
        assert (await admin.run("scrub", *wrong)).code == 2, wrong


async def test_quotas_of_a_server_are_audited_as_a_job(admin: Cli, team: str) -> None:
    path = admin.folder / "data.bin"
    path.write_bytes(bytes(3000) + team.encode())
    await admin.json("upload", path, f"{team}:/")

    audited = await admin.run("quota", "audit")
    assert audited.code == 0, audited.err
    assert "verified at 20" in audited.out and "difference 0 B" in audited.out
    one = await admin.json("quota", "audit", team, "--physical", "--repair")
    assert (one["result"], one["accounts"], one["physical"]["difference_bytes"]) == ("clean", 1, 0)
    asked = await admin.json("admin", "log", "--act", "job.ask")
    assert (await admin.run("quota", "audit", "nobody-at-all")).code == 4
    assert await admin.json("admin", "log", "--act", "job.ask") == asked, "no job for it"
    unknown = "grp_" + "0" * 26
    assert (await admin.run("quota", "audit", unknown)).code == 4, "might have been deleted"


async def test_drift_is_found_directly_shown_and_corrected(tmp_path: Path) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    here.mkdir()
    await with_a_file(data)
    cli = Cli("http://127.0.0.1:9", "none", tmp_path / "state", here)
    assert (await cli.run("quota", "audit", "--data", data)).code == 0
    with contextlib.closing(sqlite3.connect(data / "filestore.sqlite3")) as db, db:
        db.execute("UPDATE groups SET used = used + 24")

    found = await cli.run("quota", "audit", "lab", "--data", data)
    assert found.code == 1
    assert "difference 24 B" in found.out and "without the journal" in found.out
    assert "would be corrected: used 1024 -> 1000" in found.out

    corrected = await cli.run("quota", "audit", "--repair", "--data", data)
    assert corrected.code == 0
    lines = [line.strip() for line in corrected.out.splitlines()]
    assert lines.index("would be corrected: used 1024 -> 1000") < lines.index(
        "corrected: used 1024 -> 1000"
    )
    assert (await cli.json("quota", "audit", "--data", data))["result"] == "clean"


async def test_what_a_path_would_free_is_told_and_nothing_is_damaged(admin: Cli, team: str) -> None:
    path = admin.folder / "data.bin"
    path.write_bytes(bytes(2048) + team.encode())
    await admin.json("upload", path, f"{team}:/f/")
    told = await admin.run("du", f"{team}:/f")
    assert told.code == 0 and told.out.startswith("/f: 2 KiB of quota, 1 version\n")
    assert "the store would free" in told.out, "to a site admin"
    await admin.json("rm", f"{team}:/f/data.bin")
    assert (await admin.json("du", team))["quota_bytes"] == 0
    (item,) = (await admin.json("trash", "list", team))["items"]
    assert (await admin.json("du", team, "--trash", item["id"]))["versions"] == 1
    assert (await admin.run("du", f"{team}:/f", "--trash", item["id"])).code == 2
    assert (await admin.run("du", f"{team}:/nothing")).code == 4

    damaged = await admin.run("damaged", team)
    assert (damaged.code, damaged.out, damaged.err) == (0, "", "nothing is damaged\n")


async def test_damage_is_found_directly_planned_repaired_and_never_hidden(tmp_path: Path) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    here.mkdir()
    block = await with_a_file(data)
    cli = Cli("http://127.0.0.1:9", "none", tmp_path / "state", here)
    assert (await cli.run("scrub", "--data", data, "--rate", "1")).code == 2
    stored = block.read_bytes()
    block.unlink()

    found = await cli.run("fsck", "--data", data)
    assert found.code == 1
    assert "damage: row-without-object" in found.out and "/a version 1" in found.out
    assert "repair: 1 mark-lost" in found.out and "done:" not in found.out

    repaired = await cli.run("fsck", "--repair", "--data", data)
    assert repaired.code == 1, "its bytes are still missing"
    lines = repaired.out.splitlines()
    assert lines.index("repair: 1 mark-lost") < lines.index("done: 1 mark-lost")
    still = await cli.run("scrub", "--data", data, "--json")
    assert (still.code, still.document["still_lost"], still.document["lost"]) == (1, 1, 0)

    block.write_bytes(stored)
    block.chmod(0o644)
    healed = await cli.json("scrub", "--data", data)
    assert (healed["revived"], healed["is_good"]) == (1, True)
    assert (await cli.run("fsck", "--data", data)).code == 0

    (mark,) = (data / "blocks" / ".identity").iterdir()
    mark.rename(mark.with_name("sto_" + "0" * 32 + mark.name[-2:]))
    for command in ("fsck", "scrub"):
        refused = await cli.run(command, "--data", data)
        assert refused.code == 3 and "refused: " in refused.out, refused
