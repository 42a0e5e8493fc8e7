"""What the books need: who and what each row of the journal is about, seals, shares, files,
temporary files, webhooks; and what uploads need to be parts of others and to be asked for twice."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from filestore.meta.triggers import TRIGGERS

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NOW = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    " + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER) * 1000)",
}
_JOURNAL_CHECKS = {
    "files_after": "files_after >= 0",
    "reserved_files_after": "reserved_files_after >= 0",
    "moves": "delta_used <> 0 OR delta_reserved <> 0"
    " OR delta_files <> 0 OR delta_reserved_files <> 0",
}


def upgrade() -> None:
    _alter_instance()
    _alter_groups()
    _alter_versions()
    _alter_uploads()
    _index_audit_log()
    _index_what_the_sheet_lists()
    if op.get_context().dialect.name == "sqlite":
        _replace_journal()
    else:
        _alter_journal()
    op.create_index("ix_quota_journal_at", "quota_journal", ["group_id", "at"])
    _create_journal_seals()
    _create_member_accounts()
    _name_events()
    _create_webhooks()
    _create_webhook_deliveries()
    _name_members()
    _count_files()
    _open_member_accounts()
    for statement in TRIGGERS[op.get_context().dialect.name]:
        op.execute(statement)


def _now() -> sa.TextClause:
    return sa.text(_NOW[op.get_context().dialect.name])


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def _at_least_0(table: str, name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(
        name,
        sa.BigInteger(),
        sa.CheckConstraint(f"{name} >= 0", name=op.f(f"ck_{table}_{name}")),
        nullable=null,
        server_default=None if null else sa.text("0"),
    )


def _moved(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def _alter_instance() -> None:
    for name in ("pool_bytes", "overcommit_percent"):
        op.add_column("instance", _at_least_0("instance", name, null=True))


def _alter_groups() -> None:
    is_kind = sa.CheckConstraint("kind IN ('group', 'pool')", name=op.f("ck_groups_kind"))
    kind = sa.Column(
        "kind", sa.String(8), is_kind, server_default=sa.text("'group'"), nullable=False
    )
    op.add_column("groups", kind)
    for name in ("files", "reserved_files"):
        op.add_column("groups", _at_least_0("groups", name))
    for name in ("files_limit", "soft_limit"):
        op.add_column("groups", _at_least_0("groups", name, null=True))
    overflows: sa.Column[bool] = sa.Column(
        "overflows", sa.Boolean(), server_default=sa.text("false"), nullable=False
    )
    op.add_column("groups", overflows)
    op.add_column("groups", _at_least_0("groups", "warned_percent"))


def _alter_versions() -> None:
    both = sa.CheckConstraint(
        "(expires_at IS NULL) = (pool_id IS NULL)", name=op.f("ck_versions_expires_at")
    )
    op.add_column("versions", sa.Column("pool_id", sa.String(40), nullable=True))
    op.add_column("versions", sa.Column("expires_at", sa.BigInteger(), both, nullable=True))
    op.add_column("versions", sa.Column("downloaded_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_versions_expires_at", "versions", ["expires_at"], **_where("expires_at IS NOT NULL")
    )
    op.create_index("ix_versions_author_id", "versions", ["author_id"])


def _alter_uploads() -> None:
    zero_or_one = sa.CheckConstraint(
        "reserved_files BETWEEN 0 AND 1 AND (state = 'open' OR reserved_files = 0)",
        name=op.f("ck_uploads_reserved_files"),
    )
    files = sa.Column(
        "reserved_files", sa.BigInteger(), zero_or_one, server_default=sa.text("0"), nullable=False
    )
    is_part = sa.CheckConstraint("part IN ('partial', 'final')", name=op.f("ck_uploads_part"))
    op.add_column("uploads", files)
    op.add_column("uploads", sa.Column("pool_id", sa.String(40), nullable=True))
    op.add_column("uploads", sa.Column("part", sa.String(8), is_part, nullable=True))
    op.add_column("uploads", sa.Column("raw_concat", sa.Text(), nullable=True))
    op.add_column("uploads", sa.Column("idempotency_key", sa.Text(), nullable=True))
    op.add_column("uploads", sa.Column("wanted_epoch", sa.BigInteger(), nullable=True))
    op.add_column("uploads", sa.Column("taken_by", sa.String(40), nullable=True))
    op.create_index(
        "ix_uploads_wanted", "uploads", ["holder_id"], **_where("wanted_epoch IS NOT NULL")
    )
    op.create_index(
        "ix_uploads_taken_by", "uploads", ["taken_by"], **_where("taken_by IS NOT NULL")
    )
    op.create_index("ix_uploads_changed_at", "uploads", ["changed_at"], **_where("state <> 'open'"))
    op.create_index(
        "uq_uploads_idempotency_key",
        "uploads",
        ["user_id", "idempotency_key"],
        unique=True,
        **_where("idempotency_key IS NOT NULL"),
    )


def _index_audit_log() -> None:
    op.drop_index("ix_audit_log_group_id", "audit_log")
    for column in ("group_id", "actor_id", "act"):
        op.create_index(f"ix_audit_log_{column}", "audit_log", [column, "at", "id"])
    op.create_index("ix_audit_log_at", "audit_log", ["at", "id"])


def _index_what_the_sheet_lists() -> None:
    op.create_index(
        "ix_entries_versioned", "entries", ["group_id", "id"], **_where("last_number > 1")
    )
    op.create_index("ix_uploads_open", "uploads", ["group_id", "id"], **_where("state = 'open'"))


def _alter_journal() -> None:
    for column in _journal_columns():
        op.add_column("quota_journal", column)
    op.drop_constraint(op.f("ck_quota_journal_moves"), "quota_journal", type_="check")
    for name, clause in _JOURNAL_CHECKS.items():
        op.create_check_constraint(op.f(f"ck_quota_journal_{name}"), "quota_journal", clause)


def _journal_columns() -> list[sa.Column[int] | sa.Column[str]]:
    return [
        sa.Column("member_id", sa.String(40), nullable=True),
        sa.Column("entry_id", sa.String(40), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("mime", sa.Text(), nullable=True),
        *(
            _moved(name)
            for name in (
                "delta_files",
                "delta_reserved_files",
                "files_after",
                "reserved_files_after",
            )
        ),
    ]


def _replace_journal() -> None:
    """SQLite changes no CHECK of a table: a new one takes the old one's rows and name."""
    checks = {
        "seq": "seq >= 1",
        "used_after": "used_after >= 0",
        "reserved_after": "reserved_after >= 0",
    } | _JOURNAL_CHECKS
    kept = ("delta_used", "delta_reserved", "used_after", "reserved_after")
    op.rename_table("quota_journal", "quota_journal_before")
    op.create_table(
        "quota_journal",
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("actor_id", sa.String(40), nullable=True),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("ref", sa.Text(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in kept),
        *_journal_columns(),
        *(
            sa.CheckConstraint(clause, name=op.f(f"ck_quota_journal_{name}"))
            for name, clause in checks.items()
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["groups.id"],
            name=op.f("fk_quota_journal_group_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("group_id", "seq", name=op.f("pk_quota_journal")),
    )
    columns = ", ".join(("group_id", "seq", "at", "actor_id", "cause", "ref", *kept))
    op.execute(f"INSERT INTO quota_journal ({columns}) SELECT {columns} FROM quota_journal_before")
    op.drop_table("quota_journal_before")


def _create_journal_seals() -> None:
    checks = {
        "span": "first_seq >= 1 AND last_seq >= first_seq",
        "previous": "length(previous) = 32",
        "head": "length(head) = 32",
    }
    op.create_table(
        "journal_seals",
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("previous", sa.LargeBinary(32), nullable=False),
        sa.Column("head", sa.LargeBinary(32), nullable=False),
        sa.Column("marked_at", sa.BigInteger(), nullable=True),
        *(
            sa.CheckConstraint(clause, name=op.f(f"ck_journal_seals_{name}"))
            for name, clause in checks.items()
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["groups.id"],
            name=op.f("fk_journal_seals_group_id"),
            ondelete="RESTRICT",
        ),
        sa.UniqueConstraint(
            "group_id", "first_seq", name=op.f("uq_journal_seals_group_id_first_seq")
        ),
        sa.PrimaryKeyConstraint("group_id", "last_seq", name=op.f("pk_journal_seals")),
    )
    op.create_index(
        "ix_journal_seals_unmarked", "journal_seals", ["at"], **_where("marked_at IS NULL")
    )


def _create_member_accounts() -> None:
    op.create_table(
        "member_accounts",
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        _at_least_0("member_accounts", "used"),
        _at_least_0("member_accounts", "reserved"),
        _at_least_0("member_accounts", "share_limit", null=True),
        *(
            sa.ForeignKeyConstraint(
                [f"{one}_id"],
                [f"{one}s.id"],
                name=op.f(f"fk_member_accounts_{one}_id"),
                ondelete="RESTRICT",
            )
            for one in ("group", "user")
        ),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_member_accounts")),
    )
    op.create_index("ix_member_accounts_user_id", "member_accounts", ["user_id"])


def _name_events() -> None:
    op.add_column("events", sa.Column("public_id", sa.String(40), nullable=True))
    digits = {
        "postgresql": "substr(replace(gen_random_uuid()::text, '-', ''), 1, 26)",
        "sqlite": "lower(hex(randomblob(13)))",
    }
    op.execute(f"UPDATE events SET public_id = 'evt_' || {digits[op.get_context().dialect.name]}")
    op.create_index("uq_events_public_id", "events", ["public_id"], unique=True)


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("url", "secret", "kinds")),
        sa.Column("created_by", sa.String(40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=True)
            for name in ("failing_since", "busy_until", "old_secret_until")
        ),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.CheckConstraint("length(url) BETWEEN 1 AND 2000", name=op.f("ck_webhooks_url")),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_webhooks_group_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_group_id", "webhooks", ["group_id"])


def _create_webhook_deliveries() -> None:
    checks = {
        "state": "state IN ('waiting', 'done', 'failed')",
        "attempts": "attempts >= 0",
        "ended": "(state = 'waiting') = (ended_at IS NULL)",
    }
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("webhook_id", sa.String(40), nullable=False),
        sa.Column("event_id", _NUMBER, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_ms", sa.BigInteger(), nullable=True),
        *(
            sa.CheckConstraint(clause, name=op.f(f"ck_webhook_deliveries_{name}"))
            for name, clause in checks.items()
        ),
        *(
            sa.ForeignKeyConstraint(
                [f"{one}_id"],
                [f"{one}s.id"],
                name=op.f(f"fk_webhook_deliveries_{one}_id"),
                ondelete="CASCADE",
            )
            for one in ("webhook", "event")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint(
            "event_id", "webhook_id", name=op.f("uq_webhook_deliveries_event_id_webhook_id")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["webhook_id", "not_before", "id"],
        **_where("state = 'waiting'"),
    )
    op.create_index("ix_webhook_deliveries_webhook_id", "webhook_deliveries", ["webhook_id", "id"])


def _name_members() -> None:
    """Whose bytes the uploads that still have a row moved. What one that runs gives back later is
    said of its user; so must be what it reserved before."""
    op.execute(
        "UPDATE quota_journal SET member_id ="
        " (SELECT uploads.user_id FROM uploads WHERE uploads.id = quota_journal.ref)"
    )


def _count_files() -> None:
    """Files were not counted before: a row of the journal says with how many it begins."""
    op.execute(
        "UPDATE groups SET files = (SELECT count(*) FROM entries"
        " WHERE entries.group_id = groups.id AND entries.kind = 'file')"
    )
    op.execute(
        "INSERT INTO quota_journal (group_id, seq, cause, delta_used, delta_reserved, delta_files,"
        " used_after, reserved_after, files_after)"
        " SELECT id, journal_seq + 1, 'correct', 0, 0, files, used, reserved, files"
        " FROM groups WHERE files > 0"
    )
    op.execute("UPDATE groups SET journal_seq = journal_seq + 1 WHERE files > 0")


def _open_member_accounts() -> None:
    op.execute(
        "INSERT INTO member_accounts (group_id, user_id, used, reserved)"
        " SELECT group_id, user_id, sum(used), sum(reserved) FROM ("
        "  SELECT entries.group_id, versions.author_id AS user_id, versions.size AS used,"
        "   0 AS reserved FROM versions JOIN entries ON entries.id = versions.entry_id"
        "   WHERE versions.author_id IS NOT NULL"
        "  UNION ALL SELECT group_id, user_id, 0, reserved FROM uploads WHERE state = 'open'"
        " ) AS parts GROUP BY group_id, user_id"
    )
