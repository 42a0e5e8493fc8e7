"""What the running service needs: rules for versions, and jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NOW = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    " + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER) * 1000)",
}


def upgrade() -> None:
    _add_version_rules()
    _date_versions()
    _create_jobs()


def _add_version_rules() -> None:
    for name in ("versions_keep", "versions_keep_s"):
        op.add_column(
            "groups",
            sa.Column(
                name,
                sa.BigInteger(),
                sa.CheckConstraint(f"{name} >= 0", name=op.f(f"ck_groups_{name}")),
                server_default=sa.text("0"),
                nullable=False,
            ),
        )


def _date_versions() -> None:
    """A version was superseded when the next one was made."""
    op.add_column("versions", sa.Column("superseded_at", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE versions SET superseded_at = (SELECT newer.created_at FROM versions AS newer"
        " WHERE newer.entry_id = versions.entry_id AND newer.number > versions.number"
        " ORDER BY newer.number LIMIT 1)"
    )
    is_superseded = sa.text("superseded_at IS NOT NULL")
    op.create_index(
        "ix_versions_superseded",
        "versions",
        ["entry_id", "number"],
        postgresql_where=is_superseded,
        sqlite_where=is_superseded,
    )


def _create_jobs() -> None:
    now = sa.text(_NOW[op.get_context().dialect.name])
    times = ("started_at", "seen_at", "cancelled_at", "ended_at")
    states = "'queued', 'running', 'done', 'failed', 'cancelled'"
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("progress", "report", "error")),
        *(sa.Column(name, sa.String(40)) for name in ("actor_id", "token_id", "request_id")),
        sa.Column("process_id", sa.String(40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default=now, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in times),
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_jobs_state")),
        sa.CheckConstraint("length(kind) > 0", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state <> 'running' OR (process_id IS NOT NULL AND started_at IS NOT NULL"
            " AND seen_at IS NOT NULL)",
            name=op.f("ck_jobs_running_has_process"),
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'running')) = (ended_at IS NULL)", name=op.f("ck_jobs_ended")
        ),
        sa.ForeignKeyConstraint(
            ["process_id"], ["processes.id"], name=op.f("fk_jobs_process_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    _index_jobs()


def _index_jobs() -> None:
    is_running = sa.text("state = 'running'")
    is_open = sa.text("state IN ('queued', 'running')")
    op.create_index(
        "uq_jobs_running",
        "jobs",
        ["kind"],
        unique=True,
        postgresql_where=is_running,
        sqlite_where=is_running,
    )
    op.create_index(
        "ix_jobs_open", "jobs", ["created_at"], postgresql_where=is_open, sqlite_where=is_open
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at", "id"])
