"""Webhooks: who is told of which events of a group, or of the whole site."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.event_kinds import ALL
from filestore.meta.tables import groups, now_us, webhook_deliveries, webhooks
from filestore.model import DeliveryState

OVERLAP_US: Final = 86_400 * 1_000_000
"""How long an old secret goes on to sign beside its successor: a day, to change the receiver."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook. ``group_id`` None: of the site. Times in microseconds.

    ``failing_since``: no attempt has succeeded since then; None: the last one did.
    """

    id: str
    group_id: str | None
    url: str
    kinds: list[str]
    created_by: str | None
    created_at: int
    disabled_at: int | None
    failing_since: int | None
    secret: str = field(repr=False)


async def insert(
    tx: Tx, group_id: str | None, url: str, secret: str, kinds: Sequence[str], user_id: str | None
) -> Webhook:
    """A new webhook, enabled. It is told of what happens from the end of this act on."""
    row = await tx.execute(
        webhooks.insert()
        .values(
            id=new_id("whk"),
            group_id=group_id,
            url=url,
            secret=secret,
            kinds=dump_kinds(kinds),
            created_by=user_id,
        )
        .returning(webhooks)
    )
    return _webhook(row.one())


async def find(
    tx: Tx, webhook_id: str, group_id: str | None, *, lock: bool = False
) -> Webhook | None:
    """The webhook, when it is this group's, or with None the site's. Locked on request, which
    keeps nobody from queueing deliveries for it."""
    query = sa.select(webhooks).where(webhooks.c.id == webhook_id, _is_of(group_id))
    row = (await tx.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else _webhook(row)


async def page(tx: Tx, group_id: str | None, *, after: str | None, limit: int) -> list[Webhook]:
    """The webhooks of a group, or with None those of the site, by id."""
    query = sa.select(webhooks).where(_is_of(group_id))
    if after is not None:
        query = query.where(webhooks.c.id > after)
    rows = await tx.execute(query.order_by(webhooks.c.id).limit(limit))
    return [_webhook(row) for row in rows]


async def count(tx: Tx, group_id: str | None) -> int:
    return await tx.scalar(sa.select(sa.func.count()).where(_is_of(group_id))) or 0


async def change(tx: Tx, webhook_id: str, values: dict[str, Any]) -> Webhook:
    """Changes columns of a locked webhook."""
    row = await tx.execute(
        webhooks.update().where(webhooks.c.id == webhook_id).values(values).returning(webhooks)
    )
    return _webhook(row.one())


async def replace_secret(tx: Tx, webhook_id: str, secret: str) -> Webhook:
    """Gives a locked webhook a new secret; the old one signs beside it for a while."""
    return await change(
        tx,
        webhook_id,
        {
            "secret": secret,
            "old_secret": webhooks.c.secret,
            "old_secret_until": now_us() + OVERLAP_US,
        },
    )


async def disable(tx: Tx, webhook_id: str, now: sa.ColumnElement[int] | int) -> bool:
    """Whether it was enabled until now. What waits for it stays, until it is forgotten."""
    done = await tx.execute(
        webhooks.update()
        .where(webhooks.c.id == webhook_id, webhooks.c.disabled_at.is_(None))
        .values(disabled_at=now)
    )
    return done.rowcount == 1


async def remove_deliveries(tx: Tx, webhook_id: str, limit: int) -> int:
    """Removes up to ``limit`` deliveries of a webhook; how many."""
    some = (
        sa.select(webhook_deliveries.c.id)
        .where(webhook_deliveries.c.webhook_id == webhook_id)
        .limit(limit)
    )
    done = await tx.execute(sa.delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(some)))
    return done.rowcount


async def remove(tx: Tx, webhook_id: str) -> bool:
    """Removes a webhook and what is left of its deliveries; whether it was there."""
    done = await tx.execute(sa.delete(webhooks).where(webhooks.c.id == webhook_id))
    return done.rowcount == 1


async def of_deleted_groups(tx: Tx) -> list[str]:
    """Webhooks of groups that are deleted, when nothing waits for them any more."""
    waiting = sa.exists().where(
        webhook_deliveries.c.webhook_id == webhooks.c.id,
        webhook_deliveries.c.state == DeliveryState.WAITING,
        webhooks.c.disabled_at.is_(None),
    )
    rows = await tx.scalars(
        sa.select(webhooks.c.id)
        .join(groups, groups.c.id == webhooks.c.group_id)
        .where(groups.c.deleted_at.is_not(None), ~waiting)
    )
    return list(rows)


def dump_kinds(kinds: Sequence[str]) -> str:
    """How kinds are stored: sorted, in quotes, which ``log.emit`` looks for; or ``*`` alone."""
    stored = [ALL] if ALL in kinds else sorted(set(kinds))
    return json.dumps(stored, separators=(",", ":"))


def _is_of(group_id: str | None) -> sa.ColumnElement[bool]:
    if group_id is None:
        return webhooks.c.group_id.is_(None)
    return webhooks.c.group_id == group_id


def _webhook(row: Any) -> Webhook:
    return Webhook(
        id=row.id,
        group_id=row.group_id,
        url=row.url,
        kinds=json.loads(row.kinds),
        created_by=row.created_by,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        failing_since=row.failing_since,
        secret=row.secret,
    )
