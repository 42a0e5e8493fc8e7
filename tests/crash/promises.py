"""What the service has promised, kept where no crash of it can reach.

Every acknowledgement is written down the moment it arrives, in memory and as a line of a file
that is shown when a promise was broken. Only what was answered counts: a request whose answer
was lost may have had its effect or not.
"""

import json
from dataclasses import dataclass, field
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
    is_ietf: bool = False
    """It speaks the IETF draft instead of tus."""

    @property
    def is_open(self) -> bool:
        return not (self.is_done or self.is_ended)


@dataclass(slots=True)
class File:
    """One name: the versions that it has, oldest first; none: there is no such file.

    ``wanted``: what it has if the act that was not answered has had its effect.
    """

    name: str
    versions: list[Material] = field(default_factory=list)
    wanted: list[Material] | None = None

    @property
    def current(self) -> Material | None:
        return self.versions[-1] if self.versions else None

    @property
    def size(self) -> int:
        """Bytes that its group is charged."""
        return sum(version.size for version in self.versions)


class Promises:
    """All promises of one run. ``count`` grows with each acknowledgement."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8")
        self.uploads: dict[str, Promise] = {}
        self.files: dict[str, File] = {}
        self.parts: dict[str, int] = {}
        self.count = 0

    def __repr__(self) -> str:
        return (
            f"<Promises: {self.count} for {len(self.uploads)} uploads, {len(self.parts)} parts and"
            f" {len(self.living)} files in {self._log.name}>"
        )

    def close(self) -> None:
        self._log.close()

    @property
    def begun(self) -> int:
        """Uploads and partial uploads, whatever became of them."""
        return len(self.uploads) + len(self.parts)

    @property
    def open(self) -> list[Promise]:
        return [promise for promise in self.uploads.values() if promise.is_open]

    @property
    def living(self) -> list[File]:
        return [file for file in self.files.values() if file.versions]

    def file(self, name: str) -> File:
        """What is known of a name; until now nothing."""
        return self.files.setdefault(name, File(name))

    def created(
        self, path: str, name: str, material: Material, *, is_ietf: bool = False
    ) -> Promise:
        """The upload exists."""
        promise = self.uploads[path] = Promise(path, name, material, is_ietf=is_ietf)
        self._note("created", promise)
        return promise

    def reached(self, promise: Promise, offset: int) -> None:
        """The bytes before ``offset`` are safe; all of them: the file has them as a version."""
        assert promise.offset <= offset <= promise.material.size, (
            f"{promise} went to {offset}; see {self._log.name}"
        )
        if offset > promise.offset:
            promise.offset = offset
            promise.is_done = offset == promise.material.size
            self._note("reached", promise)
            if promise.is_done:
                self.file(promise.name).versions.append(promise.material)

    def kept(self, key: str, offset: int) -> None:
        """At least so many bytes of the partial upload that was begun under ``key`` are safe."""
        before = self.parts.setdefault(key, 0)
        assert before <= offset, f"{key} went from {before} to {offset}; see {self._log.name}"
        if offset > before:
            self.parts[key] = offset
            self.count += 1
            self._log.write(json.dumps({"what": "kept", "name": key, "offset": offset}) + "\n")
            self._log.flush()

    def ended(self, promise: Promise) -> None:
        """The upload is over and its reservation is free."""
        assert promise.is_ending, f"nobody ended {promise}; see {self._log.name}"
        promise.is_ended = True
        self._note("ended", promise)

    def asked(self, name: str, wanted: list[Material]) -> None:
        """An act is on its way that leaves the file with these versions."""
        self.file(name).wanted = wanted

    def answered(self, name: str) -> None:
        """It was acknowledged."""
        file = self.file(name)
        assert file.wanted is not None
        file.versions, file.wanted = file.wanted, None
        self._note("changed", file)

    def found(self, name: str, sizes: list[int]) -> None:
        """The file has versions of these sizes: those it had, or those of the act in flight."""
        file = self.file(name)
        known = [file.versions] if file.wanted is None else [file.versions, file.wanted]
        fitting = [some for some in known if [version.size for version in some] == sizes]
        assert fitting, f"{file} has versions of {sizes} bytes; see {self._log.name}"
        file.versions, file.wanted = fitting[0], None

    def _note(self, what: str, of: Promise | File) -> None:
        self.count += 1
        fields = {"what": what, "name": of.name}
        if isinstance(of, Promise):
            fields |= {"upload": of.path, "offset": str(of.offset), "bytes": repr(of.material)}
        else:
            fields |= {"versions": repr(of.versions)}
        self._log.write(json.dumps(fields) + "\n")
        self._log.flush()
