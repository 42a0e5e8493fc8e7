"""What a verification of the journal says: each finding with its place and in words."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from filestore.errors import Json
from filestore.model import format_instant

MAX_FINDINGS: Final = 1000
"""Findings that are kept: memory is bounded, and one is enough to look further."""


class Kind(StrEnum):
    ROWS_MISSING = "rows-missing"
    """Rows that must be there, by those around them or by what the group or a seal counts."""
    ROW_UNREADABLE = "row-unreadable"
    """A row with what the service never writes."""
    BALANCE = "balance"
    """A counter did not move by what the row says: a row was changed, or the counter was changed
    without a row before it."""
    COUNTER = "counter"
    """The group's row says another figure than the newest row of its journal."""
    SEAL_GAP = "seal-gap"
    """Seals that do not follow one another: one was removed, added or changed."""
    HEAD = "head"
    """The rows of a seal are not those that were sealed."""
    MARK_UNKNOWN = "mark-unknown"
    """A head outside of the database that is not in its chain: journal and seals were rewritten,
    or the database is an older backup."""
    MARK_MISSING = "mark-missing"
    """The database says that a head was put outside, and neither it nor a later one is there."""
    GROUP_UNKNOWN = "group-unknown"
    """Heads outside of a group that the database does not have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``seq``: the row, or the last row of the seal."""

    kind: Kind
    group_id: str
    seq: int
    expected: Json
    got: Json
    detail: str
    group_name: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind.value,
            "group": self.group_id,
            "group_name": self.group_name,
            "seq": self.seq,
            "expected": self.expected,
            "got": self.got,
            "detail": self.detail,
        }


@dataclass(slots=True)
class JournalReport:
    """What was verified, and what is wrong with it. Times in microseconds."""

    started_at: int = 0
    ended_at: int = 0
    groups: int = 0
    rows: int = 0
    sealed_rows: int = 0
    seals: int = 0
    marks: int = 0
    findings: list[Finding] = field(default_factory=list)
    omitted: int = 0

    @property
    def is_good(self) -> bool:
        return not self.findings

    def add(self, finding: Finding) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.omitted += 1

    def to_json(self) -> dict[str, Json]:
        return {
            "result": "intact" if self.is_good else "broken",
            "is_good": self.is_good,
            "started_at": format_instant(self.started_at),
            "ended_at": format_instant(self.ended_at),
            "groups": self.groups,
            "rows": self.rows,
            "sealed_rows": self.sealed_rows,
            "seals": self.seals,
            "marks": self.marks,
            "findings": [finding.to_json() for finding in self.findings],
            "omitted": self.omitted,
        }
