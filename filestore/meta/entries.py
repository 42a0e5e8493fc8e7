"""Queries on a group's tree: entries, and the versions of files.

Locks go from folder to child: the root of the group first (:func:`root`), then the entry.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filestore.errors import NotFound
from filestore.ids import new_id
from filestore.meta.database import Tx
from filestore.meta.tables import contents, entries, groups, now_us, users, versions
from filestore.meta.versions import batched
from filestore.model import EntryKind
from filestore.names import Name


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. ``current_number`` is None for folders."""

    id: str
    group_id: str
    parent_id: str | None
    kind: EntryKind
    name: str
    last_number: int
    current_number: int | None
    created_at: int
    changed_at: int
    deleted_at: int | None
    deleted_path: str | None
    deleted_by: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a file; ``etag`` is its content's public id, unquoted.

    ``expires_at``: when it goes, because it is temporary.
    """

    id: str
    entry_id: str
    number: int
    content_id: int
    etag: str
    size: int
    mime: str
    author: str | None
    created_at: int
    blake3: bytes | None
    expires_at: int | None
    downloaded_at: int | None


def _entry(row: Any) -> Entry:
    return Entry(
        row.id,
        row.group_id,
        row.parent_id,
        EntryKind(row.kind),
        row.name,
        row.last_number,
        row.current_number,
        row.created_at,
        row.changed_at,
        row.deleted_at,
        row.deleted_path,
        row.deleted_by,
    )


_VERSION_FROM = versions.join(contents, contents.c.id == versions.c.content_id).outerjoin(
    users, users.c.id == versions.c.author_id
)
_VERSION_COLUMNS = (
    *versions.c,
    contents.c.public_id,
    contents.c.blake3,
    users.c.name.label("author"),
)


def _version(row: Any) -> Version:
    return Version(
        row.id,
        row.entry_id,
        row.number,
        row.content_id,
        row.public_id,
        row.size,
        row.mime,
        row.author,
        row.created_at,
        row.blake3,
        row.expires_at,
        row.downloaded_at,
    )


async def create_root(tx: Tx, group_id: str) -> None:
    """The root of a new group's tree."""
    await tx.execute(
        sa.insert(entries).values(
            id=new_id("ent"),
            group_id=group_id,
            kind=EntryKind.ROOT,
            name="",
            name_key="",
            name_fold="",
        )
    )


_ROOT: Final = sa.select(entries).where(
    entries.c.group_id == sa.bindparam("of_group"), entries.c.kind == EntryKind.ROOT
)
_ROOT_TO_SHARE: Final = _ROOT.with_for_update(read=True)
_ROOT_TO_WRITE: Final = _ROOT.with_for_update()


async def root(tx: Tx, group_id: str, *, write: bool = False, share: bool = False) -> Entry:
    """The root entry.

    Who changes what lies where (move, trash, restore, purge) holds it with ``write``; who
    adds to the tree (a finished upload, a copy, a folder) holds it with ``share``. So nothing
    is added below a folder that is on its way to the trash.
    """
    statement = _ROOT_TO_WRITE if write else _ROOT_TO_SHARE if share else _ROOT
    found = _entry((await tx.execute(statement, {"of_group": group_id})).one())
    if write or share:
        await _check_group(tx, group_id)
    return found


async def _check_group(tx: Tx, group_id: str) -> None:
    """Looks behind the root's lock, which who deletes a group holds too.

    :raises NotFound: the group was deleted meanwhile.
    """
    query = sa.select(groups.c.id).where(groups.c.id == group_id, groups.c.deleted_at.is_(None))
    if await tx.scalar(query) is None:
        raise NotFound(what="group")


async def child(
    tx: Tx, parent_id: str, name: Name, *, share: bool = False, write: bool = False
) -> Entry | None:
    """The living child of that name, compared in its normal form; locked when asked for."""
    statement = sa.select(entries).where(
        entries.c.parent_id == parent_id,
        entries.c.name_key == name.key,
        entries.c.deleted_at.is_(None),
    )
    if share or write:
        statement = statement.with_for_update(read=not write)
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else _entry(row)


_CHILDREN_NAMED: Final = sa.select(entries).where(
    sa.tuple_(entries.c.parent_id, entries.c.name_key).in_(sa.bindparam("names", expanding=True)),
    entries.c.deleted_at.is_(None),
)


