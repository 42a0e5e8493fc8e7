"""What the running service needs of its collector: rules for versions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _add_version_rules()
    _date_versions()


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
