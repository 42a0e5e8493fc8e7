"""From a setting to a store: the one place that knows all of them."""

from concurrent.futures import Executor
from pathlib import Path

from filestore.blocks.backend import Backend
from filestore.blocks.disk import RESERVE, DiskStore
from filestore.blocks.limited import LimitedStore
from filestore.blocks.retrying import RetryingStore, RetryPolicy
from filestore.blocks.s3 import S3Store
from filestore.blocks.s3_location import parse_s3_url
from filestore.errors import BadSetting


def make_store(
    url: str,
    *,
    process_id: str,
    threads: Executor,
    access_key: str | None = None,
    secret_key: str | None = None,
    connections: int = 32,
    timeout_s: float = 60.0,
    reserve: int = RESERVE,
    source: str = "--blocks",
) -> Backend:
    """The store that ``file:DIR`` or ``s3://HOST:PORT/BUCKET`` names, not yet opened.

    A folder holds the domains directly; in a bucket they lie below a prefix. ``threads``
    does all blocking work and stays the caller's; ``source`` says in errors where the URL
    came from; ``connections`` and ``timeout_s`` are for S3, ``reserve`` for folders.

    :raises BadSetting: what is wrong with the URL, or which key is missing.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "file":
        root = _parse_folder(rest, source=source)
        return DiskStore(root, process_id=process_id, threads=threads, prefix="", reserve=reserve)
    if scheme != "s3":
        reason = "it must begin with file: or s3:"
        raise BadSetting(setting="blocks", source=source, reason=reason)
    return S3Store(
        parse_s3_url(url, source=source),
        access_key=_needed(access_key, "FILESTORE_S3_ACCESS_KEY"),
        secret_key=_needed(secret_key, "FILESTORE_S3_SECRET_KEY"),
        threads=threads,
        connections=connections,
        timeout_s=timeout_s,
    )


def guard_store(
    store: Backend, *, max_puts: int, max_gets: int, policy: RetryPolicy | None = None
) -> Backend:
    """``store`` with bounds and patience; who waits to try again holds no place meanwhile."""
    return RetryingStore(LimitedStore(store, max_puts=max_puts, max_gets=max_gets), policy)


def _parse_folder(rest: str, *, source: str) -> Path:
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host:
            reason = f"a folder lies on this machine, not on {host!r}: write file:DIR"
            raise BadSetting(setting="blocks", source=source, reason=reason)
        rest = f"/{path}"
    if not rest or "\0" in rest:
        reason = "it names no folder: write file:DIR"
        raise BadSetting(setting="blocks", source=source, reason=reason)
    return Path(rest)


def _needed(value: str | None, setting: str) -> str:
    if not value:
        raise BadSetting(setting=setting, source="environment", reason="an S3 store needs it")
    return value
