"""Deliveries: what is still to be told to whom, and who is telling it.

Of one webhook one delivery is under way at a time, over all processes. Who takes it moves
``webhooks.busy_until`` and the delivery's ``not_before`` behind the longest that sending may take,
and commits; no transaction is open while it sends. When its process dies, the delivery is due
again at that moment: it arrives at least once, always under the same id.
"""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import events, webhook_deliveries, webhooks
from filestore.model import DeliveryState

Instant = sa.ColumnElement[int] | int
"""A time in microseconds: the database's clock, or a test's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process sends now. ``attempt`` counts from 1 and fences: who records
    another one's result finds another number."""

    delivery_id: int
    attempt: int
    webhook_id: str
    hook_group_id: str | None
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    busy_until: int
    is_failing: bool
    event: str
    kind: str
    at: int
    group_id: str | None
    payload: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. ``pause_us``: until the next one, of one that is to be repeated.

    ``status`` is that of the answer, None without one; ``is_gone``: the receiver wants no more.
    """

    state: DeliveryState
    status: int | None
    error: str | None
    ms: int
    pause_us: int = 0
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook, named by the event. Times in microseconds."""

    number: int
    event: str
    kind: str
    state: DeliveryState
    attempts: int
    created_at: int
    not_before: int
    ended_at: int | None
    last_status: int | None
    last_error: str | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What waits for webhooks that are enabled, and how those are."""

    waiting: int
    oldest_at: int | None
    enabled: int
    failing: int
    disabled: int


async def has_due(tx: Tx, now: Instant) -> bool:
    """Whether any webhook can be sent something. Costs a look into an index per webhook."""
    return bool(await tx.scalar(sa.select(sa.exists(sa.select(1).where(_is_ready(now))))))


async def claim(tx: Tx, now: Instant, lease_us: int, *, healthy_only: bool) -> Claim | None:
    """The next delivery of the webhook that was served least recently; None: none is due.

    ``healthy_only``: only of webhooks whose last attempt succeeded.
    """
    query = sa.select(webhooks).where(_is_ready(now))
    if healthy_only:
        query = query.where(webhooks.c.failing_since.is_(None))
    found = await tx.execute(
        query.order_by(webhooks.c.busy_until.asc().nulls_first(), webhooks.c.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)  # not against queueing for it
    )
    hook = found.one_or_none()
    if hook is None:
        return None
    query_due = (
        sa.select(webhook_deliveries.c.id, events)
        .join(events, events.c.id == webhook_deliveries.c.event_id)
        .where(webhook_deliveries.c.webhook_id == hook.id, _is_due(now))
        .order_by(webhook_deliveries.c.not_before, webhook_deliveries.c.id)
        .limit(1)
    )
    due = (await tx.execute(query_due)).one_or_none()
    return None if due is None else await _take(tx, hook, due, now, lease_us)


async def _take(tx: Tx, hook: Any, due: Any, now: Instant, lease_us: int) -> Claim | None:
    until = _at(now) + sa.literal(lease_us, sa.BigInteger)
    attempt = await tx.scalar(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.id == due[0],
            webhook_deliveries.c.state == DeliveryState.WAITING,
        )
        .values(not_before=until, attempts=webhook_deliveries.c.attempts + 1)
        .returning(webhook_deliveries.c.attempts)
    )
    if attempt is None:
        return None
    taken = await tx.execute(
        webhooks.update()
        .where(webhooks.c.id == hook.id)
        .values(busy_until=until)
        .returning(webhooks.c.busy_until, webhooks.c.old_secret_until > _at(now))
    )
    busy_until, signs_twice = taken.one()
    return Claim(
        delivery_id=due[0],
        attempt=attempt,
        webhook_id=hook.id,
        hook_group_id=hook.group_id,
        url=hook.url,
        secrets=(hook.secret, hook.old_secret) if signs_twice else (hook.secret,),
        busy_until=busy_until,
        is_failing=hook.failing_since is not None,
        event=due.public_id,
        kind=due.kind,
        at=due.at,
        group_id=due.group_id,
        payload=due.payload,
    )


async def record(tx: Tx, claim: Claim, outcome: Outcome, now: Instant) -> int | None:
    """Records what came of a claim; how long the webhook has been failing, 0: it is not.

    None when the delivery is another's by now, or gone: then nothing is changed.
    """
    is_over = outcome.state is not DeliveryState.WAITING
    recorded = await tx.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.id == claim.delivery_id,
            webhook_deliveries.c.state == DeliveryState.WAITING,
            webhook_deliveries.c.attempts == claim.attempt,
        )
        .values(
            state=outcome.state,
            ended_at=_at(now) if is_over else None,
            not_before=_at(now) + sa.literal(outcome.pause_us, sa.BigInteger),
            last_status=outcome.status,
            last_error=outcome.error,
            last_ms=outcome.ms,
        )
    )
    if recorded.rowcount == 0:
        return None
    is_well = outcome.state is DeliveryState.DONE
    since = sa.null() if is_well else sa.func.coalesce(webhooks.c.failing_since, _at(now))
    free = sa.case(
        (webhooks.c.busy_until == claim.busy_until, _at(now)), else_=webhooks.c.busy_until
    )
    failing_us = await tx.scalar(
        webhooks.update()
        .where(webhooks.c.id == claim.webhook_id)
        .values(busy_until=free, failing_since=since)
        .returning(_at(now) - webhooks.c.failing_since)
    )
    return failing_us or 0


async def retry(tx: Tx, webhook_id: str, event: str) -> bool:
    """Whether there is such a delivery, which is due now. Its attempts go on counting, so that one
    under way still records its result; one beyond the last is followed by no other."""
    row_id = sa.select(events.c.id).where(events.c.public_id == event).scalar_subquery()
    done = await tx.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.webhook_id == webhook_id, webhook_deliveries.c.event_id == row_id
        )
        .values(
            state=DeliveryState.WAITING,
            ended_at=None,
            not_before=webhook_deliveries.c.created_at,
        )
    )
    return done.rowcount == 1


async def find(tx: Tx, webhook_id: str, event: str) -> Delivery | None:
    """The delivery of an event to a webhook."""
    row = await tx.execute(_listed(webhook_id).where(events.c.public_id == event))
    found = row.one_or_none()
    return None if found is None else _delivery(found)


async def page(
    tx: Tx, webhook_id: str, *, before: str | None, state: DeliveryState | None, limit: int
) -> list[Delivery]:
    """Deliveries of a webhook, the newest first; ``before``: the event of the last seen."""
    query = _listed(webhook_id)
    if before is not None:
        seen = sa.select(events.c.id).where(events.c.public_id == before).scalar_subquery()
        query = query.where(webhook_deliveries.c.event_id < seen)
    if state is not None:
        query = query.where(webhook_deliveries.c.state == state)
    rows = await tx.execute(query.order_by(webhook_deliveries.c.event_id.desc()).limit(limit))
    return [_delivery(row) for row in rows]


async def figures(tx: Tx) -> Figures:
    """What waits now. Costs a walk over it, in an index."""
    of_enabled = webhook_deliveries.join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
    waiting, oldest_at = (
        await tx.execute(
            sa.select(sa.func.count(), sa.func.min(webhook_deliveries.c.created_at))
            .select_from(of_enabled)
            .where(
                webhook_deliveries.c.state == DeliveryState.WAITING,
                webhooks.c.disabled_at.is_(None),
            )
        )
    ).one()
    is_enabled = webhooks.c.disabled_at.is_(None)
    enabled, failing, every = (
        await tx.execute(
            sa.select(
                sa.func.count().filter(is_enabled),
                sa.func.count().filter(is_enabled, webhooks.c.failing_since.is_not(None)),
                sa.func.count(),
            ).select_from(webhooks)
        )
    ).one()
    return Figures(waiting, oldest_at, enabled, failing, every - enabled)


def _at(now: Instant) -> sa.ColumnElement[int]:
    return sa.literal(now, sa.BigInteger) if isinstance(now, int) else now


def _is_due(now: Instant) -> sa.ColumnElement[bool]:
    return sa.and_(
        webhook_deliveries.c.state == sa.literal_column(f"'{DeliveryState.WAITING}'"),
        webhook_deliveries.c.not_before <= _at(now),
    )


def _is_ready(now: Instant) -> sa.ColumnElement[bool]:
    """That a webhook is enabled, that nobody sends to it, and that something is due."""
    due = sa.exists().where(webhook_deliveries.c.webhook_id == webhooks.c.id, _is_due(now))
    is_free = webhooks.c.busy_until.is_(None) | (webhooks.c.busy_until <= _at(now))
    return sa.and_(webhooks.c.disabled_at.is_(None), is_free, due)


def _listed(webhook_id: str) -> sa.Select[Any]:
    return (
        sa.select(webhook_deliveries, events.c.public_id, events.c.kind)
        .join(events, events.c.id == webhook_deliveries.c.event_id)
        .where(webhook_deliveries.c.webhook_id == webhook_id)
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(
        number=row.id,
        event=row.public_id,
        kind=row.kind,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        created_at=row.created_at,
        not_before=row.not_before,
        ended_at=row.ended_at,
        last_status=row.last_status,
        last_error=row.last_error,
        last_ms=row.last_ms,
    )
