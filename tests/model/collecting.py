"""The collector and what surrounds it: scan, scrub and heal, the store, the clock, a reader."""

from typing import ClassVar, NamedTuple

from tests.model.checks import DAMAGED
from tests.model.life import Program
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    FLYING,
    LATE,
    OBJECTS,
    OLD,
    QUEUE,
    REFS,
    UPLOADS,
    Db,
    Idle,
    Mode,
    Never,
    Object,
)
from tests.model.writing import queue


class Collecting(NamedTuple):
    block: int = 0
    generation: int = 0
    is_free: bool = False


class Collect(Program):
    """A collector: what it does with a task depends on the block's state alone.

    Each round is one transaction, and DELETE is sent between two. It keeps nothing from one
    round to the next, so any number of collectors may go on with each other's blocks.
    """

    memory: ClassVar[Collecting] = Collecting()
    restarts: ClassVar[bool] = True

    def __init__(
        self, *, may_stall: bool = False, may_die: bool = False, may_wait: bool = False
    ) -> None:
        super().__init__(may_die=may_die)
        self._may_stall = may_stall
        self.never_waits = not may_wait

    def begin(self, db: Db, my: Collecting) -> None:
        key = db.any([key for key, _ in db.rows(QUEUE)])
        block = db.get(BLOCKS, key)
        if block.state == "deleting":
            return db.go("send_delete", block=key, generation=block.generation)
        if db.rules.task_locked and db.try_lock(QUEUE, key, Mode.UPDATE) is None:
            raise Idle
        db.note = f"block {key}"
        if not db.rules.collector_looks_behind_lock:
            return db.go("look_first", block=key)
        if block.state == "condemned" and not db.rules.skip_locked_in_tx2:
            return db.go("wait_for_block", block=key)
        if db.try_lock(BLOCKS, key, Mode.UPDATE) is None:
            raise Idle
        db.go("look", block=key)

    def wait_for_block(self, db: Db, my: Collecting) -> None:
        """Only without the rule."""
        db.lock(BLOCKS, my.block, Mode.UPDATE)
        db.go("look")

    def look_first(self, db: Db, my: Collecting) -> None:
        """Only without the rule: the statement that will wait for the lock looks when it begins."""
        db.go("lock_then", is_free=not self._is_referenced(db, my.block))

    def lock_then(self, db: Db, my: Collecting) -> None:
        if db.try_lock(BLOCKS, my.block, Mode.UPDATE) is None:
            raise Idle
        self._decide(db, my, is_referenced=not my.is_free)

    def look(self, db: Db, my: Collecting) -> None:
        self._decide(db, my, is_referenced=self._is_referenced(db, my.block))

    def forget_task(self, db: Db, my: Collecting) -> None:
        """The block is referenced. Who has not locked the task may have to wait for it here."""
        db.delete(QUEUE, my.block)
        self._commit(db)

    def commit(self, db: Db, my: Collecting) -> None:
        self._commit(db)

    def send_delete(self, db: Db, my: Collecting) -> None:
        """DELETE; without an answer it is repeated. Who sent it to an old row may go on."""
        block = db.find(BLOCKS, my.block)
        is_last = block is not None and block.age == OLD
        if self._may_stall and db.any((False, True)):
            db.put_now(FLYING, ("delete", my.generation), Object(""))
            db.note = "no answer"
            return db.go("begin", block=0, generation=0)
        db.put_now(OBJECTS, my.generation, None)
        db.note = f"object {my.generation} is gone"
        if is_last or not db.rules.put_deadline_and_tombstone:
            return db.go("forget")
        db.go("begin", block=0, generation=0)

    def forget(self, db: Db, my: Collecting) -> None:
        """Transaction 3: the row and its task."""
        key = my.block
        is_mine = (
            db.try_lock(QUEUE, key, Mode.UPDATE) is not None
            and db.try_lock(BLOCKS, key, Mode.UPDATE) is not None
            and db.get(BLOCKS, key).generation == my.generation
        )
        if is_mine and db.get(BLOCKS, key).state == "deleting":
            db.delete(QUEUE, key)
            db.delete(BLOCKS, key)
            db.note = f"row {key}"
        self._commit(db)

    def _decide(self, db: Db, my: Collecting, *, is_referenced: bool) -> None:
        block = db.find(BLOCKS, my.block)
        if block is None or block.state == "deleting":
            db.rollback()
            return self._commit(db)
        if block.state == "condemned":
            if is_referenced:
                raise Never("damage", f"block {my.block} is condemned and referenced")
            return self._change(db, my, "deleting")
        if is_referenced or block.state == "uploading":
            db.note = "referenced" if is_referenced else "its writer's, or the scan's"
            return db.go("forget_task")
        self._change(db, my, "condemned")

    def _change(self, db: Db, my: Collecting, state: str) -> None:
        db.update(BLOCKS, my.block, db.get(BLOCKS, my.block)._replace(state=state))
        db.note = f"block {my.block} is {state}"
        db.go("commit")

    def _commit(self, db: Db) -> None:
        db.commit()
        db.go("begin", block=0, generation=0, is_free=False)

    def _is_referenced(self, db: Db, key: int) -> bool:
        contents = {ref_key[0] for ref_key, ref in db.rows(REFS) if ref.block == key}
        if not db.rules.expiry_is_committed:
            contents -= {upload.content for _, upload in db.rows(UPLOADS) if upload.is_due}
        return bool(contents)


