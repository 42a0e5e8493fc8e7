"""Whether new uploads have room, decided for many at once under the lock of the group's row.

Pure: the rows are read before, the reservations are posted behind. Whoever comes first is served
first, and what one takes is gone for the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(slots=True)
class Room:
    """An account's counters and limits, in bytes and files. ``None``: no limit of that kind."""

    id: str
    limit: int
    used: int
    reserved: int
    files: int = 0
    reserved_files: int = 0
    files_limit: int | None = None
    soft_limit: int | None = None
    overflows: bool = False

    @property
    def free(self) -> int:
        """Bytes; 0 when the limit was lowered below what is held."""
        return max(self.limit - self.used - self.reserved, 0)

    @property
    def free_files(self) -> int | None:
        if self.files_limit is None:
            return None
        return max(self.files_limit - self.files - self.reserved_files, 0)

    def is_beyond_soft(self, size: int) -> bool:
        """Whether ``size`` bytes more would pass the mark behind which files are temporary."""
        mark = self.limit if self.soft_limit is None else min(self.soft_limit, self.limit)
        return size > 0 and self.used + self.reserved + size > mark

    def take(self, size: int, files: int) -> None:
        self.reserved += size
        self.reserved_files += files


@dataclass(slots=True)
class Share:
    """What a member may take of a group, in bytes; ``limit`` None: all of it."""

    limit: int | None = None
    taken: int = 0

    def has_room(self, size: int) -> bool:
        return self.limit is None or size <= 0 or self.taken + size <= self.limit


class Verdict(Enum):
    """Who holds the reservation, or what there is no room in."""

    GROUP = auto()
    POOL = auto()
    NO_BYTES = auto()
    NO_FILES = auto()
    NO_SHARE = auto()
    NO_POOL = auto()

    @property
    def is_refusal(self) -> bool:
        return self not in (Verdict.GROUP, Verdict.POOL)


class Admission:
    """One group's door. ``pool`` takes what overflows; ``shares`` are by user."""

    def __init__(self, group: Room, pool: Room | None, shares: Mapping[str, Share]) -> None:
        self.group = group
        self.pool = pool
        self.shares = dict(shares)

    def __repr__(self) -> str:
        return f"<Admission to {self.group.id}: {self.group.free} bytes free>"

    def share_of(self, user_id: str) -> Share:
        return self.shares.setdefault(user_id, Share())

    def admit(self, user_id: str, size: int, files: int, *, of_pool: int | None = None) -> Verdict:
        """Lets in an upload of ``size`` bytes that brings ``files`` new ones, or says why not.

        An upload of unknown length comes with 0 and reserves as it goes. ``of_pool``: what a pool
        would have to take, where that is not ``size``.
        """
        of_pool = size if of_pool is None else of_pool
        free_files = self.group.free_files
        if files > 0 and free_files is not None and files > free_files:
            return Verdict.NO_FILES
        if self.group.overflows and self.pool is not None and self.group.is_beyond_soft(size):
            if of_pool > self.pool.free:
                return Verdict.NO_POOL
            self.pool.take(of_pool, 0)
            self.group.take(0, files)
            return Verdict.POOL
        if size > self.group.free:
            return Verdict.NO_BYTES
        share = self.share_of(user_id)
        if not share.has_room(size):
            return Verdict.NO_SHARE
        share.taken += size
        self.group.take(size, files)
        return Verdict.GROUP
