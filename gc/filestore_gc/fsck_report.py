"""What fsck found, in one shape: text, JSON, and an exit code.

*Damage* is what should not be: bytes that are gone, sums that are wrong, objects and blocks
that nothing will ever collect. *Notes* are what crashes and ordinary work leave behind, and
what is healed already for readers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from filestore.blocks.port import BlockKey
from filestore.errors import Json
from filestore.meta.affected import Affected
from filestore.meta.healing import KnownBlock
from filestore.model import format_instant
from filestore_gc import wording
from filestore_gc.report import Problem

KEPT: Final = 10_000
"""Findings of one kind that a check keeps, some MB in all. It says when there are more."""


LISTED: Final = 1000
"""Findings, or steps of a plan, that text and JSON list; all are counted."""


class Kind(StrEnum):
    """What is wrong with a thing. The words are stable."""

    ORPHAN = "object-without-row"
    MISSING = "row-without-object"
    WRONG_SIZE = "object-of-wrong-size"
    DEAD = "reference-to-dead-block"
    REFERENCE = "references-do-not-fit"
    CONTENT = "content-of-wrong-size"
    VERSION = "version-of-wrong-size"
    OFFSET = "upload-at-wrong-offset"
    COUNTERS = "quota-counters"
    UNLISTED = "block-nobody-collects"
    UNWANTED = "content-nobody-releases"
    EPOCH = "epochs-differ"
    HEALABLE = "can-be-healed"
    READABLE = "readable-again"

    @property
    def is_damage(self) -> bool:
        return self not in (Kind.HEALABLE, Kind.READABLE)


class NoteKind(StrEnum):
    """What is there and no damage."""

    UPLOADING = "uploading-blocks"
    CONDEMNED = "condemned-blocks"
    DELETING = "deleting-blocks"
    LOST = "lost-blocks"
    QUEUED = "queued-blocks"
    TEMPORARY = "temporary-files"
    MULTIPART = "incomplete-multipart-uploads"
    QUARANTINE = "quarantined-objects"
    FOREIGN = "files-that-are-no-blocks"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, looked at twice. ``subject`` names it, ``said`` says what is.

    ``reads_well``: the object's bytes are those of the block. ``written_at``: when the object
    was put, in microseconds by the store's clock; 0: not known. ``is_forgotten``: that was in a
    gap between the processes that the database knows of.
    """

    kind: Kind
    subject: str
    said: str
    size: int = 0
    block: KnownBlock | None = None
    key: BlockKey | None = None
    content_id: int | None = None
    written_at: int = 0
    reads_well: bool = False
    is_forgotten: bool = False
    affected: Affected = field(default_factory=Affected)

    def to_json(self) -> dict[str, Json]:
        files: list[Json] = [
            {"group": file.group_id, **file.to_json()} for file in self.affected.files
        ]
        return {
            "kind": self.kind.value,
            "damage": self.kind.is_damage,
            "subject": self.subject,
            "said": self.said,
            "bytes": self.size,
            "affected": self.affected.count,
            "files": files,
        }


@dataclass(frozen=True, slots=True)
class Note:
    """So many things of one kind; bytes as far as known; since when the oldest (microseconds)."""

    kind: NoteKind
    count: int
    size: int = 0
    oldest_at: int = 0
    examples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        examples: list[Json] = [*self.examples]
        return {
            "kind": self.kind.value,
            "count": self.count,
            "bytes": self.size,
            "oldest": format_instant(self.oldest_at) if self.oldest_at else None,
            "examples": examples,
        }


class FsckResult(StrEnum):
    CLEAN = "clean"
    DAMAGE = "damage"
    REFUSED = "refused"
    """It is not this database's store, or not to be told whether it is: nothing was checked."""
    FAILED = "failed"
    """The store stopped answering; what was found until then is there."""


@dataclass(frozen=True, slots=True)
class FsckReport:
    """One check. ``counts`` is of all that was found, of which ``findings`` keeps the first.

    ``is_whole``: every finding is kept. Otherwise there are at least as many as counted.
    """

    result: FsckResult
    started_at: int
    ended_at: int
    objects: int = 0
    object_bytes: int = 0
    blocks: int = 0
    findings: tuple[Finding, ...] = ()
    counts: dict[Kind, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    problem: Problem | None = None
    is_whole: bool = True

    @property
    def damage(self) -> int:
        """How many things are damaged."""
        return sum(count for kind, count in self.counts.items() if kind.is_damage)

    @property
    def is_good(self) -> bool:
        """Whether all was looked at, and nothing is damaged."""
        return self.result is FsckResult.CLEAN

    @property
    def exit_code(self) -> int:
        """0: nothing is damaged. 1: something is, or it could not be told."""
        return 0 if self.is_good else 1

    def of(self, kind: Kind) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind is kind]

    def to_json(self, *, limit: int = LISTED) -> dict[str, Json]:
        """Plain values; times are RFC 3339. ``omitted``: findings beyond the ``limit``."""
        return {
            "result": self.result.value,
            "started_at": format_instant(self.started_at),
            "ended_at": format_instant(self.ended_at),
            "objects": self.objects,
            "object_bytes": self.object_bytes,
            "blocks": self.blocks,
            "damage": self.damage,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "findings": [finding.to_json() for finding in self.findings[:limit]],
            "omitted": max(0, len(self.findings) - limit),
            "notes": [note.to_json() for note in self.notes],
            "complete": self.is_whole,
            "problem": None
            if self.problem is None
            else {"code": self.problem.code, "reason": self.problem.reason},
        }

    def to_text(self, *, limit: int = LISTED) -> str:
        """For people: what was looked at, the damage with its files, then the notes."""
        return "\n".join(wording.check_lines(self.to_json(limit=limit)))


class Findings:
    """Collects what a check finds, with a bound on what it keeps."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.items: list[Finding] = []
        self.counts: Counter[Kind] = Counter()
        self.is_whole = True

    def __repr__(self) -> str:
        return f"<Findings {dict(self.counts)}, {len(self.items)} kept>"

    def has_room(self, kind: Kind) -> bool:
        """Whether one more of the kind would be kept; if not, there is no need to look twice."""
        if self.counts[kind] < self._kept:
            return True
        self.is_whole = False
        return False

    def add(self, finding: Finding) -> None:
        if self.has_room(finding.kind):
            self.counts[finding.kind] += 1
            self.items.append(finding)

    def drop(self, kinds: Iterable[Kind]) -> None:
        """Forgets findings that cannot be relied on after all."""
        gone = set(kinds)
        self.items = [finding for finding in self.items if finding.kind not in gone]
        self.counts = Counter(finding.kind for finding in self.items)
