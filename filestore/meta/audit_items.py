"""What the audit of quotas asks the database about single things: entries, uploads, contents.

The journal says with each row what it is about; here that is summed up by entry and by upload and
held against the rows of these. What is a moment is said in :mod:`filestore.meta.audit_sums`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from filestore.meta.audit_sums import NAMES, Account, Figures, total
from filestore.meta.database import Tx
from filestore.meta.tables import (
    content_blocks,
    contents,
    entries,
    quota_journal,
    uploads,
    versions,
)
from filestore.model import AccountKind, ContentState, EntryKind, UploadState


@dataclass(frozen=True, slots=True)
class Journal:
    """``balance``: that of the last row; ``moved``: the sum of all rows; ``loose``: of those that
    name no entry, or for reservations no upload."""

    rows: int = 0
    last_seq: int = 0
    balance: Figures = Figures()
    moved: Figures = Figures()
    loose: Figures = Figures()


@dataclass(frozen=True, slots=True)
class Item:
    """An entry, or an upload, of which the journal says something else than its rows do."""

    id: str
    member_id: str | None
    journal: Figures
    truth: Figures


@dataclass(frozen=True, slots=True)
class WrongContent:
    """A version whose size is not that of its content, or not that of the blocks. Bytes;
    ``content`` is -1 when it is not complete."""

    version_id: str
    entry_id: str
    size: int
    content: int
    blocks: int


@dataclass(frozen=True, slots=True)
class LastRow:
    """The last row of a journal about an entry or an upload."""

    seq: int
    at: int
    cause: str
    path: str | None
    mime: str | None


async def journal_sums(tx: Tx, account_id: str) -> Journal:
    """What an account's journal comes to. Cost: a walk over it."""
    journal = quota_journal
    mine = journal.c.group_id == account_id
    about = (journal.c.entry_id, journal.c.ref, journal.c.entry_id, journal.c.ref)
    query = sa.select(
        sa.func.count().label("rows"),
        *(total(journal.c[f"delta_{name}"], name) for name in NAMES),
        *(
            total(sa.case((key.is_(None), journal.c[f"delta_{name}"]), else_=0), f"loose_{name}")
            for name, key in zip(NAMES, about, strict=True)
        ),
    )
    sums = (await tx.execute(query.where(mine))).one()
    newest = sa.select(journal).where(mine).order_by(journal.c.seq.desc()).limit(1)
    last = (await tx.execute(newest)).one_or_none()
    if last is None:
        return Journal()
    return Journal(
        sums.rows,
        last.seq,
        Figures(*(getattr(last, f"{name}_after") for name in NAMES)),
        Figures(*(getattr(sums, name) for name in NAMES)),
        Figures(*(getattr(sums, f"loose_{name}") for name in NAMES)),
    )


async def wrong_charges(tx: Tx, account: Account, limit: int) -> list[Item]:
    """Entries, and whose bytes they are, that the journal charges with something else than their
    versions come to."""
    journal = quota_journal
    said = sa.select(
        journal.c.entry_id.label("id"),
        journal.c.member_id.label("member_id"),
        journal.c.delta_used.label("journal"),
        sa.literal_column("0").label("truth"),
    ).where(journal.c.group_id == account.id, journal.c.entry_id.is_not(None))
    true = sa.select(
        versions.c.entry_id, versions.c.author_id, sa.literal_column("0"), versions.c.size
    ).where(_is_charged(account))
    if account.kind is AccountKind.GROUP:
        true = true.join_from(versions, entries, entries.c.id == versions.c.entry_id)
    return [
        Item(row.id, row.member_id, Figures(row.journal), Figures(row.truth))
        for row in await _differing(tx, said.where(journal.c.delta_used != 0), true, limit)
    ]


def _is_charged(account: Account) -> sa.ColumnElement[bool]:
    if account.kind is AccountKind.POOL:
        return sa.and_(versions.c.expires_at.is_not(None), versions.c.pool_id == account.id)
    return sa.and_(entries.c.group_id == account.id, versions.c.pool_id.is_(None))


async def wrong_files(tx: Tx, account: Account, limit: int) -> list[Item]:
    """Entries that the journal counts as files and that are none, and the other way round."""
    journal, nobody = quota_journal, sa.null()
    said = sa.select(
        journal.c.entry_id.label("id"),
        sa.cast(nobody, sa.String).label("member_id"),
        journal.c.delta_files.label("journal"),
        sa.literal_column("0").label("truth"),
    ).where(
        journal.c.group_id == account.id,
        journal.c.entry_id.is_not(None),
        journal.c.delta_files != 0,
    )
    true = sa.select(
        entries.c.id, sa.cast(nobody, sa.String), sa.literal_column("0"), sa.literal_column("1")
    ).where(entries.c.group_id == account.id, entries.c.kind == EntryKind.FILE)
    return [
        Item(row.id, None, Figures(files=row.journal), Figures(files=row.truth))
        for row in await _differing(tx, said, true, limit)
    ]


