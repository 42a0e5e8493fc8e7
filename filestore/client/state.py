"""What the client remembers between runs, so that a killed transfer goes on when repeated.

One small JSON file per transfer in the user's state folder, named by a hash of what makes the
transfer the same one. A record is a hint, never the truth: the server is always asked, so a
record that is lost, stale or broken costs time and no data. It holds no token.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, cast

import platformdirs

from filestore.errors import BusyLocally, Json

Record = dict[str, Json]

_KEEP_S: Final = 90 * 86_400
"""Records are dropped after 90 days without use: longer than any upload lives on a server."""


def default_state_folder(environment: Mapping[str, str]) -> Path:
    """``FILESTORE_STATE_DIR``, or the state folder of the platform."""
    chosen = environment.get("FILESTORE_STATE_DIR", "").strip()
    return Path(chosen) if chosen else platformdirs.user_state_path("filestore")


class TransferRecords:
    """The records of one kind of transfer, in one folder. All calls block; they are short."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: str | int) -> str:
        """The name of the transfer that ``parts`` identify."""
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def load(self, key: str) -> Record | None:
        """The record, or None when there is none that can be read."""
        try:
            record = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return cast(Record, record) if isinstance(record, dict) else None

    def save(self, key: str, record: Record) -> None:
        """Replaces the record, durably and atomically; only the user can read it."""
        path, temporary = self._path(key), self._path(key).with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def forget(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def hold(self, key: str, subject: Path) -> Iterator[None]:
        """Keeps other processes of this user from the same transfer while it lasts.

        :raises BusyLocally: one is at it; ``subject`` names the file. Safe to repeat later.
        """
        self._prepare()
        path = self._folder / f"{key}.lock"
        descriptor = _lock(path, subject)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = time.time() - _KEEP_S
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.suffix != ".lock" and path.stat().st_mtime < oldest:
                    path.unlink()


def _lock(path: Path, subject: Path) -> int:
    """An open descriptor that holds the lock, on the file that now has this name.

    A holder unlinks the file before it lets go, so a lock won on an unlinked file is worth
    nothing, and is tried again.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(descriptor)
            raise BusyLocally(path=str(subject)) from err
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
