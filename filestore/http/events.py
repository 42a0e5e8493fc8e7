"""Events: what happened, of a group for its members, of everything for site admins."""

from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from filestore.errors import BadRequest
from filestore.http.call import Answer, Call, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta import events
from filestore.meta.event_kinds import EVENT_KINDS, PING
from filestore.meta.events import Event, Wish
from filestore.model import format_instant

GROUP = "/api/v1/groups/{g}"
WARNINGS = tuple(sorted(kind for kind in EVENT_KINDS if kind.startswith("quota.")))


class EventItem(Answer):
    """Something that happened. ``data`` depends on ``kind``; ``group`` null: on the site."""

    id: str
    at: str
    kind: str
    group: str | None
    data: Any

    @classmethod
    def of(cls, event: Event) -> "EventItem":
        return cls(
            id=event.id,
            at=format_instant(event.at),
            kind=event.kind,
            group=event.group_id,
            data=event.payload,
        )


class EventPage(Answer):
    """Events, the newest first, or with ``since`` the oldest first."""

    items: list[EventItem]
    next: str | None


class EventQuery(Paging):
    """Which events: ``kinds`` with commas between; those behind the event ``since``."""

    kinds: Annotated[str, Field(max_length=2000)] | None = None
    since: Annotated[str, Field(max_length=64)] | None = None


class KindItem(Answer):
    """A kind of event. ``of_group``: it happens in a group, and its webhooks can be told."""

    kind: str
    of_group: bool
    sentence: str


class KindList(Answer):
    """Every kind of event that webhooks can be told of."""

    items: list[KindItem]


async def _of_group(call: Call) -> web.Response:
    query = call.query(EventQuery)
    return await _page(call, query, Wish(call.group.id, _kinds(query), query.since))


async def _of_site(call: Call) -> web.Response:
    query = call.query(EventQuery)
    return await _page(call, query, Wish(None, _kinds(query), query.since))


async def _warnings(call: Call) -> web.Response:
    return await _page(call, call.query(Paging), Wish(call.group.id, WARNINGS))


async def _list_kinds(call: Call) -> web.Response:
    items = [
        KindItem(kind=kind, of_group=said.of_group, sentence=said.sentence)
        for kind, said in EVENT_KINDS.items()
    ]
    return reply(KindList(items=items))


async def _page(call: Call, paging: Paging, wish: Wish) -> web.Response:
    """:raises BadRequest: ``since`` is no event here, or one that is forgotten."""
    db = call.services.db
    if wish.since is not None:
        known = partial(events.is_known, event=wish.since, group_id=wish.group_id)
        if not await db.read(known):
            raise BadRequest(field="since", reason="there is no such event, or not any more")
    look = partial(events.page, wish=wish, after=paging.text_key(), limit=paging.wanted)
    shown, following = paging.cut(await db.read(look), lambda event: (event.id,))
    return reply(EventPage(items=[EventItem.of(event) for event in shown], next=following))


def _kinds(query: EventQuery) -> list[str]:
    kinds = [] if query.kinds is None else query.kinds.split(",")
    for kind in kinds:
        if kind not in EVENT_KINDS and kind != PING:
            raise BadRequest(field="kinds", reason=f"{kind!r} is no kind of event")
    return kinds


ROUTES = (
    Route(
        method="GET",
        path=GROUP + "/events",
        handler=_of_group,
        access=Access.VIEWER,
        summary="List what happened in a group, the newest first, or behind an event",
        query=EventQuery,
        responses={200: EventPage},
    ),
    Route(
        method="GET",
        path=GROUP + "/warnings",
        handler=_warnings,
        access=Access.VIEWER,
        summary="List what a group was warned of, the newest first",
        query=Paging,
        responses={200: EventPage},
    ),
    Route(
        method="GET",
        path="/api/v1/admin/events",
        handler=_of_site,
        access=Access.ADMIN,
        summary="List what happened in the whole service",
        query=EventQuery,
        responses={200: EventPage},
    ),
    Route(
        method="GET",
        path="/api/v1/event-kinds",
        handler=_list_kinds,
        access=Access.TOKEN,
        summary="List the kinds of events",
        responses={200: KindList},
    ),
)
