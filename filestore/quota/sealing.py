"""Seals: a chain of hashes over each group's journal, whose heads are put outside of the database.

Who owns the database can drop its triggers and rewrite rows. Then the chain does not fit them
any more; who rewrites the chain as well does not get at the heads that lie outside.

**The bytes of a head**, version 1. All numbers are big-endian::

    head = BLAKE3(DOMAIN ‖ previous ‖ text(group) ‖ u64(first) ‖ u64(last) ‖ row(first) ‖ … )
    row  = 10 × i64: seq, at, delta_used, delta_reserved, delta_files, delta_reserved_files,
           used_after, reserved_after, files_after, reserved_files_after
         ‖ 7 × text: actor_id, cause, ref, member_id, entry_id, path, mime
    text = u32(length in bytes) ‖ UTF-8; u32(0xFFFFFFFF) alone where there is none

``previous`` is the head before, and 32 zero bytes for the first. Every part has a fixed length or
says it, so no two journals have the same bytes. Another encoding gets another ``DOMAIN``.
"""

import datetime as dt
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from blake3 import blake3

from filestore.blocks.port import StoreMarks
from filestore.failpoints import reached
from filestore.meta import journal
from filestore.meta.database import Database, Tx
from filestore.meta.journal import Row, Seal
from filestore.model import MAX_INT

DOMAIN: Final = b"filestore quota journal seal 1\0"
GENESIS: Final = bytes(32)
"""What the first seal of a group follows."""

KIND: Final = "journal"
"""The kind of the marks in the block store."""

KEEP_DAYS: Final = 31
"""Marks of each day are kept for so long, then the last one of each month."""

_NUMBERS: Final = struct.Struct(">10q")
_SPAN: Final = struct.Struct(">QQ")
_LENGTH: Final = struct.Struct(">I")
_NONE: Final = _LENGTH.pack(0xFFFFFFFF)
_PAGE: Final = 1000

_log: Final = structlog.get_logger("filestore.seal")


class Unreadable(ValueError):
    """A row that the service cannot have written."""


class Gap(Exception):
    """Rows that a seal should cover are not there. ``seq``: the first of them."""

    def __init__(self, group_id: str, seq: int) -> None:
        super().__init__(f"the journal of {group_id} has no row {seq}")
        self.group_id = group_id
        self.seq = seq


def encode_row(row: Row) -> bytes:
    """The canonical bytes of a row.

    :raises Unreadable: a value is of another kind than its column (SQLite holds anything).
    """
    try:
        numbers = _NUMBERS.pack(row.seq, row.at, *row[9:])
        return b"".join((numbers, *map(_text, row[2:9])))
    except (struct.error, TypeError, AttributeError, UnicodeEncodeError) as err:
        raise Unreadable(str(err)) from err


class Chaining:
    """Takes the rows of one range in order, and gives its head."""

    def __init__(self, previous: bytes, group_id: str, first: int, last: int) -> None:
        self._hasher = blake3(
            b"".join((DOMAIN, previous, _text(group_id), _SPAN.pack(first, last)))
        )

    def feed(self, rows: Iterable[Row]) -> None:
        """:raises Unreadable: see :func:`encode_row`."""
        self._hasher.update(b"".join(map(encode_row, rows)))

    def head(self) -> bytes:
        """The hash of what came so far; 32 bytes."""
        return self._hasher.digest()


async def seal_next(db: Database, group_id: str, *, limit: int) -> Seal | None:
    """Seals the next ``limit`` rows of a group at most; None: there is nothing, or somebody else
    was faster.

    Takes no lock but that of the new row: writers of the journal never wait. What is sealed was
    committed, and whatever is committed later comes behind it. A death between the steps leaves
    a whole seal or none.

    :raises Gap: a row is missing, so that nothing is sealed.
    :raises Unreadable: a row holds what the service never writes.
    """
    last, rows = await db.read(partial(_unsealed, group_id=group_id, limit=limit))
    if not rows:
        return None
    first = 1 if last is None else last.last_seq + 1
    for seq, row in enumerate(rows, first):
        if row.seq != seq:
            raise Gap(group_id, seq)
    previous = GENESIS if last is None else last.head
    chaining = Chaining(previous, group_id, first, rows[-1].seq)
    chaining.feed(rows)
    made = Seal(group_id, first, rows[-1].seq, 0, previous, chaining.head())
    sealed = await db.transact(partial(journal.insert_seal, seal=made))
    if sealed is not None:
        reached("seal.committed")
        _tell("journal.sealed", sealed)
    return sealed


