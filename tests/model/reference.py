"""The reference: what groups, files and running uploads must be, as plain dictionaries of bytes.

Every act either changes it and returns None, or changes nothing and returns the error that the
service must answer with. It knows no blocks, no locks and no collector: those must not show.
"""

from dataclasses import dataclass, field
from itertools import count

from filestore.errors import (
    BadHeader,
    Conflict,
    Exists,
    FilestoreError,
    FinalUpload,
    NotFound,
    OffsetMismatch,
    QuotaExceeded,
    UploadGone,
)

Refusal = type[FilestoreError] | None


@dataclass
class File:
    """The bytes of its versions that are still kept, oldest first, and their ``numbers``; the last
    one is current."""

    versions: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    last: int = 0

    def add(self, data: bytes) -> None:
        """One more version, which becomes the current one."""
        self.last += 1
        self.versions.append(data)
        self.numbers.append(self.last)

    def keep(self, count: int) -> None:
        """Only the newest ones; 0: all of them."""
        self.versions, self.numbers = self.versions[-count:], self.numbers[-count:]

    @property
    def size(self) -> int:
        return sum(map(len, self.versions))


@dataclass
class Trashed:
    """A file in the trash. ``is_due``: it has lain there too long."""

    name: str
    file: File
    is_due: bool = False


@dataclass
class Running:
    """An upload of ``data`` that is open. ``epoch`` counts who has laid hands on it.

    ``is_part``: it is a partial one, whose reservation ``taken_by`` has, if that is a final one.
    ``parts``: it is the final one of these, asked for under ``key``; ``is_doomed``: and what its
    client expects it to hash to is something else.
    """

    group: str
    name: str
    data: bytes
    is_length_known: bool
    offset: int = 0
    reserved: int = 0
    is_due: bool = False
    epoch: int = 0
    user: str = ""
    is_part: bool = False
    taken_by: str = ""
    parts: tuple[str, ...] = ()
    key: str = ""
    is_doomed: bool = False

    @property
    def is_whole_part(self) -> bool:
        """No file comes of it by itself, and no byte to it."""
        return self.is_part and self.offset == self.length

    @property
    def length(self) -> int | None:
        return len(self.data) if self.is_length_known else None


@dataclass
class Group:
    """Files by name, the trash by entry; ``keep``: how many versions the group keeps, 0: all."""

    limit: int
    keep: int = 0
    files: dict[str, File] = field(default_factory=dict)
    trash: dict[str, Trashed] = field(default_factory=dict)

    @property
    def all_files(self) -> list[File]:
        return [*self.files.values(), *(entry.file for entry in self.trash.values())]

    @property
    def used(self) -> int:
        return sum(file.size for file in self.all_files)


