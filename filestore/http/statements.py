"""``/api/v1/groups/{g}/quota/statement`` and ``/balance``: what moved a group's counters, and when.

A statement names what people did, also with files that are deleted for good, so it is for the
managers of the group and for site admins. A balance names nobody and no file: all members see it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from filestore.http.call import Answer, Call, Query, reply
from filestore.http.downloads import write_piece
from filestore.http.groups import ONE
from filestore.http.routing import Access, Route
from filestore.http.statement_forms import CsvForm, Form, Heading, JsonForm, member_of
from filestore.model import format_instant
from filestore.names import content_disposition
from filestore.quota.statement import (
    Period,
    Totals,
    entries,
    find_balance,
    find_period,
    parse_moment,
    parse_zone,
)

Moment = Annotated[
    str,
    Field(
        max_length=40,
        description="A time of RFC 3339, or a day: its beginning in `tz`.",
        examples=["2026-01-31", "2026-01-31T12:00:00Z"],
    ),
]
Zone = Annotated[str, Field(max_length=64, description="An IANA time zone, for days.")]


class StatementQuery(Query):
    """From ``from`` up to, and not including, ``to``. Without ``format`` the header Accept says
    whether CSV is wanted."""

    begin: Annotated[Moment | None, Field(alias="from")] = None
    end: Annotated[Moment | None, Field(alias="to")] = None
    tz: Zone = "UTC"
    format: Literal["json", "csv"] | None = None


class BalanceQuery(Query):
    """``at``: the moment; left out: now."""

    at: Moment | None = None
    tz: Zone = "UTC"


class BalanceFigures(Answer):
    """The four counters of a group."""

    used_bytes: int
    reserved_bytes: int
    files: int
    reserved_files: int


class BalanceAnswer(BalanceFigures):
    """The balance behind the row ``seq`` of the journal: the last one before ``at``; 0: none."""

    at: str | None
    seq: int


class GroupName(Answer):
    """The group that a statement is of."""

    id: str
    name: str


class StatementEntry(Answer):
    """One row of the journal: who moved the counters, why, by how much, and what they were then.

    ``member`` is whose bytes they are, and null where nobody's; ``actor`` is null for the service.
    """

    seq: int
    at: str
    actor: str | None
    actor_id: str | None
    member: str | None
    member_id: str | None
    cause: str
    ref: str | None
    entry_id: str | None
    path: str | None
    type: str | None
    bytes: int
    reserved_bytes: int
    files: int
    reserved_files: int
    balance: BalanceFigures


class StatementTotals(Answer):
    """Sums of the entries, each table over all of them; beyond 10,000 lines the rest is ``…``."""

    members: list[dict[str, Any]]
    folders: list[dict[str, Any]]
    types: list[dict[str, Any]]
    days: list[dict[str, Any]]


class StatementAnswer(Answer):
    """The rows ``first_seq`` to ``last_seq``: from the first written at ``from`` or later up to the
    one before the first written at ``to`` or later. ``unexplained``: what the counters moved by
    without an entry; zeros."""

    group: GroupName
    from_: Annotated[str | None, Field(alias="from")]
    to: str | None
    tz: str
    first_seq: int
    last_seq: int
    opening: BalanceFigures
    entries: list[StatementEntry]
    closing: BalanceFigures
    totals: StatementTotals
    unexplained: BalanceFigures


async def _statement(call: Call) -> web.StreamResponse:
    query = call.query(StatementQuery)
    zone = parse_zone(query.tz)
    begin = None if query.begin is None else parse_moment(query.begin, zone, "from")
    end = None if query.end is None else parse_moment(query.end, zone, "to")
    heading = Heading(call.group.id, call.group.name, begin, end, query.tz)
    period = await find_period(call.services.db, call.group.id, begin=begin, end=end)
    form = _form(query, call.request.headers.get("Accept", ""))
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "Vary": "Accept"})
    response.content_type, response.charset = form.content_type, "utf-8"
    name = f"{call.group.name}-statement.{form.suffix}"
    response.headers["Content-Disposition"] = content_disposition(name, inline=False)
    async with aclosing(_pieces(call, form, heading, period, Totals(zone))) as pieces:
        first = await anext(pieces)
        await response.prepare(call.request)
        await write_piece(response, first)
        async for piece in pieces:
            await write_piece(response, piece)
    await response.write_eof()
    return response


async def _pieces(
    call: Call, form: Form, heading: Heading, period: Period, totals: Totals
) -> AsyncGenerator[bytes, None]:
    yield form.begin(heading, period)
    async for rows, names in entries(call.services.db, period):
        for row in rows:
            totals.add(row, member_of(row, names))
        yield form.page(rows, names)
    yield form.end(period, totals)


def _form(query: StatementQuery, accept: str) -> Form:
    wanted = query.format
    if wanted is None:
        kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
        wanted = "csv" if "text/csv" in kinds and "application/json" not in kinds else "json"
    return CsvForm() if wanted == "csv" else JsonForm()


async def _balance(call: Call) -> web.Response:
    query = call.query(BalanceQuery)
    at = None if query.at is None else parse_moment(query.at, parse_zone(query.tz), "at")
    seq, balance = await find_balance(call.services.db, call.group.id, at)
    used, reserved, files, reserved_files = balance
    return reply(
        BalanceAnswer(
            at=None if at is None else format_instant(at),
            seq=seq,
            used_bytes=used,
            reserved_bytes=reserved,
            files=files,
            reserved_files=reserved_files,
        )
    )


ROUTES = (
    Route(
        method="GET",
        path=ONE + "/quota/statement",
        handler=_statement,
        access=Access.MANAGER,
        site_admin=True,
        summary="Show what moved a group's counters in a period, as JSON or (Accept, format) CSV",
        query=StatementQuery,
        responses={200: StatementAnswer},
    ),
    Route(
        method="GET",
        path=ONE + "/quota/balance",
        handler=_balance,
        access=Access.VIEWER,
        site_admin=True,
        summary="Show a group's counters as they were at a moment",
        query=BalanceQuery,
        responses={200: BalanceAnswer},
    ),
)
