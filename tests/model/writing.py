"""Writers: a request that appends to an upload, and an upload that reserves or ends.

The steps follow the hot path: take over, look, announce, put, and then the one transaction
that records: fence, queue, pin, live, write.
"""

from typing import ClassVar, NamedTuple

from tests.model.life import Program
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    FLYING,
    GROUPS,
    LATE,
    MARKS,
    OBJECTS,
    OLD,
    QUEUE,
    REFS,
    UPLOADS,
    YOUNG,
    Block,
    Conflict,
    Db,
    Group,
    Mark,
    Mode,
    Object,
    Ref,
    Task,
)

Cut = tuple[int, int]
"""Where a block begins and ends."""


def queue(db: Db, block: int) -> bool:
    """Upserts the block's task, which is one statement and up to two waits.

    False: it has the block's lock and goes on with the task's in the same step, taken again.
    """
    if db.rules.queue_holds_block and not db.holds(BLOCKS, block):
        return db.lock(BLOCKS, block, Mode.KEY_SHARE) is None  # gone: nothing to collect
    if not db.rules.queue_touches_tasks and db.find(QUEUE, block) is not None:
        return True
    if db.lock(QUEUE, block, Mode.UPDATE) is None and db.lock(BLOCKS, block, Mode.KEY_SHARE):
        db.insert(QUEUE, block, Task())
    return True


class Appending(NamedTuple):
    """``known`` blocks were found live, ``mine`` were announced here; ``lost`` lost a race."""

    epoch: int = 0
    data: str = ""
    start: int = 0
    offset: int = 0
    known: tuple[tuple[str, int], ...] = ()
    mine: tuple[tuple[str, int, int], ...] = ()
    lost: tuple[int, ...] = ()
    todo: tuple[int, ...] = ()
    tries: int = 0
    is_sent: bool = False


