"""Writes a correction: rows behind the journal, and the counters that they lead to.

The one way beside :mod:`filestore.quota.ledger` to move counters: the ledger moves them *by*
something, and so keeps what is wrong; here they become what they must be. The caller holds the
account's row and has read its books under that lock.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filestore.errors import Json
from filestore.meta.audit_sums import NAMES, Figures, MemberSum
from filestore.meta.database import Tx
from filestore.meta.log import audit
from filestore.meta.tables import groups, member_accounts, quota_journal
from filestore.model import AccountKind, Actor, Cause
from filestore.quota.audit import Books, Correction, Entry
from filestore.quota.thresholds import review_level


async def correct(tx: Tx, actor: Actor, books: Books, correction: Correction) -> None:
    """Carries out the correction of an account whose row is locked, and writes it into the audit
    log. All or nothing with the transaction."""
    account = books.account
    if correction.counters is not None:
        await _write(tx, actor, books, correction.rows)
        await tx.execute(
            sa.update(groups)
            .where(groups.c.id == account.id)
            .values(
                journal_seq=books.journal.last_seq + len(correction.rows),
                **correction.counters._asdict(),
            )
        )
    for member in correction.members:
        await tx.execute(_member_change(tx, member))
    if account.kind is AccountKind.GROUP and not account.is_deleted:
        await review_level(tx, actor, account.id)
    before: dict[str, Json] = {**account.counters._asdict()}
    after: dict[str, Json] = {**account.truth._asdict(), "rows": len(correction.rows)}
    if correction.members:
        before["members"] = {m.user_id: [m.used, m.reserved] for m in correction.members}
        after["members"] = {m.user_id: [m.true_used, m.true_reserved] for m in correction.members}
    await audit(
        tx,
        actor,
        "quota.correct",
        group_id=account.id,
        target=account.id,
        before=before,
        after=after,
    )


async def _write(tx: Tx, actor: Actor, books: Books, rows: tuple[Entry, ...]) -> None:
    """The rows behind the last one, each with the balance that it leads to."""
    balance, values = books.journal.balance, []
    for seq, row in enumerate(rows, books.journal.last_seq + 1):
        balance = balance.plus(row.moves)
        values.append(_row(actor, books.account.id, seq, row, balance))
    if values:
        await tx.execute(quota_journal.insert(), values)


def _row(actor: Actor, account_id: str, seq: int, row: Entry, balance: Figures) -> dict[str, Any]:
    return {
        "group_id": account_id,
        "seq": seq,
        "actor_id": actor.user_id,
        "cause": Cause.CORRECT,
        "ref": row.ref,
        "member_id": row.member_id,
        "entry_id": row.entry_id,
        "path": row.path,
        "mime": row.mime,
        **{f"delta_{name}": getattr(row.moves, name) for name in NAMES},
        **{f"{name}_after": getattr(balance, name) for name in NAMES},
    }


def _member_change(tx: Tx, member: MemberSum) -> sa.Executable:
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    values = {"used": member.true_used, "reserved": member.true_reserved}
    opened = insert(member_accounts).values(
        group_id=member.group_id, user_id=member.user_id, **values
    )
    return opened.on_conflict_do_update(index_elements=["group_id", "user_id"], set_=values)
