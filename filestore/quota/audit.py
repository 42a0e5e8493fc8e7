"""Whether an account's books agree, why not, and what would put them right. Pure: no database.

Four things say what an account holds: the counters of its row, the balance of its journal's last
row, the sums of the journal by entry and by upload, and the truth, which is summed up from
versions, entries and uploads. Where they differ, which of them agree tells the cause.

A correction never edits: rows of the journal take in what moved without it, put right what the
journal says of single entries and uploads, and lead to the truth, which the counters become.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from filestore.errors import Json
from filestore.meta.audit_items import Item, Journal, LastRow, WrongContent
from filestore.meta.audit_sums import NAMES, Account, Figures, MemberSum
from filestore.model import UploadState, format_instant

BYTES: Final = ("used", "reserved")
"""The figures that are bytes; the others count files."""


class Kind(StrEnum):
    """What differs."""

    COUNTER = "counter"
    """The counter is not what the journal's last row left."""
    SUM = "sum"
    """Counter and journal agree, and not with versions and uploads."""
    ENTRY = "entry"
    """The journal says something else of an entry than its versions do."""
    UPLOAD = "upload"
    """The journal says something else of an upload than the upload does."""
    RESERVATION = "reservation"
    """An upload ended, and its reservation was never released."""
    MEMBER = "member"
    """A member's account is not what the member's versions and uploads come to."""
    CONTENT = "content"
    """A version is not as large as its content, or as the blocks of that."""