class Append(Program):
    """One request: takes the upload over and stores its bytes up to ``end``.

    ``cut_every`` n: blocks of n bytes, all final. Without it one block replaces the tail: it
    is the new tail, or the last block of the file. ``may_stall``: a PUT may come to no answer.
    """

    first: ClassVar[str] = "take_over"
    memory: ClassVar[Appending] = Appending()

    def __init__(
        self,
        upload: str,
        end: int,
        *,
        cut_every: int = 0,
        tries: int = 2,
        may_stall: bool = False,
        may_die: bool = False,
    ) -> None:
        super().__init__(may_die=may_die)
        self._upload = upload
        self._end = end
        self._cut_every = cut_every
        self._tries = tries
        self._may_stall = may_stall

    def take_over(self, db: Db, my: Appending) -> None:
        upload = db.lock(UPLOADS, self._upload, Mode.UPDATE)
        if upload is None or upload.state != "open" or upload.offset >= self._end:
            return db.end()
        db.update(UPLOADS, self._upload, upload._replace(epoch=upload.epoch + 1))
        tail = [
            offset
            for (owner, offset), ref in db.rows(REFS)
            if owner == upload.content and ref.is_tail
        ]
        db.commit()
        start = min(tail, default=upload.offset)
        data = db.get(CONTENTS, upload.content).data
        db.note = f"epoch {upload.epoch + 1}, offset {upload.offset}, tail from {start}"
        db.go("look", epoch=upload.epoch + 1, data=data, offset=upload.offset, start=start)

    def look(self, db: Db, my: Appending) -> None:
        if my.tries == self._tries:
            return db.end()
        live = {block.hash: key for key, block in db.rows(BLOCKS) if block.state == "live"}
        known = tuple((data, live[data]) for data in self._pieces(my) if data in live)
        db.note = f"{len(known)} live"
        is_all = len(known) == len(self._pieces(my))
        db.go("fence" if is_all else "announce", known=known, mine=(), tries=my.tries + 1)

    def announce(self, db: Db, my: Appending) -> None:
        """The rows are committed before anything is sent."""
        there = {data for data, _ in my.known}
        mine = []
        for data in self._pieces(my):
            if data not in there:
                generation = db.next_number("generation")
                key = generation if db.rules.ids_never_reused else _free_id(db)
                age = YOUNG if self._may_stall else OLD
                db.insert(BLOCKS, key, Block(data, generation, "uploading", db.name, age))
                mine.append((data, key, generation))
        db.commit()
        db.note = "blocks " + ", ".join(str(key) for _, key, _ in mine)
        db.go("put", mine=tuple(mine), is_sent=False)
        if not self._may_stall:
            self._put_in_time(db, db.my)

    def put(self, db: Db, my: Appending) -> None:
        """Sends the objects. One that gets no answer may still land; it is sent again once."""
        if self._is_late(db, my):
            db.note = "too late"
            return db.go("look", is_sent=False)
        stalls = self._may_stall and not my.is_sent and db.any((False, True))
        for data, _, generation in my.mine:
            if stalls:
                db.put_now(FLYING, ("put", generation), Object(data))
            else:
                db.put_now(OBJECTS, generation, Object(data))
        db.note = "no answer" if stalls else "stored"
        db.go("put" if stalls else "fence", is_sent=True)

    def _put_in_time(self, db: Db, my: Appending) -> None:
        """Where PUTs do not stall, the row's time does not matter: no time passes before it."""
        if self.may_die and db.any((False, True)):
            db.note += ", and dies"
            return db.end()
        for data, _, generation in my.mine:
            db.put_now(OBJECTS, generation, Object(data))
        db.go("fence", is_sent=True)

    def fence(self, db: Db, my: Appending) -> None:
        is_inside = db.rules.upload_row_locked_inside
        if is_inside:
            db.lock(UPLOADS, self._upload, Mode.UPDATE)
        upload = db.get(UPLOADS, self._upload)
        if upload.state != "open" or upload.epoch != my.epoch:
            db.note = "not mine any more"
            return db.end()
        db.note = f"epoch {my.epoch} is mine"
        db.go("replace")
        if is_inside:
            self.replace(db, my)

    def replace(self, db: Db, my: Appending) -> None:
        """Removes the rows that the new ones supersede; their blocks are to be queued."""
        content = db.get(UPLOADS, self._upload).content
        freed = []
        for (owner, offset), ref in db.rows(REFS):
            if owner == content and my.start <= offset < my.offset:
                db.delete(REFS, (owner, offset))
                freed.append(ref.block)
        losers = my.lost if db.rules.loser_queues_its_row else ()
        db.go("enqueue", todo=tuple(sorted({*freed, *losers})))

    def enqueue(self, db: Db, my: Appending) -> None:
        if my.todo:
            db.note = f"block {my.todo[0]}"
            return db.go("enqueue", todo=my.todo[queue(db, my.todo[0]) :])
        for key in my.lost:
            block = db.lock(BLOCKS, key, Mode.NO_KEY_UPDATE)
            if block is not None and block.state == "uploading":
                db.update(BLOCKS, key, block._replace(state="condemned"))
        db.go("pin", todo=tuple(sorted(key for _, key in my.known)))
        self.pin(db, db.my)

    def pin(self, db: Db, my: Appending) -> None:
        """The statement's snapshot: which of the known blocks are live."""
        if not my.todo or not db.rules.pin_looks_under_lock:
            db.go("live", todo=self._live_order(db, my))
            return self.live(db, db.my)
        block = db.find(BLOCKS, my.todo[0])
        if block is None or block.state != "live":
            db.note = f"block {my.todo[0]} is not live"
            return db.go("give_up")
        db.go("pin_lock")

    def pin_lock(self, db: Db, my: Appending) -> None:
        """The same statement has the lock and looks again; the lock stays either way."""
        block = db.lock(BLOCKS, my.todo[0], Mode.SHARE)
        is_live = block is not None and block.state == "live"
        db.note = f"block {my.todo[0]} {'pinned' if is_live else 'is live no more'}"
        if is_live:
            return db.go("pin", todo=my.todo[1:])
        db.go("give_up")

    def live(self, db: Db, my: Appending) -> None:
        if not my.todo:
            if db.rules.live_and_pin_together or not my.mine:
                return self.write(db, my)
            return db.go("commit_live")
        key = my.todo[0]
        data, generation = next((data, made) for data, at, made in my.mine if at == key)
        block = db.lock(BLOCKS, key, Mode.NO_KEY_UPDATE)
        is_mine = block is not None and block.state == "uploading"
        if db.rules.ids_never_reused:
            is_mine = is_mine and block is not None and block.generation == generation
        if block is None or not is_mine:
            db.note = f"block {key} was reaped"
            return db.go("give_up")
        if not self._first_with(db, block.hash):
            db.note = f"another is live with {data}"
            db.rollback()
            return db.go("yield_to_winners")
        db.note = f"block {key}"
        db.go("live", todo=my.todo[1:])
        if db.rules.repoint_on_heal or not self._adopted(db, my, key):
            db.update(BLOCKS, key, block._replace(state="live"))

    def yield_to_winners(self, db: Db, my: Appending) -> None:
        """The unique index aborted the batch: the winner is used, the own row is given up."""
        live = {block.hash: key for key, block in db.rows(BLOCKS) if block.state == "live"}
        lost = tuple(key for data, key, _ in my.mine if data in live)
        known = (*my.known, *((data, live[data]) for data, _, _ in my.mine if data in live))
        mine = tuple(at for at in my.mine if at[0] not in live)
        db.go("fence", known=known, mine=mine, lost=(*my.lost, *lost))

    def commit_live(self, db: Db, my: Appending) -> None:
        """Only without the rule: live is committed, and pinned in a transaction of its own."""
        db.commit()
        pinned = tuple((data, key) for data, key, _ in my.mine)
        db.go("fence", known=(*my.known, *pinned), mine=())

    def write(self, db: Db, my: Appending) -> None:
        """The rows and the offset; this commit is what the client is told."""
        upload = db.get(UPLOADS, self._upload)
        ids = {data: key for data, key in (*my.known, *((d, k) for d, k, _ in my.mine))}
        for (start, end), data in zip(self._cuts(my), self._pieces(my), strict=True):
            if db.lock(BLOCKS, ids[data], Mode.KEY_SHARE) is None:
                raise Conflict
            is_tail = not self._cut_every and end < len(my.data)
            db.insert(REFS, (upload.content, start), Ref(end - start, ids[data], is_tail))
        db.update(UPLOADS, self._upload, upload._replace(offset=self._end, is_due=False))
        db.commit()
        told = db.find(MARKS, f"told {self._upload}") or Mark(0)
        db.put_now(MARKS, f"told {self._upload}", max(told, Mark(self._end)))
        db.note = f"offset {self._end}"
        db.end()

    def give_up(self, db: Db, my: Appending) -> None:
        """A block is not what it was: roll back, look again, place again."""
        db.rollback()
        db.go("look", is_sent=False)

    def _cuts(self, my: Appending) -> list[Cut]:
        if not self._cut_every:
            return [(my.start, self._end)]
        step = self._cut_every
        return [(at, at + step) for at in range(my.offset, self._end, step)]

    def _pieces(self, my: Appending) -> list[str]:
        return [my.data[start:end] for start, end in self._cuts(my)]

    def _live_order(self, db: Db, my: Appending) -> tuple[int, ...]:
        if db.rules.live_ordered_by_hash:
            return tuple(key for _, key, _ in sorted(my.mine))
        return tuple(sorted(key for _, key, _ in my.mine))

    def _adopted(self, db: Db, my: Appending, key: int) -> bool:
        """Only without the rule: a lost row with these bytes takes the new object's key."""
        mine = db.get(BLOCKS, key)
        for lost, row in db.rows(BLOCKS):
            if row.state == "lost" and row.hash == mine.hash:
                db.update(BLOCKS, lost, mine._replace(state="live"))
                db.delete(BLOCKS, key)
                kept = tuple(at for at in my.mine if at[1] != key)
                db.go("live", mine=kept, known=(*my.known, (mine.hash, lost)))
                return True
        return False

    def _is_late(self, db: Db, my: Appending) -> bool:
        """Whether the deadline of a row has passed. A row that is gone was late long ago."""
        if not db.rules.put_deadline_and_tombstone:
            return False
        rows = [db.find(BLOCKS, key) for _, key, _ in my.mine]
        return self._may_stall and any(row is None or row.age >= LATE for row in rows)

    def _first_with(self, db: Db, data: str) -> bool:
        """The unique index on live: waits for another that is becoming live, then looks."""
        others = tuple(
            name for name, row in db.pending(BLOCKS) if row.state == "live" and row.hash == data
        )
        db.wait_for(others)
        return all(row.state != "live" or row.hash != data for _, row in db.rows(BLOCKS))


