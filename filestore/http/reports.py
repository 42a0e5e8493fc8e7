"""``/api/v1/admin/groups``: all groups by what an admin looks for."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from filestore.acts.sheets import page_of_reports
from filestore.http.call import Answer, Call, Digits, reply
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.http.sheet import ForecastAnswer
from filestore.meta.reports import Key, Report, Sort
from filestore.meta.sheet import Line
from filestore.model import format_instant
from filestore.quota.forecast import Forecast

PATH = "/api/v1/admin/groups"


class ReportQuery(Paging):
    """``sort``: the largest first, names from the beginning. ``unread_days``: how old a version
    must be to count as never downloaded."""

    sort: Sort = Sort.USAGE
    unread_days: Annotated[Digits, Field(ge=0, le=36_500)] = 90


class WasteAnswer(Answer):
    """What a group might do without. The parts overlap, so ``bytes`` is at most what is used."""

    bytes: int
    trash_bytes: int
    versions_bytes: int
    duplicate_bytes: int
    never_downloaded_bytes: int


class ReportAnswer(Answer):
    """A group. ``usage_percent`` is null without a limit; growth may be negative;
    ``last_activity_at`` is that of the last change, or of the last act in the audit log."""

    id: str
    name: str
    limit_bytes: int
    used_bytes: int
    reserved_bytes: int
    usage_percent: float | None
    files: int
    growth_7_days_bytes: int
    growth_30_days_bytes: int
    waste: WasteAnswer
    forecast: ForecastAnswer
    last_activity_at: str | None
    created_at: str

    @classmethod
    def of(cls, report: Report, forecast: Forecast) -> "ReportAnswer":
        sheet, active_at = report.sheet, report.active_at
        return cls(
            id=sheet.group_id,
            name=sheet.name,
            limit_bytes=sheet.limit,
            used_bytes=sheet.used,
            reserved_bytes=sheet.reserved,
            usage_percent=round(100 * sheet.used / sheet.limit, 2) if sheet.limit else None,
            files=sheet.files,
            growth_7_days_bytes=report.growth_7,
            growth_30_days_bytes=report.growth_30,
            waste=WasteAnswer(
                bytes=report.waste,
                trash_bytes=sheet.lines[Line.TRASH],
                versions_bytes=sheet.lines[Line.VERSIONS],
                duplicate_bytes=sheet.saved,
                never_downloaded_bytes=report.never_read,
            ),
            forecast=ForecastAnswer.of(forecast),
            last_activity_at=None if active_at is None else format_instant(active_at),
            created_at=format_instant(report.created_at),
        )


class ReportPage(Answer):
    """Groups in the order that was asked for."""

    items: list[ReportAnswer]
    next: str | None


async def _list(call: Call) -> web.Response:
    query = call.query(ReportQuery)
    key = query.key(str if query.sort is Sort.NAME else int, str)
    after: Key | None = None if key is None else (key[0], str(key[1]))
    rows = await page_of_reports(
        call.services.db,
        query.sort,
        unread_days=query.unread_days,
        after=after,
        limit=query.wanted,
    )
    shown, following = query.cut(rows, lambda row: (row[0].key, row[0].sheet.group_id))
    items = [ReportAnswer.of(report, forecast) for report, forecast in shown]
    return reply(ReportPage(items=items, next=following))


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.ADMIN,
        summary="List groups by usage, growth or waste, with forecasts",
        query=ReportQuery,
        responses={200: ReportPage},
    ),
)