@dataclass(frozen=True, slots=True)
class Books:
    """All that is read of one account, of one moment. ``entries``, ``uploads``, ``members`` and
    ``contents`` hold only what differs; ``last`` the last rows about them, ``paths`` where entries
    lie, ``states`` the uploads that still have a row, ``living`` the entries that do.

    ``is_whole``: nothing was left out because there was too much of it.
    """

    account: Account
    journal: Journal
    entries: tuple[Item, ...] = ()
    uploads: tuple[Item, ...] = ()
    members: tuple[MemberSum, ...] = ()
    contents: tuple[WrongContent, ...] = ()
    last: Mapping[str, LastRow] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, UploadState] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True

    @property
    def is_itemised(self) -> bool:
        """Whether the journal names an entry with all that it charges.

        Rows from before it did name none, and rows of corrections that undo one another come to
        nothing, but for what balances once jumped by.
        """
        jumps = self.journal.moved.less(self.journal.balance)
        loose = self.journal.loose
        return all(getattr(loose, name) in (0, getattr(jumps, name)) for name in ("used", "files"))


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: ``expected`` by versions and uploads, ``found`` in counter or
    journal. Bytes, or files where ``figure`` says so."""

    kind: Kind
    figure: str
    expected: int
    found: int
    cause: str
    entry: str | None = None
    upload: str | None = None
    version: str | None = None
    member: str | None = None
    path: str | None = None
    last: LastRow | None = None

    @property
    def size(self) -> int:
        return abs(self.found - self.expected)

    def to_json(self) -> dict[str, Json]:
        last: Json = None
        if self.last is not None:
            at = format_instant(self.last.at)
            last = {"seq": self.last.seq, "at": at, "cause": self.last.cause}
        return {
            "kind": self.kind.value,
            "figure": self.figure,
            "expected": self.expected,
            "found": self.found,
            "cause": self.cause,
            "entry": self.entry,
            "upload": self.upload,
            "version": self.version,
            "member": self.member,
            "path": self.path,
            "last_row": last,
        }


def compare(books: Books) -> list[Difference]:
    """All that differs, the whole before its parts. Empty: the books agree."""
    found = [*_compare_totals(books)]
    if books.is_itemised:
        found += [_of_entry(books, item, name) for item, name in _differing(books.entries)]
    found += [_of_upload(books, item, name) for item, name in _differing(books.uploads)]
    for member in books.members:
        found += _of_member(books, member)
    found += [_of_content(books, wrong) for wrong in books.contents]
    return found


def difference(found: list[Difference]) -> Figures:
    """How much differs, by figure: of the views of one thing the one that differs most."""
    views: dict[tuple[str, str], int] = {}
    for each in found:
        view = "whole" if each.kind in (Kind.COUNTER, Kind.SUM) else each.kind.value
        view = "upload" if each.kind is Kind.RESERVATION else view
        views[view, each.figure] = views.get((view, each.figure), 0) + each.size
    return Figures(
        **{
            name: max((size for (_, figure), size in views.items() if figure == name), default=0)
            for name in NAMES
        }
    )


def notes(books: Books) -> list[str]:
    """What no correction can put right, and what is no difference of any sum."""
    said, journal, account = [], books.journal, books.account
    if journal.rows != journal.last_seq or account.journal_seq != journal.last_seq:
        said.append(
            f"the journal has {journal.rows} rows, its last has the number {journal.last_seq}, and"
            f" {account.journal_seq} were written; see filestore quota verify-journal"
        )
    if journal.moved != journal.balance:
        said.append(
            "the rows of the journal do not add up to its last balance: somewhere a row does not"
            " follow; see filestore quota verify-journal"
        )
    if not books.is_itemised:
        said.append("old rows of the journal name no entry, so it is compared as a whole only")
    return said


def _compare_totals(books: Books) -> Iterator[Difference]:
    account, journal = books.account, books.journal
    for name in NAMES:
        counter, true = getattr(account.counters, name), getattr(account.truth, name)
        last = getattr(journal.balance, name)
        behind = f"row {journal.last_seq} of the journal leaves {last}"
        if counter != last:
            cause = f"the counter was changed without the journal: it is {counter}, {behind}"
            found = counter if counter != true else last
            yield Difference(Kind.COUNTER, name, true, found, cause)
        elif counter != true:
            cause = f"counter and journal say {counter}, {_SOURCE[name]} come to {true}"
            yield Difference(Kind.SUM, name, true, counter, cause)


_SOURCE: Final = {
    "used": "its versions",
    "reserved": "its uploads",
    "files": "its files",
    "reserved_files": "the new files of its uploads",
}


def _differing(items: tuple[Item, ...]) -> Iterator[tuple[Item, str]]:
    for item in items:
        for name in NAMES:
            if getattr(item.journal, name) != getattr(item.truth, name):
                yield item, name


def _of_entry(books: Books, item: Item, name: str) -> Difference:
    said, true = getattr(item.journal, name), getattr(item.truth, name)
    path, last = books.paths.get(item.id), books.last.get(item.id)
    if last is None:
        cause = "no row of the journal is about it"
    elif path is None:
        cause = f"it is gone, and the journal still holds {said} of it"
    else:
        cause = f"the journal holds {said} of it, its versions come to {true}"
        cause = "the journal counts it as no file" if name == "files" else cause
    return Difference(
        Kind.ENTRY,
        name,
        true,
        said,
        cause,
        entry=item.id,
        member=_name(books, item.member_id),
        path=path or (None if last is None else last.path),
        last=last,
    )


def _of_upload(books: Books, item: Item, name: str) -> Difference:
    said, true = getattr(item.journal, name), getattr(item.truth, name)
    last, state = books.last.get(item.id), books.states.get(item.id)
    kind, cause = Kind.UPLOAD, f"the journal holds {said} for it, the upload says {true}"
    if state is not UploadState.OPEN and said > true:
        ended = "it has ended" if state is None else f"it is {state.value}"
        kind, cause = Kind.RESERVATION, f"{ended}, and its reservation was never released"
    elif last is None:
        cause = "no row of the journal is about it"
    return Difference(
        kind,
        name,
        true,
        said,
        cause,
        upload=item.id,
        member=_name(books, item.member_id),
        path=None if last is None else last.path,
        last=last,
    )


def _of_member(books: Books, member: MemberSum) -> Iterator[Difference]:
    pairs = {
        "used": (member.used, member.true_used),
        "reserved": (member.reserved, member.true_reserved),
    }
    for name, (found, true) in pairs.items():
        if found != true:
            mine = "versions" if name == "used" else "uploads"
            cause = f"the member's account says {found}, the member's {mine} come to {true}"
            who = _name(books, member.user_id)
            yield Difference(Kind.MEMBER, name, true, found, cause, member=who)


def _of_content(books: Books, wrong: WrongContent) -> Difference:
    has = "is not complete" if wrong.content < 0 else f"has {wrong.content} bytes"
    cause = (
        f"the version is charged with {wrong.size} bytes, its content {has}, the blocks of that"
        f" come to {wrong.blocks}; filestore fsck says more"
    )
    return Difference(
        Kind.CONTENT,
        "used",
        wrong.blocks,
        wrong.size,
        cause,
        entry=wrong.entry_id,
        version=wrong.version_id,
        path=books.paths.get(wrong.entry_id),
    )


def _name(books: Books, user_id: str | None) -> str | None:
    return None if user_id is None else books.names.get(user_id, user_id)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a correction: what it moves, what it is about, and why."""

    moves: Figures
    why: str
    ref: str | None = None
    entry_id: str | None = None
    member_id: str | None = None
    path: str | None = None
    mime: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            **{f"delta_{name}": getattr(self.moves, name) for name in NAMES},
            "why": self.why,
            "entry": self.entry_id,
            "upload": self.ref,
            "path": self.path,
        }