def _free_id(db: Db) -> int:
    """Without the rule: the smallest id that no row has now."""
    taken = {key for key, _ in db.rows(BLOCKS)}
    return next(key for key in range(1, len(taken) + 2) if key not in taken)


class Reserving(NamedTuple):
    epoch: int = 0


class Reserve(Program):
    """A request that reserves one more step for an upload of unknown length."""

    memory: ClassVar[Reserving] = Reserving()

    def __init__(self, upload: str, group: str, size: int) -> None:
        super().__init__()
        self._upload = upload
        self._group = group
        self._size = size

    def begin(self, db: Db, my: Reserving) -> None:
        db.go("reserve", epoch=db.get(UPLOADS, self._upload).epoch)

    def reserve(self, db: Db, my: Reserving) -> None:
        if db.rules.fence_on_reservations:
            db.lock(UPLOADS, self._upload, Mode.UPDATE)
            upload = db.get(UPLOADS, self._upload)
            if upload.state != "open" or upload.epoch != my.epoch:
                db.note = "not mine any more"
                return db.end()
        group = db.lock(GROUPS, self._group, Mode.NO_KEY_UPDATE)
        assert group is not None
        db.update(GROUPS, self._group, Group(group.reserved + self._size))
        upload = db.get(UPLOADS, self._upload)
        db.update(UPLOADS, self._upload, upload._replace(reserved=upload.reserved + self._size))
        db.commit()
        db.end()
