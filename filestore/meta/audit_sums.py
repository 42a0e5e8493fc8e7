"""What the audit of quotas asks the database: counters, journals, and the sums that they must be.

The truth is summed up from versions, entries and uploads and knows no counter and no journal.
An account is a row of ``groups``. What a pool (``versions.pool_id``, ``uploads.pool_id``) is
charged with is not charged to the group; files always count in the group.

Every function is a statement or a few on one account, so it costs what that account has. What
several statements say is of one moment only in a snapshot (:func:`hold_moment`) or under the lock
of the account's row (:func:`hold_account`), which whoever changes the account takes, too.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.meta.database import Tx
from filestore.meta.tables import (
    entries,
    groups,
    member_accounts,
    uploads,
    versions,
)
from filestore.model import AccountKind, EntryKind, UploadState


class Figures(NamedTuple):
    """What an account counts: bytes, bytes, files, files."""

    used: int = 0
    reserved: int = 0
    files: int = 0
    reserved_files: int = 0

    def less(self, other: "Figures") -> "Figures":
        return Figures(*(mine - its for mine, its in zip(self, other, strict=True)))

    def plus(self, other: "Figures") -> "Figures":
        return Figures(*(mine + its for mine, its in zip(self, other, strict=True)))


NAMES: Final = Figures._fields

_ZERO: Final[sa.ColumnElement[Any]] = sa.literal_column("0")


@dataclass(frozen=True, slots=True)
class Account:
    """``counters`` as its row says, ``truth`` as they must be."""

    id: str
    name: str
    kind: AccountKind
    is_deleted: bool
    journal_seq: int
    counters: Figures
    truth: Figures


@dataclass(frozen=True, slots=True)
class MemberSum:
    """What a member's account says, and what their versions and uploads come to."""

    group_id: str
    user_id: str
    used: int
    reserved: int
    true_used: int
    true_reserved: int


async def hold_moment(tx: Tx) -> None:
    """All that this transaction reads is of one moment. Its first statement, in a read.

    SQLite's transactions are so anyway.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def hold_account(tx: Tx, account_id: str) -> bool:
    """Nobody changes the account until this transaction ends; whether there is such a row.

    FOR NO KEY UPDATE, as ``quota.ledger.lock`` has it.
    """
    query = sa.select(groups.c.id).where(groups.c.id == account_id)
    return await tx.scalar(query.with_for_update(key_share=True)) is not None


async def is_account(tx: Tx, account_id: str) -> bool:
    """Whether there is such a row, of whatever kind, deleted or not."""
    return await tx.scalar(sa.select(groups.c.id).where(groups.c.id == account_id)) is not None


async def account_page(tx: Tx, after: str, limit: int) -> list[str]:
    """Ids of all accounts, those of deleted groups too, behind ``after``."""
    query = sa.select(groups.c.id).where(groups.c.id > after).order_by(groups.c.id).limit(limit)
    return list(await tx.scalars(query))


async def account_sums(
    tx: Tx, where: sa.ColumnElement[bool], *, only_wrong: bool = False
) -> list[Account]:
    """The accounts that ``where`` picks; ``only_wrong``: whose counters are not the truth.

    One statement, so all of it is of one moment.
    """
    wanted = sa.select(groups.c.id).where(where)
    parts = sa.union_all(*_parts(wanted)).subquery("parts")
    sums = (
        sa.select(parts.c.account, *(total(parts.c[name], name) for name in NAMES))
        .group_by(parts.c.account)
        .subquery("sums")
    )
    truth = [sa.func.coalesce(sums.c[name], 0) for name in NAMES]
    query = (
        sa.select(
            groups, *(column.label(f"true_{n}") for n, column in zip(NAMES, truth, strict=True))
        )
        .select_from(groups.outerjoin(sums, sums.c.account == groups.c.id))
        .where(where)
        .order_by(groups.c.id)
    )
    if only_wrong:
        pairs = zip(NAMES, truth, strict=True)
        query = query.where(sa.or_(*(groups.c[name] != true for name, true in pairs)))
    return [_account(row) for row in await tx.execute(query)]


def _parts(wanted: sa.Select[Any]) -> list[sa.Select[Any]]:
    """What counts, by account; each part is summed up on its own, by an index."""
    own = versions.c.pool_id.is_(None)
    is_open = uploads.c.state == UploadState.OPEN
    of_group = sa.case((uploads.c.pool_id.is_(None), uploads.c.reserved), else_=0)
    held = sa.select(entries.c.group_id.label("account"), *_four(used=sa.func.sum(versions.c.size)))
    pooled = sa.select(versions.c.pool_id, *_four(used=sa.func.sum(versions.c.size)))
    running = sa.select(
        uploads.c.group_id,
        *_four(
            reserved=sa.func.sum(of_group), reserved_files=sa.func.sum(uploads.c.reserved_files)
        ),
    )
    waiting = sa.select(uploads.c.pool_id, *_four(reserved=sa.func.sum(uploads.c.reserved)))
    files = sa.select(entries.c.group_id, *_four(files=sa.func.count()))
    return [
        held.select_from(entries.join(versions, versions.c.entry_id == entries.c.id))
        .where(entries.c.group_id.in_(wanted), own)
        .group_by(entries.c.group_id),
        # expires_at is there when pool_id is, and has an index
        pooled.where(versions.c.expires_at.is_not(None), versions.c.pool_id.in_(wanted)).group_by(
            versions.c.pool_id
        ),
        running.where(uploads.c.group_id.in_(wanted), is_open).group_by(uploads.c.group_id),
        waiting.where(is_open, uploads.c.pool_id.in_(wanted)).group_by(uploads.c.pool_id),
        files.where(entries.c.group_id.in_(wanted), entries.c.kind == EntryKind.FILE).group_by(
            entries.c.group_id
        ),
    ]


def _four(**given: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    return [sa.cast(given.get(name, _ZERO), sa.BigInteger).label(name) for name in NAMES]


def total(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    """A sum as a whole number: PostgreSQL's sums of BIGINT are NUMERIC."""
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger).label(name)


