"""``/api/v1/groups/{g}/quota``: what a group may hold, what it holds, and what that is.

A group learns of its own references only; what others hold of the same bytes is in ``http.site``.
"""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts.sheets import Foreseen, page_of_items, show_sheet
from filestore.errors import NotFound
from filestore.http.call import Answer, Call, Digits, Query, reply
from filestore.http.groups import ONE
from filestore.http.lists import Paging, cursor_of
from filestore.http.routing import Access, Route
from filestore.meta.sheet import Line
from filestore.meta.sheet_items import KEYS, Item
from filestore.model import format_instant
from filestore.quota.forecast import (
    FEWEST_DAYS,
    MOST_DAYS,
    USUAL_DAYS,
    Forecast,
    Outlook,
)

QUOTA = ONE + "/quota"
SHEET = QUOTA + "/sheet"


class SheetQuery(Query):
    """``days``: how many days back the forecast looks."""

    days: Annotated[Digits, Field(ge=FEWEST_DAYS, le=MOST_DAYS)] = USUAL_DAYS


class ForecastAnswer(Answer):
    """When the group is full if it goes on as in the last days. ``days_to_full`` is null unless
    ``outlook`` is ``growing``, ``bytes_per_day`` where there is not enough history."""

    outlook: Outlook
    days_to_full: int | None
    bytes_per_day: int | None

    @classmethod
    def of(cls, found: Forecast) -> "ForecastAnswer":
        return cls(
            outlook=found.outlook,
            days_to_full=found.days_to_full,
            bytes_per_day=found.bytes_per_day,
        )


class QuotaAnswer(Answer):
    """Where a group's bytes are; ``used_bytes`` is live, older versions and trash together.

    ``unique_bytes`` are the distinct blocks inside the group, counted from its own files only;
    ``shared_bytes`` is what deduplication inside the group saves. What is temporary is charged
    to the pool of the service, not to the group. ``files`` counts those in the trash, too.
    """

    limit_bytes: int
    soft_limit_bytes: int | None
    used_bytes: int
    reserved_bytes: int
    free_bytes: int
    unique_bytes: int
    shared_bytes: int
    live_bytes: int
    versions_bytes: int
    trash_bytes: int
    temporary_bytes: int
    temporary_reserved_bytes: int
    files: int
    files_limit: int | None
    overflows: bool
    forecast: ForecastAnswer

    @classmethod
    def of(cls, found: Foreseen) -> "QuotaAnswer":
        sheet = found.sheet
        return cls(
            limit_bytes=sheet.limit,
            soft_limit_bytes=sheet.soft_limit,
            used_bytes=sheet.used,
            reserved_bytes=sheet.reserved,
            free_bytes=sheet.free,
            unique_bytes=sheet.unique,
            shared_bytes=sheet.saved,
            live_bytes=sheet.lines[Line.LIVE],
            versions_bytes=sheet.lines[Line.VERSIONS],
            trash_bytes=sheet.lines[Line.TRASH],
            temporary_bytes=sheet.lines[Line.TEMPORARY],
            temporary_reserved_bytes=sheet.lines[Line.TEMPORARY_RESERVED],
            files=sheet.files,
            files_limit=sheet.files_limit,
            overflows=sheet.overflows,
            forecast=ForecastAnswer.of(found.forecast),
        )


class LineAnswer(Answer):
    """One line: its bytes, whether the group is charged for them, and where its items are."""

    line: Line
    bytes: int
    charged: bool
    items: str


class SheetAnswer(Answer):
    """The balance sheet, all of one moment. Every byte of the group is in exactly one line."""

    group: str
    name: str
    lines: list[LineAnswer]
    quota: QuotaAnswer


class RunningAnswer(Answer):
    """The upload that holds a reservation: how far it is, and until when it may go on."""

    id: str
    offset: int
    length: int | None
    expires_at: str


class ItemAnswer(Answer):
    """A version of a file, or a running upload (``version`` null), with the bytes that it takes.

    ``at``: when it was made; ``expires_at``: when what is temporary goes.
    """

    path: str
    version: int | None
    bytes: int
    author: str | None
    at: str
    expires_at: str | None
    upload: RunningAnswer | None

    @classmethod
    def of(cls, item: Item) -> "ItemAnswer":
        running = item.upload
        return cls(
            path=item.path,
            version=item.version,
            bytes=item.bytes,
            author=item.author,
            at=format_instant(item.at),
            expires_at=None if item.expires_at is None else format_instant(item.expires_at),
            upload=None
            if running is None
            else RunningAnswer(
                id=running.id,
                offset=running.offset,
                length=running.length,
                expires_at=format_instant(running.expires_at),
            ),
        )


class ItemPage(Answer):
    """What is behind a line; all pages sum to it. A page may be shorter than ``limit``, also
    empty: the list ends where ``next`` is null."""

    items: list[ItemAnswer]
    next: str | None


async def _quota(call: Call) -> web.Response:
    return reply(QuotaAnswer.of(await _found(call)))


async def _sheet(call: Call) -> web.Response:
    found = await _found(call)
    where = f"/api/v1/groups/{found.sheet.group_id}/quota/sheet"
    lines = [
        LineAnswer(line=line, bytes=size, charged=_is_charged(line), items=f"{where}/{line}")
        for line, size in found.sheet.lines.items()
    ]
    answer = SheetAnswer(
        group=found.sheet.group_id,
        name=found.sheet.name,
        lines=lines,
        quota=QuotaAnswer.of(found),
    )
    return reply(answer)


async def _found(call: Call) -> Foreseen:
    return await show_sheet(call.services.db, call.group, days=call.query(SheetQuery).days)


def _is_charged(line: Line) -> bool:
    return line not in (Line.TEMPORARY, Line.TEMPORARY_RESERVED)


async def _items(call: Call) -> web.Response:
    line = next((line for line in Line if line == call.parameters["line"]), None)
    if line is None:
        raise NotFound(what="line of the sheet")
    paging = call.query(Paging)
    page = await page_of_items(
        call.services.db,
        call.group,
        line,
        after=paging.key(*KEYS[line]),
        limit=paging.limit,
    )
    shown = [ItemAnswer.of(item) for item in page.items]
    return reply(ItemPage(items=shown, next=cursor_of(page.next)))


ROUTES = (
    Route(
        method="GET",
        path=QUOTA,
        handler=_quota,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show where a group's bytes are",
        query=SheetQuery,
        responses={200: QuotaAnswer},
    ),
    Route(
        method="GET",
        path=SHEET,
        handler=_sheet,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show a group's balance sheet, whose lines open what is behind them",
        query=SheetQuery,
        responses={200: SheetAnswer},
    ),
    Route(
        method="GET",
        path=SHEET + "/{line}",
        handler=_items,
        access=Access.VIEWER,
        site_admin=True,
        summary="List what is behind a line of a group's sheet: it sums to the line",
        query=Paging,
        responses={200: ItemPage},
    ),
)
