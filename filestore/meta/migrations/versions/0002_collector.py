"""What the collector needs: who may run it, whose bytes it frees, and which objects are gone."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOW = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    " + CAST(substr(strftime('%f', 'now'), 4, 3) AS INTEGER) * 1000)",
}


def upgrade() -> None:
    _alter_gc_queue()
    _create_leases()


def _alter_gc_queue() -> None:
    op.add_column("gc_queue", sa.Column("group_id", sa.String(40), nullable=True))
    op.add_column("gc_queue", sa.Column("removed_at", sa.BigInteger(), nullable=True))


def _create_leases() -> None:
    now = sa.text(_NOW[op.get_context().dialect.name])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("process_id", sa.String(40), nullable=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), server_default=now, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.String(16), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.CheckConstraint("turn >= 1", name=op.f("ck_leases_turn")),
        sa.ForeignKeyConstraint(
            ["process_id"], ["processes.id"], name=op.f("fk_leases_process_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
