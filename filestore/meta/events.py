"""Reading the outbox: lists of events, and forgetting the old ones with their deliveries."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.errors import Json
from filestore.meta.database import Tx
from filestore.meta.tables import events, now_us, webhook_deliveries, webhooks
from filestore.model import DeliveryState

SETTLED_US: Final = 2_000_000
"""How old an event is before a list that is followed shows it, on PostgreSQL: numbers are given
before acts end, so a younger one might still appear in front of it. Acts take milliseconds."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``at`` in microseconds."""

    id: str
    at: int
    kind: str
    group_id: str | None
    payload: Json


@dataclass(frozen=True, slots=True)
class Wish:
    """Which events: of one group (None: all of the site), of these kinds (empty: all).

    ``since``: those behind this event, the oldest first; None: the newest first.
    """

    group_id: str | None
    kinds: Collection[str] = ()
    since: str | None = None


async def page(tx: Tx, wish: Wish, *, after: str | None, limit: int) -> list[Event]:
    """Events in the order of the wish, behind the event ``after`` of that order."""
    query = sa.select(events).where(events.c.public_id.is_not(None))
    if wish.group_id is not None:
        query = query.where(events.c.group_id == wish.group_id)
    if wish.kinds:
        query = query.where(events.c.kind.in_(wish.kinds))
    last = after if after is not None else wish.since
    seen = sa.select(events.c.id).where(events.c.public_id == last).scalar_subquery()
    if wish.since is not None:
        query = query.where(events.c.id > seen).order_by(events.c.id)
        if tx.dialect.name == "postgresql":
            query = query.where(events.c.at <= now_us() - SETTLED_US)
    else:
        query = query if last is None else query.where(events.c.id < seen)
        query = query.order_by(events.c.id.desc())
    return [_event(row) for row in await tx.execute(query.limit(limit))]


async def is_known(tx: Tx, event: str, group_id: str | None) -> bool:
    """Whether there is still this event, of the group when one is given."""
    query = sa.select(events.c.group_id).where(events.c.public_id == event)
    row = (await tx.execute(query)).one_or_none()
    return row is not None and (group_id is None or row.group_id == group_id)


async def forget(tx: Tx, before: sa.ColumnElement[int] | int, limit: int) -> int:
    """Removes events from before a moment, with their deliveries, among the oldest ``limit``.

    One that an enabled webhook is still to be told of stays. How many went.
    """
    oldest = sa.select(events.c.id, events.c.at).order_by(events.c.id).limit(limit).subquery()
    is_awaited = sa.exists().where(
        webhook_deliveries.c.event_id == oldest.c.id,
        webhook_deliveries.c.state == DeliveryState.WAITING,
        webhooks.c.id == webhook_deliveries.c.webhook_id,
        webhooks.c.disabled_at.is_(None),
    )
    old = sa.select(oldest.c.id).where(oldest.c.at < before, ~is_awaited)
    done = await tx.execute(sa.delete(events).where(events.c.id.in_(old)))
    return done.rowcount


def _event(row: Any) -> Event:
    return Event(row.public_id, row.at, row.kind, row.group_id, json.loads(row.payload))
