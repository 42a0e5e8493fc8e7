"""What every store here offers beyond the port, and how all of them name their objects."""

import re
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from filestore.blocks.port import BlockKey, ObjectStore

T = TypeVar("T")

IDENTITY_FOLDER: Final = ".identity"
"""Holds the zero-byte marks. No domain can have its name: domains do not begin with a dot."""

QUARANTINE_FOLDER: Final = ".quarantine"
"""Holds what was set aside: ``<day>/<path>``."""

_MARK_KIND: Final = re.compile(r"(?!identity$|quarantine$|tmp$)[a-z]{1,20}", re.ASCII)
"""Kinds of marks are folders beside those above, and never one of them."""

_MARK_NAME: Final = re.compile(
    r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,99}/[0-9A-Za-z_-][0-9A-Za-z_.-]{0,149}", re.ASCII
)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DOMAIN: Final = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,99}", re.ASCII)


class BlockFetcher(Protocol):
    async def fetch(self, key: BlockKey, finish: Callable[[bytes], T]) -> T:
        """What ``finish`` makes of the whole object.

        ``finish`` runs in a worker thread, and where the store reads in a thread, in the
        same one, so that reading and verifying a block is one thread hop.

        :raises BlockMissing: no object lies there. Permanent.
        :raises StoreUnavailable: safe to retry.
        """
        ...


class Sweeper(Protocol):
    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """Removes what writes of dead processes left half done; says how many pieces it were.

        ``is_alive`` is asked with a process id, in a worker thread. This process counts as
        alive. May run at any time.

        :raises StoreUnavailable: safe to retry.
        """
        ...


class Backend(ObjectStore, BlockFetcher, Sweeper, Protocol):
    """Everything that a store, or a wrapper around one, can do."""


def check_domain(domain: str) -> str:
    """``domain`` if it may be a part of an object's path.

    :raises ValueError: it could lead out of the store or collide with its own folders.
    """
    if not is_domain(domain):
        raise ValueError(f"{domain!r} cannot name a dedup domain")
    return domain


def is_domain(name: str) -> bool:
    """Whether a folder of that name may be a domain's."""
    return _DOMAIN.fullmatch(name) is not None


def quarantine_folder(day: str) -> str:
    """The folder below the prefix for what is set aside on ``day``.

    :raises ValueError: not a day such as ``2026-01-31``.
    """
    if _DAY.fullmatch(day) is None:
        raise ValueError(f"{day!r} is not a day")
    return f"{QUARANTINE_FOLDER}/{day}"


def quarantine_path(path: str) -> str:
    """The path below the prefix of what a walk over the quarantine calls ``path``.

    :raises ValueError: it would lead out of the quarantine.
    """
    day, _, rest = path.partition("/")
    if not rest or any(part in ("", ".", "..") for part in rest.split("/")):
        raise ValueError(f"{path!r} does not lie in the quarantine")
    return f"{quarantine_folder(day)}/{rest}"


def mark_folder(kind: str) -> str:
    """The folder below the prefix for marks of a kind.

    :raises ValueError: it would be one of the store's own folders, or lead out of it.
    """
    if _MARK_KIND.fullmatch(kind) is None:
        raise ValueError(f"{kind!r} is no kind of marks")
    return f".{kind}"


def mark_path(kind: str, name: str) -> str:
    """The path below the prefix of the mark ``name`` (``<folder>/<name>``).

    :raises ValueError: it would lead out of the folder of its kind.
    """
    if _MARK_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot name a mark")
    return f"{mark_folder(kind)}/{name}"


def object_path(key: BlockKey) -> str:
    """The key's path below the prefix, safe to join to a folder or bucket.

    :raises ValueError: the domain or generation would lead out of the store.
    """
    check_domain(key.domain)
    if not key.generation.isalnum():
        raise ValueError(f"{key.generation!r} is not a generation")
    return key.path


def mark_name(store_id: str, epoch: int) -> str:
    """What the identity mark of this epoch is called in its folder."""
    return f"{store_id}.{epoch}"


def parse_mark(name: str) -> tuple[str, int] | None:
    """The store id and epoch that a mark's name says; None if it is no mark."""
    store_id, dot, epoch = name.rpartition(".")
    if not (dot and store_id and epoch.isascii() and epoch.isdigit()):
        return None
    return store_id, int(epoch)


def newest_mark(names: list[str]) -> tuple[str, int] | None:
    """The mark with the highest epoch among ``names``."""
    marks = [mark for name in names if (mark := parse_mark(name))]
    return max(marks, key=lambda mark: (mark[1], mark[0]), default=None)


def older_marks(names: list[str], epoch: int) -> list[str]:
    """The names of all marks of epochs before ``epoch``."""
    return [name for name in names if (mark := parse_mark(name)) and mark[1] < epoch]
