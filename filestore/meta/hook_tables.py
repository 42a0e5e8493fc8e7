"""The schema of webhooks: who is told of events, and what is still to be told."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)

from filestore.meta.columns import Number, id_, number, one_of, ref, table, time
from filestore.model import DeliveryState

webhooks = table(
    "webhooks",
    id_(),
    ref("group_id", "groups.id", null=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("kinds", Text, nullable=False),
    Column("created_by", String(40)),
    time("created_at"),
    time("disabled_at", null=True),
    time("failing_since", null=True),
    time("busy_until", null=True),
    Column("old_secret", Text),
    time("old_secret_until", null=True),
    CheckConstraint("length(url) BETWEEN 1 AND 2000", name="url"),
    Index("ix_webhooks_group_id", "group_id"),
)
"""``group_id`` null: of all groups and of the site. ``kinds``: of events, JSON. ``secret`` signs
what is sent, so it is stored as it is; it is shown once. ``old_secret`` signs beside it
until ``old_secret_until``. ``busy_until``: until then one process alone sends to it; in the past:
when it was last served."""

webhook_deliveries = table(
    "webhook_deliveries",
    number(),
    Column("webhook_id", String(40), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", Number, ForeignKey("events.id", ondelete="CASCADE"), nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    time("created_at"),
    time("not_before"),
    time("ended_at", null=True),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("last_ms", BigInteger),
    one_of("state", DeliveryState, "state"),
    CheckConstraint("attempts >= 0", name="attempts"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended"),
    Index(
        "ix_webhook_deliveries_waiting",
        "webhook_id",
        "not_before",
        "id",
        postgresql_where=text("state = 'waiting'"),
        sqlite_where=text("state = 'waiting'"),
    ),
    Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    UniqueConstraint("event_id", "webhook_id"),
)
"""One event for one webhook, made in the transaction that made the event. ``not_before``: of one
that is being sent, when it counts as lost. A delivery is named by its event."""