class Reference:
    """All groups, and all uploads that are open. ``over``: the ids of those that ended.

    ``finals``: the ids of all that were put together, or began to be. ``made``: the file and the
    number of the version that came of each.
    """

    def __init__(self, groups: dict[str, Group]) -> None:
        self.groups = groups
        self.running: dict[str, Running] = {}
        self.over: list[str] = []
        self.finals: set[str] = set()
        self.made: dict[str, tuple[File, int]] = {}

    def __repr__(self) -> str:
        files = sum(len(group.files) for group in self.groups.values())
        return f"<Reference: {files} files, {len(self.running)} uploads>"

    def counters(self, name: str) -> tuple[int, int]:
        """(used, reserved) of a group."""
        mine = [upload for upload in self.running.values() if upload.group == name]
        return self.groups[name].used, sum(upload.reserved for upload in mine)

    def has_room(self, name: str, size: int) -> bool:
        """Whether the group may take so much more; nothing always fits."""
        return size <= 0 or sum(self.counters(name)) + size <= self.groups[name].limit

    def begin(self, wish: Running) -> Refusal:
        """Whether the upload may begin; :meth:`begun` says that it has."""
        return None if self.has_room(wish.group, wish.length or 0) else QuotaExceeded

    def begun(self, upload_id: str, wish: Running) -> None:
        wish.reserved = wish.length or 0
        self.running[upload_id] = wish
        if wish.length == 0:
            self._complete(upload_id)

    def append(self, upload_id: str, size: int, *, offset: int, is_last: bool = False) -> Refusal:
        """``size`` more bytes from ``offset`` on; ``is_last`` also says the length."""
        if upload_id in self.finals:
            return FinalUpload
        refusal = self._touch(upload_id)
        if refusal is not None:
            return refusal
        upload = self.running[upload_id]
        if offset != upload.offset:
            upload.epoch -= 1  # refused before it laid hands on it
            return OffsetMismatch
        end = offset + size
        if not upload.is_length_known:
            if not self._reserve(upload, end, exactly=is_last):
                return QuotaExceeded
            if is_last:
                upload.data, upload.is_length_known = upload.data[:end], True
        self.reached(upload_id, end)
        return None

    def reached(self, upload_id: str, offset: int) -> None:
        """So much of the upload is recorded; all of it: the file is there."""
        upload = self.running[upload_id]
        assert upload.offset <= offset <= len(upload.data), (upload_id, upload.offset, offset)
        upload.offset = offset
        if offset == upload.length and not upload.is_part:
            self._complete(upload_id)

    def concatenate(self, wish: Running) -> Refusal:
        """Whether a final upload of ``wish.parts`` may begin; what is reserved for them counts."""
        parts = [self.running.get(part) for part in wish.parts]
        for part in parts:
            if part is None or not part.is_whole_part or part.is_due:
                return BadHeader
            if (part.group, part.user) != (wish.group, wish.user):
                return BadHeader
        taken = sum(self.running[part].reserved for part in set(wish.parts))
        return None if self.has_room(wish.group, len(wish.data) - taken) else QuotaExceeded

    def concatenating(self, upload_id: str, wish: Running) -> None:
        """It has begun: what its parts reserved is its own, and the rest is reserved anew."""
        wish.reserved = len(wish.data)
        left_over = self.left_over()
        for part in set(wish.parts):
            if self.running[part].reserved or part in left_over:
                self.running[part].reserved, self.running[part].taken_by = 0, upload_id
        self.running[upload_id] = wish
        self.finals.add(upload_id)

    def left_over(self) -> set[str]:
        """Parts of a file that is gone again, and of which no other one is being made: nobody is
        charged for their bytes."""
        in_use = {part for upload in self.running.values() for part in upload.parts}
        files = [id(file) for group in self.groups.values() for file in group.all_files]
        there = {
            final
            for final, (file, number) in self.made.items()
            if id(file) in files and number in file.numbers
        }
        return {
            key
            for key, part in self.running.items()
            if part.taken_by
            and part.taken_by not in self.running
            and part.taken_by not in there
            and key not in in_use
        }

    def fail(self, upload_id: str) -> None:
        """It ended without a file."""
        self._end(upload_id)

    def look(self, upload_id: str) -> Refusal:
        """Asking how far it is makes whoever writes to it let go."""
        return self._touch(upload_id)

    def terminate(self, upload_id: str) -> Refusal:
        refusal = self._touch(upload_id)
        if refusal is None:
            self._end(upload_id)
        return refusal

    def copy(self, group: str, source: str, target: str) -> Refusal:
        """The current version under a name that is free."""
        files = self.groups[group].files
        if source not in files:
            return NotFound
        data = files[source].versions[-1]
        if not self.has_room(group, len(data)):
            return QuotaExceeded
        if target in files:
            return Exists
        files[target] = File()
        files[target].add(data)
        return None

    def move(self, group: str, source: str, target: str) -> Refusal:
        files = self.groups[group].files
        if source not in files:
            return NotFound
        if target in files and target != source:
            return Exists
        files[target] = files.pop(source)
        return None

    def remove(self, group: str, name: str) -> Refusal:
        return NotFound if self.groups[group].files.pop(name, None) is None else None

    def put_in_trash(self, group: str, name: str) -> Refusal:
        """Whether it may go there; :meth:`trashed` says as which entry it has."""
        return None if name in self.groups[group].files else NotFound

    def trashed(self, group: str, name: str, entry_id: str) -> None:
        self.groups[group].trash[entry_id] = Trashed(name, self.groups[group].files.pop(name))

    def restore(self, group: str, entry_id: str) -> str:
        """The name under which it lies again."""
        files, entry = self.groups[group].files, self.groups[group].trash.pop(entry_id)
        numbered = (f"{entry.name} ({number})" for number in count(2))
        name = (
            entry.name if entry.name not in files else next(n for n in numbered if n not in files)
        )
        files[name] = entry.file
        return name

    def purge(self, group: str, entry_id: str) -> None:
        del self.groups[group].trash[entry_id]

    def restore_version(self, group: str, name: str, number: int) -> Refusal:
        """A version becomes the current one once more, as a new one."""
        file = self.groups[group].files.get(name)
        if file is None or number not in file.numbers:
            return NotFound
        if number == file.numbers[-1]:
            return Conflict
        data = file.versions[file.numbers.index(number)]
        if not self.has_room(group, len(data)):
            return QuotaExceeded
        file.add(data)
        return None

    def remove_version(self, group: str, name: str, number: int) -> Refusal:
        file = self.groups[group].files.get(name)
        if file is None or number not in file.numbers:
            return NotFound
        if number == file.numbers[-1]:
            return Conflict
        at = file.numbers.index(number)
        del file.versions[at], file.numbers[at]
        return None

    def reap(self) -> None:
        """What has run out goes: uploads, what is in the trash, versions that are not kept.

        Parts that are left over now go as well; whose file goes with this, with the next one.
        """
        due = [key for key, upload in self.running.items() if upload.is_due]
        for upload_id in {*due, *self.left_over()}:
            self._end(upload_id)
        for group in self.groups.values():
            group.trash = {key: entry for key, entry in group.trash.items() if not entry.is_due}
            for file in group.all_files:
                file.keep(group.keep)

    def _touch(self, upload_id: str) -> Refusal:
        if upload_id not in self.running:
            return UploadGone
        if self.running[upload_id].is_due:
            self._end(upload_id)
            return UploadGone
        self.running[upload_id].epoch += 1
        return None

    def _reserve(self, upload: Running, end: int, *, exactly: bool) -> bool:
        if end > upload.reserved or exactly:
            if not self.has_room(upload.group, end - upload.reserved):
                return False
            upload.reserved = end
        return True

    def _complete(self, upload_id: str) -> None:
        upload = self.running.pop(upload_id)
        files = self.groups[upload.group].files
        file = files.setdefault(upload.name, File())
        file.add(upload.data)
        if upload.parts:
            self.made[upload_id] = file, file.last

    def _end(self, upload_id: str) -> None:
        """A final one gives back to those of its parts that are still there what they hold."""
        del self.running[upload_id]
        for part in self.running.values():
            if part.taken_by == upload_id:
                part.reserved, part.taken_by = part.offset, ""
        self.over.append(upload_id)
