"""What ends things: expiry, the release of contents, versions that go and come, the trash."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from tests.model.life import Program
from tests.model.world import (
    CONTENTS,
    ENTRIES,
    GROUPS,
    REFS,
    UPLOADS,
    VERSIONS,
    Db,
    Entry,
    Group,
    Idle,
    Mode,
    Table,
    Version,
)
from tests.model.writing import queue


class Expire(Program):
    """Ends an open upload at any time: upload, reservation and content in one transaction."""

    def __init__(self, upload: str, group: str | None = None) -> None:
        super().__init__()
        self._upload = upload
        self._group = group

    def begin(self, db: Db, my: object) -> None:
        db.lock(UPLOADS, self._upload, Mode.UPDATE)
        upload = db.get(UPLOADS, self._upload)
        if upload.state != "open":
            db.note = f"is {upload.state}"
            return db.end()
        if self._group is not None:
            db.lock(GROUPS, self._group, Mode.NO_KEY_UPDATE)
            held = db.get(GROUPS, self._group).reserved - upload.reserved
            db.update(GROUPS, self._group, Group(held))
        ended = upload._replace(state="expired", reserved=0, epoch=upload.epoch + 1)
        db.update(UPLOADS, self._upload, ended)
        content = db.get(CONTENTS, upload.content)
        db.update(CONTENTS, upload.content, content._replace(state="deleting"))
        db.commit()
        db.end()


class Releasing(NamedTuple):
    content: str = ""
    todo: tuple[int, ...] = ()


class Release(Program):
    """The reaper: takes the references of a deleting content and queues their blocks."""

    memory: ClassVar[Releasing] = Releasing()
    restarts: ClassVar[bool] = True

    def begin(self, db: Db, my: Releasing) -> None:
        name = db.any([key for key, row in db.rows(CONTENTS) if row.state == "deleting"])
        if db.try_lock(CONTENTS, name, Mode.UPDATE) is None:
            raise Idle
        db.note = name
        db.go("drop", content=name)

    def drop(self, db: Db, my: Releasing) -> None:
        freed = set()
        for key, _ in db.rows(REFS):
            if key[0] == my.content:
                ref = db.lock(REFS, key, Mode.UPDATE)
                db.delete(REFS, key)
                freed.add(0 if ref is None else ref.block)
        db.go("enqueue", todo=tuple(sorted(freed - {0})))

    def enqueue(self, db: Db, my: Releasing) -> None:
        if my.todo:
            db.note = f"block {my.todo[0]}"
            return db.go("enqueue", todo=my.todo[queue(db, my.todo[0]) :])
        db.delete(CONTENTS, my.content)
        db.commit()
        db.note = "committed"
        db.go("begin", content="", todo=())


class Dropping(NamedTuple):
    todo: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


class DropVersions(Program):
    """Deletes versions for good, and releases the contents that no other version refers to."""

    memory: ClassVar[Dropping] = Dropping()

    def __init__(self, *versions: str) -> None:
        super().__init__()
        self._versions = versions

    def begin(self, db: Db, my: Dropping) -> None:
        contents = []
        for name in self._versions:
            version = db.lock(VERSIONS, name, Mode.UPDATE)
            if version is not None:
                db.delete(VERSIONS, name)
                contents.append(version.content)
        has_both = db.rules.second_statement_on_release and db.rules.content_lock_on_release
        db.go("lock" if has_both else "look_first", todo=tuple(sorted(contents)))

    def lock(self, db: Db, my: Dropping) -> None:
        for name in my.todo:
            if name not in my.unused:
                db.lock(CONTENTS, name, Mode.UPDATE)
                db.note = name
                return db.go("lock", unused=(*my.unused, name))
        self._delete(db, self._unused(db, my))

    def look_first(self, db: Db, my: Dropping) -> None:
        """Only without a rule: one statement, which looks when it begins and then waits."""
        db.go("judge", unused=self._unused(db, my))

    def judge(self, db: Db, my: Dropping) -> None:
        for name in my.todo if db.rules.content_lock_on_release else ():
            db.lock(CONTENTS, name, Mode.UPDATE)
        self._delete(db, my.unused)

    def commit(self, db: Db, my: Dropping) -> None:
        db.commit()
        db.end()

    def _unused(self, db: Db, my: Dropping) -> tuple[str, ...]:
        used = {version.content for _, version in db.rows(VERSIONS)}
        return tuple(name for name in my.todo if name not in used)

    def _delete(self, db: Db, names: Sequence[str]) -> None:
        for name in names:
            db.update(CONTENTS, name, db.get(CONTENTS, name)._replace(state="deleting"))
        db.note = f"{', '.join(names) or 'nothing'} is unused"
        db.go("commit")


class Copying(NamedTuple):
    todo: tuple[str, ...] = ()


class Copy(Program):
    """Adds a version of each of some contents to an entry, as copy and restore do."""

    memory: ClassVar[Copying] = Copying()

    def __init__(self, entry: str, *contents: str) -> None:
        super().__init__()
        self._entry = entry
        self._contents = contents

    def begin(self, db: Db, my: Copying) -> None:
        is_ordered = db.rules.contents_by_id
        db.go("share", todo=tuple(sorted(self._contents)) if is_ordered else self._contents)
        self.share(db, db.my)

    def share(self, db: Db, my: Copying) -> None:
        name = my.todo[0]
        if db.rules.content_lock_on_release:
            db.lock(CONTENTS, name, Mode.SHARE)
        content = db.find(CONTENTS, name)
        if content is None or content.state != "complete":
            db.note = f"{name} is going away"
            return db.end()
        db.note = name
        db.go("insert")

    def insert(self, db: Db, my: Copying) -> None:
        """The foreign key takes KEY SHARE, whatever was locked before."""
        name = my.todo[0]
        if db.lock(CONTENTS, name, Mode.KEY_SHARE) is None:
            return db.end()
        db.insert(VERSIONS, f"copy of {name}", Version(self._entry, name, True))
        db.go("share" if my.todo[1:] else "commit", todo=my.todo[1:])

    def commit(self, db: Db, my: Copying) -> None:
        db.commit()
        db.end()


class Complete(Program):
    """Turns an upload into a version: upload, group, entry, then the commit."""

    memory: ClassVar[Copying] = Copying()

    def __init__(self, upload: str, group: str, entry: str) -> None:
        super().__init__()
        self._upload = upload
        self._group = group
        self._entry = entry

    def begin(self, db: Db, my: Copying) -> None:
        db.lock(UPLOADS, self._upload, Mode.UPDATE)
        if db.get(UPLOADS, self._upload).state != "open":
            return db.end()
        db.go("charge")

    def charge(self, db: Db, my: Copying) -> None:
        upload = db.get(UPLOADS, self._upload)
        db.lock(GROUPS, self._group, Mode.NO_KEY_UPDATE)
        held = db.get(GROUPS, self._group).reserved - upload.reserved
        db.update(GROUPS, self._group, Group(held))
        db.go("place", todo=(self._entry,))

    def place(self, db: Db, my: Copying) -> None:
        """The living entry of that name, or a new one: a row that was just trashed is not it."""
        name = my.todo[0]
        if db.rules.entry_lock_on_completion:
            db.lock(ENTRIES, name, Mode.UPDATE)
        entry = db.find(ENTRIES, name)
        if entry is not None and entry.is_deleted:
            db.note = f"{name} is in the trash: again"
            return db.go("place", todo=(name + "'",))
        if entry is None:
            db.insert(ENTRIES, name, Entry(False))
        db.note = name
        db.go("write")

    def write(self, db: Db, my: Copying) -> None:
        upload = db.get(UPLOADS, self._upload)
        content = db.get(CONTENTS, upload.content)
        db.update(CONTENTS, upload.content, content._replace(state="complete"))
        db.update(UPLOADS, self._upload, upload._replace(state="done", reserved=0))
        entry = db.find(ENTRIES, my.todo[0])
        is_visible = entry is not None and not entry.is_deleted
        version = Version(my.todo[0], upload.content, is_visible)
        db.insert(VERSIONS, f"of {self._upload}", version)
        db.commit()
        db.end()


class Trash(Program):
    """Marks an entry deleted."""

    def __init__(self, entry: str) -> None:
        super().__init__()
        self._entry = entry

    def begin(self, db: Db, my: object) -> None:
        db.update(ENTRIES, self._entry, Entry(True))
        db.go("commit")

    def commit(self, db: Db, my: object) -> None:
        db.commit()
        db.end()


Row = tuple[Table[Any, Any], Any]


class Taking(NamedTuple):
    todo: tuple[int, ...] = ()


class Take(Program):
    """A transaction of which only the order of its row locks matters."""

    memory: ClassVar[Taking] = Taking()

    def __init__(self, *rows: Row) -> None:
        super().__init__()
        self._rows = rows

    def begin(self, db: Db, my: Taking) -> None:
        taken = len(my.todo)
        if taken == len(self._rows):
            db.commit()
            return db.end()
        table, key = self._rows[taken]
        db.lock(table, key, Mode.UPDATE)
        db.note = f"{table.name} {key}"
        db.go("begin", todo=(*my.todo, taken))
