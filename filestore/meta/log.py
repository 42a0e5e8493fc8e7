"""The audit log and the outbox of events, written in the transaction of the act."""

import json

from filestore.errors import Json
from filestore.meta.database import Tx
from filestore.meta.tables import audit_log, events
from filestore.model import Actor


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
    """Queues an event for webhooks and pages; it is delivered only if the act commits."""
    await tx.execute(events.insert().values(kind=kind, group_id=group_id, payload=_dump(payload)))


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
