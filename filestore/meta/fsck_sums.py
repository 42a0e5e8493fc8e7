"""What fsck asks the database about sums: contents, versions, uploads, quota counters.

How pages and locks go is said in :mod:`filestore.meta.fsck`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from filestore.meta.audit_sums import Account, account_sums, wrong_members
from filestore.meta.database import Tx
from filestore.meta.fsck import Look, hold
from filestore.meta.tables import (
    blocks,
    content_blocks,
    contents,
    entries,
    groups,
    uploads,
    versions,
)
from filestore.model import ContentState, UploadState


@dataclass(frozen=True, slots=True)
class WrongReference:
    """Bytes [``expected``, ``offset``) are missing, or there twice; or the row fits no block."""

    content_id: int
    offset: int
    expected: int
    block_fits: bool


@dataclass(frozen=True, slots=True)
class WrongSize:
    """Something whose size, or offset, is not what the rows below it come to. Bytes.

    ``found`` is -1 when what should have a size is not complete.
    """

    id: Any
    content_id: int | None
    said: int
    found: int
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A content that no version and no upload has, and that nobody lets go."""

    content_id: int
    state: ContentState
    size: int


@dataclass(frozen=True, slots=True)
class WrongCounters:
    """An account whose counters are not the sums that they must be, or ``members`` of a group
    whose accounts are not."""

    account: Account
    members: int

    @property
    def group_id(self) -> str:
        return self.account.id


async def _wrong_references(tx: Tx, where: sa.ColumnElement[bool]) -> list[WrongReference]:
    at = content_blocks
    before = content_blocks.alias("before")
    end = (
        sa.select(before.c.byte_offset + before.c.size)
        .where(before.c.content_id == at.c.content_id, before.c.byte_offset < at.c.byte_offset)
        .order_by(before.c.byte_offset.desc())
        .limit(1)
        .scalar_subquery()
    )
    seen = (
        sa.select(
            at.c.content_id,
            at.c.byte_offset,
            sa.func.coalesce(end, 0).label("expected"),
            sa.and_(at.c.size == blocks.c.size, blocks.c.domain_id == contents.c.domain_id).label(
                "fits"
            ),
        )
        .select_from(
            at.join(contents, contents.c.id == at.c.content_id)
            .join(blocks, blocks.c.id == at.c.block_id)
            .outerjoin(uploads, _is_open_upload())
        )
        .where(where, _is_settled())
        .subquery("seen")
    )
    query = sa.select(seen).where(sa.or_(seen.c.expected != seen.c.byte_offset, ~seen.c.fits))
    return [
        WrongReference(row.content_id, row.byte_offset, row.expected, bool(row.fits))
        for row in await tx.execute(query)
    ]


def _is_open_upload() -> sa.ColumnElement[bool]:
    return sa.and_(uploads.c.content_id == contents.c.id, uploads.c.state == UploadState.OPEN)


def _is_settled() -> sa.ColumnElement[bool]:
    """That a reference counts: of a complete content, or within its upload's offset."""
    is_recorded = content_blocks.c.byte_offset < uploads.c.byte_offset
    return sa.or_(contents.c.state == ContentState.COMPLETE, is_recorded)


async def _wrong_contents(tx: Tx, where: sa.ColumnElement[bool]) -> list[WrongSize]:
    end = sa.func.coalesce(_end_of(contents.c.id), 0)
    query = sa.select(contents.c.id, contents.c.size, end.label("end")).where(
        where, contents.c.state == ContentState.COMPLETE, contents.c.size != end
    )
    return [WrongSize(row.id, row.id, row.size, row.end) for row in await tx.execute(query)]


async def _unwanted(tx: Tx, where: sa.ColumnElement[bool]) -> list[Unwanted]:
    is_held = sa.exists().where(versions.c.content_id == contents.c.id)
    is_coming = sa.exists().where(_is_open_upload())
    end = sa.func.coalesce(_end_of(contents.c.id), 0)
    query = sa.select(contents.c.id, contents.c.state, end.label("end")).where(
        where, contents.c.state != ContentState.DELETING, ~is_held, ~is_coming
    )
    rows = await tx.execute(query.order_by(contents.c.id))
    return [Unwanted(row.id, ContentState(row.state), row.end) for row in rows]


def _end_of(
    content_id: sa.ColumnElement[int], *, before: sa.ColumnElement[int] | None = None
) -> sa.ScalarSelect[int]:
    """Where the last reference of a content ends, of those that begin before an offset."""
    query = sa.select(content_blocks.c.byte_offset + content_blocks.c.size)
    query = query.where(content_blocks.c.content_id == content_id)
    if before is not None:
        query = query.where(content_blocks.c.byte_offset < before)
    return query.order_by(content_blocks.c.byte_offset.desc()).limit(1).scalar_subquery()