async def _unsealed(tx: Tx, group_id: str, limit: int) -> tuple[Seal | None, list[Row]]:
    last = await journal.last_seal(tx, group_id)
    after = 0 if last is None else last.last_seq
    return last, await journal.page(tx, group_id, after=after, last=MAX_INT, limit=limit)


async def mark_seals(db: Database, store: StoreMarks) -> int:
    """Puts the newest unmarked head of each group into the store; says how many it were.

    A head stands for the whole chain before it. Marks that it supersedes go when it is durable. A
    death between the steps leaves a mark that is written again.

    :raises StoreFull, StoreUnavailable: what is not marked stays so. Safe to repeat.
    """
    found = await db.read(partial(journal.unmarked, limit=_PAGE))
    for seal in found:
        await store.write_mark(KIND, Mark.of(seal).name)
        reached("seal.marked")
        _tell("journal.marked", seal)
        act = partial(journal.set_marked, group_id=seal.group_id, last_seq=seal.last_seq)
        await db.transact(act)
        await _tidy(db, store, seal.group_id)
    return len(found)


async def _tidy(db: Database, store: StoreMarks, group_id: str) -> None:
    """Removes superseded marks, of those that are this chain's: another head may be a proof."""
    marks = await marks_of(store, group_id)
    heads = await db.read(
        partial(journal.heads_of, group_id=group_id, seqs=[mark.seq for mark in marks])
    )
    ours = [mark for mark in marks if heads.get(mark.seq) == mark.head]
    await store.remove_marks(KIND, [mark.name for mark in superseded(ours)])


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A head outside: whose, up to which row, sealed on which day (UTC)."""

    group_id: str
    seq: int
    day: dt.date
    head: bytes

    @classmethod
    def of(cls, seal: Seal) -> "Mark":
        day = dt.datetime.fromtimestamp(seal.at / 1e6, dt.UTC).date()
        return cls(seal.group_id, seal.last_seq, day, seal.head)

    @classmethod
    def parse(cls, name: str) -> "Mark | None":
        """What a name says; None if it is no mark of a journal."""
        group_id, _, rest = name.partition("/")
        match rest.split("."):
            case [seq, day, head] if seq.isdecimal() and len(head) == 64:
                try:
                    return cls(group_id, int(seq), dt.date.fromisoformat(day), bytes.fromhex(head))
                except ValueError:
                    return None
        return None

    @property
    def name(self) -> str:
        """``<group>/<seq>.<day>.<head>``: names of a group sort as its rows do."""
        return f"{self.group_id}/{self.seq:019d}.{self.day}.{self.head.hex()}"


async def marks_of(store: StoreMarks, group_id: str) -> list[Mark]:
    """The marks of a group, by row. What is no mark is left out.

    :raises StoreUnavailable: safe to repeat.
    """
    folder, found = f"{group_id}/", []
    async for item in store.walk_marks(KIND, after=folder):
        if not item.path.startswith(folder):
            break
        if (mark := Mark.parse(item.path)) is not None:
            found.append(mark)
    return found


def superseded(marks: Iterable[Mark]) -> list[Mark]:
    """Those marks of one group that newer ones stand for.

    Kept are the newest, the last of each day for :data:`KEEP_DAYS` days before that, and the last
    of each month: some forty objects, and twelve more each year.
    """
    ordered = sorted(marks, key=lambda mark: mark.seq)
    kept: dict[object, Mark] = {}
    for mark in ordered:
        is_recent = abs(ordered[-1].day - mark.day) <= dt.timedelta(KEEP_DAYS)
        kept[mark.day if is_recent else (mark.day.year, mark.day.month)] = mark
    return [mark for mark in ordered if mark not in kept.values()]


def _text(text: str | None) -> bytes:
    if text is None:
        return _NONE
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _tell(event: str, seal: Seal) -> None:
    """The head as a line of the log, which is outside of the database, too."""
    _log.info(
        event,
        group=seal.group_id,
        first_seq=seal.first_seq,
        last_seq=seal.last_seq,
        head=seal.head.hex(),
    )
