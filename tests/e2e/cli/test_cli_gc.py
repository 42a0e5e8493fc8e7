"""``filestore gc run``: as a job of the server, and on the store itself."""

import contextlib
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import sqlalchemy as sa

from filestore.app import ADMIN_TOKEN, listening, make_service
from filestore.meta.database import Tx, open_database
from filestore.meta.tables import instance
from filestore.settings import load
from tests.e2e.cli.conftest import Cli
from tests.http.api import Api

FILE = "/api/v1/groups/lab/files/a"


async def _deleted(admin: Cli, team: str, size: int = 3000) -> None:
    """A file of the group's is deleted for good."""
    path = admin.folder / "data.bin"
    path.write_bytes(bytes(size) + team.encode())
    await admin.json("upload", path, f"{team}:/")
    await admin.json("rm", "--permanent", f"{team}:/data.bin")


async def test_a_run_is_planned_done_and_then_has_nothing_to_do(admin: Cli, team: str) -> None:
    await _deleted(admin, team)

    plan = await admin.run("gc", "run", "--dry-run", "--grace", "0")
    assert (plan.code, plan.out.splitlines()[0][:11]) == (0, "would free "), plan.err
    assert team in plan.out and "released" in plan.out and "under an hour" in plan.out

    done = await admin.run("gc", "run", "--grace", "0", "--json")
    assert done.code == 0, done.err
    assert done.document["result"] == "done"
    assert done.document["job"].startswith("job_")
    assert team in [line["group_name"] for line in done.document["freed"]]

    again = await admin.run("gc", "run", "--grace", "0")
    assert (again.code, again.out.splitlines()[0]) == (0, "there was nothing to do")
    assert "only their rows stay" in again.out


async def test_what_waits_is_said_with_its_time(admin: Cli, team: str) -> None:
    await _deleted(admin, team)
    run = await admin.run("gc", "run")
    assert run.code == 0
    assert "in their grace, until 2" in run.out
    assert (await admin.run("gc", "run", "--grace", "0", "--quiet")).err == ""


async def test_only_a_site_admin_may_and_a_wrong_grace_is_a_usage_error(admin: Cli) -> None:
    name = f"user-{admin.folder.parent.name}"
    await admin.json("user", "create", name)
    token = await admin.json("token", "create", "--user", name)
    assert (await admin.as_user(token["token"]).run("gc", "run")).code == 3
    assert (await admin.run("gc", "run", "--grace", "-1")).code == 2


async def test_a_store_is_collected_directly_but_not_under_a_running_server(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    here = tmp_path / "here"
    here.mkdir()
    cli = Cli("http://127.0.0.1:9", "none", tmp_path / "state", here)
    missing = await cli.run("gc", "run", "--data", data)
    assert missing.code == 1 and "there is no database" in missing.err
    assert not data.exists(), "nothing is created"

    settings = load(flags={"data": data, "listen": "127.0.0.1:0", "gc.interval_s": 86_400})
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(make_service(settings))
        url = await stack.enter_async_context(listening(service))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = Api(session, url, (data / ADMIN_TOKEN).read_text().strip())
        await api.post("/api/v1/groups", {"name": "lab"})
        assert (await api.put(FILE, data=b"x" * 1000)).status == 201
        assert (await api.delete(f"{FILE}?permanent=true")).status == 204
        refused = await cli.run("gc", "run", "--data", data, "--grace", "0")
        token = await cli.run("admin", "token", "--data", data)
    assert refused.code == 1
    assert "in use by process" in refused.err and "Traceback" not in refused.err
    assert "Stop the server, or let it do the work: leave out --data," in refused.err
    assert token.code == 1
    assert "in use by process" in token.err and "Stop the server, repeat the" in token.err

    blocks = [path for path in (data / "blocks" / "default").rglob("*") if path.is_file()]
    assert len(blocks) == 1
    done = await cli.json("gc", "run", "--data", data, "--grace", "0")
    assert (done["result"], done["blocks"]) == ("done", 1)
    assert not blocks[0].exists()

    await _change(data, instance.update().values(epoch=0))
    older = await cli.run("gc", "run", "--data", data)
    assert older.code == 3
    assert "filestore: refused: " in older.err and "older backup" in older.err


async def _change(data: Path, statement: sa.Update) -> None:
    db = await open_database(f"sqlite+aiosqlite:///{data}/filestore.sqlite3")

    async def act(tx: Tx) -> None:
        await tx.execute(statement)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        await db.transact(act)
