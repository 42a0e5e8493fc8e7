"""What an audit of quotas found, in one shape; all of it can be written as JSON."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from filestore.errors import Json
from filestore.meta.audit_sums import NAMES, Figures
from filestore.model import AccountKind, BlockState, format_instant
from filestore.quota.auditing import Audited
from filestore_gc.fsck_report import Finding
from filestore_gc.report import Problem

ACCOUNTS: Final = 100
"""Accounts with a difference that a report keeps in full. It says how many there are."""
LISTED: Final = 100
"""Differences, rows of a correction and findings of one account that a report lists."""


class AuditResult(StrEnum):
    """How it ended."""

    CLEAN = "clean"
    """Nothing differs."""
    DRIFT = "drift"
    """Something differs, or did and was not corrected."""
    CORRECTED = "corrected"
    """Something differed; now nothing does."""
    FAILED = "failed"
    """The store did not answer: what was said of quotas holds."""


@dataclass(slots=True)
class Stored:
    """Blocks in one state. ``bytes``: of data; ``stored_bytes``: as their rows say they lie in
    the store; ``objects``, ``object_bytes``: those of them that the store lists."""

    blocks: int = 0
    bytes: int = 0
    stored_bytes: int = 0
    objects: int = 0
    object_bytes: int = 0


@dataclass(slots=True)
class Physical:
    """The block table held against the store's own list. ``findings`` were seen twice.

    ``domains``: objects and bytes that the store lists; ``unnamed``: those that no row names.
    """

    states: dict[BlockState, Stored] = field(default_factory=dict)
    domains: dict[str, tuple[int, int]] = field(default_factory=dict)
    unnamed: tuple[int, int] = (0, 0)
    findings: tuple[Finding, ...] = ()
    is_whole: bool = True

    @property
    def difference(self) -> int:
        """Bytes that are in one and not in the other."""
        return sum(finding.size for finding in self.findings)

    def to_json(self) -> dict[str, Json]:
        return {
            "difference_bytes": self.difference,
            "objects": sum(objects for objects, _ in self.domains.values()),
            "object_bytes": sum(size for _, size in self.domains.values()),
            "domains": [
                {"domain": domain, "objects": objects, "bytes": size}
                for domain, (objects, size) in sorted(self.domains.items())
            ],
            "states": [
                {
                    "state": state.value,
                    "blocks": stored.blocks,
                    "bytes": stored.bytes,
                    "stored_bytes": stored.stored_bytes,
                    "objects": stored.objects,
                    "object_bytes": stored.object_bytes,
                }
                for state, stored in sorted(self.states.items())
            ],
            "unnamed_objects": self.unnamed[0],
            "unnamed_bytes": self.unnamed[1],
            "findings": [finding.to_json() for finding in self.findings[:LISTED]],
            "omitted": max(0, len(self.findings) - LISTED),
            "complete": self.is_whole,
        }


@dataclass(slots=True)
class AuditReport:
    """One audit. Times in microseconds. ``drift``: how much differed, over all accounts."""

    is_repair: bool
    started_at: int
    ended_at: int = 0
    accounts: int = 0
    journal_rows: int = 0
    drift: Figures = Figures()
    drifted: int = 0
    left: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    found: list[Audited] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)
    physical: Physical | None = None
    problem: Problem | None = None

    def add(self, audited: Audited) -> None:
        """One more account."""
        self.accounts += 1
        self.journal_rows += audited.journal_rows
        for note in audited.notes[: LISTED - len(self.noted)]:
            self.noted.append((audited.account.name, note))
        if not audited.differences:
            return
        self.drifted += 1
        self.left += not audited.is_good
        self.drift = self.drift.plus(audited.drift)
        self.kinds.update(each.kind.value for each in audited.differences)
        if len(self.found) < ACCOUNTS:
            self.found.append(audited)

    @property
    def is_good(self) -> bool:
        """Whether all was looked at, and nothing differs now."""
        return self.result in (AuditResult.CLEAN, AuditResult.CORRECTED)

    @property
    def result(self) -> AuditResult:
        if self.problem is not None:
            return AuditResult.FAILED
        if self.left or (self.physical is not None and self.physical.findings):
            return AuditResult.DRIFT
        return AuditResult.CORRECTED if self.drifted else AuditResult.CLEAN

    def to_json(self) -> dict[str, Json]:
        """Plain values; times are RFC 3339. Sizes of ``drift`` are bytes, the rest of it files."""
        return {
            "result": self.result.value,
            "is_good": self.is_good,
            "is_repair": self.is_repair,
            "started_at": format_instant(self.started_at),
            "verified_at": format_instant(self.ended_at),
            "accounts": self.accounts,
            "journal_rows": self.journal_rows,
            "difference_bytes": self.drift.used + self.drift.reserved,
            "difference_files": self.drift.files + self.drift.reserved_files,
            "drift": {name: getattr(self.drift, name) for name in NAMES},
            "drifted_accounts": self.drifted,
            "left_accounts": self.left,
            "kinds": {**self.kinds},
            "found": [_account(audited) for audited in self.found],
            "omitted": self.drifted - len(self.found),
            "notes": [{"account": name, "note": note} for name, note in self.noted],
            "physical": None if self.physical is None else self.physical.to_json(),
            "problem": None
            if self.problem is None
            else {"code": self.problem.code, "reason": self.problem.reason},
        }


def _account(audited: Audited) -> dict[str, Json]:
    account, correction = audited.account, audited.correction
    members: list[Json] = [
        {
            "user": member.user_id,
            "used": [member.used, member.true_used],
            "reserved": [member.reserved, member.true_reserved],
        }
        for member in correction.members[:LISTED]
    ]
    return {
        "account": account.id,
        "name": account.name,
        "is_pool": account.kind is AccountKind.POOL,
        "before": {**account.counters._asdict()},
        "truth": {**account.truth._asdict()},
        "differences": [each.to_json() for each in audited.differences[:LISTED]],
        "omitted": max(0, len(audited.differences) - LISTED),
        "plan": {
            "rows": [row.to_json() for row in correction.rows[:LISTED]],
            "omitted": max(0, len(correction.rows) - LISTED),
            "members": members,
            "is_complete": audited.is_whole,
        },
        "is_corrected": audited.is_corrected,
        "left": [each.to_json() for each in audited.left[:LISTED]] if audited.is_corrected else [],
    }
