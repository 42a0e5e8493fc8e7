"""The first schema: one function per table, in the order in which they refer to each other."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NOW = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    " + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER) * 1000)",
}


def _now() -> sa.TextClause:
    return sa.text(_NOW[op.get_context().dialect.name])


def _where(condition: str) -> dict[str, Any]:
    """A partial index, said for both databases."""
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    _create_audit_log()
    _create_domains()
    _create_events()
    _create_instance()
    _create_processes()
    _create_users()
    _create_blocks()
    _create_contents()
    _create_groups()
    _create_tokens()
    _create_content_blocks()
    _create_entries()
    _create_gc_queue()
    _create_memberships()
    _create_quota_journal()
    _create_token_groups()
    _create_uploads()
    _create_versions()


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("actor_id", sa.String(40), nullable=True),
        sa.Column("token_id", sa.String(40), nullable=True),
        sa.Column("request_id", sa.String(40), nullable=True),
        sa.Column("act", sa.String(64), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_group_id", "audit_log", ["group_id", "id"])


def _create_domains() -> None:
    op.create_table(
        "domains",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint("length(id) BETWEEN 1 AND 40", name=op.f("ck_domains_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_group_id", "events", ["group_id", "id"])


def _create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store_id", sa.String(40), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_instance_epoch")),
        sa.CheckConstraint("id = 1", name=op.f("ck_instance_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )


def _create_processes() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name_key", name=op.f("uq_users_name_key")),
    )


def _create_blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("domain_id", sa.String(40), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("generation", sa.String(16), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("stored_size", sa.Integer(), nullable=True),
        sa.Column("codec", sa.String(8), nullable=True),
        sa.Column("key_id", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("process_id", sa.String(40), nullable=True),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("state_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("codec IN ('plain', 'zstd')", name=op.f("ck_blocks_codec")),
        sa.CheckConstraint("length(generation) = 16", name=op.f("ck_blocks_generation")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_blocks_hash")),
        sa.CheckConstraint("size BETWEEN 1 AND 4194304", name=op.f("ck_blocks_size")),
        sa.CheckConstraint(
            "state IN ('uploading', 'live', 'condemned', 'deleting', 'lost')",
            name=op.f("ck_blocks_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('live', 'lost') OR (stored_size IS NOT NULL AND codec IS NOT NULL)",
            name=op.f("ck_blocks_stored"),
        ),
        sa.CheckConstraint("stored_size > 0", name=op.f("ck_blocks_stored_size")),
        sa.CheckConstraint(
            "state <> 'uploading' OR (process_id IS NOT NULL AND deadline_at IS NOT NULL)",
            name=op.f("ck_blocks_uploading_has_owner"),
        ),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_blocks_domain_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["process_id"], ["processes.id"], name=op.f("fk_blocks_process_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocks")),
        sa.UniqueConstraint(
            "domain_id", "hash", "generation", name=op.f("uq_blocks_domain_id_hash_generation")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_blocks_checked_at", "blocks", ["checked_at"], **_where("state = 'live'"))
    op.create_index(
        "ix_blocks_unwanted",
        "blocks",
        ["state_at"],
        **_where("state IN ('condemned', 'deleting', 'lost')"),
    )
    op.create_index(
        "ix_blocks_uploading", "blocks", ["deadline_at"], **_where("state = 'uploading'")
    )
    op.create_index(
        "uq_blocks_live", "blocks", ["domain_id", "hash"], unique=True, **_where("state = 'live'")
    )


def _create_contents() -> None:
    op.create_table(
        "contents",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.String(40), nullable=False),
        sa.Column("domain_id", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("blake3", sa.LargeBinary(32), nullable=True),
        sa.Column("min_size", sa.Integer(), nullable=False),
        sa.Column("avg_size", sa.Integer(), nullable=False),
        sa.Column("max_size", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(blake3) = 32", name=op.f("ck_contents_blake3")),
        sa.CheckConstraint(
            "state <> 'complete' OR size IS NOT NULL", name=op.f("ck_contents_complete_has_size")
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_contents_size")),
        sa.CheckConstraint(
            "state IN ('building', 'complete', 'deleting')", name=op.f("ck_contents_state")
        ),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_contents_domain_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contents")),
        sa.UniqueConstraint("public_id", name=op.f("uq_contents_public_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_contents_deleting", "contents", ["id"], **_where("state = 'deleting'"))
    op.create_index(
        "ix_contents_unhashed",
        "contents",
        ["id"],
        **_where("state = 'complete' AND blake3 IS NULL"),
    )


def _create_groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("domain_id", sa.String(40), nullable=False),
        sa.Column("quota_limit", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("journal_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("trash_retention_s", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "deleted_at IS NULL OR (used = 0 AND reserved = 0)",
            name=op.f("ck_groups_deleted_is_empty"),
        ),
        sa.CheckConstraint("journal_seq >= 0", name=op.f("ck_groups_journal_seq")),
        sa.CheckConstraint("quota_limit >= 0", name=op.f("ck_groups_quota_limit")),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_groups_reserved")),
        sa.CheckConstraint("trash_retention_s >= 0", name=op.f("ck_groups_trash_retention_s")),
        sa.CheckConstraint("used >= 0", name=op.f("ck_groups_used")),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_groups_domain_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
    )
    op.create_index(
        "uq_groups_living_name", "groups", ["name_key"], unique=True, **_where("deleted_at IS NULL")
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("is_limited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_tokens_hash")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_tokens_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])


def _create_content_blocks() -> None:
    op.create_table(
        "content_blocks",
        sa.Column("content_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("block_id", _NUMBER, nullable=False),
        sa.Column("provisional", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("byte_offset >= 0", name=op.f("ck_content_blocks_byte_offset")),
        sa.CheckConstraint("size > 0", name=op.f("ck_content_blocks_size")),
        sa.ForeignKeyConstraint(
            ["block_id"],
            ["blocks.id"],
            name=op.f("fk_content_blocks_block_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["contents.id"],
            name=op.f("fk_content_blocks_content_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("content_id", "byte_offset", name=op.f("pk_content_blocks")),
    )
    op.create_index("ix_content_blocks_block_id", "content_blocks", ["block_id"])


def _create_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("parent_id", sa.String(40), nullable=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("name_fold", sa.Text(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("current_number", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.String(40), nullable=True),
        sa.Column("deleted_path", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(deleted_at IS NULL) = (deleted_path IS NULL)", name=op.f("ck_entries_deleted_path")
        ),
        sa.CheckConstraint(
            "kind = 'file' OR current_number IS NULL", name=op.f("ck_entries_folder_versions")
        ),
        sa.CheckConstraint("kind IN ('root', 'folder', 'file')", name=op.f("ck_entries_kind")),
        sa.CheckConstraint("kind = 'root' OR length(name_key) > 0", name=op.f("ck_entries_name")),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_entries_no_loop")),
        sa.CheckConstraint(
            "last_number >= 0 AND current_number <= last_number", name=op.f("ck_entries_numbers")
        ),
        sa.CheckConstraint("(kind = 'root') = (parent_id IS NULL)", name=op.f("ck_entries_parent")),
        sa.CheckConstraint(
            "kind <> 'root' OR deleted_at IS NULL", name=op.f("ck_entries_root_stays")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_entries_group_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["entries.id"], name=op.f("fk_entries_parent_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entries")),
    )
    op.create_index(
        "ix_entries_deleted_at",
        "entries",
        ["group_id", "deleted_at"],
        **_where("deleted_at IS NOT NULL"),
    )
    op.create_index("ix_entries_group_id", "entries", ["group_id"])
    op.create_index("ix_entries_name_fold", "entries", ["parent_id", "name_fold"])
    op.create_index("ix_entries_parent_id", "entries", ["parent_id"])
    op.create_index(
        "uq_entries_living_name",
        "entries",
        ["parent_id", "name_key"],
        unique=True,
        **_where("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_entries_root", "entries", ["group_id"], unique=True, **_where("kind = 'root'")
    )


def _create_gc_queue() -> None:
    op.create_table(
        "gc_queue",
        sa.Column("block_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("not_before", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_gc_queue_attempts")),
        sa.ForeignKeyConstraint(
            ["block_id"], ["blocks.id"], name=op.f("fk_gc_queue_block_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_gc_queue")),
    )
    op.create_index("ix_gc_queue_not_before", "gc_queue", ["not_before"])


def _create_memberships() -> None:
    op.create_table(
        "memberships",
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint(
            "role IN ('viewer', 'member', 'manager')", name=op.f("ck_memberships_role")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_memberships_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_memberships")),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])


def _create_quota_journal() -> None:
    op.create_table(
        "quota_journal",
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("actor_id", sa.String(40), nullable=True),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("delta_used", sa.BigInteger(), nullable=False),
        sa.Column("delta_reserved", sa.BigInteger(), nullable=False),
        sa.Column("used_after", sa.BigInteger(), nullable=False),
        sa.Column("reserved_after", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "delta_used <> 0 OR delta_reserved <> 0", name=op.f("ck_quota_journal_moves")
        ),
        sa.CheckConstraint("reserved_after >= 0", name=op.f("ck_quota_journal_reserved_after")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_quota_journal_seq")),
        sa.CheckConstraint("used_after >= 0", name=op.f("ck_quota_journal_used_after")),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_quota_journal_group_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("group_id", "seq", name=op.f("pk_quota_journal")),
    )


def _create_token_groups() -> None:
    op.create_table(
        "token_groups",
        sa.Column("token_id", sa.String(40), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_token_groups_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["token_id"], ["tokens.id"], name=op.f("fk_token_groups_token_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_id", "group_id", name=op.f("pk_token_groups")),
    )
    op.create_index("ix_token_groups_group_id", "token_groups", ["group_id"])


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("group_id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("token_id", sa.String(40), nullable=True),
        sa.Column("protocol", sa.String(8), nullable=False),
        sa.Column("content_id", _NUMBER, nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.Column("raw_metadata", sa.Text(), nullable=True),
        sa.Column("expected_blake3", sa.LargeBinary(32), nullable=True),
        sa.Column("expected_sha256", sa.LargeBinary(32), nullable=True),
        sa.Column("byte_offset", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=True),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("holder_id", sa.String(40), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure", sa.String(32), nullable=True),
        sa.Column("version_id", sa.String(40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.Column("expires_cap_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint(
            "byte_offset >= 0 AND byte_offset <= length", name=op.f("ck_uploads_byte_offset")
        ),
        sa.CheckConstraint(
            "state <> 'done' OR (version_id IS NOT NULL AND byte_offset = length)",
            name=op.f("ck_uploads_done"),
        ),
        sa.CheckConstraint("length(expected_blake3) = 32", name=op.f("ck_uploads_expected_blake3")),
        sa.CheckConstraint("length(expected_sha256) = 32", name=op.f("ck_uploads_expected_sha256")),
        sa.CheckConstraint("length >= 0", name=op.f("ck_uploads_length")),
        sa.CheckConstraint(
            "state = 'open' OR reserved = 0", name=op.f("ck_uploads_only_open_reserves")
        ),
        sa.CheckConstraint(
            "state <> 'open' OR content_id IS NOT NULL", name=op.f("ck_uploads_open_has_content")
        ),
        sa.CheckConstraint(
            "protocol IN ('tus', 'http', 'ietf', 'blocks')", name=op.f("ck_uploads_protocol")
        ),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_uploads_reserved")),
        sa.CheckConstraint(
            "state IN ('open', 'done', 'expired', 'terminated', 'failed')",
            name=op.f("ck_uploads_state"),
        ),
        sa.ForeignKeyConstraint(
            ["content_id"], ["contents.id"], name=op.f("fk_uploads_content_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_uploads_group_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["holder_id"], ["processes.id"], name=op.f("fk_uploads_holder_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_uploads_user_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_content_id", "uploads", ["content_id"])
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"], **_where("state = 'open'"))
    op.create_index("ix_uploads_group_id", "uploads", ["group_id", "state"])
    op.create_index("ix_uploads_user_id", "uploads", ["user_id", "state"])
    op.create_index(
        "uq_uploads_content_id", "uploads", ["content_id"], unique=True, **_where("state = 'open'")
    )


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("entry_id", sa.String(40), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("content_id", _NUMBER, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.Column("author_id", sa.String(40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=_now(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_versions_number")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_versions_size")),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_versions_author_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["contents.id"],
            name=op.f("fk_versions_content_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["entries.id"], name=op.f("fk_versions_entry_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("entry_id", "number", name=op.f("uq_versions_entry_id_number")),
    )
    op.create_index("ix_versions_content_id", "versions", ["content_id"])
