"""The port: what the rest of the service may do with stored objects, one power at a time.

A key is written at most once in its life and never reused, so every operation here may be
repeated or arrive late without harm. Stores hold whole objects of at most
``MAX_OBJECT_SIZE`` bytes; what is inside (header, codec) is no concern of theirs.

The server is handed a :class:`BlockStore`, which cannot remove. Only the collector holds a
:class:`BlockRemover`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from filestore.model import MAX_BLOCK_SIZE

HEADER_SIZE: Final = 32
MAX_OBJECT_SIZE: Final = MAX_BLOCK_SIZE + HEADER_SIZE

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class BlockKey:
    """Names one object: dedup domain, BLAKE3 of the plain bytes (32 bytes), generation."""

    domain: str
    hash: bytes
    generation: str

    @property
    def path(self) -> str:
        """``<domain>/<hh>/<hash>.<generation>``, hex; what an object is called below the prefix."""
        digits = self.hash.hex()
        return f"{self.domain}/{digits[:2]}/{digits}.{self.generation}"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it: its path below the prefix, and its size in bytes.

    ``written_at``: when it was put, in microseconds by the store's clock; 0: not known.
    """

    path: str
    size: int
    written_at: int = 0


class LeftoverKind(StrEnum):
    TEMPORARY = "temporary"
    """A file under a temporary name, of a write that is under way or was never finished."""
    MULTIPART = "multipart"
    """A multipart upload that was never completed. Not ours: blocks are put in one piece."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a write left that is no object. Size in bytes (0: not known), time in microseconds."""

    kind: LeftoverKind
    name: str
    size: int
    began_at: int


class BlockReader(Protocol):
    async def get(self, key: BlockKey) -> bytes:
        """The whole object, as it was put. The caller owns the bytes.

        :raises BlockMissing: no object lies there. Permanent.
        :raises BlockDamaged: what lies there is larger than any object, and was not read.
        :raises StoreUnavailable: the store did not answer or the answer broke off. Safe to retry.
        """
        ...


class BlockWriter(Protocol):
    async def put(self, key: BlockKey, parts: Sequence[Buffer]) -> None:
        """Stores the concatenation of ``parts`` as one object, durably, all or nothing.

        When this returns, the object survives a loss of power of the machine that holds it
        (as far as the store itself promises that). Repeating a put of the same bytes is
        harmless. The buffers must not change until this returns or raises; they are not
        kept afterwards. Cancellation leaves either nothing or the whole object.

        :raises StoreFull: no room; nothing is stored. Safe to retry later.
        :raises StoreUnavailable: the outcome is unknown: the object may be there now or
            appear later. Safe to retry with the same bytes.
        """
        ...


class BlockRemover(Protocol):
    async def remove(self, keys: Sequence[BlockKey]) -> None:
        """Removes the objects, durably. One that is not there counts as removed.

        :raises StoreUnavailable: some may be removed and some not. Safe to retry.
        """
        ...


class BlockWalker(Protocol):
    def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        """All objects of a domain in ascending order of path, beginning behind ``after``.

        Objects put or removed meanwhile may or may not be seen. Memory is constant.

        :raises StoreUnavailable: safe to go on behind the last path seen.
        """
        ...


class BlockQuarantine(Protocol):
    """Where objects lie that nothing names any more, until somebody is sure of that."""

    async def set_aside(self, keys: Sequence[BlockKey], day: str) -> None:
        """Moves objects to ``.quarantine/<day>/<path>``, durably. ``day``: ``2026-01-31``.

        One that is not there counts as moved. After a failure an object lies in one of the
        places or in both, never in none.

        :raises StoreUnavailable: some may be moved and some not. Safe to retry.
        """
        ...

    def walk_aside(self, *, after: str = "") -> AsyncIterator[StoredObject]:
        """All objects set aside, in ascending order of ``<day>/<path>``, behind ``after``.

        ``written_at`` is when the object was put, or set aside, as the store has it.

        :raises StoreUnavailable: safe to go on behind the last path seen.
        """
        ...

    async def remove_aside(self, paths: Sequence[str]) -> None:
        """Removes objects set aside, named as a walk shows them. Missing ones count as removed.

        :raises StoreUnavailable: some may be removed and some not. Safe to retry.
        """
        ...


class StoreSurveyor(Protocol):
    """What else lies in a store, for a check of the whole."""

    async def domains(self) -> list[str]:
        """The sorted names that have objects below them and may name domains.

        :raises StoreUnavailable: safe to retry.
        """
        ...

    def walk_leftovers(self) -> AsyncIterator[Leftover]:
        """What unfinished writes left, also those of others in the same bucket; in any order.

        :raises StoreUnavailable: safe to begin again.
        """
        ...


class BlockStore(BlockReader, BlockWriter, Protocol):
    """What the server is handed: it receives and gives, and cannot remove."""


class StoreIdentity(Protocol):
    """A zero-byte object ``.identity/<store id>.<epoch>`` that ties a store to its database."""

    async def read_identity(self) -> tuple[str, int] | None:
        """Store id and highest epoch, or None if the store has never been used.

        :raises StoreUnavailable: the store cannot be read, so nothing may be concluded.
        """
        ...

    async def write_identity(self, store_id: str, epoch: int) -> None:
        """Writes the mark of this epoch, durably, then removes marks of older ones."""
        ...


class StoreMarks(Protocol):
    """Zero-byte objects ``.<kind>/<folder>/<name>`` whose names carry facts that are kept outside
    of the database. No walk over blocks shows them, and they name no domain.

    No folder's name may begin with that of another: stores differ in how they sort these.
    """

    async def write_mark(self, kind: str, name: str) -> None:
        """Writes the mark ``name`` (``<folder>/<name>``), durably. Repeating it is harmless.

        :raises ValueError: kind or name would lead out of the marks of this kind.
        :raises StoreFull: no room; nothing is written. Safe to retry later.
        :raises StoreUnavailable: the outcome is unknown. Safe to retry.
        """
        ...

    def walk_marks(self, kind: str, *, after: str = "") -> AsyncIterator[StoredObject]:
        """All marks of a kind in ascending order of name, behind ``after``. A ``path`` is the name.

        Marks written or removed meanwhile may or may not be seen. Memory: that of a folder.

        :raises StoreUnavailable: safe to go on behind the last name seen.
        """
        ...

    async def remove_marks(self, kind: str, names: Sequence[str]) -> None:
        """Removes marks, durably. One that is not there counts as removed.

        :raises StoreUnavailable: some may be removed and some not. Safe to retry.
        """
        ...


class ObjectStore(
    BlockStore,
    BlockRemover,
    BlockWalker,
    BlockQuarantine,
    StoreSurveyor,
    StoreIdentity,
    StoreMarks,
    Protocol,
):
    """All powers at once: what a backend implements and the composition root hands out."""

    async def open(self) -> None:
        """Prepares the store: makes the folder or bucket. May be repeated.

        :raises StoreUnavailable: it cannot be reached; the message says what and why.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections and threads. Nothing is lost: what was put is durable."""
        ...

    async def check(self) -> None:
        """A cheap round trip that proves the store can be reached and has room.

        :raises StoreUnavailable: it cannot be reached.
        :raises StoreFull: it has no room for blocks.
        """
        ...
