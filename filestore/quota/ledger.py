"""Every change of an account's counters, each with its row of the journal.

An account is a row of ``groups``: a group's own, or a pool's. ``used`` is the sum of the sizes of
all versions that are charged to it, the trash included; ``reserved`` is what running uploads have
set aside; ``files`` and ``reserved_files`` count the same way. What each member takes of a group is
kept beside it (``member_accounts``). All of it changes here and nowhere else, under the lock of the
account's row, which the one statement that moves the counters takes: so the rows of an account's
journal are written in the order of ``seq``, and no gap is ever seen.

No lock on an account's row is held over store I/O: callers do their transfers outside of the
transaction that calls these functions.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.sql.dml import ReturningUpdate

from filestore.errors import NotFound, ShareExceeded
from filestore.meta.accounts import hold, taken_by
from filestore.meta.database import Tx
from filestore.meta.tables import groups, member_accounts, quota_journal
from filestore.model import AccountKind, Actor, Cause
from filestore.quota.refusal import explained, share_exceeded
from filestore.quota.thresholds import note_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the journal to be: what moves, in bytes and files, and what it is about.

    ``actor_id`` is who did it, where that is not who posts. ``member_id`` is whose bytes they are;
    ``ref`` names the upload, else the version.
    """

    cause: Cause
    used: int = 0
    reserved: int = 0
    files: int = 0
    reserved_files: int = 0
    ref: str | None = None
    actor_id: str | None = None
    member_id: str | None = None
    entry_id: str | None = None
    path: str | None = None
    mime: str | None = None

    def __bool__(self) -> bool:
        """Whether it moves anything."""
        return bool(self.used or self.reserved or self.files or self.reserved_files)


async def post(
    tx: Tx,
    actor: Actor,
    account_id: str,
    lines: Sequence[Line],
    *,
    within_limit: bool = False,
    group_id: str | None = None,
) -> None:
    """Moves the counters by all lines together and writes a row of the journal for each.

    With ``within_limit`` it commits only if what grows stays within the limits in force: bytes,
    files, the member's share. Two that race for the last bytes are decided by the row's lock.
    ``group_id``: for whom, where the account may be a pool's; a refusal speaks of that group.

    Costs one statement for the counters, one for the journal, one for each member.

    :raises QuotaExceeded, FilesExceeded, ShareExceeded: no room; nothing is changed. The first is,
        inside of the transaction, a :class:`~filestore.meta.database.LateRefusal`, for its members
        take a walk.
    :raises NotFound: there is no such account any more.
    """
    moving = [line for line in lines if line]
    if not moving:
        return
    total = _Total.of(moving)
    account = await _move(tx, account_id, total, len(moving), within_limit=within_limit)
    if account is None:
        raise await explained(tx, account_id, total.bytes, total.all_files, group_id=group_id)
    await _write(tx, actor, account, total, moving)
    if account.kind == AccountKind.GROUP:
        await _settle_members(tx, account_id, moving, within_limit=within_limit)
        await note_level(tx, actor, account)


async def require_room(tx: Tx, account_id: str, size: int, files: int) -> None:
    """Asks before much is made whether :func:`post` would take it; the account's row is locked.

    :raises QuotaExceeded, FilesExceeded, NotFound: as :func:`post` would.
    """
    found = sa.select(groups.c.id).where(groups.c.id == account_id, groups.c.deleted_at.is_(None))
    if await tx.scalar(found.where(*_has_room(size, files))) is None:
        raise await explained(tx, account_id, size, files)


async def lock(tx: Tx, group_id: str) -> None:
    """Takes the group's row first, for an act that learns only later how much it moves.

    :raises NotFound: there is no such group any more.
    """
    await lock_all(tx, [group_id])


async def lock_all(tx: Tx, group_ids: Sequence[str]) -> bool:
    """:func:`lock` for several groups, in the order of their ids, as everybody does.

    Whether they are of one dedup domain.

    :raises NotFound: one of them is gone.
    """
    domains: set[str] = set()
    for group_id in sorted(set(group_ids)):
        group = await hold(tx, group_id)
        if group is None:
            raise NotFound(what="group")
        domains.add(group.domain_id)
    return len(domains) == 1