async def children_named(
    tx: Tx, names: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Entry]:
    """The living entries with these (parent, key of the name), by both. Takes no lock."""
    if not names:
        return {}
    rows = await tx.execute(_CHILDREN_NAMED, {"names": sorted(names)})
    return {(row.parent_id, row.name_key): _entry(row) for row in rows}


async def add_child(tx: Tx, group_id: str, parent_id: str, name: Name, kind: EntryKind) -> bool:
    """Whether a new living child was made; False when there is one of that name already."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    result = await tx.execute(
        insert(entries)
        .values(
            id=new_id("ent"),
            group_id=group_id,
            parent_id=parent_id,
            kind=kind,
            name=name.given,
            name_key=name.key,
            name_fold=name.fold,
        )
        .on_conflict_do_nothing(
            index_elements=["parent_id", "name_key"],
            index_where=entries.c.deleted_at.is_(None),
        )
        .returning(entries.c.id)
    )
    return result.one_or_none() is not None


async def get(tx: Tx, entry_id: str, *, write: bool = False) -> Entry | None:
    statement = sa.select(entries).where(entries.c.id == entry_id)
    if write:
        statement = statement.with_for_update()
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else _entry(row)


async def update(tx: Tx, entry_id: str, values: dict[str, Any]) -> None:
    """Writes to an entry that this transaction has locked."""
    await tx.execute(
        sa.update(entries).where(entries.c.id == entry_id).values(changed_at=now_us(), **values)
    )


async def remove(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Removes rows of entries, none of which lies in another; the ids of the files among them."""
    files: list[str] = []
    for some in batched(ids):
        rows = await tx.execute(
            sa.delete(entries).where(entries.c.id.in_(some)).returning(entries.c.id, entries.c.kind)
        )
        files += [row.id for row in rows if row.kind == EntryKind.FILE]
    return files


async def adopt_trashed(tx: Tx, ids: Sequence[str], root_id: str) -> None:
    """Hangs what was put in the trash by itself below the folders ``ids`` onto the root.

    So it stays in the trash when the folders are removed; its old path says where it lay.
    """
    for some in batched(ids):
        await tx.execute(
            sa.update(entries)
            .where(entries.c.parent_id.in_(some), entries.c.deleted_at.is_not(None))
            .values(parent_id=root_id)
        )


async def subtree(tx: Tx, entry_id: str) -> list[list[str]]:
    """The ids of an entry and what lives below it: one list a level, deepest first.

    Who removes them goes level by level: SQLite refuses to remove a folder before what lies
    in it, also inside one statement.
    """
    top = (
        sa.select(entries.c.id, sa.literal(0).label("depth"))
        .where(entries.c.id == entry_id)
        .cte("top", recursive=True)
    )
    living = sa.and_(entries.c.parent_id == top.c.id, entries.c.deleted_at.is_(None))
    below = top.union_all(sa.select(entries.c.id, top.c.depth + 1).join(top, living))
    rows = await tx.execute(sa.select(below.c.id, below.c.depth).order_by(below.c.id))
    levels: dict[int, list[str]] = {}
    for row in rows:
        levels.setdefault(row.depth, []).append(row.id)
    return [levels[depth] for depth in sorted(levels, reverse=True)]


async def children(
    tx: Tx, parent_id: str, *, after: str | None, limit: int
) -> list[tuple[Entry, Version | None]]:
    """Living children in the order of their names, files with their current version."""
    statement = sa.select(entries).where(
        entries.c.parent_id == parent_id, entries.c.deleted_at.is_(None)
    )
    if after is not None:
        statement = statement.where(entries.c.name_key > after)
    found = [
        _entry(row) for row in await tx.execute(statement.order_by(entries.c.name_key).limit(limit))
    ]
    current = await _current(tx, [entry.id for entry in found])
    return [(entry, current.get(entry.id)) for entry in found]


async def trash(tx: Tx, group_id: str, *, after: str | None, limit: int) -> list[Entry]:
    """What was put into the trash, by id; what lies below a trashed folder is not listed."""
    statement = sa.select(entries).where(
        entries.c.group_id == group_id, entries.c.deleted_at.is_not(None)
    )
    if after is not None:
        statement = statement.where(entries.c.id > after)
    rows = await tx.execute(statement.order_by(entries.c.id).limit(limit))
    return [_entry(row) for row in rows]