async def _wrong_versions(tx: Tx, where: sa.ColumnElement[bool]) -> list[WrongSize]:
    complete = sa.case((contents.c.state == ContentState.COMPLETE, contents.c.size), else_=-1)
    query = (
        sa.select(
            versions.c.id,
            versions.c.content_id,
            versions.c.size,
            complete.label("found"),
            entries.c.group_id,
        )
        .join(contents, contents.c.id == versions.c.content_id)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(where, versions.c.size != complete)
    )
    return [
        WrongSize(row.id, row.content_id, row.size, row.found, row.group_id)
        for row in await tx.execute(query)
    ]


async def _wrong_uploads(tx: Tx, where: sa.ColumnElement[bool]) -> list[WrongSize]:
    end = sa.func.coalesce(_end_of(uploads.c.content_id, before=uploads.c.byte_offset), 0)
    query = sa.select(
        uploads.c.id,
        uploads.c.content_id,
        uploads.c.group_id,
        uploads.c.byte_offset,
        end.label("end"),
    ).where(where, uploads.c.state == UploadState.OPEN, uploads.c.byte_offset != end)
    return [
        WrongSize(row.id, row.content_id, row.byte_offset, row.end, row.group_id)
        for row in await tx.execute(query)
    ]


async def _wrong_counters(tx: Tx, where: sa.ColumnElement[bool]) -> list[WrongCounters]:
    """By the sums of the audit; the members' accounts in a statement of their own."""
    members: dict[str, int] = {}
    for member in await wrong_members(tx, where):
        members[member.group_id] = members.get(member.group_id, 0) + 1
    is_wrong = sa.and_(where, groups.c.id.in_(sorted(members)))
    accounts = await account_sums(tx, where, only_wrong=True)
    known = {account.id for account in accounts}
    if members.keys() - known:
        accounts += [one for one in await account_sums(tx, is_wrong) if one.id not in known]
    return [WrongCounters(account, members.get(account.id, 0)) for account in accounts]


async def _hold_references(tx: Tx, names: Sequence[tuple[int, int]]) -> None:
    """Uploads are locked before their contents."""
    ids = sorted({content_id for content_id, _ in names})
    await hold(tx, uploads.c.id, uploads.c.content_id.in_(ids))
    await hold(tx, contents.c.id, contents.c.id.in_(ids))


async def _hold_contents(tx: Tx, ids: Sequence[int]) -> None:
    """For good: whoever would want one of them waits, and finds it gone."""
    rows = sa.select(contents.c.id).where(contents.c.id.in_(list(ids)))
    await tx.execute(rows.order_by(contents.c.id).with_for_update())


def _holding(key: sa.Column[Any]) -> Callable[[Tx, Sequence[Any]], Awaitable[None]]:
    async def hold_rows(tx: Tx, names: Sequence[Any]) -> None:
        await hold(tx, key, key.in_(list(names)))

    return hold_rows


def _sizes(
    key: sa.Column[Any],
    first: Any,
    find: Callable[[Tx, sa.ColumnElement[bool]], Awaitable[list[WrongSize]]],
) -> Look[WrongSize]:
    return Look((key,), first, find, lambda wrong: wrong.id, _holding(key))


REFERENCES: Final = Look(
    (content_blocks.c.content_id, content_blocks.c.byte_offset),
    (0, -1),
    _wrong_references,
    lambda wrong: (wrong.content_id, wrong.offset),
    _hold_references,
)
"""References that do not begin where the one before ends, or are not as their block is.

Of a content under construction only what its upload's offset covers: what lies beyond is
staged, in any order.
"""

CONTENTS: Final = _sizes(contents.c.id, 0, _wrong_contents)
"""Complete contents that do not end where their last block does."""

UNWANTED: Final = Look(
    (contents.c.id,), 0, _unwanted, lambda unwanted: unwanted.content_id, _hold_contents
)
"""Contents that pin blocks for nobody: an act that ends a version or an upload lets go of its
content in the same transaction, so there should be none."""

VERSIONS: Final = _sizes(versions.c.id, "", _wrong_versions)
"""Versions that have another size than their content, or whose content is not complete."""

UPLOADS: Final = _sizes(uploads.c.id, "", _wrong_uploads)
"""Open uploads whose offset is not the end of what is recorded before it."""

COUNTERS: Final = Look(
    (groups.c.id,), "", _wrong_counters, lambda wrong: wrong.group_id, _holding(groups.c.id)
)
"""Accounts whose counters are not the sums below them, or those of their members are not."""
