"""The schema, said once for PostgreSQL and SQLite.

What must always be true is a constraint here, not a habit of the code; what is only ever added
to is guarded by triggers (``meta.triggers``). Times are microseconds since the epoch, in UTC,
taken from the database (:func:`now_us`). Ids that people see are text (``filestore.ids``);
contents and blocks also have short numbers that are never reused and never leave the service.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)

from filestore.meta.columns import Number, at_least_0, id_, number, one_of, ref, table, time
from filestore.meta.columns import metadata as metadata
from filestore.meta.columns import now_us as now_us
from filestore.meta.hook_tables import webhook_deliveries as webhook_deliveries
from filestore.meta.hook_tables import webhooks as webhooks
from filestore.meta.quota_tables import journal_seals as journal_seals
from filestore.meta.quota_tables import member_accounts as member_accounts
from filestore.meta.quota_tables import quota_journal as quota_journal
from filestore.model import (
    MAX_BLOCK_SIZE,
    AccountKind,
    BlockState,
    Codec,
    ContentState,
    EntryKind,
    JobState,
    Protocol,
    Role,
    UploadPart,
    UploadState,
)

instance = table(
    "instance",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(40), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    time("created_at"),
    Column("pool_bytes", BigInteger, CheckConstraint("pool_bytes >= 0", name="pool_bytes")),
    Column(
        "overcommit_percent",
        BigInteger,
        CheckConstraint("overcommit_percent >= 0", name="overcommit_percent"),
    ),
    CheckConstraint("id = 1", name="single"),
    CheckConstraint("epoch >= 0", name="epoch"),
)
"""One row: ties this database to its store, whose identity object carries the same epoch.

``pool_bytes``: what the site has for all groups; null: not said. The limits of all groups together
may be ``overcommit_percent`` of it; null: any."""

processes = table(
    "processes",
    id_(),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    time("started_at"),
    time("seen_at"),
    time("ended_at", null=True),
)
"""Server processes. One whose ``seen_at`` is old is dead, and so are its unfinished blocks."""

domains = table(
    "domains",
    Column("id", String(40), primary_key=True),
    time("created_at"),
    CheckConstraint("length(id) BETWEEN 1 AND 40", name="id"),
)
"""Dedup domains: groups in one domain store identical blocks once. The id is in object keys."""

users = table(
    "users",
    id_(),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    time("created_at"),
    time("disabled_at", null=True),
)

groups = table(
    "groups",
    id_(),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    ref("domain_id", "domains.id"),
    Column("quota_limit", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False, server_default=text("0")),
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),
    Column("journal_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("trash_retention_s", BigInteger, nullable=False),
    time("created_at"),
    time("deleted_at", null=True),
    at_least_0("versions_keep"),
    at_least_0("versions_keep_s"),
    Column(
        "kind",
        String(8),
        one_of("kind", AccountKind, "kind"),
        nullable=False,
        server_default=text("'group'"),
    ),
    at_least_0("files"),
    at_least_0("reserved_files"),
    Column("files_limit", BigInteger, CheckConstraint("files_limit >= 0", name="files_limit")),
    Column("soft_limit", BigInteger, CheckConstraint("soft_limit >= 0", name="soft_limit")),
    Column("overflows", Boolean, nullable=False, server_default=text("false")),
    at_least_0("warned_percent"),
    CheckConstraint("deleted_at IS NULL OR (used = 0 AND reserved = 0)", name="deleted_is_empty"),
    CheckConstraint("quota_limit >= 0", name="quota_limit"),
    CheckConstraint("used >= 0", name="used"),
    CheckConstraint("reserved >= 0", name="reserved"),
    CheckConstraint("journal_seq >= 0", name="journal_seq"),
    CheckConstraint("trash_retention_s >= 0", name="trash_retention_s"),
    Index(
        "uq_groups_living_name",
        "name_key",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
        sqlite_where=text("deleted_at IS NULL"),
    ),
)
"""A deleted group's row stays, for its journal; it holds nothing. ``used + reserved <=
quota_limit`` is guarded by the statement that reserves, not by a CHECK: a limit may be
lowered below what is used. ``versions_keep`` newest versions of a file are kept, and those
that were replaced less than ``versions_keep_s`` seconds ago; 0 and 0: all of them.

