"""Whether an upload began without a length, so that a repetition of its creation is known again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of the uploads that there are, those that still have no length are known to have begun so."""
    deferred: sa.Column[bool] = sa.Column(
        "is_deferred", sa.Boolean(), server_default=sa.text("false"), nullable=False
    )
    op.add_column("uploads", deferred)
    op.execute("UPDATE uploads SET is_deferred = true WHERE length IS NULL")
