"""The audit of one account: read at one moment, looked at again under the lock, corrected.

    found = await audit_account(db, account_id)                             # with its plan
    found = await audit_account(db, account_id, repair=True, actor=actor)   # and carried out

It may run at any time, beside all that goes on. A snapshot is of one moment, so it shows no
difference that is none; what it shows all the same is looked at again while nobody can change the
account, and only what is seen then is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from filestore.errors import Json
from filestore.meta import audit_items, audit_sums
from filestore.meta.audit_sums import Account, Figures
from filestore.meta.database import Database, Tx
from filestore.meta.lineage import paths_of
from filestore.meta.log import emit
from filestore.meta.tables import groups, users
from filestore.model import SYSTEM, AccountKind, Actor
from filestore.quota.audit import (
    Books,
    Correction,
    Difference,
    compare,
    difference,
    notes,
    plan,
)
from filestore.quota.correcting import correct

KEPT: Final = 1000
"""Single things of one kind that are named, and corrected one by one. With more of them an account
is corrected as a whole: the sums are right then, the rest is named by the next audit."""

DRIFT: Final = "quota.drift"
"""The kind of the event that tells of a difference."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One account: what differs, and what would put it right. ``journal_rows``: how many rows
    were held against it. After a repair ``left`` is what differs now, and ``is_corrected``."""

    account: Account
    journal_rows: int
    differences: tuple[Difference, ...] = ()
    correction: Correction = Correction()
    notes: tuple[str, ...] = ()
    is_whole: bool = True
    is_corrected: bool = False
    left: tuple[Difference, ...] = ()

    @property
    def drift(self) -> Figures:
        """How much differs; after a repair, how much did."""
        return difference(list(self.differences))

    @property
    def is_good(self) -> bool:
        """Whether nothing differs now."""
        return not (self.left if self.is_corrected else self.differences)


async def audit_account(
    db: Database, account_id: str, *, repair: bool = False, actor: Actor = SYSTEM
) -> Audited | None:
    """Whether the account's books agree; None: there is no such account any more.

    Costs a walk over what the account has, without a lock; where something differs, another one
    under its lock. With ``repair`` what differs is corrected in that same transaction.

    :raises DatabaseUnavailable: nothing is changed, or all of it. Safe to repeat.
    """
    books = await db.read(partial(_read, account_id=account_id))
    if books is None:
        return None
    if not compare(books):
        return Audited(books.account, books.journal.rows, notes=tuple(notes(books)))
    versions = [wrong.version_id for wrong in books.contents]
    act = partial(_look_again, account_id=account_id, named=versions, repair=repair, actor=actor)
    return await db.transact(act)


async def _read(tx: Tx, account_id: str) -> Books | None:
    await audit_sums.hold_moment(tx)
    return await read_books(tx, account_id)


async def _look_again(
    tx: Tx, account_id: str, *, named: Sequence[str], repair: bool, actor: Actor
) -> Audited | None:
    """The same under the lock: new statements, which see all that was committed before it.

    Of contents, which never change, only those of the versions that are ``named``.
    """
    if not await audit_sums.hold_account(tx, account_id):
        return None
    books = await read_books(tx, account_id, named=named)
    if books is None:
        return None
    found = compare(books)
    correction = plan(books)
    left, is_corrected = found, False
    if found:
        await _tell(tx, books.account, difference(found), repair=repair)
    if repair and correction:
        await correct(tx, actor, books, correction)
        after = await read_books(tx, account_id, named=named)
        left, is_corrected = [] if after is None else compare(after), True
    return Audited(
        books.account,
        books.journal.rows,
        tuple(found),
        correction,
        tuple(notes(books)),
        books.is_whole,
        is_corrected,
        tuple(left),
    )


async def _tell(tx: Tx, account: Account, drift: Figures, *, repair: bool) -> None:
    payload: dict[str, Json] = {
        "group": account.name,
        "used_bytes": drift.used,
        "reserved_bytes": drift.reserved,
        "files": drift.files + drift.reserved_files,
        "is_repair": repair,
    }
    await emit(tx, DRIFT, payload, group_id=account.id)


async def read_books(
    tx: Tx, account_id: str, *, named: Sequence[str] | None = None, kept: int = KEPT
) -> Books | None:
    """All that the audit needs of an account; of one moment when ``tx`` sees only one, or holds
    the account. ``named``: only these versions are held against their contents. None: there is no
    such account."""
    accounts = await audit_sums.account_sums(tx, groups.c.id == account_id)
    if not accounts:
        return None
    (account,) = accounts
    charges = await audit_items.wrong_charges(tx, account, kept + 1)
    files = await audit_items.wrong_files(tx, account, kept + 1)
    uploads = await audit_items.wrong_reservations(tx, account, kept + 1)
    contents = []
    if account.kind is AccountKind.GROUP:
        contents = await audit_items.wrong_contents(tx, account_id, kept + 1, named=named)
    members = await audit_sums.wrong_members(tx, groups.c.id == account_id)
    entry_ids = [item.id for item in (*charges, *files)]
    refs = [item.id for item in uploads]
    placed = sorted({*entry_ids, *(wrong.entry_id for wrong in contents)})
    living = sorted(await audit_items.living_entries(tx, placed))
    who = {item.member_id for item in (*charges, *uploads)} | {m.user_id for m in members}
    return Books(
        account,
        await audit_items.journal_sums(tx, account_id),
        (*charges, *files),
        tuple(uploads),
        tuple(members),
        tuple(contents),
        last=await audit_items.last_rows(tx, account_id, entry_ids=entry_ids, refs=refs),
        paths=await paths_of(tx, living) if living else {},
        states=await audit_items.upload_states(tx, refs),
        names=await _names(tx, [user for user in who if user is not None]),
        is_whole=max(len(charges), len(files), len(uploads), len(contents)) <= kept,
    )


async def _names(tx: Tx, ids: list[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = await tx.execute(sa.select(users.c.id, users.c.name).where(users.c.id.in_(ids)))
    return {row.id: row.name for row in rows}
