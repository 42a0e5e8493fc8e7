"""``filestore admin groups`` and ``admin log``: all groups, and who did what."""

import re
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from filestore.cli.connect import run
from filestore.cli.options import AsJson
from filestore.cli.output import Column, SizeColumn, TimeColumn, json_line, show_list
from filestore.cli.quota_text import forecast_text
from filestore.client import Client
from filestore.client.transport import Document


class Sort(StrEnum):
    """What groups are ordered by."""

    NAME = "name"
    USAGE = "usage"
    USAGE_PERCENT = "usage_percent"
    GROWTH = "growth"
    WASTE = "waste"


class Form(StrEnum):
    """What the log is written as."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many.")]


def list_reports(
    sort: Annotated[Sort, typer.Option(help="The largest first; names from A.")] = Sort.USAGE,
    unread_days: Annotated[
        int, typer.Option(min=0, help="How old a file is that counts as never downloaded.")
    ] = 90,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List groups by usage, growth or waste, and when each is full."""

    async def act(client: Client) -> list[Document]:
        found: list[Document] = []
        async for item in client.books.reports(sort, unread_days):
            found.append(item)
            if len(found) == limit:
                break
        return found

    columns = (
        Column("NAME", "name"),
        SizeColumn("USED", "used_bytes"),
        SizeColumn("LIMIT", "limit_bytes"),
        Column("%", "usage_percent"),
        SizeColumn("7 DAYS", "growth_7_days_bytes"),
        SizeColumn("30 DAYS", "growth_30_days_bytes"),
        _Waste("WASTE", "bytes"),
        TimeColumn("LAST ACTIVITY", "last_activity_at"),
        _Outlook("OUTLOOK", "forecast"),
    )
    show_list(run(act), columns, as_json=as_json, empty="no groups")


class _Waste(SizeColumn):
    """A part of what a group might do without."""

    def cell(self, item: Document) -> str:
        waste = item.get("waste")
        return super().cell(waste if isinstance(waste, dict) else {})


class _Outlook(Column):
    """When a group is full."""

    def cell(self, item: Document) -> str:
        return forecast_text(item[self.member])


class _Target(Column):
    """The name of a user or group; what has none, such as a path, as it is."""

    def cell(self, item: Document) -> str:
        named = item.get(self.member) is not None
        return super().cell(item) if named else Column(self.head, "target").cell(item)


class _Change(Column):
    """What was before, and what after."""

    def cell(self, item: Document) -> str:
        sides = (item.get("before"), item.get("after"))
        return " -> ".join("" if side is None else json_line(side) for side in sides).strip()


def show_log(
    actor: Annotated[str | None, typer.Option(metavar="USER", help="Who did it.")] = None,
    act: Annotated[str | None, typer.Option(metavar="ACT", help="What: group.change.")] = None,
    group: Annotated[str | None, typer.Option(metavar="GROUP", help="In which group.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="2026-01-31, or with T12:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Before this time.")
    ] = None,
    limit: Limit = 50,
    form: Annotated[
        Form, typer.Option("--format", help="csv and jsonl give all, in constant memory.")
    ] = Form.TABLE,
    as_json: AsJson = False,
) -> None:
    """Show who did what, the newest first."""
    named = {"actor": actor, "act": act, "group": group, "from": _time(since), "to": _time(until)}
    filters = {name: value for name, value in named.items() if value is not None}
    if form is not Form.TABLE and not as_json:
        run(lambda client: _export(client, form, filters))
        return
    columns = (
        TimeColumn("AT", "at"),
        Column("BY", "actor"),
        Column("ACT", "act"),
        Column("GROUP", "group"),
        _Target("TARGET", "target_name"),
        _Change("CHANGE", "after"),
    )
    items = run(lambda client: _some(client, filters, limit))
    show_list(items, columns, as_json=as_json, empty="nothing was done")


async def _some(client: Client, filters: dict[str, str], limit: int) -> list[Document]:
    found: list[Document] = []
    async for item in client.books.log(filters):
        found.append(item)
        if len(found) == limit:
            break
    return found


async def _export(client: Client, form: Form, filters: dict[str, str]) -> None:
    out: Any = sys.stdout
    async for piece in client.books.export_log(form, filters):
        out.buffer.write(piece)
    out.flush()


def _time(text: str | None) -> str | None:
    """A day means its beginning in UTC; all else is as it is, and the server judges it."""
    if text is not None and re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return f"{text}T00:00:00Z"
    return text