@dataclass(frozen=True, slots=True)
class _Total:
    used: int
    reserved: int
    files: int
    reserved_files: int

    @classmethod
    def of(cls, lines: Sequence[Line]) -> "_Total":
        return cls(
            sum(line.used for line in lines),
            sum(line.reserved for line in lines),
            sum(line.files for line in lines),
            sum(line.reserved_files for line in lines),
        )

    @property
    def bytes(self) -> int:
        return self.used + self.reserved

    @property
    def all_files(self) -> int:
        return self.files + self.reserved_files


BIG: Final = sa.BigInteger()
_INSERT: Final = quota_journal.insert()
_AFTER: Final = (
    *(groups.c.id, groups.c.name, groups.c.kind, groups.c.journal_seq),
    *(groups.c.used, groups.c.reserved, groups.c.files, groups.c.reserved_files),
    *(groups.c.quota_limit, groups.c.soft_limit, groups.c.warned_percent),
)


def _has_room(size: int, files: int) -> list[sa.ColumnElement[bool]]:
    """That the limits in force take so much more; what does not grow always fits."""
    return _room_for(
        sa.literal(size, BIG) if size > 0 else None, sa.literal(files, BIG) if files > 0 else None
    )


def _room_for(
    size: sa.ColumnElement[int] | None, files: sa.ColumnElement[int] | None
) -> list[sa.ColumnElement[bool]]:
    clauses: list[sa.ColumnElement[bool]] = []
    if size is not None:
        clauses.append(groups.c.used + groups.c.reserved <= groups.c.quota_limit - size)
    if files is not None:
        counted = groups.c.files + groups.c.reserved_files
        limit = groups.c.files_limit
        clauses.append(sa.or_(limit.is_(None), counted <= limit - files))
    return clauses


async def _move(
    tx: Tx, account_id: str, total: _Total, rows: int, *, within_limit: bool
) -> Row[Any] | None:
    """The account after the move, with the last number of its journal; None: it was refused."""
    size = total.bytes if within_limit else 0
    files = total.all_files if within_limit else 0
    moved = {
        "of_id": account_id,
        "used_by": total.used,
        "reserved_by": total.reserved,
        "files_by": total.files,
        "reserved_files_by": total.reserved_files,
        "rows": rows,
    }
    room = {"grows": size} if size > 0 else {}
    room |= {"more_files": files} if files > 0 else {}
    change = _change(asks_bytes=size > 0, asks_files=files > 0)
    found: Row[Any] | None = (await tx.execute(change, moved | room)).one_or_none()
    return found


@functools.cache
def _change(*, asks_bytes: bool, asks_files: bool) -> ReturningUpdate[Any]:
    """The statement that moves an account's counters, put together once for each kind."""
    living = (groups.c.id == sa.bindparam("of_id"), groups.c.deleted_at.is_(None))
    grows, more = sa.bindparam("grows", type_=BIG), sa.bindparam("more_files", type_=BIG)
    clauses = _room_for(grows if asks_bytes else None, more if asks_files else None)
    values = {
        groups.c.used: groups.c.used + sa.bindparam("used_by", type_=BIG),
        groups.c.reserved: groups.c.reserved + sa.bindparam("reserved_by", type_=BIG),
        groups.c.files: groups.c.files + sa.bindparam("files_by", type_=BIG),
        groups.c.reserved_files: groups.c.reserved_files
        + sa.bindparam("reserved_files_by", type_=BIG),
        groups.c.journal_seq: groups.c.journal_seq + sa.bindparam("rows", type_=BIG),
    }
    return sa.update(groups).where(*living, *clauses).values(values).returning(*_AFTER)


