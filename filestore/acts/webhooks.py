"""Acts on webhooks: a group's by its managers, the site's by site admins.

A secret is shown once, to who made it. Nothing here looks at addresses: who asks for an act has
checked the URL, and each connection is checked again (``hooks.addresses``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from filestore.errors import BadRequest, Conflict, Json, NotFound
from filestore.meta import deliveries, webhooks
from filestore.meta.database import Database, Tx
from filestore.meta.deliveries import Claim, Delivery, Instant, Outcome
from filestore.meta.event_kinds import ALL, EVENT_KINDS, PING, unknown_kinds
from filestore.meta.log import audit, emit, emit_to
from filestore.meta.tables import now_us
from filestore.meta.webhooks import Webhook
from filestore.model import SYSTEM, Actor

MOST: Final = 20
"""Webhooks of one group, or of the site: each event costs a row and a request for each."""
BATCH: Final = 1000
"""Deliveries that go in one transaction when their webhook is removed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a webhook; None stays. ``secret``: a new one."""

    url: str | None = None
    kinds: Sequence[str] | None = None
    is_enabled: bool | None = None
    secret: str | None = None


async def create(
    db: Database, actor: Actor, group_id: str | None, url: str, secret: str, kinds: Sequence[str]
) -> Webhook:
    """A new webhook; ``group_id`` None: the site's.

    :raises BadRequest: a kind is unknown, or there is none.
    :raises Conflict: there are :data:`MOST` already.
    """
    _check_kinds(kinds, of_group=group_id is not None)

    async def act(tx: Tx) -> Webhook:
        if await webhooks.count(tx, group_id) >= MOST:
            raise Conflict(what="another webhook", reason=f"there are {MOST} already")
        hook = await webhooks.insert(tx, group_id, url, secret, kinds, actor.user_id)
        await _audit(tx, actor, "webhook.create", hook, after=_state(hook))
        return hook

    return await db.transact(act)


async def show(db: Database, group_id: str | None, webhook_id: str) -> Webhook:
    """:raises NotFound: there is no such webhook of this group, or of the site."""
    hook = await db.read(partial(webhooks.find, webhook_id=webhook_id, group_id=group_id))
    if hook is None:
        raise NotFound(what="webhook")
    return hook


async def alter(
    db: Database, actor: Actor, group_id: str | None, webhook_id: str, change: Change
) -> Webhook:
    """Changes what is given. One that is enabled again is sent what still waits for it.

    :raises NotFound: there is no such webhook.
    :raises BadRequest: a kind is unknown, or there is none.
    """
    if change.kinds is not None:
        _check_kinds(change.kinds, of_group=group_id is not None)

    async def act(tx: Tx) -> Webhook:
        hook = await _locked(tx, group_id, webhook_id)
        before = _state(hook)
        if change.secret is not None:
            hook = await webhooks.replace_secret(tx, hook.id, change.secret)
        if values := _values(hook, change):
            hook = await webhooks.change(tx, hook.id, values)
        after: dict[str, Json] = {**_state(hook), "new_secret": change.secret is not None}
        await _audit(tx, actor, "webhook.change", hook, before=before, after=after)
        return hook

    return await db.transact(act)


async def remove(db: Database, actor: Actor, group_id: str | None, webhook_id: str) -> None:
    """Removes a webhook; what waits for it is not sent any more.

    First it is disabled, then its deliveries go in short steps: so an act that tells it of an
    event never waits long. Broken off, it is disabled, and can be removed again.

    :raises NotFound: there is no such webhook.
    """

    async def begin(tx: Tx) -> Webhook:
        hook = await _locked(tx, group_id, webhook_id)
        await webhooks.disable(tx, hook.id, now_us())
        return hook

    async def finish(tx: Tx) -> None:
        if await webhooks.remove(tx, hook.id):
            await _audit(tx, actor, "webhook.remove", hook, before=_state(hook))

    hook = await db.transact(begin)
    some = partial(webhooks.remove_deliveries, webhook_id=hook.id, limit=BATCH)
    while await db.transact(some) == BATCH:
        continue
    await db.transact(finish)


async def ping(db: Database, actor: Actor, group_id: str | None, webhook_id: str) -> Delivery:
    """Queues a delivery that says nothing, to see whether it arrives.

    :raises NotFound: there is no such webhook.
    :raises Conflict: it is disabled.
    """

    async def act(tx: Tx) -> Delivery:
        hook = await _locked(tx, group_id, webhook_id)
        _require_enabled(hook, "the test")
        payload: Json = {"webhook": hook.id}
        event = await emit_to(tx, hook.id, PING, payload, group_id=group_id)
        await _audit(tx, actor, "webhook.test", hook, after={"event": event})
        return await _delivery(tx, hook, event)

    return await db.transact(act)


async def retry(
    db: Database, actor: Actor, group_id: str | None, webhook_id: str, event: str
) -> Delivery:
    """Makes a delivery due now, also one that failed or arrived; the id it is sent under stays.

    :raises NotFound: there is no such webhook, or no such delivery.
    :raises Conflict: the webhook is disabled.
    """

    async def act(tx: Tx) -> Delivery:
        hook = await _locked(tx, group_id, webhook_id)
        _require_enabled(hook, "the repetition")
        if not await deliveries.retry(tx, hook.id, event):
            raise NotFound(what="delivery")
        await _audit(tx, actor, "webhook.retry", hook, after={"event": event})
        return await _delivery(tx, hook, event)

    return await db.transact(act)


async def settle(
    tx: Tx, claim: Claim, outcome: Outcome, *, now: Instant, disable_after_us: int
) -> bool:
    """Records what came of an attempt; whether that disabled the webhook.

    It is disabled when the receiver says that it is gone, and when no attempt has succeeded for
    ``disable_after_us``.
    """
    failing_us = await deliveries.record(tx, claim, outcome, now)
    if failing_us is None:
        return False
    if not outcome.is_gone and failing_us < disable_after_us:
        return False
    if not await webhooks.disable(tx, claim.webhook_id, now):
        return False
    reason = "the receiver is gone (410)" if outcome.is_gone else "no delivery arrived for too long"
    said: dict[str, Json] = {"webhook": claim.webhook_id, "reason": reason}
    group_id = claim.hook_group_id
    await audit(
        tx, SYSTEM, "webhook.disable", group_id=group_id, target=claim.webhook_id, after=said
    )
    await emit(tx, "webhook.disabled", said, group_id=group_id)
    return True


async def remove_of_deleted_groups(db: Database) -> int:
    """Removes the webhooks of groups that are deleted, when they have been told so; how many."""
    found = await db.read(webhooks.of_deleted_groups)
    for webhook_id in found:
        some = partial(webhooks.remove_deliveries, webhook_id=webhook_id, limit=BATCH)
        while await db.transact(some) == BATCH:
            continue
        await db.transact(partial(webhooks.remove, webhook_id=webhook_id))
    return len(found)


def _values(hook: Webhook, change: Change) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.url is not None:
        values["url"] = change.url
    if change.kinds is not None:
        values["kinds"] = webhooks.dump_kinds(change.kinds)
    if change.is_enabled is True and hook.disabled_at is not None:
        values |= {"disabled_at": None, "failing_since": None}
    if change.is_enabled is False and hook.disabled_at is None:
        values["disabled_at"] = now_us()
    return values


def _check_kinds(kinds: Sequence[str], *, of_group: bool) -> None:
    if not kinds:
        raise BadRequest(field="kinds", reason=f'name at least one, or "{ALL}" for all')
    if unknown := unknown_kinds(kinds, of_group=of_group):
        whose = "a group" if of_group else "the site"
        known = [kind for kind, said in EVENT_KINDS.items() if said.of_group or not of_group]
        reason = f"{unknown[0]!r} is no kind of event of {whose}; there are {', '.join(known)}"
        raise BadRequest(field="kinds", reason=reason)


def _require_enabled(hook: Webhook, what: str) -> None:
    if hook.disabled_at is not None:
        raise Conflict(what=what, reason="the webhook is disabled; enable it first")


async def _locked(tx: Tx, group_id: str | None, webhook_id: str) -> Webhook:
    hook = await webhooks.find(tx, webhook_id, group_id, lock=True)
    if hook is None:
        raise NotFound(what="webhook")
    return hook


async def _delivery(tx: Tx, hook: Webhook, event: str) -> Delivery:
    found = await deliveries.find(tx, hook.id, event)
    if found is None:
        raise NotFound(what="delivery")
    return found


async def _audit(
    tx: Tx, actor: Actor, act: str, hook: Webhook, *, before: Json = None, after: Json = None
) -> None:
    await audit(tx, actor, act, group_id=hook.group_id, target=hook.id, before=before, after=after)


def _state(hook: Webhook) -> dict[str, Json]:
    """What the audit log keeps: never the secret."""
    return {"url": hook.url, "kinds": [*hook.kinds], "enabled": hook.disabled_at is None}
