"""Partial uploads and the final ones that are made of them: begin, copy in batches, end.

A part is an upload that has all its bytes and stays open. A final one takes over what its parts
have reserved, copies their references batch by batch, each under its own fence, and becomes a
file; or it ends, and gives back.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from tests.model.life import Program
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    GROUPS,
    MARKS,
    REFS,
    UPLOADS,
    VERSIONS,
    Conflict,
    Content,
    Db,
    Group,
    Mark,
    Mode,
    Ref,
    Upload,
    Version,
)

GROUP = "g"


class Ending(NamedTuple):
    """``given``: the parts that get back what was taken of them."""

    todo: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


class End(Program):
    """Ends an open upload without a file, at any time: it expires, fails, or is terminated.

    The upload, its parts where it is a final one, the group, the content: in this order.
    """

    memory: ClassVar[NamedTuple] = Ending()

    def __init__(self, upload: str, *, may_die: bool = False) -> None:
        super().__init__(may_die=may_die)
        self._upload = upload

    def begin(self, db: Db, my: Ending) -> None:
        upload = db.lock(UPLOADS, self._upload, Mode.UPDATE)
        if upload is None or upload.state != "open":
            return db.end()
        if not db.rules.parts_before_groups:
            db.lock(GROUPS, GROUP, Mode.NO_KEY_UPDATE)
        db.go("find_parts")

    def find_parts(self, db: Db, my: Ending) -> None:
        """What the statement sees when it begins; it locks and looks again one by one."""
        found = [
            name
            for name, row in db.rows(UPLOADS)
            if row.taken_by == self._upload and row.state == "open"
        ]
        if not db.rules.parts_locked_when_given_back:
            return db.go("settle", given=tuple(found))
        db.go("lock_part" if found else "settle", todo=tuple(found), given=())

    def lock_part(self, db: Db, my: Ending) -> None:
        part = db.lock(UPLOADS, my.todo[0], Mode.UPDATE)
        is_open = part is not None and part.state == "open" and part.taken_by == self._upload
        db.note = f"{my.todo[0]} is {'open' if is_open else 'over'}"
        given = (*my.given, my.todo[0]) if is_open else my.given
        db.go("lock_part" if my.todo[1:] else "settle", todo=my.todo[1:], given=given)

    def settle(self, db: Db, my: Ending) -> None:
        """The parts reserve what they hold in the store; what is left of it is given up."""
        group = db.lock(GROUPS, GROUP, Mode.NO_KEY_UPDATE)
        assert group is not None
        upload = db.get(UPLOADS, self._upload)
        kept = 0
        for name in my.given if db.rules.ended_finals_give_back else ():
            part = db.get(UPLOADS, name)
            db.update(UPLOADS, name, part._replace(reserved=part.offset, taken_by=""))
            kept += part.offset
        db.update(GROUPS, GROUP, Group(group.reserved - upload.reserved + kept))
        db.note = f"{kept} given back"
        db.go("abandon")

    def abandon(self, db: Db, my: Ending) -> None:
        """The content's row may be held by a final upload that copies from it."""
        upload = db.get(UPLOADS, self._upload)
        content = db.lock(CONTENTS, upload.content, Mode.NO_KEY_UPDATE)
        assert content is not None, "the content of an open upload"
        db.update(CONTENTS, upload.content, content._replace(state="deleting"))
        ended = upload._replace(state="ended", reserved=0, epoch=upload.epoch + 1)
        db.update(UPLOADS, self._upload, ended)
        db.commit()
        db.put_now(MARKS, f"ended {self._upload}", Mark(1))
        db.end()


class Place(NamedTuple):
    """Where all bytes of a part's content stand in the final one."""

    content: str
    begin: int
    end: int


class Building(NamedTuple):
    """``page``: (offset, size, block) of the references that the batch is to copy.

    ``offset``: as the fence saw it. ``taken``: (part, reserved) as they were looked at.
    ``is_single``: the page is of one place only.
    """

    epoch: int = 0
    offset: int = 0
    todo: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    taken: tuple[tuple[str, int], ...] = ()
    page: tuple[tuple[int, int, int], ...] = ()
    blocks: tuple[int, ...] = ()
    is_single: bool = True


