"""``/api/v1/admin/audit-log`` and ``/api/v1/groups/{g}/audit-log``: who did what, and when."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import AwareDatetime, ConfigDict, Field

from filestore.acts.log import all_records, check_known, page_of_records
from filestore.cells import safe_cell
from filestore.http.call import Answer, Call, Query, reply
from filestore.http.connection import WRITE_SIZE
from filestore.http.groups import ONE
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.log_reading import Record, Wanted
from filestore.model import format_instant

PATH = "/api/v1/admin/audit-log"
EXPORT = PATH + "/export"
OF_GROUP = ONE + "/audit-log"

_Ref = Annotated[str, Field(min_length=1, max_length=400)]
_Act = Annotated[str, Field(pattern=r"^[a-z][a-z.-]{0,63}$")]


class _Period(Query):
    """``act`` is a noun and a verb (``group.change``); ``from`` is included, ``to`` is not."""

    model_config = ConfigDict(populate_by_name=False, extra="forbid", hide_input_in_errors=True)

    actor: _Ref | None = None
    act: _Act | None = None
    from_: Annotated[AwareDatetime | None, Field(alias="from")] = None
    to: AwareDatetime | None = None

    def filters(self, group: str | None) -> Wanted:
        """What is asked for; ``group`` is the group's name or id."""
        return Wanted(
            actor=self.actor,
            act=self.act,
            group=group,
            from_us=None if self.from_ is None else _microseconds(self.from_.timestamp()),
            to_us=None if self.to is None else _microseconds(self.to.timestamp()),
        )


class GroupLogQuery(_Period, Paging):
    """Which records of a group, and how many."""


class LogQuery(GroupLogQuery):
    """Which records, and how many. ``actor`` and ``group`` are names or ids."""

    group: _Ref | None = None


class ExportQuery(_Period):
    """Which records, and as what: ``csv``, or ``jsonl``, one JSON document in each line."""

    group: _Ref | None = None
    format: Literal["csv", "jsonl"] = "jsonl"


class GroupRecordAnswer(Answer):
    """One act. ``actor`` is the name of now; null: the service itself. ``before`` and ``after``
    say what changed, where something did."""

    id: int
    at: str
    act: str
    actor_id: str | None
    actor: str | None
    group_id: str | None
    group: str | None
    target: str | None
    target_name: str | None
    before: Any
    after: Any

    @classmethod
    def of(cls, record: Record) -> "GroupRecordAnswer":
        return cls(**_fields(record))


class RecordAnswer(GroupRecordAnswer):
    """One act, with the token that did it and the request, as its answer named it."""

    token_id: str | None
    request_id: str | None

    @classmethod
    def whole(cls, record: Record) -> "RecordAnswer":
        return cls(**_fields(record), token_id=record.token_id, request_id=record.request_id)


class GroupRecordPage(Answer):
    """Acts in a group, the newest first."""

    items: list[GroupRecordAnswer]
    next: str | None


class RecordPage(Answer):
    """Acts, the newest first."""

    items: list[RecordAnswer]
    next: str | None


def _fields(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": format_instant(record.at),
        "act": record.act,
        "actor_id": record.actor_id,
        "actor": record.actor,
        "group_id": record.group_id,
        "group": record.group,
        "target": record.target,
        "target_name": record.target_name,
        "before": record.before,
        "after": record.after,
    }


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


async def _list(call: Call) -> web.Response:
    query = call.query(LogQuery)
    await check_known(call.services.db, query.filters(query.group))
    shown, following = await _page(call, query, query.group)
    return reply(RecordPage(items=[RecordAnswer.whole(one) for one in shown], next=following))


async def _list_group(call: Call) -> web.Response:
    shown, following = await _page(call, call.query(GroupLogQuery), call.group.id)
    items = [GroupRecordAnswer.of(one) for one in shown]
    return reply(GroupRecordPage(items=items, next=following))


async def _page(
    call: Call, query: GroupLogQuery, group: str | None
) -> tuple[Sequence[Record], str | None]:
    key = query.key(int, int)
    before = None if key is None else (int(key[0]), int(key[1]))
    rows = await page_of_records(
        call.services.db, query.filters(group), before=before, limit=query.limit + 1
    )
    return query.cut(rows, lambda record: (record.at, record.id))


async def _export(call: Call) -> web.StreamResponse:
    """Nothing is sent before the first records are there, so what fails then is an error."""
    query = call.query(ExportQuery)
    wanted = query.filters(query.group)
    await check_known(call.services.db, wanted)
    media_type, form = _FORMS[query.format]
    headers = {
        "Content-Type": media_type,
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="audit-log.{query.format}"',
    }
    response = web.StreamResponse(headers=headers)
    async with aclosing(all_records(call.services.db, wanted)) as chunks:
        first: list[Record] = await anext(chunks, [])
        await response.prepare(call.request)
        if query.format == "csv":
            await response.write(_row(_COLUMNS))
        await _write(response, form(first))
        async for chunk in chunks:
            await _write(response, form(chunk))
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    for at in range(0, len(data), WRITE_SIZE):
        await response.write(data[at : at + WRITE_SIZE])


def _lines(records: Sequence[Record]) -> bytes:
    shown = [RecordAnswer.whole(record).model_dump_json() for record in records]
    return "".join(f"{line}\n" for line in shown).encode()


def _cells(records: Sequence[Record]) -> bytes:
    shown = [RecordAnswer.whole(record).model_dump() for record in records]
    return b"".join(_row([_cell(one[name]) for name in _COLUMNS]) for one in shown)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return safe_cell(value)
    return safe_cell(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _row(cells: Sequence[str]) -> bytes:
    """One line of a CSV file. Source: RFC 4180."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()


_COLUMNS: Final = tuple(RecordAnswer.model_fields)
_FORMS: Final[dict[str, tuple[str, Callable[[Sequence[Record]], bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", _cells),
    "jsonl": ("application/jsonl", _lines),
}

ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.ADMIN,
        summary="List who did what, the newest first",
        query=LogQuery,
        responses={200: RecordPage},
    ),
    Route(
        method="GET",
        path=EXPORT,
        handler=_export,
        access=Access.ADMIN,
        summary="Take away who did what, as lines of JSON (application/jsonl) or as CSV (text/csv)",
        query=ExportQuery,
        responses={200: "application/jsonl"},
    ),
    Route(
        method="GET",
        path=OF_GROUP,
        handler=_list_group,
        access=Access.MANAGER,
        site_admin=True,
        summary="List who did what in a group, the newest first",
        query=GroupLogQuery,
        responses={200: GroupRecordPage},
    ),
)
