"""Cells of CSV files that no spreadsheet takes for a formula, and that come back as they were.

A text that begins like a formula gets an apostrophe in front, which spreadsheets hide. So does
one that already begins with an apostrophe before such a character: else it would lose it on the
way back. Source: OWASP, "CSV Injection".
"""

from typing import Final

_FORMULA: Final = frozenset("=+-@\t\r\n＝＋－＠")


def safe_cell(text: str) -> str:
    """``text`` as a cell that a spreadsheet shows and does not compute."""
    return f"'{text}" if text[:1] in _FORMULA or _is_guarded(text) else text


def plain_cell(cell: str) -> str:
    """What :func:`safe_cell` made ``cell`` of; any other cell is as it is."""
    return cell[1:] if _is_guarded(cell) else cell


def _is_guarded(text: str) -> bool:
    return len(text) > 1 and text[0] == "'" and (text[1] in _FORMULA or text[1] == "'")