class Scanning(NamedTuple):
    block: int = 0


class Scan(Program):
    """Condemns rows that say ``uploading``: of a dead process, of one taken for dead, or late.

    Which of them it is makes no difference to safety, so any such row may be taken at any time.
    """

    memory: ClassVar[Scanning] = Scanning()
    restarts: ClassVar[bool] = True

    def begin(self, db: Db, my: Scanning) -> None:
        if not db.rules.scan_uploading:
            raise Idle
        key = db.any([key for key, row in db.rows(BLOCKS) if row.state == "uploading"])
        db.note = f"block {key}"
        db.go("enqueue", block=key)

    def enqueue(self, db: Db, my: Scanning) -> None:
        db.go("condemn" if queue(db, my.block) else "enqueue")

    def condemn(self, db: Db, my: Scanning) -> None:
        """A row that somebody is just making live is left alone; its task does no harm."""
        block = db.try_lock(BLOCKS, my.block, Mode.UPDATE)
        if block is not None and block.state == "uploading":
            db.update(BLOCKS, my.block, block._replace(state="condemned"))
            db.note = f"block {my.block} is condemned"
        db.commit()
        db.go("begin", block=0)


class Healing(NamedTuple):
    lost: int = 0
    twin: int = 0


class Scrub(Program):
    """Marks damaged blocks lost, and repoints references from lost blocks to live twins."""

    memory: ClassVar[Healing] = Healing()
    restarts: ClassVar[bool] = True

    def begin(self, db: Db, my: Healing) -> None:
        rows = db.rows(BLOCKS)
        objects = dict(db.rows(OBJECTS))
        live = {row.hash: key for key, row in rows if row.state == "live"}
        damaged = [
            (key, 0)
            for key, row in rows
            if row.state == "live" and objects.get(row.generation) == Object(DAMAGED)
        ]
        used = {ref.block for _, ref in db.rows(REFS)}
        twins = [(k, live[r.hash]) for k, r in rows if r.state == "lost" and r.hash in live]
        healable = [at for at in twins if at[0] in used and db.rules.repoint_on_heal]
        lost, twin = db.any(damaged + healable)
        db.note = f"block {lost}"
        if not twin:
            return db.go("mark", lost=lost)
        db.go("rows" if db.rules.heal_takes_rows_first else "enqueue", lost=lost, twin=twin)

    def mark(self, db: Db, my: Healing) -> None:
        block = db.lock(BLOCKS, my.lost, Mode.NO_KEY_UPDATE)
        if block is not None and block.state == "live":
            db.update(BLOCKS, my.lost, block._replace(state="lost"))
            db.note = f"block {my.lost} is lost"
        self._commit(db)

    def rows(self, db: Db, my: Healing) -> None:
        db.lock(BLOCKS, my.twin, Mode.KEY_SHARE)
        for key, ref in db.rows(REFS):
            if ref.block == my.lost and db.lock(REFS, key, Mode.NO_KEY_UPDATE) is not None:
                db.update(REFS, key, ref._replace(block=my.twin))
        db.note = f"refer to block {my.twin} now"
        db.go("enqueue" if db.rules.heal_takes_rows_first else "commit")

    def enqueue(self, db: Db, my: Healing) -> None:
        db.go("pin" if queue(db, my.lost) else "enqueue")

    def pin(self, db: Db, my: Healing) -> None:
        twin = db.lock(BLOCKS, my.twin, Mode.SHARE)
        if twin is None or twin.state != "live":
            db.note = f"block {my.twin} is live no more"
            db.rollback()
            return db.go("begin", lost=0, twin=0)
        db.go("commit" if db.rules.heal_takes_rows_first else "rows")

    def commit(self, db: Db, my: Healing) -> None:
        self._commit(db)

    def _commit(self, db: Db) -> None:
        db.commit()
        db.go("begin", lost=0, twin=0)


