"""The limits of many groups at once: all of them or none, and shown before it is done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from filestore.acts.groups import state_of
from filestore.acts.pool import Promises, hold_promises
from filestore.errors import BadRequest, Json
from filestore.meta.database import Database, Tx
from filestore.meta.groups import Group, Limits, change_group
from filestore.meta.log import audit, emit
from filestore.meta.pool import read_pool, sum_limits
from filestore.meta.quotas import find_by_refs, limits_by_name
from filestore.model import Actor
from filestore.quota.thresholds import review_level

MAX_ROWS: Final = 10_000
"""Rows of one request: a transaction of some seconds, which holds the rows of these groups."""
_NAMED: Final = 100
"""Wrong rows that a refusal names."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a group's name or id, and what is to be. ``line``: where it stands in a file."""

    group: str
    limits: Limits
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row did, or would do, to its group."""

    row: Row
    before: Group
    after: Group

    @property
    def is_below_use(self) -> bool:
        """Whether the group holds more than it then may: uploads stop, nothing else."""
        files = self.after.files_limit
        held = self.after.used + self.after.reserved
        return held > self.after.quota_limit or (files is not None and self.after.files > files)


async def set_quotas(
    db: Database, actor: Actor, rows: Sequence[Row], *, dry_run: bool
) -> list[Outcome]:
    """Sets all limits in one transaction; with ``dry_run`` only says what that would do.

    :raises BadRequest: a group is not there, or is named twice; names all such rows.
    :raises OverCommitted: the site may not promise so much.
    """

    async def rehearse(tx: Tx) -> list[Outcome]:
        promises = Promises(await read_pool(tx), await sum_limits(tx))
        return _planned(rows, await find_by_refs(tx, _refs(rows)), promises)

    async def act(tx: Tx) -> list[Outcome]:
        promises = await hold_promises(tx)
        found = await find_by_refs(tx, _refs(rows), lock=True)
        outcomes = _planned(rows, found, promises)
        for outcome in outcomes:
            if outcome.after != outcome.before:
                await _change(tx, actor, outcome)
        return outcomes

    return await (db.read(rehearse) if dry_run else db.transact(act))


async def page_of_limits(db: Database, *, after: str | None, limit: int) -> list[tuple[str, Group]]:
    """All groups by name, with their keys: what :func:`set_quotas` takes."""
    return await db.read(lambda tx: limits_by_name(tx, after=after, limit=limit))


def _refs(rows: Sequence[Row]) -> list[str]:
    return [row.group for row in rows]


def _planned(rows: Sequence[Row], found: dict[str, Group], promises: Promises) -> list[Outcome]:
    wrong: list[Json] = []
    outcomes: dict[str, Outcome] = {}
    for index, row in enumerate(rows):
        group = found.get(row.group)
        if group is None:
            wrong.append(_wrong(index, row, f"there is no group {row.group[:100]!r}"))
        elif group.id in outcomes:
            first = outcomes[group.id].row
            where = "before" if first.line is None else f"in line {first.line}"
            wrong.append(_wrong(index, row, f"group {group.name!r} stands {where} already"))
        else:
            outcomes[group.id] = Outcome(row, group, replace(group, **row.limits))
    if wrong:
        raise _refusal(wrong)
    grown = sum(one.after.quota_limit - one.before.quota_limit for one in outcomes.values())
    promises.check_growth(grown)
    return list(outcomes.values())


def _wrong(index: int, row: Row, reason: str) -> Json:
    where = f"rows.{index}.group" if row.line is None else f"line {row.line}, group"
    return {"field": where, "line": row.line, "reason": reason}


def _refusal(wrong: list[Json]) -> BadRequest:
    first = wrong[0]
    assert isinstance(first, dict)
    return BadRequest(
        field=first["field"],
        reason=first["reason"],
        errors=wrong[:_NAMED],
        wrong_rows=len(wrong),
    )


async def _change(tx: Tx, actor: Actor, outcome: Outcome) -> None:
    before, group_id = outcome.before, outcome.before.id
    after = state_of(await change_group(tx, group_id, limits=outcome.row.limits))
    await review_level(tx, actor, group_id)
    await audit(
        tx,
        actor,
        "group.change",
        group_id=group_id,
        target=group_id,
        before=state_of(before),
        after=after,
    )
    await emit(tx, "group.changed", after, group_id=group_id)