@dataclass(frozen=True, slots=True)
class Correction:
    """What would put an account right: rows of the journal, in order, behind which the counters
    are ``counters``; and members whose accounts become what they take."""

    rows: tuple[Entry, ...] = ()
    counters: Figures | None = None
    members: tuple[MemberSum, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.members or self.counters is not None)


def plan(books: Books) -> Correction:
    """The correction of an account; empty: nothing is to be done, or nothing can be.

    No row leaves a balance below nothing: first comes what is, then what adds, then what takes.
    """
    account, journal = books.account, books.journal
    if account.is_deleted and any(account.truth):
        return Correction()  # a deleted group holds nothing: that fsck has to explain first
    strays = account.counters.less(journal.balance)
    items = [*_item_rows(books)] if books.is_whole else []
    left = account.truth.less(account.counters)
    for item in items:
        left = left.less(item.moves)
    rows = [*items, *_split(Entry(left, "what is left to the sums of versions and uploads"))]
    rows.sort(key=lambda row: min(row.moves) < 0)
    if any(strays):
        rows.insert(0, Entry(strays, "what the counters moved by without the journal"))
    is_right = account.counters == account.truth and not rows
    return Correction(tuple(rows), None if is_right else account.truth, books.members)


def _item_rows(books: Books) -> Iterator[Entry]:
    items = [*(books.entries if books.is_itemised else ()), *books.uploads]
    uploads = {item.id for item in books.uploads}
    for item in items:
        last, is_upload = books.last.get(item.id), item.id in uploads
        path = books.paths.get(item.id) or (None if last is None else last.path)
        yield from _split(
            Entry(
                item.truth.less(item.journal),
                "what the upload has reserved" if is_upload else "what the file's versions are",
                ref=item.id if is_upload else None,
                entry_id=None if is_upload else item.id,
                member_id=item.member_id,
                path=path,
                mime=None if last is None else last.mime,
            )
        )


def _split(row: Entry) -> Iterator[Entry]:
    """What of a row adds, and what of it takes, as rows of their own."""
    for sign in (1, -1):
        moves = Figures(*(move if move * sign > 0 else 0 for move in row.moves))
        if any(moves):
            yield Entry(moves, row.why, row.ref, row.entry_id, row.member_id, row.path, row.mime)
