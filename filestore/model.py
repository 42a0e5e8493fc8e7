"""The words of the domain as types: roles, scopes, states, and values that travel.

Nothing here does I/O. States are the ones the database checks for; a value written here
and missing there fails the first insert.
"""

import datetime as dt
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
MAX_BLOCK_SIZE: Final = 4 * MIB
"""Bytes of data in one block, at most. The database checks it."""

MAX_INT: Final = 2**63 - 1
"""The largest size or offset that any table holds."""


class Role(StrEnum):
    """What a member may do in a group; each role includes the ones before it."""

    VIEWER = "viewer"
    MEMBER = "member"
    MANAGER = "manager"

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def includes(self, other: "Role") -> bool:
        return self.rank >= other.rank


class Scope(StrEnum):
    """What a token allows at most; what its user may do now limits it further."""

    READ = "read"
    WRITE = "write"
    MANAGE = "manage"
    ADMIN = "admin"


class EntryKind(StrEnum):
    ROOT = "root"
    FOLDER = "folder"
    FILE = "file"


class ContentState(StrEnum):
    BUILDING = "building"
    COMPLETE = "complete"
    DELETING = "deleting"


class BlockState(StrEnum):
    UPLOADING = "uploading"
    LIVE = "live"
    CONDEMNED = "condemned"
    DELETING = "deleting"
    LOST = "lost"


class UploadState(StrEnum):
    OPEN = "open"
    DONE = "done"
    EXPIRED = "expired"
    TERMINATED = "terminated"
    FAILED = "failed"


class JobState(StrEnum):
    """Long work that somebody asked for; only the first two are not the end."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Protocol(StrEnum):
    """One upload speaks one protocol from beginning to end."""

    TUS = "tus"
    HTTP = "http"
    IETF = "ietf"
    BLOCKS = "blocks"


class UploadPart(StrEnum):
    """What concatenation makes of an upload. Source: tus 1.0.0, Concatenation."""

    PARTIAL = "partial"
    FINAL = "final"


class AccountKind(StrEnum):
    """Whose counters a row of ``groups`` holds."""

    GROUP = "group"
    POOL = "pool"


class DeliveryState(StrEnum):
    """One event for one webhook; only the first is not the end."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Codec(StrEnum):
    """How a block's bytes are stored; the hash is always that of the plain bytes."""

    PLAIN = "plain"
    ZSTD = "zstd"


class Cause(StrEnum):
    """Why a quota counter moved: one word per journal row."""

    RESERVE = "reserve"
    RELEASE = "release"
    CHARGE = "charge"
    COPY = "copy"
    MOVE_IN = "move-in"
    MOVE_OUT = "move-out"
    PURGE = "purge"
    RESTORE = "restore"
    EXPIRE = "expire"
    PROMOTE = "promote"
    CORRECT = "correct"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user through a token, with what the token allows.

    ``groups`` is None when the token is not limited to some groups. Memberships are not
    here: they are read from the database at each act, so a change counts at once.
    """

    user_id: str
    user_name: str
    is_admin: bool
    token_id: str
    scopes: frozenset[Scope]
    groups: frozenset[str] | None = None

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is recorded as having done an act; all None when the service itself did it."""

    user_id: str | None = None
    token_id: str | None = None
    request_id: str | None = None


SYSTEM: Final = Actor()


@dataclass(frozen=True, slots=True)
class ChunkerParams:
    """How a content was cut. Sizes in bytes; ``level`` is FastCDC's normalization level."""

    min_size: int = 512 * KIB
    avg_size: int = 1 * MIB
    max_size: int = 4 * MIB
    level: int = 2


@dataclass(frozen=True, slots=True)
class ExpectedDigest:
    """What the client says the whole file hashes to; raw digests, not hex."""

    blake3: bytes | None = None
    sha256: bytes | None = None

    def __bool__(self) -> bool:
        return self.blake3 is not None or self.sha256 is not None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its rows and where the next page begins (None: the last)."""

    items: list[dict[str, object]] = field(default_factory=list)
    next: str | None = None


_UNITS: Final = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024 * GIB,
    "pib": 1024**2 * GIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
}
_SIZE: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]*)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``10GiB``, ``1.5 MB`` or ``4096``. ``KiB`` = 1024, ``kB`` = 1000.

    :raises ValueError: not a size, an unknown unit, or beyond 2**63 - 1.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[3].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write for example 500MB or 10GiB")
    unit = _UNITS[match[3].lower()]
    size = int(match[1]) * unit
    if match[2]:
        size += int(match[2]) * unit // 10 ** len(match[2])
    if size > MAX_INT:
        raise ValueError(f"{text!r} is more than {MAX_INT} bytes")
    return size


def format_size(size: int) -> str:
    """A size for people, in binary units with at most one decimal: ``1.5 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return (
                f"{int(value)} B" if unit == "B" else f"{value:.1f}".removesuffix(".0") + f" {unit}"
            )
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + " PiB"


def format_instant(at_us: int) -> str:
    """RFC 3339 in UTC with ``Z`` and milliseconds, of microseconds since the epoch."""
    at = dt.datetime.fromtimestamp(at_us / 1e6, tz=dt.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
