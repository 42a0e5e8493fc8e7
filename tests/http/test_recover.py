"""``filestore admin token``: a way back in for who has the server but no token."""

import asyncio
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from filestore.acts.recover import recover_admin
from filestore.app import ADMIN_TOKEN, keep_in, listening, make_service
from filestore.cli.main import execute
from filestore.errors import CannotStart, NotFound
from filestore.meta.database import Tx, open_database
from filestore.meta.tables import audit_log, tokens, users
from filestore.settings import Settings
from tests.http.api import Api

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what no database decides: once is enough."""


async def _command(settings: Settings, *more: str) -> tuple[int, str, str]:
    """The command's exit code and what it printed."""
    arguments = ["admin", "token", "--data", str(settings.server.data)]
    arguments += ["--database", settings.database_url, *more]
    out, err = io.StringIO(), io.StringIO()

    def run() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return execute(arguments)

    return await asyncio.to_thread(run), out.getvalue(), err.getvalue()


async def _users_as(settings: Settings, secret: str) -> list[str]:
    """Names of all users, asked with this token."""
    async with (
        make_service(settings) as service,
        listening(service) as url,
        aiohttp.ClientSession() as session,
    ):
        answer = await Api(session, url, secret).get("/api/v1/users")
        assert answer.status == 200, answer.body
        return [item["name"] for item in answer.json["items"]]


async def _change(settings: Settings, *statements: Any) -> None:
    db = await open_database(settings.database_url)
    for statement in statements:

        async def act(tx: Tx, statement: Any = statement) -> None:
            await tx.execute(statement)

        await db.transact(act)
    await db.close()


async def test_a_new_token_lets_in_again_when_all_are_revoked(settings: Settings) -> None:
    async with make_service(settings):
        first = (settings.server.data / ADMIN_TOKEN).read_text().strip()
    await _change(settings, sa.update(tokens).values(revoked_at=1))

    code, out, err = await _command(settings, "--json")

    assert code == 0, err
    path = settings.server.data / ADMIN_TOKEN
    secret = path.read_text().strip()
    assert (json.loads(out)["user"], json.loads(out)["file"]) == ("admin", str(path))
    assert json.loads(out)["token"] is None
    assert secret != first
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert await _users_as(settings, secret) == ["admin"]


@on_sqlite
async def test_when_no_site_admin_is_left_the_user_admin_becomes_one(settings: Settings) -> None:
    async with make_service(settings):
        pass
    await _change(settings, sa.update(users).values(is_admin=False, disabled_at=1))

    code, out, err = await _command(settings, "--print")

    assert code == 0, err
    assert out.strip() != (settings.server.data / ADMIN_TOKEN).read_text().strip()
    assert await _users_as(settings, out.strip()) == ["admin"]
    code, _, err = await _command(settings, "--user", "nobody")
    assert (code, "user" in err) == (4, True)


async def test_while_a_server_runs_sqlite_is_refused_and_postgresql_works(
    settings: Settings,
) -> None:
    path = settings.server.data / ADMIN_TOKEN
    async with make_service(settings) as service:
        before = path.read_text()
        code, _, err = await _command(settings)
        rows = await service.services.db.read(_recoveries)
    if settings.database_url.startswith("sqlite"):
        assert (code, path.read_text(), rows) == (1, before, [])
        assert "is in use by process" in err
    else:
        assert (code, len(rows)) == (0, 1)
        assert path.read_text() != before
        assert path.read_text().strip() not in rows[0]


@on_sqlite
async def test_an_empty_database_gets_no_admin_and_a_wrong_folder_no_database(
    settings: Settings, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    code = await asyncio.to_thread(execute, ["admin", "token", "--data", str(wrong)])
    assert (code, wrong.exists()) == (1, False)

    db = await open_database(settings.database_url)
    path = tmp_path / ADMIN_TOKEN
    with pytest.raises(CannotStart):
        await recover_admin(db, None, keep_in(path))
    await db.close()
    assert not path.exists()


@on_sqlite
async def test_a_name_that_is_no_user_changes_nothing(settings: Settings) -> None:
    async with make_service(settings) as service:
        db = service.services.db
        before = (settings.server.data / ADMIN_TOKEN).read_text()
        with pytest.raises(NotFound):
            await recover_admin(db, "nobody", keep_in(settings.server.data / ADMIN_TOKEN))
        assert (settings.server.data / ADMIN_TOKEN).read_text() == before
        assert await db.read(_recoveries) == []


async def _recoveries(tx: Tx) -> list[str]:
    query = sa.select(audit_log.c.after).where(audit_log.c.act == "token.recover")
    return [str(after) for after in await tx.scalars(query)]