``files`` counts files, those in the trash too, ``reserved_files`` the new ones of running uploads;
``files_limit`` null: any number. ``soft_limit``: where warnings come to 100 %; null: the limit.
``overflows``: what goes beyond it is accepted as temporary, on the account of the pool.
``warned_percent``: the highest threshold that was warned of and is still crossed. A row of kind
``pool`` is an account and no group: nobody sees it among groups, and it has no tree."""

memberships = table(
    "memberships",
    Column("group_id", String(40), ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    ref("user_id", "users.id", key=True),
    Column("role", String(16), nullable=False),
    time("created_at"),
    one_of("role", Role, "role"),
    Index("ix_memberships_user_id", "user_id"),
)

tokens = table(
    "tokens",
    id_(),
    ref("user_id", "users.id"),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("is_limited", Boolean, nullable=False, server_default=text("false")),
    time("created_at"),
    time("expires_at", null=True),
    time("last_used_at", null=True),
    time("revoked_at", null=True),
    CheckConstraint("length(hash) = 32", name="hash"),
    Index("ix_tokens_user_id", "user_id"),
)
"""``is_limited``: the token counts only in its ``token_groups``, also when none is left."""

token_groups = table(
    "token_groups",
    Column("token_id", String(40), ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", String(40), ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_token_groups_group_id", "group_id"),
)

audit_log = table(
    "audit_log",
    number(),
    time("at"),
    Column("actor_id", String(40)),
    Column("token_id", String(40)),
    Column("request_id", String(40)),
    Column("act", String(64), nullable=False),
    Column("group_id", String(40)),
    Column("target", Text),
    Column("before", Text),
    Column("after", Text),
    Index("ix_audit_log_group_id", "group_id", "at", "id"),
    Index("ix_audit_log_actor_id", "actor_id", "at", "id"),
    Index("ix_audit_log_act", "act", "at", "id"),
    Index("ix_audit_log_at", "at", "id"),
)
"""Who did what, written in the transaction of the act. ``before`` and ``after`` are JSON.
No foreign keys: the log outlives what it speaks of."""

events = table(
    "events",
    number(),
    time("at"),
    Column("kind", String(64), nullable=False),
    Column("group_id", String(40)),
    Column("payload", Text, nullable=False),
    Column("public_id", String(40)),
    Index("ix_events_group_id", "group_id", "id"),
    Index("uq_events_public_id", "public_id", unique=True),
)
"""The outbox for webhooks and pages, written in the transaction of the act. ``public_id`` names it
outside, where the number would tell how much happens in other groups."""

entries = table(
    "entries",
    id_(),
    ref("group_id", "groups.id"),
    ref("parent_id", "entries.id", null=True),
    Column("kind", String(8), nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("name_fold", Text, nullable=False),
    Column("last_number", BigInteger, nullable=False, server_default=text("0")),
    Column("current_number", BigInteger),
    time("created_at"),
    time("changed_at"),
    time("deleted_at", null=True),
    Column("deleted_by", String(40)),
    Column("deleted_path", Text),
    one_of("kind", EntryKind, "kind"),
    CheckConstraint("(kind = 'root') = (parent_id IS NULL)", name="parent"),
    CheckConstraint("kind <> 'root' OR deleted_at IS NULL", name="root_stays"),
    CheckConstraint("parent_id <> id", name="no_loop"),
    CheckConstraint("kind = 'root' OR length(name_key) > 0", name="name"),
    CheckConstraint("kind = 'file' OR current_number IS NULL", name="folder_versions"),
    CheckConstraint("last_number >= 0 AND current_number <= last_number", name="numbers"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_path IS NULL)", name="deleted_path"),
    Index(
        "uq_entries_living_name",
        "parent_id",
        "name_key",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
        sqlite_where=text("deleted_at IS NULL"),
    ),
    Index(
        "uq_entries_root",
        "group_id",
        unique=True,
        postgresql_where=text("kind = 'root'"),
        sqlite_where=text("kind = 'root'"),
    ),
    Index("ix_entries_parent_id", "parent_id"),
    Index("ix_entries_group_id", "group_id"),
    Index("ix_entries_name_fold", "parent_id", "name_fold"),
    Index(
        "ix_entries_deleted_at",
        "group_id",
        "deleted_at",
        postgresql_where=text("deleted_at IS NOT NULL"),
        sqlite_where=text("deleted_at IS NOT NULL"),
    ),
    Index(
        "ix_entries_versioned",
        "group_id",
        "id",
        postgresql_where=text("last_number > 1"),
        sqlite_where=text("last_number > 1"),
    ),
)
"""A group's tree. What goes to the trash is marked on itself alone; what lies below it goes
out of sight with it."""

contents = table(
    "contents",
    number(),
    Column("public_id", String(40), nullable=False, unique=True),
    ref("domain_id", "domains.id"),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger),
    Column("blake3", LargeBinary(32)),
    Column("min_size", Integer, nullable=False),
    Column("avg_size", Integer, nullable=False),
    Column("max_size", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    time("created_at"),
    time("completed_at", null=True),
    one_of("state", ContentState, "state"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("state <> 'complete' OR size IS NOT NULL", name="complete_has_size"),
    CheckConstraint("length(blake3) = 32", name="blake3"),
    Index(
        "ix_contents_deleting",
        "id",
        postgresql_where=text("state = 'deleting'"),
        sqlite_where=text("state = 'deleting'"),
    ),
    Index(
        "ix_contents_unhashed",
        "id",
        postgresql_where=text("state = 'complete' AND blake3 IS NULL"),
        sqlite_where=text("state = 'complete' AND blake3 IS NULL"),
    ),
)

blocks = table(
    "blocks",
    number(),
    ref("domain_id", "domains.id"),
    Column("hash", LargeBinary(32), nullable=False),
    Column("generation", String(16), nullable=False),
    Column("size", Integer, nullable=False),
    Column("stored_size", Integer),
    Column("codec", String(8)),
    Column("key_id", Integer, nullable=False, server_default=text("0")),
    Column("state", String(16), nullable=False),
    ref("process_id", "processes.id", null=True),
    time("deadline_at", null=True),
    time("created_at"),
    time("state_at"),
    time("checked_at", null=True),
    one_of("state", BlockState, "state"),
    one_of("codec", Codec, "codec"),
    CheckConstraint("length(hash) = 32", name="hash"),
    CheckConstraint("length(generation) = 16", name="generation"),
    CheckConstraint(f"size BETWEEN 1 AND {MAX_BLOCK_SIZE}", name="size"),
    CheckConstraint("stored_size > 0", name="stored_size"),
    CheckConstraint(
        "state NOT IN ('live', 'lost') OR (stored_size IS NOT NULL AND codec IS NOT NULL)",
        name="stored",
    ),
    CheckConstraint(
        "state <> 'uploading' OR (process_id IS NOT NULL AND deadline_at IS NOT NULL)",
        name="uploading_has_owner",
    ),
    UniqueConstraint("domain_id", "hash", "generation"),
    Index(
        "uq_blocks_live",
        "domain_id",
        "hash",
        unique=True,
        postgresql_where=text("state = 'live'"),
        sqlite_where=text("state = 'live'"),
    ),
    Index(
        "ix_blocks_uploading",
        "deadline_at",
        postgresql_where=text("state = 'uploading'"),
        sqlite_where=text("state = 'uploading'"),
    ),
    Index(
        "ix_blocks_unwanted",
        "state_at",
        postgresql_where=text("state IN ('condemned', 'deleting', 'lost')"),
        sqlite_where=text("state IN ('condemned', 'deleting', 'lost')"),
    ),
    Index(
        "ix_blocks_checked_at",
        "checked_at",
        postgresql_where=text("state = 'live'"),
        sqlite_where=text("state = 'live'"),
    ),
)

content_blocks = table(
    "content_blocks",
    Column(
        "content_id",
        Number,
        ForeignKey("contents.id", ondelete="RESTRICT"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("byte_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("block_id", Number, ForeignKey("blocks.id", ondelete="RESTRICT"), nullable=False),
    Column("provisional", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("byte_offset >= 0", name="byte_offset"),
    CheckConstraint("size > 0", name="size"),
    Index("ix_content_blocks_block_id", "block_id"),
)
"""The only references to blocks, in the order of ``byte_offset``. An upload writes them as it
goes, under a content that is ``building``: they are its pins. The offset orders the blocks of
a content, so there is no separate sequence number that could disagree with it."""

versions = table(
    "versions",
    id_(),
    ref("entry_id", "entries.id"),
    Column("number", BigInteger, nullable=False),
    Column("content_id", Number, ForeignKey("contents.id", ondelete="RESTRICT"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mime", Text, nullable=False),
    ref("author_id", "users.id", null=True),
    time("created_at"),
    time("superseded_at", null=True),
    Column("pool_id", String(40)),
    Column(
        "expires_at",
        BigInteger,
        CheckConstraint("(expires_at IS NULL) = (pool_id IS NULL)", name="expires_at"),
    ),
    time("downloaded_at", null=True),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("size >= 0", name="size"),
    UniqueConstraint("entry_id", "number"),
    Index("ix_versions_content_id", "content_id"),
    Index(
        "ix_versions_superseded",
        "entry_id",
        "number",
        postgresql_where=text("superseded_at IS NOT NULL"),
        sqlite_where=text("superseded_at IS NOT NULL"),
    ),
    Index(
        "ix_versions_expires_at",
        "expires_at",
        postgresql_where=text("expires_at IS NOT NULL"),
        sqlite_where=text("expires_at IS NOT NULL"),
    ),
    Index("ix_versions_author_id", "author_id"),
)
"""``superseded_at``: when a newer version took the place of this one; null: it is the newest.
``pool_id``: the account that is charged in place of the group, until ``expires_at``: then the
version goes. ``downloaded_at``: when it was last read, to about a day; null: never since it is
written down."""

uploads = table(
    "uploads",
    id_(),
    ref("group_id", "groups.id"),
    ref("user_id", "users.id"),
    Column("token_id", String(40)),
    Column("protocol", String(8), nullable=False),
    Column("content_id", Number, ForeignKey("contents.id", ondelete="SET NULL")),
    Column("folder", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("mime", Text, nullable=False),
    Column("raw_metadata", Text),
    Column("expected_blake3", LargeBinary(32)),
    Column("expected_sha256", LargeBinary(32)),
    Column("byte_offset", BigInteger, nullable=False, server_default=text("0")),
    Column("length", BigInteger),
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    ref("holder_id", "processes.id", null=True),
    Column("state", String(16), nullable=False),
    Column("failure", String(32)),
    Column("version_id", String(40)),
    time("created_at"),
    time("changed_at"),
    time("expires_at"),
    time("expires_cap_at"),
    Column(
        "reserved_files",
        BigInteger,
        CheckConstraint(
            "reserved_files BETWEEN 0 AND 1 AND (state = 'open' OR reserved_files = 0)",
            name="reserved_files",
        ),
        nullable=False,
        server_default=text("0"),
    ),
    Column("pool_id", String(40)),
    Column("part", String(8), one_of("part", UploadPart, "part")),
    Column("raw_concat", Text),
    Column("idempotency_key", Text),
    Column("wanted_epoch", BigInteger),
    Column("taken_by", String(40)),
    Column("is_deferred", Boolean, nullable=False, server_default=text("false")),
    one_of("protocol", Protocol, "protocol"),
    one_of("state", UploadState, "state"),
    CheckConstraint("byte_offset >= 0 AND byte_offset <= length", name="byte_offset"),
    CheckConstraint("length >= 0", name="length"),
    CheckConstraint("reserved >= 0", name="reserved"),
    CheckConstraint("state = 'open' OR reserved = 0", name="only_open_reserves"),
    CheckConstraint("state <> 'open' OR content_id IS NOT NULL", name="open_has_content"),
    CheckConstraint(
        "state <> 'done' OR (version_id IS NOT NULL AND byte_offset = length)", name="done"
    ),
    CheckConstraint("length(expected_blake3) = 32", name="expected_blake3"),
    CheckConstraint("length(expected_sha256) = 32", name="expected_sha256"),
    Index(
        "uq_uploads_content_id",
        "content_id",
        unique=True,
        postgresql_where=text("state = 'open'"),
        sqlite_where=text("state = 'open'"),
    ),
    Index("ix_uploads_content_id", "content_id"),
    Index("ix_uploads_group_id", "group_id", "state"),
    Index(
        "ix_uploads_open",
        "group_id",
        "id",
        postgresql_where=text("state = 'open'"),
        sqlite_where=text("state = 'open'"),
    ),
    Index("ix_uploads_user_id", "user_id", "state"),
    Index(
        "ix_uploads_expires_at",
        "expires_at",
        postgresql_where=text("state = 'open'"),
        sqlite_where=text("state = 'open'"),
    ),
    Index(
        "ix_uploads_wanted",
        "holder_id",
        postgresql_where=text("wanted_epoch IS NOT NULL"),
        sqlite_where=text("wanted_epoch IS NOT NULL"),
    ),
    Index(
        "ix_uploads_taken_by",
        "taken_by",
        postgresql_where=text("taken_by IS NOT NULL"),
        sqlite_where=text("taken_by IS NOT NULL"),
    ),
    Index(
        "ix_uploads_changed_at",
        "changed_at",
        postgresql_where=text("state <> 'open'"),
        sqlite_where=text("state <> 'open'"),
    ),
    Index(
        "uq_uploads_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
        sqlite_where=text("idempotency_key IS NOT NULL"),
    ),
)
"""The row outlives completion, so that a lost answer can be asked again. ``content_id``
becomes null only when the content is gone, which an open upload forbids. ``pool_id``: the account
that holds the reservation in place of the group. ``part``: what Upload-Concat made of it.
``taken_by``: the final upload that took over the reservation of a partial one."""

gc_queue = table(
    "gc_queue",
    Column(
        "block_id",
        Number,
        ForeignKey("blocks.id", ondelete="RESTRICT"),
        primary_key=True,
        autoincrement=False,
    ),
    time("not_before"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("reason", String(32), nullable=False),
    time("queued_at"),
    Column("group_id", String(40)),
    time("removed_at", null=True),
    CheckConstraint("attempts >= 0", name="attempts"),
    Index("ix_gc_queue_not_before", "not_before"),
)
"""Blocks that the collector is asked to look at. ``group_id``: whose upload brought the bytes,
for reports only. ``removed_at``: when the store first said that the object is gone."""

leases = table(
    "leases",
    Column("name", String(32), primary_key=True),
    ref("process_id", "processes.id", null=True),
    Column("turn", BigInteger, nullable=False),
    time("taken_at"),
    time("ended_at", null=True),
    Column("result", String(16)),
    Column("report", Text),
    CheckConstraint("turn >= 1", name="turn"),
)
"""Work that one process does at a time, and how its last turn ended. A holder that is dead
(``processes``) has let go."""

jobs = table(
    "jobs",
    id_(),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("progress", Text),
    Column("report", Text),
    Column("error", Text),
    Column("actor_id", String(40)),
    Column("token_id", String(40)),
    Column("request_id", String(40)),
    ref("process_id", "processes.id", null=True),
    time("created_at"),
    time("started_at", null=True),
    time("seen_at", null=True),
    time("cancelled_at", null=True),
    time("ended_at", null=True),
    one_of("state", JobState, "state"),
    CheckConstraint("length(kind) > 0", name="kind"),
    CheckConstraint(
        "state <> 'running' OR (process_id IS NOT NULL AND started_at IS NOT NULL"
        " AND seen_at IS NOT NULL)",
        name="running_has_process",
    ),
    CheckConstraint("(state IN ('queued', 'running')) = (ended_at IS NULL)", name="ended"),
    Index(
        "uq_jobs_running",
        "kind",
        unique=True,
        postgresql_where=text("state = 'running'"),
        sqlite_where=text("state = 'running'"),
    ),
    Index(
        "ix_jobs_open",
        "created_at",
        postgresql_where=text("state IN ('queued', 'running')"),
        sqlite_where=text("state IN ('queued', 'running')"),
    ),
    Index("ix_jobs_created_at", "created_at", "id"),
)
"""Long work that was asked for. ``parameters``, ``progress``, ``report`` and ``error`` are
JSON. ``cancelled_at``: when somebody asked to end it."""
