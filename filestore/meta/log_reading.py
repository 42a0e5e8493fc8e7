"""Reading the audit log: newest first, by who, what, where and when, with the names of now."""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.errors import Json
from filestore.ids import is_id
from filestore.meta.database import Tx
from filestore.meta.tables import audit_log, groups, users
from filestore.model import AccountKind
from filestore.names import fold


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. ``actor`` and ``group`` are names or ids; times are [from, to)."""

    actor: str | None = None
    act: str | None = None
    group: str | None = None
    from_us: int | None = None
    to_us: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One act. Names are those of now, None where the user or group is unknown or none."""

    id: int
    at: int
    actor_id: str | None
    actor: str | None
    token_id: str | None
    request_id: str | None
    act: str
    group_id: str | None
    group: str | None
    target: str | None
    target_name: str | None
    before: Json
    after: Json


async def list_records(
    tx: Tx, wanted: Wanted, *, before: tuple[int, int] | None, limit: int
) -> list[Record]:
    """Records older than the key ``before`` (time and id), newest first.

    Each filter has an index in this order, so a page costs what it shows, or, with several
    filters, what the one that finds least passes over.
    """
    target, target_group = users.alias("target"), groups.alias("target_group")
    query = (
        sa.select(
            audit_log,
            users.c.name.label("actor_name"),
            groups.c.name.label("group_name"),
            sa.func.coalesce(target.c.name, target_group.c.name).label("target_name"),
        )
        .outerjoin(users, users.c.id == audit_log.c.actor_id)
        .outerjoin(groups, groups.c.id == audit_log.c.group_id)
        .outerjoin(target, target.c.id == audit_log.c.target)
        .outerjoin(target_group, target_group.c.id == audit_log.c.target)
        .order_by(audit_log.c.at.desc(), audit_log.c.id.desc())
        .limit(limit)
    )
    for clause in await _clauses(tx, wanted):
        query = query.where(clause)
    if before is not None:
        at, number = before
        is_older = (audit_log.c.at < at) | (audit_log.c.id < number)
        query = query.where(audit_log.c.at <= at, is_older)
    return [_record(row) for row in await tx.execute(query)]


async def is_known(tx: Tx, wanted: Wanted) -> tuple[bool, bool]:
    """Whether the actor and the group are or were there; what is not asked for is.

    An id of which nothing but records is left is known, too.
    """
    return (
        wanted.actor is None
        or await _is_any(tx, users.c.id, audit_log.c.actor_id, await _users(tx, wanted.actor)),
        wanted.group is None
        or await _is_any(tx, groups.c.id, audit_log.c.group_id, await _groups(tx, wanted.group)),
    )


async def _is_any(
    tx: Tx, owner: sa.Column[str], recorded: sa.Column[str | None], ids: list[str]
) -> bool:
    there = sa.exists().where(owner.in_(ids)) | sa.exists().where(recorded.in_(ids))
    return bool(await tx.scalar(sa.select(there)))


async def _clauses(tx: Tx, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.actor is not None:
        found.append(audit_log.c.actor_id.in_(await _users(tx, wanted.actor)))
    if wanted.group is not None:
        found.append(audit_log.c.group_id.in_(await _groups(tx, wanted.group)))
    if wanted.act is not None:
        found.append(audit_log.c.act == wanted.act)
    if wanted.from_us is not None:
        found.append(audit_log.c.at >= wanted.from_us)
    if wanted.to_us is not None:
        found.append(audit_log.c.at < wanted.to_us)
    return found


async def _users(tx: Tx, ref: str) -> list[str]:
    """The ids that are meant; an unknown name finds nothing."""
    if is_id("usr", ref):
        return [ref]
    key = fold(ref)
    return list(await tx.scalars(sa.select(users.c.id).where(users.c.name_key == key)))


async def _groups(tx: Tx, ref: str) -> list[str]:
    """The ids that are meant: a name also finds deleted groups that had it."""
    if is_id("grp", ref):
        return [ref]
    named = sa.select(groups.c.id).where(groups.c.name_key == fold(ref))
    return list(await tx.scalars(named.where(groups.c.kind == AccountKind.GROUP)))


def _record(row: Any) -> Record:
    return Record(
        id=row.id,
        at=row.at,
        actor_id=row.actor_id,
        actor=row.actor_name,
        token_id=row.token_id,
        request_id=row.request_id,
        act=row.act,
        group_id=row.group_id,
        group=row.group_name,
        target=row.target,
        target_name=row.target_name,
        before=_value(row.before),
        after=_value(row.after),
    )


def _value(text: str | None) -> Json:
    found: Json = None if text is None else json.loads(text)
    return found
