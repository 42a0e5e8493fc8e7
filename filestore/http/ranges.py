"""Which bytes of a file a request wants. Pure functions on the header Range.

Source: RFC 9110, sections 14.1.2 (byte ranges), 14.2 (Range; what may be ignored or refused),
14.6 (multipart/byteranges) and 15.3.7.2 (coalescing).
"""

import re
from dataclasses import dataclass
from typing import Final

from filestore.errors import RangeNotSatisfiable
from filestore.model import MAX_INT

MAX_RANGES: Final = 50
"""Ranges in one request. Honest programs (PDF readers, zip tools) ask for fewer than twenty."""

_SET: Final = re.compile(r"bytes=(.*)", re.ASCII | re.IGNORECASE)
_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, end) of a file."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range for this part of ``size`` bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def parse_range(value: str, size: int) -> list[Span] | None:
    """The parts that ``value`` asks for of a file of ``size`` bytes; None: all of it.

    A header that is not well-formed, or counts in other units, is ignored, as the RFC has it.
    Parts that overlap or touch are sent as one, so no byte is sent twice.

    :raises RangeNotSatisfiable: all parts lie behind the end, or there are too many of them.
    """
    match = _SET.fullmatch(value)
    if match is None:
        return None
    specs = [part for raw in match[1].split(",") if (part := raw.strip(" \t"))]
    if not specs:
        return None
    if len(specs) > MAX_RANGES:
        raise RangeNotSatisfiable(size=size, most=MAX_RANGES)
    spans = []
    for spec in specs:
        bounds = _bounds(spec)
        if bounds is None:
            return None
        span = _resolve(*bounds, size)
        if span is not None:
            spans.append(span)
    if not spans:
        raise RangeNotSatisfiable(size=size)
    return _coalesced(spans) if size else None


def _bounds(spec: str) -> tuple[int | None, int | None] | None:
    """First and last position; no first: the last so many bytes. None: not well-formed."""
    match = _SPEC.fullmatch(spec)
    if match is None or not (match[1] or match[2]):
        return None
    first, last = _number(match[1]), _number(match[2])
    if first is not None and last is not None and last < first:
        return None
    return first, last


def _number(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else MAX_INT


def _resolve(first: int | None, last: int | None, size: int) -> Span | None:
    """The part of the file, None if it lies outside."""
    if first is None:
        return Span(max(size - (last or 0), 0), size) if last else None
    if first >= size:
        return None
    return Span(first, size if last is None else min(last + 1, size))


def _coalesced(spans: list[Span]) -> list[Span]:
    """The same bytes in as few parts as possible; in the order asked if nothing overlaps."""
    ordered = sorted(spans, key=lambda span: span.start)
    merged = [ordered[0]]
    for span in ordered[1:]:
        if span.start > merged[-1].end:
            merged.append(span)
        else:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
    return spans if len(merged) == len(spans) else merged