async def subtree_sizes(tx: Tx, ids: Sequence[str]) -> dict[str, int]:
    """Bytes of all versions of each entry and of all below it, by the entry's id."""
    top = sa.select(entries.c.id.label("top"), entries.c.id).where(entries.c.id.in_(ids))
    tree = top.cte("tree", recursive=True)
    below = tree.union_all(
        sa.select(tree.c.top, entries.c.id).join(tree, entries.c.parent_id == tree.c.id)
    )
    rows = await tx.execute(
        sa.select(below.c.top, sa.func.sum(versions.c.size).label("size"))
        .join(versions, versions.c.entry_id == below.c.id)
        .group_by(below.c.top)
    )
    return dict.fromkeys(ids, 0) | {row.top: int(row.size) for row in rows}


async def current_version(tx: Tx, entry: Entry) -> Version | None:
    return (await _current(tx, [entry.id])).get(entry.id)


async def _current(tx: Tx, ids: Sequence[str]) -> dict[str, Version]:
    rows = await tx.execute(
        sa.select(*_VERSION_COLUMNS)
        .select_from(_VERSION_FROM)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(versions.c.entry_id.in_(ids), versions.c.number == entries.c.current_number)
    )
    return {row.entry_id: _version(row) for row in rows}


async def versions_of(tx: Tx, entry_id: str, *, before: int | None, limit: int) -> list[Version]:
    """The versions of a file, newest first."""
    statement = (
        sa.select(*_VERSION_COLUMNS)
        .select_from(_VERSION_FROM)
        .where(versions.c.entry_id == entry_id)
    )
    if before is not None:
        statement = statement.where(versions.c.number < before)
    rows = await tx.execute(statement.order_by(versions.c.number.desc()).limit(limit))
    return [_version(row) for row in rows]


async def version(tx: Tx, entry_id: str, number: int) -> Version | None:
    row = (
        await tx.execute(
            sa.select(*_VERSION_COLUMNS)
            .select_from(_VERSION_FROM)
            .where(versions.c.entry_id == entry_id, versions.c.number == number)
        )
    ).one_or_none()
    return None if row is None else _version(row)


async def find_version(tx: Tx, version_id: str) -> tuple[Entry, Version] | None:
    """A version by its id, with its file; None when it was removed."""
    row = (
        await tx.execute(
            sa.select(versions.c.entry_id, versions.c.number).where(versions.c.id == version_id)
        )
    ).one_or_none()
    if row is None:
        return None
    entry = await get(tx, row.entry_id)
    found = await version(tx, row.entry_id, row.number)
    return None if entry is None or found is None else (entry, found)


@dataclass(frozen=True, slots=True)
class Temporary:
    """Which account is charged for a version in place of the group, and for how long."""

    pool_id: str
    keep_s: int


async def add_version(
    tx: Tx,
    entry: Entry,
    *,
    content_id: int,
    size: int,
    mime: str,
    author_id: str | None,
    temporary: Temporary | None = None,
) -> str:
    """The id of a new version, numbered under the entry's lock, which becomes the current one."""
    number = entry.last_number + 1
    version_id = new_id("ver")
    if entry.current_number is not None:
        await tx.execute(
            sa.update(versions)
            .where(versions.c.entry_id == entry.id, versions.c.number == entry.current_number)
            .values(superseded_at=now_us())
        )
    await tx.execute(
        sa.insert(versions).values(
            id=version_id,
            entry_id=entry.id,
            number=number,
            content_id=content_id,
            size=size,
            mime=mime,
            author_id=author_id,
            pool_id=temporary and temporary.pool_id,
            expires_at=temporary and now_us() + temporary.keep_s * 1_000_000,
        )
    )
    await update(tx, entry.id, {"last_number": number, "current_number": number})
    return version_id


async def similar_name(tx: Tx, parent_id: str, name: Name) -> str | None:
    """A living sibling whose name differs only in case, for warnings."""
    return await tx.scalar(
        sa.select(entries.c.name)
        .where(
            entries.c.parent_id == parent_id,
            entries.c.name_fold == name.fold,
            entries.c.name_key != name.key,
            entries.c.deleted_at.is_(None),
        )
        .limit(1)
    )
