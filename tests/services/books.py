"""What the books of a group must be, summed up from its files, uploads and journal."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import (
    entries,
    groups,
    member_accounts,
    quota_journal,
    uploads,
    versions,
)

_MOVES = ("used", "reserved", "files", "reserved_files")


@dataclass(frozen=True)
class Books:
    """A group's counters, and the sums that they must be."""

    used: int
    reserved: int
    files: int
    reserved_files: int
    held: Counter[str]
    set_aside: Counter[str]
    file_entries: int
    new_files: int
    members: dict[str, tuple[int, int]]
    should_be: dict[str, tuple[int, int]]

    @property
    def agree(self) -> bool:
        counted = (self.used, self.reserved, self.files, self.reserved_files)
        sums = (
            *(sum(self.held.values()), sum(self.set_aside.values())),
            *(self.file_entries, self.new_files),
        )
        return counted == sums and self.members == self.should_be


async def read_books(tx: Tx, group: str) -> Books:
    """The counters of a group and what they must be, of one moment."""
    counters = (await tx.execute(sa.select(groups).where(groups.c.id == group))).one()
    files = await _all(
        tx,
        sa.select(versions.c.entry_id, versions.c.author_id, versions.c.size)
        .join(entries, entries.c.id == versions.c.entry_id)
        .where(entries.c.group_id == group, versions.c.pool_id.is_(None)),
    )
    running = await _all(tx, sa.select(uploads).where(uploads.c.group_id == group))
    own = [row for row in running if row.pool_id is None]
    taken: dict[str, list[int]] = {}
    for row in files:
        if row.author_id is not None:
            taken.setdefault(row.author_id, [0, 0])[0] += row.size
    for row in own:
        taken.setdefault(row.user_id, [0, 0])[1] += row.reserved
    of_group = member_accounts.c.group_id == group
    members = await _all(tx, sa.select(member_accounts).where(of_group))
    is_file = sa.and_(entries.c.group_id == group, entries.c.kind == "file")
    return Books(
        used=counters.used,
        reserved=counters.reserved,
        files=counters.files,
        reserved_files=counters.reserved_files,
        held=_sums((row.entry_id, row.size) for row in files),
        set_aside=_sums((row.id, row.reserved) for row in own),
        file_entries=len(await _all(tx, sa.select(entries.c.id).where(is_file))),
        new_files=sum(row.reserved_files for row in running),
        members={row.user_id: (row.used, row.reserved) for row in members if _takes(row)},
        should_be={user: (took[0], took[1]) for user, took in taken.items() if any(took)},
    )


async def check_journal(tx: Tx, group: str, books: Books) -> None:
    """Holds the journal against the counters and, row by row, against what it speaks of."""
    query = sa.select(quota_journal).where(quota_journal.c.group_id == group)
    balance = dict.fromkeys(_MOVES, 0)
    held: Counter[str] = Counter()
    set_aside: Counter[str] = Counter()
    for number, row in enumerate(await _all(tx, query.order_by(quota_journal.c.seq)), 1):
        assert row.seq == number
        for move in _MOVES:
            balance[move] += getattr(row, f"delta_{move}")
            assert getattr(row, f"{move}_after") == balance[move], (row, move)
        if row.delta_used:
            held[row.entry_id] += row.delta_used
        if row.delta_reserved:
            set_aside[row.ref] += row.delta_reserved
    assert balance == {move: getattr(books, move) for move in _MOVES}
    assert +held == books.held
    assert +set_aside == books.set_aside
    assert min((*held.values(), *set_aside.values()), default=0) >= 0


def _takes(row: Any) -> bool:
    return bool(row.used or row.reserved)


def _sums(pairs: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for key, size in pairs:
        found[key] += size
    return +found


async def _all(tx: Tx, query: sa.Select[Any]) -> list[Any]:
    return list((await tx.execute(query)).all())
