"""What a command gives on standard output: a JSON document, or lines for people."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.cells import cell_len

from filestore.client.transport import Document
from filestore.errors import Json
from filestore.model import format_size

_GAP: Final = "  "
_NOTHING: Final = "-"


def show(document: Json, *lines: str, as_json: bool) -> None:
    """One thing: the document, or the lines about it."""
    if as_json:
        print(json_line(_rooted(document)))
        return
    for line in lines:
        print(printable(line))


def show_list(
    items: Sequence[Document], columns: Sequence["Column"], *, as_json: bool, empty: str = ""
) -> None:
    """Many things: ``{"items": […]}``, or a table. ``empty`` is said on standard error."""
    if as_json:
        print(json_line(_rooted({"items": list(items)})))
    elif items:
        for line in table(items, columns):
            print(line)
    elif empty:
        print(empty, file=sys.stderr)


class Column:
    """One column of a table: its head, and the member of the item that it shows."""

    def __init__(self, head: str, member: str) -> None:
        self.head = head
        self.member = member

    def cell(self, item: Document) -> str:
        value = item.get(self.member)
        if value is None:
            return _NOTHING
        if isinstance(value, bool):
            return "yes" if value else "no"
        return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))

    @property
    def is_number(self) -> bool:
        return False


class SizeColumn(Column):
    """Bytes, for people."""

    def cell(self, item: Document) -> str:
        value = item.get(self.member)
        return format_size(value) if isinstance(value, int) else _NOTHING

    @property
    def is_number(self) -> bool:
        return True


class TimeColumn(Column):
    """A time of RFC 3339 in UTC, to the minute."""

    def cell(self, item: Document) -> str:
        value = item.get(self.member)
        if not isinstance(value, str):
            return _NOTHING
        return printable(f"{value[:10]} {value[11:16]}Z")


class NameColumn(Column):
    """A name; a folder's ends with a slash."""

    def cell(self, item: Document) -> str:
        return super().cell(item) + ("/" if item.get("kind") == "folder" else "")


def table(items: Iterable[Document], columns: Sequence[Column]) -> list[str]:
    """Aligned lines with a head; wide characters count as two cells."""
    rows = [[column.head for column in columns]]
    rows += [[column.cell(item) for column in columns] for item in items]
    widths = [max(cell_len(row[at]) for row in rows) for at in range(len(columns))]
    return [
        _GAP.join(
            _pad(cell, width, column.is_number)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: control characters are shown escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def json_line(document: Mapping[str, Json] | Json) -> str:
    """One line of JSON. What a terminal would obey, and what is no character, is escaped."""
    text = json.dumps(document, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _rooted(document: Json) -> Json:
    """The document with its paths in one form, that of the server: with a slash in front."""
    if isinstance(document, list):
        return [_rooted(item) for item in document]
    if not isinstance(document, dict):
        return document
    rooted: dict[str, Json] = {
        key: value if key == "problem" else _rooted(value) for key, value in document.items()
    }
    if isinstance(path := rooted.get("path"), str):
        rooted["path"] = f"/{path.lstrip('/')}"
    return rooted


def size_of(document: Document, member: str) -> str:
    """A size in ``document`` for people, ``-`` when it is missing."""
    return SizeColumn("", member).cell(document)


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space