async def _write(
    tx: Tx, actor: Actor, account: Row[Any], total: _Total, lines: Sequence[Line]
) -> None:
    """A row for each line, whose balances lead from those before the move to those after it."""
    used, reserved = account.used - total.used, account.reserved - total.reserved
    files = account.files - total.files
    reserved_files = account.reserved_files - total.reserved_files
    rows: list[dict[str, Any]] = []
    for seq, line in enumerate(lines, account.journal_seq - len(lines) + 1):
        used, reserved = used + line.used, reserved + line.reserved
        files, reserved_files = files + line.files, reserved_files + line.reserved_files
        rows.append(
            {
                "group_id": account.id,
                "seq": seq,
                "actor_id": line.actor_id or actor.user_id,
                "cause": line.cause,
                "ref": line.ref,
                "member_id": line.member_id,
                "entry_id": line.entry_id,
                "path": line.path,
                "mime": line.mime,
                "delta_used": line.used,
                "delta_reserved": line.reserved,
                "delta_files": line.files,
                "delta_reserved_files": line.reserved_files,
                "used_after": used,
                "reserved_after": reserved,
                "files_after": files,
                "reserved_files_after": reserved_files,
            }
        )
    await tx.execute(_INSERT, rows)


async def _settle_members(
    tx: Tx, group_id: str, lines: Sequence[Line], *, within_limit: bool
) -> None:
    """Moves what the members take, in the order of their ids; the group's row is locked.

    What a member gives back who has no account is not counted: the audit would show it.

    :raises ShareExceeded: with ``within_limit``, a member's share has no room for what grows.
    """
    for user_id, used, reserved in _by_member(lines):
        grows = used + reserved
        is_limited = within_limit and grows > 0
        only_grows = used >= 0 and reserved >= 0
        change = _member_change(tx.dialect.name, only_grows=only_grows, asks_share=is_limited)
        moved = {"of_group": group_id, "of_user": user_id, "used_by": used, "reserved_by": reserved}
        moved |= {"grows": grows} if is_limited else {}
        if await tx.scalar(change, moved) is None and is_limited:
            raise await _share_refusal(tx, group_id, user_id, grows)


def _by_member(lines: Sequence[Line]) -> Iterator[tuple[str, int, int]]:
    """(user, used, reserved) of those whose bytes move."""
    moved: dict[str, tuple[int, int]] = {}
    for line in lines:
        if line.member_id is not None and (line.used or line.reserved):
            used, reserved = moved.get(line.member_id, (0, 0))
            moved[line.member_id] = (used + line.used, reserved + line.reserved)
    for user_id in sorted(moved):
        yield user_id, *moved[user_id]


@functools.cache
def _member_change(dialect: str, *, only_grows: bool, asks_share: bool) -> Any:
    """The statement that moves a member's account where the share has room; it returns the user.

    What only grows opens an account. CHECKs are asked of a row that is proposed, before it meets
    the one that is there, so a row of a negative number could not be proposed.
    """
    taken = member_accounts.c.used + member_accounts.c.reserved
    limit = member_accounts.c.share_limit
    has_share = sa.or_(limit.is_(None), taken <= limit - sa.bindparam("grows", type_=BIG))
    guard = has_share if asks_share else sa.true()
    used, reserved = sa.bindparam("used_by", type_=BIG), sa.bindparam("reserved_by", type_=BIG)
    text = sa.String()
    group, user = sa.bindparam("of_group", type_=text), sa.bindparam("of_user", type_=text)
    values = {
        "used": member_accounts.c.used + used,
        "reserved": member_accounts.c.reserved + reserved,
    }
    if not only_grows:
        is_members = (member_accounts.c.group_id == group, member_accounts.c.user_id == user)
        change = sa.update(member_accounts).where(*is_members, guard)
        return change.values(values).returning(member_accounts.c.user_id)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    opened = insert(member_accounts).values(
        group_id=group, user_id=user, used=used, reserved=reserved
    )
    settled = opened.on_conflict_do_update(
        index_elements=["group_id", "user_id"], set_=values, where=guard
    )
    return settled.returning(member_accounts.c.user_id)


async def _share_refusal(tx: Tx, group_id: str, user_id: str, needed: int) -> ShareExceeded:
    share, taken = (await taken_by(tx, group_id, [user_id]))[user_id]
    return share_exceeded(needed, share, taken)
