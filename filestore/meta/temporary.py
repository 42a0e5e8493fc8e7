"""Queries on temporary versions: those whose time has run out, and those that found room."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.plans import unindexed
from filestore.meta.tables import entries, groups, now_us, users, versions


@dataclass(frozen=True, slots=True)
class TemporaryVersion:
    """A version that a pool is charged for; times in microseconds, ``size`` in bytes."""

    id: str
    group_id: str
    entry_id: str
    pool_id: str
    number: int
    size: int
    mime: str
    author_id: str | None
    author: str | None
    created_at: int
    expires_at: int


_COLUMNS = (*versions.c, entries.c.group_id, users.c.name.label("author"))
_FROM = versions.join(entries, entries.c.id == versions.c.entry_id).outerjoin(
    users, users.c.id == versions.c.author_id
)
_WITH_GROUPS = _FROM.join(groups, groups.c.id == entries.c.group_id)
_TEMPORARY = versions.c.expires_at.is_not(None)


def is_temporary_due() -> sa.ColumnElement[bool]:
    """That the time of a row of ``versions`` has run out."""
    return sa.and_(_TEMPORARY, versions.c.expires_at <= now_us())


async def due(tx: Tx, *, after: str, limit: int) -> list[TemporaryVersion]:
    """Versions whose time has run out, behind ``after`` by id. A hint: it takes no lock."""
    query = sa.select(*_COLUMNS).select_from(_FROM).where(is_temporary_due())
    return await _page(tx, query, after=after, limit=limit)


async def fitting(tx: Tx, *, after: str, limit: int) -> list[TemporaryVersion]:
    """Versions that have room in their groups now, below the soft limit; a hint as well: one may
    take the room of the next."""
    query = sa.select(*_COLUMNS).select_from(_WITH_GROUPS).where(_has_room())
    return await _page(tx, query, after=after, limit=limit)


async def is_fitting(tx: Tx, version_id: str) -> bool:
    """Whether :func:`fitting` holds of one version, whose group's row is locked."""
    found = sa.select(versions.c.id).select_from(_WITH_GROUPS)
    found = found.where(versions.c.id == version_id, _TEMPORARY, _has_room())
    return await tx.scalar(found) is not None


def _has_room() -> sa.ColumnElement[bool]:
    held = groups.c.used + groups.c.reserved
    mark = sa.func.coalesce(groups.c.soft_limit, groups.c.quota_limit)
    return sa.and_(versions.c.size <= mark - held, versions.c.size <= groups.c.quota_limit - held)


async def of_group(
    tx: Tx, group_id: str, *, after: str | None, limit: int
) -> list[TemporaryVersion]:
    """A group's temporary versions by id."""
    query = sa.select(*_COLUMNS).select_from(_FROM)
    query = query.where(unindexed(entries.c.group_id) == group_id)
    return await _page(tx, query, after=after or "", limit=limit)


async def find(tx: Tx, version_id: str) -> TemporaryVersion | None:
    """The version if it is still temporary; its row is locked through its file's."""
    query = sa.select(*_COLUMNS).select_from(_FROM).where(_TEMPORARY, versions.c.id == version_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _temporary(row)


async def is_due(tx: Tx, version_id: str) -> bool:
    found = sa.select(versions.c.id).where(versions.c.id == version_id, is_temporary_due())
    return await tx.scalar(found) is not None


async def make_permanent(tx: Tx, version_id: str) -> None:
    await tx.execute(
        sa.update(versions).where(versions.c.id == version_id).values(pool_id=None, expires_at=None)
    )


async def newest_number(tx: Tx, entry_id: str) -> int | None:
    """The number of the newest version that a file has left."""
    query = sa.select(sa.func.max(versions.c.number)).where(versions.c.entry_id == entry_id)
    number: int | None = await tx.scalar(query)
    return number


async def renew(tx: Tx, entry_id: str, number: int) -> None:
    """The version of that number is the current one again, so nothing has superseded it."""
    of_number = (versions.c.entry_id == entry_id, versions.c.number == number)
    await tx.execute(sa.update(versions).where(*of_number).values(superseded_at=None))


async def _page(tx: Tx, query: sa.Select[Any], *, after: str, limit: int) -> list[TemporaryVersion]:
    """Of what is temporary now: by its index, and not through all versions that there are."""
    by_id = unindexed(versions.c.id)
    page = query.where(_TEMPORARY, by_id > after).order_by(by_id).limit(limit)
    return [_temporary(row) for row in await tx.execute(page)]


def _temporary(row: Any) -> TemporaryVersion:
    return TemporaryVersion(
        id=row.id,
        group_id=row.group_id,
        entry_id=row.entry_id,
        pool_id=row.pool_id,
        number=row.number,
        size=row.size,
        mime=row.mime,
        author_id=row.author_id,
        author=row.author,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