class Store(Program):
    """Requests that had no answer arrive after all, at any time and in any order."""

    def begin(self, db: Db, my: object) -> None:
        key, sent = db.any(db.rows(FLYING))
        kind, generation = key
        db.put_now(FLYING, key, None)
        db.put_now(OBJECTS, generation, sent if kind == "put" else None)
        db.note = f"{kind} of object {generation} arrives"


class Clock(Program):
    """Rows grow old. What is assumed: a PUT is not under way for a whole day."""

    def begin(self, db: Db, my: object) -> None:
        flying = {key for key, _ in db.rows(FLYING)}
        key, block = db.any(
            [
                (key, block)
                for key, block in db.rows(BLOCKS)
                if block.age < LATE
                or (block.age == LATE and ("put", block.generation) not in flying)
            ]
        )
        if db.try_lock(BLOCKS, key, Mode.UPDATE) is None:
            raise Idle  # a transaction is a moment
        db.update(BLOCKS, key, block._replace(age=block.age + 1))
        db.commit()
        db.note = f"block {key} is {'old' if block.age == LATE else 'late'}"


class Reading(NamedTuple):
    position: int = 0
    end: int = 0
    page: tuple[tuple[int, int, int], ...] = ()


class Read(Program):
    """A reader of what is acknowledged of an upload: rows first, then objects, no lock."""

    memory: ClassVar[Reading] = Reading()

    def __init__(self, upload: str) -> None:
        super().__init__()
        self._upload = upload

    def begin(self, db: Db, my: Reading) -> None:
        self._resolve(db, position=0, end=db.get(UPLOADS, self._upload).offset)

    def fetch(self, db: Db, my: Reading) -> None:
        offset, size, generation = my.page[0]
        upload = db.get(UPLOADS, self._upload)
        stored = db.find(OBJECTS, generation)
        content = db.find(CONTENTS, upload.content)
        if stored is not None and content is not None:
            wanted = content.data[offset : offset + size]
            if stored.data != wanted:
                raise Never("wrong bytes", f"{stored.data} instead of {wanted}")
            return self._advance(db, my, offset + size)
        if upload.state != "open":
            return db.end()
        db.note = f"object {generation} is gone"
        if not db.rules.readers_resolve_again:
            raise Never("false error", f"bytes at {my.position} are acknowledged and not read")
        db.go("resolve_again")

    def resolve_again(self, db: Db, my: Reading) -> None:
        self._resolve(db, position=my.position, end=my.end)

    def _resolve(self, db: Db, *, position: int, end: int) -> None:
        content = db.get(UPLOADS, self._upload).content
        page = tuple(
            (offset, ref.size, db.get(BLOCKS, ref.block).generation)
            for (owner, offset), ref in db.rows(REFS)
            if owner == content and offset < end and offset + ref.size > position
        )
        if not page:
            return db.end()
        db.note = "rows " + ", ".join(str(offset) for offset, _, _ in page)
        db.go("fetch", position=position, end=end, page=page)

    def _advance(self, db: Db, my: Reading, position: int) -> None:
        db.note = f"up to {position}"
        if position >= my.end:
            return db.end()
        db.go("fetch", position=position, page=my.page[1:])
