"""``/api/v1/admin/quotas``: the limits of all groups, to take away and to bring back changed."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from filestore.acts.quotas import MAX_ROWS, Outcome, Row, page_of_limits, set_quotas
from filestore.http.call import Answer, Body, Call, reply
from filestore.http.groups import Bytes, Count
from filestore.http.lists import Paging
from filestore.http.routing import Access, Route
from filestore.meta.groups import Group, Limits
from filestore.model import MIB

PATH = "/api/v1/admin/quotas"

_MAX_BYTES: Final = 4 * MIB
"""10,000 rows with names of 200 letters."""


class LimitsAnswer(Answer):
    """What a group may hold; null: no such limit."""

    quota_bytes: int
    soft_limit: int | None
    files_limit: int | None

    @classmethod
    def of(cls, group: Group) -> "LimitsAnswer":
        return cls(
            quota_bytes=group.quota_limit,
            soft_limit=group.soft_limit,
            files_limit=group.files_limit,
        )


class QuotaItem(LimitsAnswer):
    """The limits of one group."""

    group: str
    id: str


class QuotaPage(Answer):
    """The limits of groups, by name."""

    items: list[QuotaItem]
    next: str | None


class QuotaRow(Body):
    """Limits to set. ``group`` is a name or id; what is left out stays, null takes it away.
    ``line`` is where the row stands in a file, for errors."""

    group: Annotated[str, Field(min_length=1, max_length=400)]
    quota_bytes: Bytes
    soft_limit: Bytes | None = None
    files_limit: Count | None = None
    line: Annotated[int | None, Field(ge=1)] = None

    @property
    def row(self) -> Row:
        limits: Limits = {"quota_limit": self.quota_bytes}
        if "soft_limit" in self.model_fields_set:
            limits["soft_limit"] = self.soft_limit
        if "files_limit" in self.model_fields_set:
            limits["files_limit"] = self.files_limit
        return Row(self.group, limits, self.line)


class NewQuotas(Body):
    """All of these, or none. ``dry_run``: only say what it would do."""

    rows: Annotated[list[QuotaRow], Field(min_length=1, max_length=MAX_ROWS)]
    dry_run: bool = False


class OutcomeAnswer(Answer):
    """What a row did, or would do. ``below_use``: the group holds more than it then may, so it
    takes no more until it holds less; nothing is deleted."""

    line: int | None
    group: str
    id: str
    before: LimitsAnswer
    after: LimitsAnswer
    used_bytes: int
    reserved_bytes: int
    files: int
    changed: bool
    below_use: bool

    @classmethod
    def of(cls, outcome: Outcome) -> "OutcomeAnswer":
        group = outcome.before
        return cls(
            line=outcome.row.line,
            group=group.name,
            id=group.id,
            before=LimitsAnswer.of(group),
            after=LimitsAnswer.of(outcome.after),
            used_bytes=group.used,
            reserved_bytes=group.reserved,
            files=group.files,
            changed=outcome.after != group,
            below_use=outcome.is_below_use,
        )


class OutcomesAnswer(Answer):
    """One report for each row, in their order."""

    dry_run: bool
    changed: int
    rows: list[OutcomeAnswer]


async def _list(call: Call) -> web.Response:
    paging = call.query(Paging)
    rows = await page_of_limits(call.services.db, after=paging.text_key(), limit=paging.wanted)
    shown, following = paging.cut(rows, lambda row: (row[0],))
    items = [
        QuotaItem(group=group.name, id=group.id, **LimitsAnswer.of(group).model_dump())
        for _, group in shown
    ]
    return reply(QuotaPage(items=items, next=following))


async def _set(call: Call) -> web.Response:
    wish = await call.json(NewQuotas, limit=_MAX_BYTES)
    outcomes = await set_quotas(
        call.services.db, call.actor, [row.row for row in wish.rows], dry_run=wish.dry_run
    )
    rows = [OutcomeAnswer.of(outcome) for outcome in outcomes]
    changed = sum(row.changed for row in rows)
    return reply(OutcomesAnswer(dry_run=wish.dry_run, changed=changed, rows=rows))


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_list,
        access=Access.ADMIN,
        summary="List the limits of all groups",
        query=Paging,
        responses={200: QuotaPage},
    ),
    Route(
        method="PUT",
        path=PATH,
        handler=_set,
        access=Access.ADMIN,
        summary="Set the limits of many groups, all or none, or only say what it would do",
        request=NewQuotas,
        responses={200: OutcomesAnswer},
        refuses=(409,),
    ),
)
