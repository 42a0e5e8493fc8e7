"""What is behind a line of a group's sheet, a page at a time; all pages sum to the line.

What is live, and what is in the trash, is walked as people see it: folder by folder, by name,
through the index that keeps names unique. A page goes on behind the last item's path, so it costs
what it shows and the folders that it enters, however large the group is. It enters a bounded
number of them, so a page may be shorter than asked for: the list ends where ``next`` is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.affected import Place, find_places
from filestore.meta.database import Tx
from filestore.meta.sheet import Line
from filestore.meta.sheet_walk import Walk
from filestore.meta.tables import entries, uploads, users, versions
from filestore.model import MAX_INT

Key = tuple[str | int, ...]

KEYS: Final[dict[Line, tuple[type[str | int], ...]]] = {
    Line.LIVE: (str, int),
    Line.VERSIONS: (str, int),
    Line.TRASH: (int, str, str, int),
    Line.RESERVED: (str,),
    Line.TEMPORARY: (int, str),
    Line.TEMPORARY_RESERVED: (str,),
}
"""What a page of each line goes on behind."""


@dataclass(frozen=True, slots=True)
class Running:
    """An upload that holds a reservation: how far it is, and until when it may go on."""

    id: str
    offset: int
    length: int | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Item:
    """One version of a file, or a running upload (``version`` is None), with its bytes.

    ``expires_at``: when a temporary version goes.
    """

    path: str
    version: int | None
    bytes: int
    author: str | None
    at: int
    expires_at: int | None = None
    upload: Running | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """One page; ``next`` None: the last."""

    items: list[Item]
    next: Key | None


async def list_items(tx: Tx, group_id: str, line: Line, *, after: Key | None, limit: int) -> Items:
    """A page of what is behind ``line``; ``after``: what the page before gave as ``next``."""
    if line in (Line.LIVE, Line.TRASH):
        return await _walked(tx, group_id, line, after, limit)
    if line is Line.VERSIONS:
        return await _older(tx, group_id, after, limit)
    if line is Line.TEMPORARY:
        return await _temporary(tx, group_id, after, limit)
    return await _running(tx, group_id, line, after, limit)


async def _walked(tx: Tx, group_id: str, line: Line, after: Key | None, limit: int) -> Items:
    walk = Walk(tx, group_id, limit, only_current=line is Line.LIVE)
    await (walk.live(after) if line is Line.LIVE else walk.trash(after))
    return Items([_item(row, path) for row, path in walk.found], walk.stopped)


async def _older(tx: Tx, group_id: str, after: Key | None, limit: int) -> Items:
    """Versions that are not the newest, of files that are not in the trash, by the files' ids.

    From the index of files that ever had a second version: so many files at a time.
    """
    entry_id, number = after or ("", 0)
    behind = (
        sa.select(entries.c.id)
        .where(entries.c.group_id == group_id, entries.c.last_number > sa.literal_column("1"))
        .where(entries.c.id > entry_id)
    )
    files = [str(row) for row in await tx.scalars(behind.order_by(entries.c.id).limit(limit))]
    is_next = (versions.c.entry_id > entry_id) | (versions.c.number > number)
    query = (
        sa.select(*_COLUMNS, versions.c.entry_id)
        .select_from(_FROM)
        .where(versions.c.entry_id.in_([str(entry_id), *files]), is_next)
        .where(versions.c.number != entries.c.current_number, versions.c.pool_id.is_(None))
        .order_by(versions.c.entry_id, versions.c.number)
        .limit(limit + 1)
    )
    rows: Sequence[Any] = (await tx.execute(query)).all()
    following: Key | None = (files[-1], MAX_INT) if len(files) == limit else None
    if len(rows) > limit:
        rows = rows[:limit]
        following = (rows[-1].entry_id, rows[-1].number)
    places = await _places(tx, rows)
    found = [(row, places.get(row.entry_id)) for row in rows]
    shown = [_item(row, at.path) for row, at in found if at is not None and not at.is_trashed]
    return Items(shown, following)


async def _temporary(tx: Tx, group_id: str, after: Key | None, limit: int) -> Items:
    """Versions on the account of the pool, those first that go first; the trash too.

    Costs a walk over what is temporary in any group: the pool is small.
    """
    at, version_id = after or (0, "")
    is_next = (versions.c.expires_at > at) | (versions.c.id > version_id)
    query = (
        sa.select(*_COLUMNS, versions.c.entry_id, versions.c.id)
        .select_from(_FROM)
        .where(versions.c.expires_at.is_not(None), versions.c.expires_at >= at, is_next)
        .where(_UNINDEXED_GROUP == group_id)
        .order_by(versions.c.expires_at, versions.c.id)
        .limit(limit + 1)
    )
    rows: Sequence[Any] = (await tx.execute(query)).all()
    places = await _places(tx, rows)
    shown = [_item(row, places[row.entry_id].path) for row in rows[:limit]]
    more = len(rows) > limit
    return Items(shown, (rows[limit - 1].expires_at, rows[limit - 1].id) if more else None)


async def _running(tx: Tx, group_id: str, line: Line, after: Key | None, limit: int) -> Items:
    is_temporary = uploads.c.pool_id.is_not(None)
    query = (
        sa.select(uploads, users.c.name.label("author"))
        .join(users, users.c.id == uploads.c.user_id)
        .where(uploads.c.group_id == group_id, uploads.c.state == sa.literal_column("'open'"))
        .where(is_temporary if line is Line.TEMPORARY_RESERVED else ~is_temporary)
        .where(uploads.c.reserved > 0, uploads.c.id > (after or ("",))[0])
        .order_by(uploads.c.id)
        .limit(limit + 1)
    )
    rows: Sequence[Any] = (await tx.execute(query)).all()
    shown = [_upload(row) for row in rows[:limit]]
    return Items(shown, (rows[limit - 1].id,) if len(rows) > limit else None)


_UNINDEXED_GROUP: Final = sa.func.coalesce(entries.c.group_id, "")
"""A planner that knows nothing of how few versions are temporary would begin at the group."""

_FROM: Final = versions.join(entries, entries.c.id == versions.c.entry_id).outerjoin(
    users, users.c.id == versions.c.author_id
)
_COLUMNS: Final = (
    versions.c.number,
    versions.c.size,
    versions.c.created_at,
    versions.c.expires_at,
    users.c.name.label("author"),
)


async def _places(tx: Tx, rows: Sequence[Any]) -> dict[str, Place]:
    return await find_places(tx, sorted({row.entry_id for row in rows}))


def _item(row: Any, path: str) -> Item:
    return Item(path, row.number, row.size, row.author, row.created_at, row.expires_at)


def _upload(row: Any) -> Item:
    path = f"{row.folder.rstrip('/')}/{row.name}"
    running = Running(row.id, row.byte_offset, row.length, row.expires_at)
    return Item(path, None, row.reserved, row.author, row.created_at, upload=running)