def _account(row: Row[Any]) -> Account:
    return Account(
        row.id,
        row.name,
        AccountKind(row.kind),
        row.deleted_at is not None,
        row.journal_seq,
        Figures(*(getattr(row, name) for name in NAMES)),
        Figures(*(getattr(row, f"true_{name}") for name in NAMES)),
    )


async def wrong_members(tx: Tx, where: sa.ColumnElement[bool]) -> list[MemberSum]:
    """Members of the groups that ``where`` picks whose accounts are not what they take."""
    wanted = sa.select(groups.c.id).where(where, groups.c.kind == AccountKind.GROUP)
    kept = member_accounts
    parts = sa.union_all(
        sa.select(
            kept.c.group_id.label("group_id"),
            kept.c.user_id.label("user_id"),
            *_named(kept.c.used, kept.c.reserved, _ZERO, _ZERO),
        ).where(kept.c.group_id.in_(wanted)),
        sa.select(
            entries.c.group_id,
            versions.c.author_id,
            *_named(_ZERO, _ZERO, sa.func.sum(versions.c.size), _ZERO),
        )
        .join_from(entries, versions, versions.c.entry_id == entries.c.id)
        .where(entries.c.group_id.in_(wanted), versions.c.pool_id.is_(None))
        .where(versions.c.author_id.is_not(None))
        .group_by(entries.c.group_id, versions.c.author_id),
        sa.select(
            uploads.c.group_id,
            uploads.c.user_id,
            *_named(_ZERO, _ZERO, _ZERO, sa.func.sum(uploads.c.reserved)),
        )
        .where(uploads.c.group_id.in_(wanted), uploads.c.state == UploadState.OPEN)
        .where(uploads.c.pool_id.is_(None))
        .group_by(uploads.c.group_id, uploads.c.user_id),
    ).subquery("parts")
    sums = [total(parts.c[name], name) for name in _MEMBER]
    used, reserved, true_used, true_reserved = (sa.func.sum(parts.c[name]) for name in _MEMBER)
    query = (
        sa.select(parts.c.group_id, parts.c.user_id, *sums)
        .group_by(parts.c.group_id, parts.c.user_id)
        .having(sa.or_(used != true_used, reserved != true_reserved))
        .order_by(parts.c.group_id, parts.c.user_id)
    )
    return [MemberSum(*row) for row in await tx.execute(query)]


_MEMBER: Final = ("used", "reserved", "true_used", "true_reserved")


def _named(*columns: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    pairs = zip(_MEMBER, columns, strict=True)
    return [sa.cast(column, sa.BigInteger).label(name) for name, column in pairs]
