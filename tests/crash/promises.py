"""What the service has promised, kept where no crash of it can reach.

Every acknowledgement is written down the moment it arrives, in memory and as a line of a file
that is shown when a promise was broken. Only what was answered counts: a request whose answer
was lost may have had its effect or not.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.material import Material


@dataclass(slots=True)
class Promise:
    """One upload: at least ``offset`` bytes are safe, or it is ``done`` or ``ended``."""

    path: str
    name: str
    material: Material
    offset: int = 0
    is_done: bool = False
    is_ended: bool = False
    is_ending: bool = False
    """Its end was asked for. Without an answer it may have ended or not."""

    @property
    def is_open(self) -> bool:
        return not (self.is_done or self.is_ended)


class Promises:
    """All promises of one run, by the path of the upload. ``count`` grows with each new one."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8")
        self.uploads: dict[str, Promise] = {}
        self.count = 0

    def __repr__(self) -> str:
        return f"<Promises: {self.count} for {len(self.uploads)} uploads in {self._log.name}>"

    def close(self) -> None:
        self._log.close()

    @property
    def open(self) -> list[Promise]:
        return [promise for promise in self.uploads.values() if promise.is_open]

    @property
    def files(self) -> list[Promise]:
        return [promise for promise in self.uploads.values() if promise.is_done]

    def created(self, path: str, name: str, material: Material) -> Promise:
        """The upload exists."""
        promise = self.uploads[path] = Promise(path, name, material)
        self._note(promise, "created")
        return promise

    def reached(self, promise: Promise, offset: int) -> None:
        """The bytes before ``offset`` are safe; all of them: the file is there."""
        assert promise.offset <= offset <= promise.material.size, (
            f"{promise} went to {offset}; see {self._log.name}"
        )
        if offset > promise.offset:
            promise.offset = offset
            promise.is_done = offset == promise.material.size
            self._note(promise, "reached")

    def ended(self, promise: Promise) -> None:
        """The upload is over and its reservation is free."""
        assert promise.is_ending, f"nobody ended {promise}; see {self._log.name}"
        promise.is_ended = True
        self._note(promise, "ended")

    def _note(self, promise: Promise, what: str) -> None:
        self.count += 1
        fields = {
            "what": what,
            "upload": promise.path,
            "name": promise.name,
            "seed": promise.material.seed,
            "size": promise.material.size,
            "offset": promise.offset,
        }
        self._log.write(json.dumps(fields) + "\n")
        self._log.flush()
