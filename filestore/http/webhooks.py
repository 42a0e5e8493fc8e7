"""``/api/v1/groups/{g}/webhooks`` and ``/api/v1/admin/webhooks``: of a group, and of the site."""

from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from filestore.acts import webhooks as acts
from filestore.acts.webhooks import Change
from filestore.errors import BadRequest, NotFound
from filestore.hooks.signing import new_secret
from filestore.http.call import Answer, Body, Call, no_content, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Handler, Route
from filestore.ids import is_id
from filestore.meta import deliveries, webhooks
from filestore.meta.deliveries import Delivery
from filestore.meta.webhooks import Webhook
from filestore.model import DeliveryState, format_instant

OF_GROUP = "/api/v1/groups/{g}/webhooks"
OF_SITE = "/api/v1/admin/webhooks"

Url = Annotated[str, Field(min_length=1, max_length=2000)]
Kinds = Annotated[list[str], Field(min_length=1, max_length=100)]


class NewWebhook(Body):
    """A webhook to register: where events go, and which kinds; ``*``: all."""

    url: Url
    kinds: Kinds


class WebhookChange(Body):
    """What to change of a webhook; what is left out stays.

    ``rotate_secret`` makes a new one; the old one signs beside it for a day.
    """

    url: Url | None = None
    kinds: Kinds | None = None
    enabled: bool | None = None
    rotate_secret: bool = False


class WebhookItem(Answer):
    """A webhook. ``failing_since``: no message has arrived since then."""

    id: str
    url: str
    kinds: list[str]
    enabled: bool
    created_by: str | None
    created_at: str
    disabled_at: str | None
    failing_since: str | None

    @classmethod
    def of(cls, hook: Webhook) -> "WebhookItem":
        return cls(**_fields(hook))


class WebhookAnswer(WebhookItem):
    """A webhook with its secret, when that was made by this request; it is not shown again."""

    secret: str | None

    @classmethod
    def fresh(cls, hook: Webhook, secret: str | None) -> "WebhookAnswer":
        return cls(**_fields(hook), secret=secret)


class WebhookPage(Answer):
    """Webhooks, by id."""

    items: list[WebhookItem]
    next: str | None


class DeliveryItem(Answer):
    """One event for one webhook, by the id of the event, which is sent as ``webhook-id``.

    ``status``, ``error`` and ``ms`` are those of the last attempt. ``next_attempt_at``: of one
    under way, when it counts as lost.
    """

    event: str
    kind: str
    state: DeliveryState
    attempts: int
    created_at: str
    next_attempt_at: str | None
    ended_at: str | None
    status: int | None
    error: str | None
    ms: int | None

    @classmethod
    def of(cls, found: Delivery) -> "DeliveryItem":
        return cls(
            event=found.event,
            kind=found.kind,
            state=found.state,
            attempts=found.attempts,
            created_at=format_instant(found.created_at),
            next_attempt_at=_instant(found.not_before if found.ended_at is None else None),
            ended_at=_instant(found.ended_at),
            status=found.last_status,
            error=found.last_error,
            ms=found.last_ms,
        )


class DeliveryPage(Answer):
    """Deliveries, the newest event first."""

    items: list[DeliveryItem]
    next: str | None


class DeliveryQuery(Paging):
    """Which deliveries."""

    state: DeliveryState | None = None


async def _create(call: Call) -> web.Response:
    wish = await call.json(NewWebhook)
    _check_url(call, wish.url)
    secret = new_secret()
    hook = await acts.create(
        call.services.db, call.actor, _group(call), wish.url, secret, wish.kinds
    )
    location = call.request.rel_url.raw_path.rstrip("/") + f"/{hook.id}"
    return reply(WebhookAnswer.fresh(hook, secret), status=201, location=location)


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    look = partial(
        webhooks.page, group_id=_group(call), after=paging.text_key(), limit=paging.wanted
    )
    rows = await call.services.db.read(look)
    shown, following = paging.cut(rows, lambda hook: (hook.id,))
    return reply(WebhookPage(items=[WebhookItem.of(hook) for hook in shown], next=following))


async def _show(call: Call) -> web.Response:
    return reply(WebhookItem.of(await _hook(call)))


