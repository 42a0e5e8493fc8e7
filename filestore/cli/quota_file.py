"""The limits of groups as a CSV file: exact bytes going out, sizes such as 10GiB coming in."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from filestore.cells import plain_cell, safe_cell
from filestore.client.transport import Document
from filestore.errors import BadRequest, Json
from filestore.model import MAX_INT, parse_size

COLUMNS: Final = ("group", "quota_bytes", "soft_limit", "files_limit")
_NEEDED: Final = frozenset(("group", "quota_bytes"))
_OTHERS: Final = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets of some countries write between cells instead of commas."""


def read_rows(path: Path) -> list[Json]:
    """The rows of a file as the server takes them, with the lines they end in.

    An empty cell, or ``none``, in an optional column takes that limit away; a column that is not
    there leaves it. Blank lines are skipped.

    :raises BadRequest: what is wrong, by file and line: the first, and all in ``errors``.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRequest(field=str(path), reason="it is not UTF-8") from err
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Json] = []
    wrong: list[Json] = []
    try:
        header = _header(path, next(reader, []))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                _take(header, cells, reader.line_num, rows, wrong)
    except csv.Error as err:
        where = f"{path}, line {reader.line_num}"
        raise BadRequest(field=where, reason=f"it is no CSV: {err}") from err
    if not rows and not wrong:
        raise BadRequest(field=str(path), reason="it has no rows below its header")
    if wrong:
        first = wrong[0]
        assert isinstance(first, dict)
        raise BadRequest(field=first["field"], reason=first["reason"], errors=wrong)
    return rows


def write_rows(items: Iterable[Document]) -> str:
    """The limits of groups as a file that :func:`read_rows` reads back as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        limits = ["" if (value := item.get(name)) is None else value for name in COLUMNS[1:]]
        writer.writerow([safe_cell(str(item.get("group"))), *limits])
    return text.getvalue()


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    known = f"it must be {','.join(COLUMNS)}; the last two may be left out"
    field = f"{path}, line 1"
    for separator, called in _OTHERS.items():
        if _NEEDED <= {name.strip() for name in ",".join(names).split(separator)}:
            reason = f"its columns are separated by {called}; save it with commas"
            raise BadRequest(field=field, reason=reason)
    if not _NEEDED <= set(names):
        raise BadRequest(field=field, reason=f"the header is missing: {known}")
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise BadRequest(field=field, reason=f"there is no column {unknown[0]!r}: {known}")
    if len(set(names)) < len(names):
        raise BadRequest(field=field, reason="a column is there twice")
    return names


def _take(
    header: list[str], cells: list[str], line: int, rows: list[Json], wrong: list[Json]
) -> None:
    """Adds one row to what is right, or to what is wrong."""
    if len(cells) != len(header):
        wrong.append(_wrong(line, "row", f"it has {len(cells)} cells, the header {len(header)}"))
        return
    row: dict[str, Json] = {"line": line}
    for name, cell in zip(header, cells, strict=True):
        try:
            row[name] = _value(name, cell)
        except ValueError as err:
            wrong.append(_wrong(line, name, str(err)))
            return
    rows.append(row)


def _value(name: str, cell: str) -> Json:
    """:raises ValueError: says what the cell must be."""
    text = plain_cell(cell.strip())
    if name == "group":
        if not text:
            raise ValueError("it is empty")
        return text
    if name not in _NEEDED and text.lower() in ("", "none"):
        return None
    if name == "files_limit":
        if not (text.isascii() and text.isdigit()) or int(text) > MAX_INT:
            raise ValueError(f"{text!r} is no number of files")
        return int(text)
    return parse_size(text)


def _wrong(line: int, field: str, reason: str) -> Json:
    return {"field": f"line {line}, {field}", "line": line, "reason": reason}
