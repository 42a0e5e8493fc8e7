"""32 clients do anything at all to one server that is killed in between: the books always agree.

``STORM_OPERATIONS`` says how many operations (``make storm``: 10,000), ``STORM_SEED`` repeats what
the clients decided, though not what the system did. Whatever grows a group beyond the limit in
force is refused by the database itself, which is an error of the server and fails the test.
"""

import asyncio
import os
import secrets
import sys
import time
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.meta.database import Database, open_database
from filestore.meta.tables import groups
from filestore.settings import load
from tests.crash.offline import let_silence_pass
from tests.crash.storm import GROUPS, QUOTA, Storm
from tests.e2e import backends
from tests.e2e.stage import Stage, make_group
from tests.http.api import Api
from tests.http.conftest import make_user
from tests.services.books import check_journal, read_books
from tests.services.limits import guard_limits
from tests.services.server import Server

OPERATIONS = int(os.environ.get("STORM_OPERATIONS", "600"))
CLIENTS = 32
USERS = 4
SETTINGS = {"gc.interval_s": 1, "gc.grace_s": 0, "log.level": "warning"}

BACKENDS = (
    backends.DISK,
    pytest.param(
        backends.SEAWEEDFS, marks=[pytest.mark.needs("postgres", "seaweedfs"), pytest.mark.e2e]
    ),
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_the_books_agree_whenever_the_server_is_killed(stage: Stage) -> None:
    seed = int(os.environ.get("STORM_SEED", secrets.randbits(32)))
    each = min(1000, max(OPERATIONS // 3, 1))
    sys.stderr.write(f"STORM_SEED={seed} STORM_OPERATIONS={OPERATIONS}\n")
    await _prepare(stage)
    server = stage.server(settings=SETTINGS)
    server.start()
    storm = await _storm(stage, server)
    kills, audits, began = 0, 0, time.monotonic()

    while storm.operations < OPERATIONS:
        wanted = min(each, OPERATIONS - storm.operations)
        storm.gather(wanted)
        async with asyncio.TaskGroup() as tasks:
            meanwhile = tasks.create_task(_audit_meanwhile(storm))
            await storm.blow(f"{seed}-{kills}", server.kill)
        audits += meanwhile.result()
        kills += 1
        await let_silence_pass(stage)
        server.start()
        _point(storm, server)
        report = await _audited(storm.admin)
        assert (report["result"], report["difference_bytes"]) == ("clean", 0), report
        audits += 1

    assert server.stop() == 0
    await _check_books(stage)
    took = time.monotonic() - began
    sys.stderr.write(
        f"{stage.backend.name}: {dict(storm.outcomes)}, {kills} kills, {audits} audits without a"
        f" difference, {took:.0f} s\n{dict(sorted(storm.acts.items()))}\n"
    )
    assert storm.outcomes["acknowledged"] > OPERATIONS // 4, storm.outcomes
    assert storm.outcomes["refused"] > 0, storm.outcomes
    assert kills >= 2


async def _prepare(stage: Stage) -> None:
    """The schema, with a guard of the limits, before the service sees the database."""
    db = await _database(stage)
    try:
        await db.transact(guard_limits)
    finally:
        await db.close()


async def _database(stage: Stage) -> Database:
    flags = {"data": stage.folder / "data", "database": stage.backend.database}
    return await open_database(load(environ={}, flags=flags).database_url)


async def _storm(stage: Stage, server: Server) -> Storm:
    """The groups, and users that are managers of all of them."""
    admin = stage.admin(server)
    for group in GROUPS:
        await make_group(admin, group, QUOTA)
    users = [await make_user(admin, f"user-{number}") for number in range(USERS)]
    for group in GROUPS:
        for number in range(USERS):
            path = f"/api/v1/groups/{group}/members/user-{number}"
            assert (await admin.put(path, {"role": "manager"})).status == 201
    return Storm([users[number % USERS] for number in range(CLIENTS)], admin)


def _point(storm: Storm, server: Server) -> None:
    """The server has another address after each start."""
    storm.admin = Api(storm.admin.session, server.url, storm.admin.token)
    storm.apis = [Api(api.session, server.url, api.token) for api in storm.apis]


async def _audit_meanwhile(storm: Storm) -> int:
    """Audits in the middle of a slice, while all goes on; 1 when it ended before the kill."""
    await storm.is_half.wait()
    try:
        report = await _audited(storm.admin)
    except OSError:  # aiohttp's errors of a connection are
        return 0
    assert report["result"] == "clean", report
    return 1


async def _audited(admin: Api) -> dict[str, Any]:
    """The report of an audit of quotas that is asked for."""
    asked = await admin.post("/api/v1/admin/jobs", {"kind": "audit"})
    assert asked.status == 202, asked.body
    async with asyncio.timeout(300):
        while True:
            job = (await admin.get(f"/api/v1/admin/jobs/{asked.json['id']}")).json
            if job["ended_at"] is not None:
                assert job["state"] == "done", job
                return dict(job["report"])
            await asyncio.sleep(0.1)


async def _check_books(stage: Stage) -> None:
    """The second oracle, which knows nothing of the audit."""
    db = await _database(stage)
    try:
        named = sa.select(groups.c.id).where(groups.c.name.in_(GROUPS))
        ids = await db.read(lambda tx: _all(tx, named))
        for group_id in ids:
            await db.read(lambda tx, group_id=group_id: _check_group(tx, group_id))  # type: ignore[misc]
    finally:
        await db.close()


async def _all(tx: Any, query: sa.Select[Any]) -> list[str]:
    return list(await tx.scalars(query))


async def _check_group(tx: Any, group_id: str) -> None:
    books = await read_books(tx, group_id)
    assert books.agree, books
    await check_journal(tx, group_id, books)