async def _change(call: Call) -> web.Response:
    wish = await call.json(WebhookChange)
    if wish.url is not None:
        _check_url(call, wish.url)
    secret = new_secret() if wish.rotate_secret else None
    change = Change(wish.url, wish.kinds, wish.enabled, secret)
    hook = await acts.alter(call.services.db, call.actor, _group(call), _id(call), change)
    call.services.hooks.wake()
    return reply(WebhookAnswer.fresh(hook, secret))


async def _remove(call: Call) -> web.Response:
    await acts.remove(call.services.db, call.actor, _group(call), _id(call))
    return no_content()


async def _test(call: Call) -> web.Response:
    found = await acts.ping(call.services.db, call.actor, _group(call), _id(call))
    call.services.hooks.wake()
    return reply(DeliveryItem.of(found), status=202)


async def _deliveries(call: Call) -> web.Response:
    query = call.query(DeliveryQuery)
    hook = await _hook(call)
    look = partial(
        deliveries.page,
        webhook_id=hook.id,
        before=query.text_key(),
        state=query.state,
        limit=query.wanted,
    )
    rows = await call.services.db.read(look)
    shown, following = query.cut(rows, lambda row: (row.event,))
    return reply(DeliveryPage(items=[DeliveryItem.of(row) for row in shown], next=following))


async def _retry(call: Call) -> web.Response:
    event = call.parameters["event"]
    if not is_id("evt", event):
        raise NotFound(what="delivery")
    found = await acts.retry(call.services.db, call.actor, _group(call), _id(call), event)
    call.services.hooks.wake()
    return reply(DeliveryItem.of(found), status=202)


async def _hook(call: Call) -> Webhook:
    return await acts.show(call.services.db, _group(call), _id(call))


def _group(call: Call) -> str | None:
    return call.group.id if "g" in call.route.parameters else None


def _id(call: Call) -> str:
    webhook_id = call.parameters["webhook"]
    if not is_id("whk", webhook_id):
        raise NotFound(what="webhook")
    return webhook_id


def _check_url(call: Call, url: str) -> None:
    if (complaint := call.services.hooks.policy.complaint(url)) is not None:
        raise BadRequest(field="url", reason=complaint)


def _fields(hook: Webhook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "kinds": hook.kinds,
        "enabled": hook.disabled_at is None,
        "created_by": hook.created_by,
        "created_at": format_instant(hook.created_at),
        "disabled_at": _instant(hook.disabled_at),
        "failing_since": _instant(hook.failing_since),
    }


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


def _routes(base: str) -> tuple[Route, ...]:
    """The same for a group and for the site. A site admin may see to the webhooks of any group."""
    is_site = base == OF_SITE
    one = base + "/{webhook}"
    whose = "of the site" if is_site else "of a group"

    def route(
        method: str, path: str, handler: Handler, summary: str, *, status: int = 200, **said: Any
    ) -> Route:
        return Route(
            method=method,
            path=path,
            handler=handler,
            access=Access.ADMIN if is_site else Access.MANAGER,
            site_admin=not is_site,
            summary=summary.format(whose),
            responses={status: said.pop("answer", None)},
            **said,
        )

    sending, ping = one + "/deliveries", "Send a message that says nothing to a webhook {}"
    return (
        route("GET", base, _list, "List the webhooks {}", query=Paging, answer=WebhookPage),
        route(
            "POST",
            base,
            _create,
            "Register a webhook {}; its secret is shown this once",
            status=201,
            request=NewWebhook,
            answer=WebhookAnswer,
            refuses=(409,),
        ),
        route("GET", one, _show, "Show a webhook {}", answer=WebhookItem),
        route(
            "PATCH",
            one,
            _change,
            "Change, disable or enable a webhook {}, or renew its secret",
            request=WebhookChange,
            answer=WebhookAnswer,
        ),
        route("DELETE", one, _remove, "Remove a webhook {}", status=204),
        route("POST", one + "/test", _test, ping, status=202, answer=DeliveryItem, refuses=(409,)),
        route(
            "GET",
            sending,
            _deliveries,
            "List what was sent to a webhook {}",
            query=DeliveryQuery,
            answer=DeliveryPage,
        ),
        route(
            "POST",
            sending + "/{event}/retry",
            _retry,
            "Send an event to a webhook {} now",
            status=202,
            answer=DeliveryItem,
            refuses=(409,),
        ),
    )


ROUTES = (*_routes(OF_GROUP), *_routes(OF_SITE))