async def wrong_reservations(tx: Tx, account: Account, limit: int) -> list[Item]:
    """Uploads for which the journal holds something else than they have reserved."""
    return [
        *await _wrong_reserved(tx, account, "reserved", limit),
        *await _wrong_reserved(tx, account, "reserved_files", limit),
    ]


async def _wrong_reserved(tx: Tx, account: Account, name: str, limit: int) -> list[Item]:
    journal = quota_journal
    delta = journal.c[f"delta_{name}"]
    said = sa.select(
        journal.c.ref.label("id"),
        journal.c.member_id.label("member_id"),
        delta.label("journal"),
        sa.literal_column("0").label("truth"),
    ).where(journal.c.group_id == account.id, journal.c.ref.is_not(None), delta != 0)
    true = sa.select(
        uploads.c.id, uploads.c.user_id, sa.literal_column("0"), uploads.c[name]
    ).where(uploads.c.state == UploadState.OPEN)
    if account.kind is AccountKind.POOL:
        true = true.where(uploads.c.pool_id == account.id)
    else:
        true = true.where(uploads.c.group_id == account.id)
        if name == "reserved":
            true = true.where(uploads.c.pool_id.is_(None))
    return [
        Item(row.id, row.member_id, Figures(**{name: row.journal}), Figures(**{name: row.truth}))
        for row in await _differing(tx, said, true, limit)
    ]


async def _differing(
    tx: Tx, said: sa.Select[Any], true: sa.Select[Any], limit: int
) -> list[Row[Any]]:
    """(id, member_id, journal, truth), summed up, where the last two are not the same."""
    parts = sa.union_all(said, true).subquery("parts")
    journal, truth = sa.func.sum(parts.c.journal), sa.func.sum(parts.c.truth)
    query = (
        sa.select(
            parts.c.id,
            parts.c.member_id,
            total(parts.c.journal, "journal"),
            total(parts.c.truth, "truth"),
        )
        .group_by(parts.c.id, parts.c.member_id)
        .having(journal != truth)
        .order_by(parts.c.id, parts.c.member_id)
        .limit(limit)
    )
    return list(await tx.execute(query))


async def wrong_contents(
    tx: Tx, group_id: str, limit: int, *, named: Sequence[str] | None = None
) -> list[WrongContent]:
    """Versions of a group that are not as large as their contents and as the blocks of these.

    Cost: a walk over all references of the group. ``named``: only these versions.
    """
    of_blocks = (
        sa.select(sa.func.coalesce(sa.func.sum(content_blocks.c.size), 0))
        .where(content_blocks.c.content_id == contents.c.id)
        .scalar_subquery()
    )
    complete = sa.case((contents.c.state == ContentState.COMPLETE, contents.c.size), else_=-1)
    seen = (
        sa.select(
            versions.c.id,
            versions.c.entry_id,
            versions.c.size,
            complete.label("content"),
            sa.cast(of_blocks, sa.BigInteger).label("blocks"),
        )
        .select_from(
            entries.join(versions, versions.c.entry_id == entries.c.id).join(
                contents, contents.c.id == versions.c.content_id
            )
        )
        .where(entries.c.group_id == group_id)
    )
    if named is not None:
        seen = seen.where(versions.c.id.in_(list(named)))
    found = seen.subquery("seen")
    is_wrong = sa.or_(found.c.size != found.c.content, found.c.size != found.c.blocks)
    query = sa.select(found).where(is_wrong).order_by(found.c.id).limit(limit)
    return [WrongContent(*row) for row in await tx.execute(query)]


async def last_rows(
    tx: Tx, account_id: str, *, entry_ids: Sequence[str] = (), refs: Sequence[str] = ()
) -> dict[str, LastRow]:
    """The last row of an account's journal about each of these. Cost: a walk over the journal."""
    journal, found = quota_journal, {}
    for key, names in ((journal.c.entry_id, entry_ids), (journal.c.ref, refs)):
        if not names:
            continue
        last = (
            sa.select(sa.func.max(journal.c.seq))
            .where(journal.c.group_id == account_id, key.in_(list(names)))
            .group_by(key)
        )
        rows = sa.select(journal, key.label("about")).where(
            journal.c.group_id == account_id, journal.c.seq.in_(last)
        )
        for row in await tx.execute(rows):
            found[row.about] = LastRow(row.seq, row.at, row.cause, row.path, row.mime)
    return found


async def living_entries(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Those of the entries that there are, in the trash too."""
    return set(await tx.scalars(sa.select(entries.c.id).where(entries.c.id.in_(list(ids)))))


async def upload_states(tx: Tx, ids: Sequence[str]) -> dict[str, UploadState]:
    """How the uploads stand that still have a row."""
    rows = await tx.execute(
        sa.select(uploads.c.id, uploads.c.state).where(uploads.c.id.in_(list(ids)))
    )
    return {row.id: UploadState(row.state) for row in rows}