class Concatenate(End):
    """One request for a final upload of ``parts`` (name, bytes): begins it, or goes on with it.

    ``batch``: references that one transaction copies. Who finds a part ended, or a block that
    cannot be read, ends the final upload as failed.
    """

    first: ClassVar[str] = "look_up"
    memory: ClassVar[NamedTuple] = Building()

    def __init__(
        self, final: str, *parts: tuple[str, str], batch: int = 1, may_die: bool = False
    ) -> None:
        super().__init__(final, may_die=may_die)
        self._parts = tuple(name for name, _ in parts)
        self._sizes = tuple(len(data) for _, data in parts)
        self._data = "".join(data for _, data in parts)
        self._batch = batch

    # The transaction that begins it

    def look_up(self, db: Db, my: Building) -> None:
        if db.find(UPLOADS, self._upload) is not None:
            return db.go("hold")
        is_ordered = db.rules.parts_by_id
        db.go("take", todo=tuple(sorted(set(self._parts))) if is_ordered else self._parts)
        self.take(db, db.my)

    def take(self, db: Db, my: Building) -> None:
        """One part: open, partial, and whole; its row is locked from now on."""
        name = my.todo[0]
        is_locked = db.rules.parts_locked_when_taken
        part = db.lock(UPLOADS, name, Mode.UPDATE) if is_locked else db.find(UPLOADS, name)
        if part is None or part.state != "open" or not _may_be_taken(db, part):
            db.note = f"{name} cannot be a part"
            return db.end()
        db.note = f"{name} reserves {part.reserved}"
        taken = (*my.taken, (name, part.reserved))
        db.go("take" if my.todo[1:] else "reserve", todo=my.todo[1:], taken=taken)

    def reserve(self, db: Db, my: Building) -> None:
        """What a final one before has taken is reserved anew."""
        group = db.lock(GROUPS, GROUP, Mode.NO_KEY_UPDATE)
        assert group is not None
        grows = len(self._data) - sum(reserved for _, reserved in my.taken)
        db.update(GROUPS, GROUP, Group(group.reserved + grows))
        for name, reserved in my.taken:
            if reserved:
                part = db.lock(UPLOADS, name, Mode.NO_KEY_UPDATE)
                assert part is not None
                db.update(UPLOADS, name, part._replace(reserved=0, taken_by=self._upload))
        db.note = f"{grows} more"
        if not db.rules.taken_in_one_transaction:
            db.commit()
        db.go("create")

    def create(self, db: Db, my: Building) -> None:
        content, size = f"of {self._upload}", len(self._data)
        db.insert(UPLOADS, self._upload, Upload(content, "open", 0, 0, size, False, "final"))
        db.insert(CONTENTS, content, Content(self._data, "building"))
        db.commit()
        db.go("hold", todo=(), taken=())

    # Batches

    def hold(self, db: Db, my: Building) -> None:
        """A request that comes again passes the one before."""
        final = db.lock(UPLOADS, self._upload, Mode.UPDATE)
        if final is None or final.state != "open":
            return db.end()
        db.update(UPLOADS, self._upload, final._replace(epoch=final.epoch + 1))
        db.commit()
        db.note = f"epoch {final.epoch + 1}, offset {final.offset}"
        db.go("fence", epoch=final.epoch + 1)

    def fence(self, db: Db, my: Building) -> None:
        """Under the lock, the last one too; then the sources that this batch may need."""
        if db.rules.final_fenced:
            db.lock(UPLOADS, self._upload, Mode.UPDATE)
        final = db.get(UPLOADS, self._upload)
        if final.state != "open" or final.epoch != my.epoch:
            db.note = "not mine any more"
            return db.end()
        left = [place for place in self._places(db) if place.end > final.offset]
        if not left:
            return db.go("charge")
        names = sorted({place.content for place in left[: self._batch]})
        db.note = f"from {final.offset}"
        db.go("hold_source", todo=tuple(names), offset=final.offset)

    def hold_source(self, db: Db, my: Building) -> None:
        """Where it is building, FOR SHARE: then nobody releases its rows meanwhile."""
        name = my.todo[0]
        is_held = db.rules.sources_held
        source = db.lock(CONTENTS, name, Mode.SHARE) if is_held else db.find(CONTENTS, name)
        if source is None or source.state != "building":
            db.note = f"{name} is going away"
            db.rollback()
            return db.go("fail")
        db.note = name
        db.go("hold_source" if my.todo[1:] else "look", todo=my.todo[1:])

    def look(self, db: Db, my: Building) -> None:
        """Which references stand there. Those of several parts are copied if all of each fits."""
        places = [place for place in self._places(db) if place.end > my.offset][: self._batch]
        page = list(_rows(db, places[0], my.offset))[: self._batch]
        if not page or not _is_gapless(page, my.offset):
            db.note = "a part has gone"
            db.rollback()
            return db.go("fail")
        is_single = _end_of(page) < places[0].end or len(places) == 1
        for place in () if is_single else places[1:]:
            mine = list(_rows(db, place, place.begin))
            is_whole = _is_gapless(mine, place.begin) and mine and _end_of(mine) == place.end
            if not is_whole or len(page) + len(mine) > self._batch:
                break
            page += mine
        db.note = ", ".join(f"block {block} at {at}" for at, _, block in page)
        blocks = tuple(sorted({block for _, _, block in page}))
        is_pinned = db.rules.copied_blocks_pinned
        go_on = "pin" if is_pinned else "copy"
        db.go(go_on, page=tuple(page), blocks=blocks, is_single=is_single)

    def pin(self, db: Db, my: Building) -> None:
        """As any other writer: FOR SHARE where live; for a lost one its live twin."""
        key = my.blocks[0]
        block = db.lock(BLOCKS, key, Mode.SHARE)
        if block is not None and block.state == "live":
            db.note = f"block {key} pinned"
            return db.go("pin" if my.blocks[1:] else "copy", blocks=my.blocks[1:])
        twin = None if block is None else _live_with(db, block.hash)
        if twin is None:
            db.note = f"block {key} is live no more"
            db.rollback()
            return db.go("fail")
        page = tuple((at, size, twin if of == key else of) for at, size, of in my.page)
        db.note = f"block {twin} for block {key}"
        db.go("pin_twin", page=page, blocks=(twin, *my.blocks[1:]), is_single=False)

    def pin_twin(self, db: Db, my: Building) -> None:
        """It was live when the statement before looked."""
        key = my.blocks[0]
        twin = db.lock(BLOCKS, key, Mode.SHARE) if db.rules.twins_pinned else None
        if db.rules.twins_pinned and (twin is None or twin.state != "live"):
            db.note = f"block {key} is live no more"
            db.rollback()
            return db.go("fail")
        db.go("pin" if my.blocks[1:] else "copy", blocks=my.blocks[1:])

    def copy(self, db: Db, my: Building) -> None:
        """The rows and the offset. Of one part it is INSERT … SELECT, so a look of its own."""
        final = db.get(UPLOADS, self._upload)
        end = _end_of(my.page)
        rows = my.page
        if my.is_single:
            place = next(at for at in self._places(db) if at.end > my.offset)
            rows = tuple(row for row in _rows(db, place, my.offset) if row[0] < end)
        if db.lock(CONTENTS, final.content, Mode.KEY_SHARE) is None:
            raise Conflict
        for offset, size, block in rows:
            if db.lock(BLOCKS, block, Mode.KEY_SHARE) is None:
                raise Conflict
            db.insert(REFS, (final.content, offset), Ref(size, block, False))
        db.update(UPLOADS, self._upload, final._replace(offset=end))
        db.commit()
        db.note = f"offset {end}"
        db.go("fence", page=(), blocks=(), is_single=True)

    # How it ends

    def charge(self, db: Db, my: Building) -> None:
        """The same transaction as the last fence: the file is there."""
        group = db.lock(GROUPS, GROUP, Mode.NO_KEY_UPDATE)
        assert group is not None
        final = db.get(UPLOADS, self._upload)
        db.update(GROUPS, GROUP, Group(group.reserved - final.reserved))
        content = db.lock(CONTENTS, final.content, Mode.NO_KEY_UPDATE)
        if content is None:
            raise Conflict
        db.update(CONTENTS, final.content, content._replace(state="complete"))
        db.update(UPLOADS, self._upload, final._replace(state="done", reserved=0))
        version = Version("e", final.content, True)
        db.insert(VERSIONS, f"of {self._upload}", version)
        db.commit()
        db.end()

    def fail(self, db: Db, my: Building) -> None:
        final = db.lock(UPLOADS, self._upload, Mode.UPDATE)
        if final is None or final.state != "open" or final.epoch != my.epoch:
            return db.end()
        db.go("find_parts", page=(), blocks=(), todo=(), is_single=True)

    def _places(self, db: Db) -> list[Place]:
        found, begin = [], 0
        for name, size in zip(self._parts, self._sizes, strict=True):
            found.append(Place(db.get(UPLOADS, name).content, begin, begin + size))
            begin += size
        return found


def _may_be_taken(db: Db, part: Upload) -> bool:
    is_whole = part.offset == len(db.get(CONTENTS, part.content).data)
    return part.part == "partial" and (is_whole or not db.rules.only_whole_parts)


def _rows(db: Db, place: Place, offset: int) -> Iterator[tuple[int, int, int]]:
    """References of a part from ``offset`` of the final upload on, placed there."""
    for (owner, at), ref in db.rows(REFS):
        if owner == place.content and place.begin + at >= offset:
            yield place.begin + at, ref.size, ref.block


def _end_of(rows: list[tuple[int, int, int]] | tuple[tuple[int, int, int], ...]) -> int:
    return rows[-1][0] + rows[-1][1]


def _is_gapless(rows: list[tuple[int, int, int]], start: int) -> bool:
    for offset, size, _ in rows:
        if offset != start:
            return False
        start = offset + size
    return True


def _live_with(db: Db, data: str) -> int | None:
    found = (key for key, row in db.rows(BLOCKS) if row.state == "live" and row.hash == data)
    return next(found, None)
