"""What the schema refuses: one bad row for every named constraint, on both databases."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from filestore.meta.database import Database, Tx, open_database, violates
from filestore.meta.tables import metadata
from filestore.meta.triggers import APPEND_ONLY

Values = dict[str, Any]
HASH = bytes(range(32))

_PARAMS = {"min_size": 64, "avg_size": 256, "max_size": 1024, "level": 2}
_ENTRY = {"group_id": "grp_1", "name": "a", "name_key": "a", "name_fold": "a"}
_UPLOAD = {
    "group_id": "grp_1",
    "user_id": "usr_1",
    "protocol": "tus",
    "folder": "/",
    "name": "a",
    "mime": "text/plain",
    "expires_at": 1,
    "expires_cap_at": 1,
}

ROWS: list[tuple[str, Values]] = [
    ("instance", {"id": 1, "store_id": "sto_1", "epoch": 1}),
    ("processes", {"id": "prc_1", "host": "h", "pid": 1}),
    ("domains", {"id": "one"}),
    ("users", {"id": "usr_1", "name": "u", "name_key": "u"}),
    (
        "groups",
        {
            "id": "grp_1",
            "name": "g",
            "name_key": "g",
            "domain_id": "one",
            "quota_limit": 9,
            "used": 5,
            "trash_retention_s": 0,
        },
    ),
    ("memberships", {"group_id": "grp_1", "user_id": "usr_1", "role": "viewer"}),
    ("tokens", {"id": "tok_1", "user_id": "usr_1", "name": "t", "hash": HASH, "scopes": "read"}),
    ("token_groups", {"token_id": "tok_1", "group_id": "grp_1"}),
    ("entries", _ENTRY | {"id": "ent_0", "kind": "root", "name": "", "name_key": ""}),
    ("entries", _ENTRY | {"id": "ent_1", "kind": "folder", "parent_id": "ent_0"}),
    (
        "entries",
        _ENTRY
        | {
            "id": "ent_2",
            "kind": "file",
            "name_key": "b",
            "parent_id": "ent_1",
            "last_number": 1,
            "current_number": 1,
        },
    ),
    (
        "contents",
        _PARAMS
        | {"id": 1, "public_id": "cnt_1", "domain_id": "one", "state": "complete", "size": 5},
    ),
    (
        "contents",
        _PARAMS | {"id": 2, "public_id": "cnt_2", "domain_id": "one", "state": "building"},
    ),
    (
        "blocks",
        {
            "id": 1,
            "domain_id": "one",
            "hash": HASH,
            "generation": "0" * 16,
            "size": 5,
            "stored_size": 37,
            "codec": "plain",
            "state": "live",
            "process_id": "prc_1",
            "deadline_at": 1,
        },
    ),
    ("content_blocks", {"content_id": 1, "byte_offset": 0, "size": 5, "block_id": 1}),
    (
        "versions",
        {
            "id": "ver_1",
            "entry_id": "ent_2",
            "number": 1,
            "content_id": 1,
            "size": 5,
            "mime": "text/plain",
            "author_id": "usr_1",
        },
    ),
    (
        "uploads",
        _UPLOAD
        | {
            "id": "upl_1",
            "content_id": 2,
            "state": "open",
            "holder_id": "prc_1",
            "idempotency_key": "k",
        },
    ),
    (
        "quota_journal",
        {
            "group_id": "grp_1",
            "seq": 1,
            "cause": "charge",
            "delta_used": 5,
            "delta_reserved": 0,
            "used_after": 5,
            "reserved_after": 0,
        },
    ),
    (
        "journal_seals",
        {"group_id": "grp_1", "first_seq": 1, "last_seq": 2, "previous": HASH, "head": HASH},
    ),
    ("member_accounts", {"group_id": "grp_1", "user_id": "usr_1", "used": 5}),
    ("audit_log", {"id": 1, "act": "x"}),
    ("events", {"id": 1, "kind": "x", "payload": "{}", "public_id": "evt_1"}),
    (
        "webhooks",
        {"id": "whk_1", "group_id": "grp_1", "url": "https://a", "secret": "s", "kinds": "[]"},
    ),
    ("webhook_deliveries", {"id": 1, "webhook_id": "whk_1", "event_id": 1, "state": "waiting"}),
    ("gc_queue", {"block_id": 1, "not_before": 1, "reason": "released", "queued_at": 1}),
    ("leases", {"name": "gc", "process_id": "prc_1", "turn": 1, "taken_at": 1}),
    (
        "jobs",
        {
            "id": "job_1",
            "kind": "gc",
            "state": "running",
            "parameters": "{}",
            "process_id": "prc_1",
            "started_at": 1,
            "seen_at": 1,
        },
    ),
]
"""A small database in which everything is right and every foreign key is in use."""

CHANGES: list[tuple[str, Values]] = [
    ("ck_instance_single", {"id": 2}),
    ("ck_instance_epoch", {"epoch": -1}),
    ("ck_instance_pool_bytes", {"pool_bytes": -1}),
    ("ck_instance_overcommit_percent", {"overcommit_percent": -1}),
    ("ck_domains_id", {"id": ""}),
    ("ck_groups_deleted_is_empty", {"deleted_at": 1}),
    ("ck_groups_quota_limit", {"quota_limit": -1}),
    ("ck_groups_used", {"used": -1}),
    ("ck_groups_reserved", {"reserved": -1}),
    ("ck_groups_journal_seq", {"journal_seq": -1}),
    ("ck_groups_trash_retention_s", {"trash_retention_s": -1}),
    ("ck_groups_versions_keep", {"versions_keep": -1}),
    ("ck_groups_versions_keep_s", {"versions_keep_s": -1}),
    ("ck_groups_kind", {"kind": "user"}),
    ("ck_groups_files", {"files": -1}),
    ("ck_groups_reserved_files", {"reserved_files": -1}),
    ("ck_groups_files_limit", {"files_limit": -1}),
    ("ck_groups_soft_limit", {"soft_limit": -1}),
    ("ck_groups_warned_percent", {"warned_percent": -1}),
    ("ck_member_accounts_used", {"used": -1}),
    ("ck_member_accounts_reserved", {"reserved": -1}),
    ("ck_member_accounts_share_limit", {"share_limit": -1}),
    ("ck_memberships_role", {"role": "owner"}),
    ("ck_tokens_hash", {"hash": b"short"}),
    ("ck_entries_kind", {"id": "ent_1", "kind": "link"}),
    ("ck_entries_parent", {"id": "ent_1", "parent_id": None}),
    ("ck_entries_root_stays", {"id": "ent_0", "deleted_at": 1, "deleted_path": "/"}),
    ("ck_entries_no_loop", {"id": "ent_1", "parent_id": "ent_1"}),
    ("ck_entries_name", {"id": "ent_1", "name_key": ""}),
    ("ck_entries_folder_versions", {"id": "ent_1", "last_number": 1, "current_number": 1}),
    ("ck_entries_numbers", {"id": "ent_2", "current_number": 2}),
    ("ck_entries_deleted_path", {"id": "ent_1", "deleted_at": 1}),
    ("ck_contents_state", {"id": 2, "state": "open"}),
    ("ck_contents_size", {"id": 1, "size": -1}),
    ("ck_contents_complete_has_size", {"id": 1, "size": None}),
    ("ck_contents_blake3", {"id": 1, "blake3": b"short"}),
    ("ck_blocks_state", {"state": "gone"}),
    ("ck_blocks_codec", {"codec": "gzip"}),
    ("ck_blocks_hash", {"hash": HASH[:31]}),
    ("ck_blocks_generation", {"generation": "0"}),
    ("ck_blocks_size", {"size": 0}),
    ("ck_blocks_size", {"size": 4 * 2**20 + 1}),
    ("ck_blocks_stored_size", {"stored_size": 0}),
    ("ck_blocks_stored", {"stored_size": None}),
    ("ck_blocks_stored", {"state": "lost", "codec": None}),
    ("ck_blocks_uploading_has_owner", {"state": "uploading", "process_id": None}),
    ("ck_blocks_uploading_has_owner", {"state": "uploading", "deadline_at": None}),
    ("ck_content_blocks_byte_offset", {"byte_offset": -1}),
    ("ck_content_blocks_size", {"size": 0}),
    ("ck_versions_number", {"number": 0}),
    ("ck_versions_size", {"size": -1}),
    ("ck_versions_expires_at", {"expires_at": 1}),
    ("ck_versions_expires_at", {"pool_id": "acc_1"}),
    ("ck_uploads_reserved_files", {"reserved_files": 2}),
    ("ck_uploads_reserved_files", {"state": "expired", "reserved_files": 1}),
    ("ck_uploads_part", {"part": "half"}),
    ("ck_uploads_protocol", {"protocol": "ftp"}),
    ("ck_uploads_state", {"state": "paused"}),
    ("ck_uploads_byte_offset", {"byte_offset": -1}),
    ("ck_uploads_byte_offset", {"byte_offset": 6, "length": 5}),
    ("ck_uploads_reserved", {"reserved": -1}),
    ("ck_uploads_only_open_reserves", {"state": "expired", "reserved": 1}),
    ("ck_uploads_open_has_content", {"content_id": None}),
    ("ck_uploads_done", {"state": "done", "length": 0}),
    ("ck_uploads_done", {"state": "done", "version_id": "ver_1", "length": 5}),
    ("ck_uploads_expected_blake3", {"expected_blake3": b"short"}),
    ("ck_uploads_expected_sha256", {"expected_sha256": b"short"}),
    ("ck_quota_journal_seq", {"seq": 0}),
    ("ck_quota_journal_used_after", {"seq": 2, "used_after": -1}),
    ("ck_quota_journal_reserved_after", {"seq": 2, "reserved_after": -1}),
    ("ck_quota_journal_moves", {"seq": 2, "delta_used": 0}),
    ("ck_quota_journal_files_after", {"seq": 2, "files_after": -1}),
    ("ck_quota_journal_reserved_files_after", {"seq": 2, "reserved_files_after": -1}),
    ("ck_journal_seals_span", {"first_seq": 0, "last_seq": 4}),
    ("ck_journal_seals_span", {"first_seq": 5, "last_seq": 4}),
    ("ck_journal_seals_previous", {"first_seq": 3, "last_seq": 4, "previous": b"short"}),
    ("ck_journal_seals_head", {"first_seq": 3, "last_seq": 4, "head": b"short"}),
    ("ck_webhooks_url", {"url": ""}),
    ("ck_webhook_deliveries_state", {"state": "lost", "ended_at": 1}),
    ("ck_webhook_deliveries_attempts", {"attempts": -1}),
    ("ck_webhook_deliveries_ended", {"ended_at": 1}),
    ("ck_webhook_deliveries_ended", {"state": "done"}),
    ("ck_gc_queue_attempts", {"attempts": -1}),
    ("ck_leases_turn", {"turn": 0}),
    ("ck_jobs_state", {"state": "paused", "ended_at": 1}),
    ("ck_jobs_kind", {"kind": ""}),
    ("ck_jobs_running_has_process", {"process_id": None}),
    ("ck_jobs_ended", {"state": "done"}),
    ("ck_jobs_ended", {"ended_at": 1}),
]
"""Changes of a right row, each of which one CHECK refuses. ``id`` picks the row. Where rows never
change, it is a new row that is refused."""

IMPLIED = {"ck_uploads_length"}
"""Checks that no row can break alone: an offset of 0 or more is not below a negative length."""

TWINS: list[tuple[str, Values]] = [
    ("uq_users_name_key", {"id": "usr_2"}),
    ("uq_groups_living_name", {"id": "grp_2"}),
    ("uq_tokens_hash", {"id": "tok_2"}),
    ("uq_entries_living_name", {"id": "ent_3"}),
    ("uq_entries_root", {"id": "ent_3"}),
    ("uq_contents_public_id", {"id": 3}),
    ("uq_blocks_domain_id_hash_generation", {"id": 2, "state": "condemned"}),
    ("uq_blocks_live", {"id": 2, "generation": "1" * 16}),
    ("uq_versions_entry_id_number", {"id": "ver_2"}),
    ("uq_uploads_content_id", {"id": "upl_2", "idempotency_key": None}),
    ("uq_uploads_idempotency_key", {"id": "upl_2", "content_id": None, "state": "expired"}),
    ("uq_events_public_id", {"id": 2}),
    ("uq_webhook_deliveries_event_id_webhook_id", {"id": 2}),
    ("pk_instance", {}),
    ("pk_memberships", {"role": "manager"}),
    ("pk_content_blocks", {"size": 4}),
    ("pk_quota_journal", {}),
    ("pk_journal_seals", {"first_seq": 2}),
    ("uq_journal_seals_group_id_first_seq", {"last_seq": 3}),
    ("pk_member_accounts", {}),
    ("pk_gc_queue", {}),
    ("pk_leases", {}),
    ("uq_jobs_running", {"id": "job_2"}),
]
"""Copies of a right row with other values, each of which one unique constraint refuses."""

COUNTERPARTS: list[tuple[str, Values]] = [
    ("groups", {"id": "grp_2", "deleted_at": 1, "used": 0}),
    ("entries", {"id": "ent_3", "deleted_at": 1, "deleted_path": "/a/a"}),
    ("blocks", {"id": 2, "generation": "1" * 16, "state": "condemned"}),
    ("blocks", {"id": 2, "generation": "1" * 16, "state": "uploading"}),
    ("uploads", {"id": "upl_2", "state": "expired", "idempotency_key": "other"}),
    ("uploads", {"id": "upl_2", "state": "expired", "idempotency_key": None}),
    ("jobs", {"id": "job_2", "state": "queued"}),
]
"""Copies that the partial indexes let pass, because they are not living, live or open."""


@pytest.fixture
async def db(any_database: str) -> AsyncIterator[Database]:
    opened = await open_database(any_database)

    async def fill(tx: Tx) -> None:
        for table, values in ROWS:
            await tx.execute(metadata.tables[table].insert().values(values))

    await opened.transact(fill)
    yield opened
    await opened.close()


def test_every_named_constraint_has_a_bad_row_here() -> None:
    wanted = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in (*table.constraints, *(c for own in table.c for c in own.constraints))
        if isinstance(constraint, sa.CheckConstraint | sa.UniqueConstraint)
    }
    wanted |= {
        str(index.name)
        for table in metadata.tables.values()
        for index in table.indexes
        if index.unique
    }
    tried = {name for name, _ in [*CHANGES, *TWINS]}
    assert {name for name in tried if not name.startswith("pk_")} == wanted - IMPLIED


async def test_each_check_refuses_its_bad_row_and_changes_nothing(db: Database) -> None:
    for name, values in CHANGES:
        table = _table_of(name)
        before = await _rows(db, table)
        await _refused(db, name, _change(table, values, before))
        assert await _rows(db, table) == before, name


async def test_each_unique_constraint_refuses_a_twin(db: Database) -> None:
    for name, values in TWINS:
        table = _table_of(name)
        before = await _rows(db, table)
        await _refused(db, name, table.insert().values(_original(name, table) | values))
        assert await _rows(db, table) == before, name


async def test_partial_indexes_bind_only_what_is_living_live_or_open(db: Database) -> None:
    for name, values in COUNTERPARTS:
        table = metadata.tables[name]
        copy = _original("ent_2" if name == "entries" else "", table) | values

        async def act(
            tx: Tx, table: sa.Table = table, copy: Values = copy, values: Values = values
        ) -> None:
            await tx.execute(table.insert().values(copy))
            await tx.execute(table.delete().where(table.c.id == values["id"]))

        await db.transact(act)


async def test_every_foreign_key_refuses_what_is_not_there(db: Database) -> None:
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            unknown: Any = 999 if isinstance(key.column.type, sa.Integer) else "unknown"
            change: sa.Insert | sa.Update
            if table.name in APPEND_ONLY:
                change = table.insert().values(_original("", table) | {key.parent.name: unknown})
            else:
                change = table.update().where(key.parent.is_not(None)).values({key.parent: unknown})
            await _refused(db, str(key.constraint and key.constraint.name), change)


async def test_what_is_only_added_to_is_neither_changed_nor_removed(db: Database) -> None:
    for name in APPEND_ONLY:
        table = metadata.tables[name]
        before = await _rows(db, table)
        for column in table.columns:
            if column.name != "marked_at":
                same = table.update().values({column: column})
                assert "append-only" in str((await _error(db, same)).orig), column
        assert "append-only" in str((await _error(db, table.delete())).orig), name
        if not db.is_sqlite:
            emptied = sa.text(f"TRUNCATE {name}")
            assert "append-only" in str((await _error(db, emptied)).orig), name
        assert await _rows(db, table) == before, name
    mark = metadata.tables["journal_seals"].update().values(marked_at=1)
    await db.transact(lambda tx: tx.execute(mark))


async def test_the_journal_has_no_gaps(db: Database) -> None:
    table = metadata.tables["quota_journal"]
    row = _original("", table)
    for gap in (3, 10):
        error = await _error(db, table.insert().values(row | {"seq": gap}))
        assert "follow" in str(error.orig)
    rows = [row | {"seq": 2}, row | {"seq": 3}]
    await db.transact(lambda tx: tx.execute(table.insert().values(rows)))
    assert len(await _rows(db, table)) == 3


async def test_what_is_referred_to_cannot_be_removed(db: Database) -> None:
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            target = key.column.table
            before = await _rows(db, target)
            if key.ondelete == "RESTRICT":
                await _refused(db, None, target.delete())
            assert await _rows(db, target) == before, (table.name, key.parent.name)
    kept = {key.ondelete for table in metadata.tables.values() for key in table.foreign_keys}
    assert kept == {"RESTRICT", "CASCADE", "SET NULL"}


async def test_ids_of_blocks_and_contents_are_never_used_again(db: Database) -> None:
    for name in ("contents", "blocks", "events"):
        table = metadata.tables[name]
        values = {
            "contents": _PARAMS | {"public_id": "cnt_9", "domain_id": "one", "state": "building"},
            "blocks": dict(_original("", metadata.tables["blocks"]), generation="9" * 16),
            "events": {"kind": "x", "payload": "{}"},
        }[name]
        values = {key: value for key, value in values.items() if key != "id"}
        values |= {"state": "condemned"} if name == "blocks" else {}

        async def act(tx: Tx, table: sa.Table = table, values: Values = values) -> int:
            made = await tx.execute(table.insert().values(values).returning(table.c.id))
            number = int(made.scalar_one())
            await tx.execute(table.delete().where(table.c.id == number))
            return number

        if not db.is_sqlite:
            # the fixture chose ids itself, behind the sequence's back
            await _move_sequence(db, name)
        first, second = await db.transact(act), await db.transact(act)
        assert second > first, name


async def test_violates_names_the_one_constraint_and_no_other(db: Database) -> None:
    generation = await _error(db, _twin("uq_blocks_domain_id_hash_generation"))
    assert violates(generation, "uq_blocks_domain_id_hash_generation")
    assert not violates(generation, "uq_blocks_live")
    assert not violates(generation, "ck_blocks_stored")

    table = metadata.tables["blocks"]
    check = await _error(db, table.update().values(stored_size=0))
    assert violates(check, "ck_blocks_stored_size")
    assert not violates(check, "ck_blocks_stored")
    assert not violates(check, "uq_blocks_live")

    null = await _error(db, table.update().values(hash=None))
    assert not violates(null, "ck_blocks_hash")
    key = await _error(db, metadata.tables["domains"].delete())
    assert not violates(key, "uq_blocks_live")


async def _move_sequence(db: Database, table: str) -> None:
    move = sa.text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 100)")
    await db.transact(lambda tx: tx.execute(move))


def _twin(name: str) -> sa.Insert:
    table = _table_of(name)
    values = next(values for wanted, values in TWINS if wanted == name)
    return table.insert().values(_original(name, table) | values)


def _original(name: str, table: sa.Table) -> Values:
    """The row that a twin copies: of entries, the one that the constraint is about."""
    of_table = [values for wanted, values in ROWS if wanted == table.name]
    return {
        "uq_entries_living_name": of_table[-1],
        "ent_2": of_table[-1],
        "uq_uploads_content_id": of_table[-1],
    }.get(name, of_table[0])


def _table_of(constraint: str) -> sa.Table:
    name = constraint.partition("_")[2]
    return max(
        (table for table in metadata.tables.values() if f"{name}_".startswith(f"{table.name}_")),
        key=lambda table: len(table.name),
    )


def _change(table: sa.Table, values: Values, rows: list[Any]) -> sa.Insert | sa.Update:
    if table.name in APPEND_ONLY:
        return table.insert().values(_original("", table) | values)
    change = table.update().values(values)
    if "id" in values and len(rows) > 1:
        change = change.where(table.c.id == values["id"])
    return change


async def _rows(db: Database, table: sa.Table) -> list[Any]:
    order = list(table.primary_key.columns)
    return await db.read(
        lambda tx: _all(tx, sa.select(table).order_by(*order)),
    )


async def _all(tx: Tx, query: sa.Select[Any]) -> list[Any]:
    return [tuple(row) for row in await tx.execute(query)]


async def _error(db: Database, statement: Any) -> IntegrityError:
    with pytest.raises(IntegrityError) as refused:
        await db.transact(lambda tx: tx.execute(statement))
    return refused.value


async def _refused(db: Database, name: str | None, statement: Any) -> None:
    """The statement is refused by the constraint of that name (SQLite names no foreign keys)."""
    error = await _error(db, statement)
    if name is None or (db.is_sqlite and name.startswith("fk_")):
        assert "foreign key" in str(error.orig).lower(), (name, str(error.orig))
    else:
        assert violates(error, name), (name, str(error.orig))
