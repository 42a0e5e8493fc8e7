"""A statement as it is sent: one JSON document, or one CSV table, both in pieces.

CSV is that of RFC 4180. A cell of text that a spreadsheet would take for a formula gets an
apostrophe before it.
"""

import csv
import datetime as dt
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from filestore.errors import Json
from filestore.meta.journal import Balance, Row
from filestore.model import format_instant
from filestore.quota.statement import Period, Sums, Totals

Names = Mapping[str, str]

FIGURES: Final = ("bytes", "reserved_bytes", "files", "reserved_files")
BALANCES: Final = ("used_bytes", "reserved_bytes", "files", "reserved_files")
COLUMNS: Final = (
    *("line", "seq", "at", "actor", "member", "cause", "path", "type"),
    *FIGURES,
    *("used_after", "reserved_after", "files_after", "reserved_files_after"),
)
"""``line`` is opening, entry, closing, unexplained, or whose total it is: member, folder, type,
day; of a total the key stands in the column of that name (a folder under path, a day under at)."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_TABLES: Final = (
    ("members", "member"),
    ("folders", "folder"),
    ("types", "type"),
    ("days", "day"),
)
_KEY_COLUMN: Final = {"member": "member", "folder": "path", "type": "type", "day": "at"}
_UTC: Final = dt.UTC


@dataclass(frozen=True, slots=True)
class Heading:
    """What a statement is of. ``begin`` and ``end`` as they were asked for; None: open."""

    group_id: str
    group_name: str
    begin: int | None
    end: int | None
    zone: str


class Form(Protocol):
    """Gives the pieces in order: one beginning, any number of pages, one end."""

    content_type: str
    suffix: str

    def begin(self, heading: Heading, period: Period) -> bytes: ...

    def page(self, rows: list[Row], names: Names) -> bytes: ...

    def end(self, period: Period, totals: Totals) -> bytes: ...


class JsonForm:
    """One valid document, when all of it has come."""

    content_type = "application/json"
    suffix = "json"

    def __init__(self) -> None:
        self._is_first = True

    def begin(self, heading: Heading, period: Period) -> bytes:
        head: dict[str, Json] = {
            "group": {"id": heading.group_id, "name": heading.group_name},
            "from": _instant(heading.begin),
            "to": _instant(heading.end),
            "tz": heading.zone,
            "first_seq": period.first,
            "last_seq": period.last,
            "opening": _balance(period.opening),
        }
        return json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "entries": ['

    def page(self, rows: list[Row], names: Names) -> bytes:
        text = json.dumps([_entry(row, names) for row in rows], ensure_ascii=False)[1:-1]
        if self._is_first:
            self._is_first = False
            return text.encode()
        return b", " + text.encode()

    def end(self, period: Period, totals: Totals) -> bytes:
        tail: dict[str, Json] = {
            "closing": _balance(period.closing),
            "totals": {
                table: [
                    {key: name, **dict(zip(FIGURES, figures, strict=True))}
                    for name, figures in _sorted(getattr(totals, table))
                ]
                for table, key in _TABLES
            },
            "unexplained": _balance(totals.unexplained(period)),
        }
        return b"], " + json.dumps(tail, ensure_ascii=False)[1:].encode() + b"\n"


class CsvForm:
    """One table with a head; the first column says what a line is."""

    content_type = "text/csv"
    suffix = "csv"

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\r\n")

    def begin(self, heading: Heading, period: Period) -> bytes:
        self._writer.writerow(COLUMNS)
        at = "" if heading.begin is None else format_instant(heading.begin)
        self._balance("opening", period.first - 1, at, period.opening)
        return self._taken()

    def page(self, rows: list[Row], names: Names) -> bytes:
        self._writer.writerows(
            (
                "entry",
                row.seq,
                _moment(row.at),
                _safe(_name(row.actor_id, names)),
                _safe(_name(row.member_id, names)),
                row.cause,
                _safe(row.path),
                _safe(row.mime),
                *row[9:17],
            )
            for row in rows
        )
        return self._taken()

    def end(self, period: Period, totals: Totals) -> bytes:
        unexplained = totals.unexplained(period)
        if any(unexplained):
            self._writer.writerow(["unexplained", *[""] * 7, *unexplained, *[""] * 4])
        self._balance("closing", period.last, "", period.closing)
        for table, key in _TABLES:
            for name, figures in _sorted(getattr(totals, table)):
                line = dict.fromkeys(COLUMNS, "") | {_KEY_COLUMN[key]: _safe(name)}
                line |= {"line": key} | {
                    column: str(figure) for column, figure in zip(FIGURES, figures, strict=True)
                }
                self._writer.writerow(line.values())
        return self._taken()

    def _balance(self, line: str, seq: int, at: str, balance: Balance) -> None:
        self._writer.writerow([line, seq, at, *[""] * 9, *balance])

    def _taken(self) -> bytes:
        taken = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return taken


def _entry(row: Row, names: Names) -> dict[str, Json]:
    return {
        "seq": row.seq,
        "at": _moment(row.at),
        "actor": _name(row.actor_id, names),
        "actor_id": row.actor_id,
        "member": _name(row.member_id, names),
        "member_id": row.member_id,
        "cause": row.cause,
        "ref": row.ref,
        "entry_id": row.entry_id,
        "path": row.path,
        "type": row.mime,
        "bytes": row.delta_used,
        "reserved_bytes": row.delta_reserved,
        "files": row.delta_files,
        "reserved_files": row.delta_reserved_files,
        "balance": {
            "used_bytes": row.used_after,
            "reserved_bytes": row.reserved_after,
            "files": row.files_after,
            "reserved_files": row.reserved_files_after,
        },
    }


def member_of(row: Row, names: Names) -> str | None:
    """Whose bytes a row is about, as totals name them."""
    return _name(row.member_id, names)


def _name(user_id: str | None, names: Names) -> str | None:
    return None if user_id is None else names.get(user_id, user_id)


def _safe(text: str | None) -> str:
    """``text`` so that no spreadsheet computes it; empty where there is none."""
    if not text:
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _moment(at: int) -> str:
    """RFC 3339 in UTC, to the microsecond: rows of one moment keep their distance."""
    seconds, micro = divmod(at, 1_000_000)
    moment = dt.datetime.fromtimestamp(seconds, _UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micro:06d}Z"


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


def _balance(balance: Balance) -> dict[str, Json]:
    return dict(zip(BALANCES, balance, strict=True))


def _sorted(table: Sums) -> list[tuple[str | None, list[int]]]:
    """Lines by name; what has none comes last."""
    return sorted(table.items(), key=lambda line: (line[0] is None, line[0] or ""))
