"""A walk through a group's tree or trash in the order of names that goes on where it stopped.

Where it stopped is a path of names, not an id: a folder that was moved or deleted meanwhile is
passed over, and the walk goes on behind it. No row is read that lies before.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import entries, users, versions
from filestore.model import MAX_INT, EntryKind

MOST_QUERIES: Final = 200
"""Folders that one page enters: at 1 ms each it takes no longer than a fifth of a second."""
_UNSEEN: Final = -1
"""In place of a version's number: the folder at this path was not entered yet."""

_Row = Any
"""A row of :data:`_ENTRY`, with a version or without."""


class Walk:
    """One page of it. ``found`` are versions with their paths, in order; ``stopped`` is where
    the next page goes on, None at the end.

    With ``only_current`` a file shows its newest version, else all of them; what is temporary is
    never shown.
    """

    def __init__(self, tx: Tx, group_id: str, limit: int, *, only_current: bool) -> None:
        self._tx = tx
        self._group_id = group_id
        self._limit = limit
        self._only_current = only_current
        self._queries = 0
        self._top: tuple[int, str] | None = None
        self._last: tuple[str | int, ...] | None = None
        self.found: list[tuple[_Row, str]] = []
        self.stopped: tuple[str | int, ...] | None = None

    def __repr__(self) -> str:
        return f"<Walk of {self._group_id}: {len(self.found)} found, {self._queries} queries>"

    async def live(self, after: tuple[str | int, ...] | None) -> None:
        """What is visible, from the root."""
        keys, number = after or ("", 0)
        root = sa.select(entries.c.id).where(
            entries.c.group_id == self._group_id, entries.c.kind == sa.literal_column("'root'")
        )
        if (root_id := await self._tx.scalar(root)) is not None:
            await self._below(root_id, "", [], _split(keys), int(number))

    async def trash(self, after: tuple[str | int, ...] | None) -> None:
        """What was put into the trash, longest there first, and all that went with it."""
        at, entry_id, keys, number = after or (0, "", "", 0)
        if keys or number == _UNSEEN:
            top = await self._trashed(int(at), str(entry_id))
            if top is not None:
                self._top = (top.deleted_at, top.id)
                if not await self._below(top.id, top.deleted_path, [], _split(keys), int(number)):
                    return
            number = MAX_INT
        await self._tops(int(at), str(entry_id), int(number))

    async def _tops(self, at: int, entry_id: str, number: int) -> None:
        while True:
            is_next = (entries.c.deleted_at > at) | (entries.c.id > entry_id)
            is_next |= (entries.c.id == entry_id) & (versions.c.number > number)
            order = (entries.c.deleted_at, entries.c.id)
            tops = sa.and_(
                entries.c.group_id == self._group_id,
                entries.c.deleted_at.is_not(None),
                entries.c.deleted_at >= at,
                is_next,
            )
            rows = await self._rows(tops, order)
            for row in rows:
                self._top = (row.deleted_at, row.id)
                at, entry_id, number = *self._top, _or_all(row.number)
                if not await self._visit(row, row.deleted_path, []):
                    return
            if len(rows) <= self._limit:
                return
            if self._is_tired:
                return self._stop([], number)

    async def _below(
        self, folder_id: str, path: str, keys: list[str], after: Sequence[str], number: int
    ) -> bool:
        """Walks through one folder behind ``after``; False when the page ended in it."""
        key = after[0] if after else ""
        if len(after) > 1 or (after and number == _UNSEEN):
            if (folder := await self._folder(folder_id, key)) is not None:
                inside = (f"{path}/{folder.name}", [*keys, key], after[1:], number)
                if not await self._below(folder.id, *inside):
                    return False
            number = MAX_INT
        while True:
            is_next = (entries.c.name_key > key) | (versions.c.number > number)
            children = sa.and_(
                entries.c.parent_id == folder_id,
                entries.c.deleted_at.is_(None),
                entries.c.name_key >= key,
                is_next,
            )
            rows = await self._rows(children, (entries.c.name_key,))
            for row in rows:
                if not await self._visit(row, f"{path}/{row.name}", [*keys, row.name_key]):
                    return False
                key, number = row.name_key, self._or_current(row.number)
            if len(rows) <= self._limit:
                return True
            if self._is_tired:
                self._stop([*keys, key], number)
                return False

    async def _visit(self, row: _Row, path: str, keys: list[str]) -> bool:
        """Takes a version, or walks through a folder; False when the page ended there."""
        if row.kind == EntryKind.FOLDER:
            if self._is_tired or len(self.found) == self._limit:
                self._stop(keys, _UNSEEN)
                return False
            return await self._below(row.id, path, keys, (), 0)
        if row.number is None:
            return True
        if len(self.found) == self._limit:
            self.stopped = self._last
            return False
        self.found.append((row, path))
        self._last = self._key(keys, self._or_current(row.number))
        return True

    def _stop(self, keys: list[str], number: int) -> None:
        self.stopped = self._key(keys, number)

    def _key(self, keys: list[str], number: int) -> tuple[str | int, ...]:
        return (*(self._top or ()), "/".join(keys), number)

    def _or_current(self, number: int | None) -> int:
        """A file that shows only its newest version is done with it, also when it gets another."""
        return MAX_INT if self._only_current else _or_all(number)

    @property
    def _is_tired(self) -> bool:
        return self._queries >= MOST_QUERIES

    async def _rows(
        self, which: sa.ColumnElement[bool], order: tuple[sa.ColumnElement[Any], ...]
    ) -> Sequence[_Row]:
        """Entries with the versions that count, an entry that has none once; one more than a
        page shows."""
        self._queries += 1
        counts = (versions.c.entry_id == entries.c.id) & versions.c.pool_id.is_(None)
        if self._only_current:
            counts &= versions.c.number == entries.c.current_number
        query = (
            sa.select(
                *_ENTRY, versions.c.number, versions.c.size, versions.c.created_at,
                versions.c.expires_at, users.c.name.label("author"),
            )
            .select_from(
                entries.outerjoin(versions, counts).outerjoin(
                    users, users.c.id == versions.c.author_id
                )
            )
            .where(which)
            .order_by(*order, versions.c.number)
            .limit(self._limit + 1)
        )  # fmt: skip
        rows: Sequence[_Row] = (await self._tx.execute(query)).all()
        return rows

    async def _folder(self, parent_id: str, key: str) -> _Row | None:
        query = sa.select(*_ENTRY).where(
            entries.c.parent_id == parent_id,
            entries.c.name_key == key,
            entries.c.deleted_at.is_(None),
            entries.c.kind == EntryKind.FOLDER,
        )
        row: _Row | None = (await self._tx.execute(query)).one_or_none()
        return row

    async def _trashed(self, at: int, entry_id: str) -> _Row | None:
        query = sa.select(*_ENTRY).where(
            entries.c.id == entry_id,
            entries.c.group_id == self._group_id,
            entries.c.deleted_at == at,
        )
        row: _Row | None = (await self._tx.execute(query)).one_or_none()
        return row


_ENTRY: Final = (
    entries.c.id,
    entries.c.kind,
    entries.c.name,
    entries.c.name_key,
    entries.c.deleted_at,
    entries.c.deleted_path,
)


def _split(keys: str | int) -> list[str]:
    return str(keys).split("/") if keys else []


def _or_all(number: int | None) -> int:
    return MAX_INT if number is None else number
