"""The audit log and the outbox of events, written in the transaction of the act."""

import json
from typing import Any, Final

import sqlalchemy as sa

from filestore.errors import Json
from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.event_kinds import ALL
from filestore.meta.tables import audit_log, events, webhook_deliveries, webhooks
from filestore.model import Actor, DeliveryState


async def audit(
    tx: Tx,
    actor: Actor,
    act: str,
    *,
    group_id: str | None = None,
    target: str | None = None,
    before: Json = None,
    after: Json = None,
) -> None:
    """Records who did ``act`` (``noun.verb``) to ``target``, and what it was before and after."""
    await tx.execute(
        audit_log.insert().values(
            actor_id=actor.user_id,
            token_id=actor.token_id,
            request_id=actor.request_id,
            act=act,
            group_id=group_id,
            target=target,
            before=None if before is None else _dump(before),
            after=None if after is None else _dump(after),
        )
    )


async def emit(tx: Tx, kind: str, payload: Json, *, group_id: str | None = None) -> None:
    """Queues an event, and a delivery for each webhook that is to be told: they are only if the
    act commits.

    One statement does both, so that a hot path pays no round trip for it: on SQLite by a trigger
    (``meta.triggers``), since it takes no INSERT inside another.
    """
    event: dict[str, Any] = {
        "event_name": new_id("evt"),
        "event_kind": kind,
        "event_group": group_id,
        "event_payload": _dump(payload),
    }
    if tx.dialect.name == "sqlite":
        await tx.execute(_EMIT, event)
        return
    wanted = {"told_group": group_id, "told_kind": f'%"{kind}"%'}
    await tx.execute(_EMIT_AND_FAN_OUT, event | wanted)


async def emit_to(
    tx: Tx, webhook_id: str, kind: str, payload: Json, *, group_id: str | None
) -> str:
    """Queues an event for one webhook alone, whatever it is subscribed to; the event's id."""
    name = new_id("evt")
    event_id = await tx.scalar(
        events.insert()
        .values(public_id=name, kind=kind, group_id=group_id, payload=_dump(payload))
        .returning(events.c.id)
    )
    await tx.execute(
        webhook_deliveries.insert().values(
            webhook_id=webhook_id, event_id=event_id, state=DeliveryState.WAITING
        )
    )
    return name


def _told(made: sa.CTE) -> sa.Select[tuple[str, int, str]]:
    """The deliveries of an event. Webhooks are locked against removal alone, so that one that is
    removed at this moment is waited for and skipped, and does not fail the act."""
    group = sa.bindparam("told_group", type_=sa.String(40))
    kinds = webhooks.c.kinds
    return (
        sa.select(webhooks.c.id, made.c.id, sa.literal_column("'waiting'", sa.String(8)))
        .select_from(webhooks.join(made, sa.true()))
        .where(
            webhooks.c.disabled_at.is_(None),
            webhooks.c.group_id.is_(None) | (webhooks.c.group_id == group),
            kinds.like(sa.bindparam("told_kind", type_=sa.Text)) | (kinds == f'["{ALL}"]'),
        )
        .with_for_update(read=True, key_share=True, of=webhooks)
    )


_EMIT: Final = events.insert().values(
    public_id=sa.bindparam("event_name"),
    kind=sa.bindparam("event_kind"),
    group_id=sa.bindparam("event_group"),
    payload=sa.bindparam("event_payload"),
)
_EMIT_AND_FAN_OUT: Final = webhook_deliveries.insert().from_select(
    ("webhook_id", "event_id", "state"),
    _told(_EMIT.returning(events.c.id).cte("made")),
    include_defaults=False,
)


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
