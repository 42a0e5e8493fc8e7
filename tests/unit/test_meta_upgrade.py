"""A database with files, uploads and a journal at revision 0003 becomes one whose books agree."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from filestore.acts import tree
from filestore.acts.uploads import end
from filestore.blocks.memory import MemoryStore
from filestore.meta import uploads as upload_rows
from filestore.meta.audit_sums import account_page
from filestore.meta.database import Database, Tx, open_database
from filestore.meta.migrations import alembic_config
from filestore.meta.tables import events, groups, member_accounts, quota_journal
from filestore.model import SYSTEM, UploadState
from filestore.names import parse_path
from filestore.quota.auditing import audit_account
from filestore.quota.sealing import seal_next
from filestore.quota.verifying import verify_journal
from tests.services.books import read_books

Rows = list[dict[str, Any]]

_LATER = 4_000_000_000_000_000


def _journal(group: str, *moves: tuple[str, str, int, int]) -> Rows:
    """Rows of revision 0003: (cause, ref, used, reserved)."""
    used = reserved = 0
    rows = []
    for seq, (cause, ref, by_used, by_reserved) in enumerate(moves, 1):
        used, reserved = used + by_used, reserved + by_reserved
        figures = {"used_after": used, "reserved_after": reserved}
        deltas = {"delta_used": by_used, "delta_reserved": by_reserved}
        what = {"group_id": group, "seq": seq, "cause": cause, "ref": ref, "actor_id": "usr_a"}
        rows.append({**what, **deltas, **figures})
    return rows


def _group(group_id: str, used: int, reserved: int, seq: int, **more: Any) -> dict[str, Any]:
    limits = {"domain_id": "default", "quota_limit": 1000, "trash_retention_s": 60}
    held = {"used": used, "reserved": reserved, "journal_seq": seq}
    return {"id": group_id, "name": group_id, "name_key": group_id, **limits, **held, **more}


def _entry(entry_id: str, group: str, kind: str, **more: Any) -> dict[str, Any]:
    parent = None if kind == "root" else f"ent_{group[4:]}"
    names = dict.fromkeys(("name", "name_key", "name_fold"), "" if kind == "root" else entry_id)
    place = {"id": entry_id, "group_id": group, "parent_id": parent, "kind": kind}
    return {**place, **names, **more}


def _version(entry: str, number: int, size: int, author: str | None = "usr_a") -> dict[str, Any]:
    what = {"entry_id": entry, "number": number, "size": size, "mime": "text/plain"}
    return {"id": f"ver_{entry}_{number}", "content_id": size + 1, "author_id": author, **what}


def _upload(upload_id: str, user: str, state: str, **more: Any) -> dict[str, Any]:
    what = {"id": upload_id, "group_id": "grp_a", "user_id": user, "state": state}
    where = {"protocol": "tus", "folder": "/", "name": upload_id, "mime": "text/plain"}
    return {**what, **where, "expires_at": _LATER, "expires_cap_at": _LATER, **more}


def _content(number: int, size: int | None) -> dict[str, Any]:
    cuts = {"min_size": 64, "avg_size": 256, "max_size": 1024, "level": 2}
    state = "building" if size is None else "complete"
    name = {"id": number, "public_id": f"cnt_{number}", "domain_id": "default"}
    return {**name, "state": state, "size": size, **cuts}


def _block(number: int, size: int) -> dict[str, Any]:
    stored = {"size": size, "stored_size": size, "codec": "plain", "state": "live"}
    key = {"id": number, "domain_id": "default", "generation": "g" * 16}
    return {**key, "hash": bytes([number]) * 32, **stored}


_FILES = {"last_number": 1, "current_number": 1}

OLD: dict[str, Rows] = {
    "domains": [{"id": "default"}],
    "users": [{"id": f"usr_{one}", "name": one, "name_key": one} for one in "abc"],
    "groups": [
        _group("grp_a", 60, 300, 9),
        _group("grp_b", 0, 0, 0),
        _group("grp_z", 0, 0, 3, deleted_at=1),
    ],
    "entries": [
        _entry("ent_a", "grp_a", "root"),
        _entry("ent_b", "grp_b", "root"),
        _entry("ent_z", "grp_z", "root"),
        _entry("ent_folder", "grp_a", "folder"),
        _entry("ent_two", "grp_a", "file", last_number=2, current_number=2),
        _entry("ent_empty", "grp_a", "file", **_FILES),
        _entry("ent_gone", "grp_a", "file", **_FILES, deleted_at=1, deleted_path="/ent_gone"),
        _entry("ent_old", "grp_a", "file", **_FILES),
        _entry("ent_nothing", "grp_b", "file", **_FILES),
    ],
    "contents": [_content(size + 1, size) for size in (0, 10, 20)] + [_content(90, None)],
    "blocks": [_block(10, 10), _block(20, 20)],
    "content_blocks": [
        {"content_id": size + 1, "byte_offset": 0, "size": size, "block_id": size}
        for size in (10, 20)
    ],
    "versions": [
        _version("ent_two", 1, 10) | {"superseded_at": 5},
        _version("ent_two", 2, 20, "usr_b"),
        _version("ent_empty", 1, 0),
        _version("ent_gone", 1, 20),
        _version("ent_old", 1, 10, None),
        _version("ent_nothing", 1, 0, None),
    ],
    "uploads": [
        _upload("upl_done", "usr_a", "done", version_id="v", length=10, byte_offset=10),
        _upload("upl_open", "usr_b", "open", content_id=90, length=300, reserved=300),
        _upload("upl_lost", "usr_c", "expired", length=7),
    ],
    "quota_journal": [
        *_journal(
            "grp_a",
            ("reserve", "upl_done", 0, 10),
            ("charge", "upl_done", 10, -10),
            ("charge", "upl_2", 20, 0),
            ("charge", "upl_3", 40, 0),
            ("purge", "ent_gone_2", -20, 0),
            ("copy", "ent_old", 10, 0),
            ("reserve", "upl_open", 0, 300),
            ("reserve", "upl_lost", 0, 7),
            ("expire", "upl_lost", 0, -7),
        ),
        *_journal(
            "grp_z",
            ("reserve", "upl_z", 0, 5),
            ("charge", "upl_z", 5, -5),
            ("purge", "ent_zz", -5, 0),
        ),
    ],
    "events": [{"kind": "file.written", "group_id": "grp_a", "payload": "{}"}] * 2,
    "audit_log": [{"act": "file.write", "group_id": "grp_a"}],
}
"""What filestore of that revision may have left, in the order in which rows may come."""


@pytest.fixture(params=["sqlite", "postgres"])
async def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/filestore.sqlite3"
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres_url"))
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_fill)
    finally:
        await engine.dispose()
    db = await open_database(url)
    yield db
    await db.close()


def _fill(connection: sa.Connection) -> None:
    command.upgrade(alembic_config(connection), "0003")
    for table, rows in OLD.items():
        for row in rows:
            names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)


async def _check(db: Database) -> None:
    """Audit and journal of every account, and the independent oracle."""
    for account in await db.read(lambda tx: account_page(tx, "", 100)):
        audited = await audit_account(db, account)
        assert audited is not None
        assert (audited.differences, audited.is_good) == ((), True), account
        while await seal_next(db, account, limit=2):
            pass
        assert (await db.read(lambda tx, one=account: read_books(tx, one))).agree  # type: ignore[misc]
    store = MemoryStore()
    await store.open()
    report = await verify_journal(db, store)
    assert (report.findings, report.groups) == ([], 3)


async def test_books_journal_and_members_agree_after_the_upgrade(upgraded: Database) -> None:
    async def look(tx: Tx) -> tuple[Any, ...]:
        rows = await tx.execute(sa.select(groups).order_by(groups.c.id))
        counters = [(r.used, r.reserved, r.files, r.reserved_files, r.journal_seq) for r in rows]
        members = (await tx.execute(sa.select(member_accounts).order_by("user_id"))).all()
        names = (await tx.scalars(sa.select(events.c.public_id))).all()
        return counters, [(m.user_id, m.used, m.reserved) for m in members], set(names)

    counters, members, names = await upgraded.read(look)

    assert counters == [(60, 300, 4, 0, 10), (0, 0, 1, 0, 1), (0, 0, 0, 0, 3)]
    assert members == [("usr_a", 30, 0), ("usr_b", 20, 300)]
    assert len(names) == 2 and all(name.startswith("evt_") for name in names)
    await _check(upgraded)


async def test_what_came_before_is_removed_ended_and_completed_after_it(
    upgraded: Database,
) -> None:
    async def act(tx: Tx) -> None:
        upload = await upload_rows.lock(tx, "upl_open")
        await end(tx, SYSTEM, upload, UploadState.TERMINATED)
        await tree.purge(tx, SYSTEM, "grp_a", "ent_gone")

    await upgraded.transact(act)
    await _check(upgraded)
    for name in ("two", "empty", "old"):
        await tree.remove_all(upgraded, SYSTEM, "grp_a", parse_path(f"/ent_{name}"))
    await _check(upgraded)
    row = (await upgraded.read(lambda tx: _group_row(tx))).one()
    assert (row.used, row.reserved, row.files) == (0, 0, 0)


async def test_the_journal_of_before_cannot_be_changed_either(upgraded: Database) -> None:
    for statement in (
        sa.update(quota_journal).values(at=1),
        sa.delete(quota_journal),
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            await upgraded.transact(lambda tx, what=statement: tx.execute(what))  # type: ignore[misc]


async def _group_row(tx: Tx) -> Any:
    return await tx.execute(sa.select(groups).where(groups.c.id == "grp_a"))
