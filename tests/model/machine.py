"""The state machine: random histories of the service below HTTP, and what must hold.

Users write, copy, move and delete in two groups, through two processes; a collector goes on in
single transactions between their acts; processes die. After every step the quota is what the
reference says and all that is referred to reads right; at the end a collection leaves nothing
that is not referred to.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from filestore.acts import tree
from filestore.acts import versions as acts
from filestore.errors import UploadGone, UploadTakenOver
from filestore.meta.tables import entries, groups, uploads, users
from filestore.model import Actor
from filestore.names import parse_name
from filestore_gc import run_scrub
from tests.model.house import Held, House
from tests.model.reference import Group, Reference, Refusal, Running
from tests.services.collecting import collector_of
from tests.services.hot_path import (
    ACTOR,
    GROUP,
    Process,
    Site,
    add_group,
    random_bytes,
    set_limit,
)
from tests.services.limits import guard_limits

T = TypeVar("T")

OTHER: Final = "grp_other"
GUEST: Final = Actor("usr_guest", None, None)
LIMIT: Final = 12_000
PIECES: Final = [random_bytes(700, number) for number in range(7)]
"""Few different bytes: nearly every block is deleted, found again and stored again."""

groups_ = st.sampled_from([GROUP, OTHER])
names = st.sampled_from(["a", "b", "c"])
sides = st.integers(0, 1)
picks = st.integers(0, 2**16)
sizes = st.integers(1, 1500)
materials = st.lists(st.integers(0, 6), min_size=1, max_size=4).map(
    lambda numbers: b"".join(PIECES[number] for number in numbers)
)


class Service(RuleBasedStateMachine):
    """``site``: makes a fresh one for each history."""

    site: Callable[[], Site]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Reference({GROUP: Group(LIMIT), OTHER: Group(LIMIT)})
        self.held: tuple[int, Held] | None = None
        self.is_collected = False
        self.is_seen = False
        self.is_sound = True
        self._collecting = deque(
            [self._reap, self._condemn, self._doom, self._remove, self._settle]
        )

    @initialize()
    def open(self) -> None:
        self.house = self.run(House.open(self.site()))
        ground = self.house.ground
        guest = {"id": GUEST.user_id, "name": "guest", "name_key": "guest"}
        self.run(ground.change(users.insert().values(guest)))
        self.run(ground.transact(add_group, OTHER))
        self.run(ground.transact(guard_limits))
        for group in (GROUP, OTHER):
            self.run(set_limit(ground, LIMIT, group))
            self.upload_whole(0, group, "a", PIECES[0] + PIECES[1])
            self.begin(1, group, "b", PIECES[1] + PIECES[2] + PIECES[0], True, GUEST)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The answer of the work, within half a minute."""
        self.is_sound = False
        found = self.runner.run(_bounded(work))
        self.is_sound = True
        return found

    def expect(self, refusal: Refusal, work: Coroutine[Any, Any, T]) -> T | None:
        """The answer of the work; None after the refusal that had to come."""
        if refusal is None:
            self.is_seen = False
            return self.run(work)
        with pytest.raises(refusal):
            self.run(work)
        self.is_sound = True
        return None

    def act(self, side: int, refusal: Refusal, act: Callable[..., Any], *args: object) -> Any:
        """An act on the tree in one of the processes."""
        return self.expect(refusal, self.process(side).transact(act, ACTOR, *args))

    def process(self, side: int) -> Process:
        return self.house.processes[side]

    def writer(self, side: int) -> int:
        """The process that can write now: the one whose PUT is held could not."""
        return side if self.held is None else 1 - self.held[0]

    def file(self, group: str, pick: int) -> str:
        """The name of a file of the group; seldom one that it has not."""
        known = [*sorted(self.model.groups[group].files) * 3, "c"]
        return known[pick % len(known)]

    def chosen(self, pick: int) -> str:
        """One of the uploads that are open; sometimes one that is over."""
        known = [*list(self.model.running) * 3, *self.model.over[-1:]]
        upload_id = known[pick % len(known)]
        self.disturb(upload_id)
        return upload_id

    def running(self, pick: int) -> str:
        """One of the uploads that are open."""
        upload_id = list(self.model.running)[pick % len(self.model.running)]
        self.disturb(upload_id)
        return upload_id

    def disturb(self, upload_id: str) -> None:
        """Who finds an append under way asks how far it is, as clients do, and so ends it."""
        if self.held is None or self.held[1].upload_id != upload_id:
            return
        upload = self.model.running.get(upload_id)
        if upload is not None and not upload.is_due and upload.epoch == self.held[1].epoch:
            found = self.run(self.process(1 - self.held[0]).hot.transfers.status(upload_id))
            self.model.look(upload_id)
            self.model.reached(upload_id, found.offset)

    # What users do

    @rule(side=sides, group=groups_, name=names, data=materials, is_known=st.booleans(),
          actor=st.sampled_from([ACTOR, GUEST]))  # fmt: skip
    def begin(
        self, side: int, group: str, name: str, data: bytes, is_known: bool, actor: Actor
    ) -> None:
        wish = Running(group, name, data, is_known)
        upload = self.expect(self.model.begin(wish), self.house.begin(side, wish, actor))
        if upload is not None:
            self.model.begun(upload.id, wish)

    @rule(side=sides, group=groups_, name=names, data=materials)
    def upload_whole(self, side: int, group: str, name: str, data: bytes) -> None:
        """A file, or a new version of one, in one go; often the same bytes again."""
        side, wish = self.writer(side), Running(group, name, data, True)
        upload = self.expect(self.model.begin(wish), self.house.begin(side, wish, ACTOR))
        if upload is not None:
            self.model.begun(upload.id, wish)
            if data:
                self.model.append(upload.id, len(data), offset=0)
                self.run(self.process(side).append(upload, 0, data))

    @precondition(lambda self: self.model.running or self.model.over)
    @rule(side=sides, pick=picks, size=sizes, is_last=st.booleans(), is_lost=st.booleans())
    def append(self, side: int, pick: int, size: int, is_last: bool, is_lost: bool) -> None:
        """Some more bytes; ``is_last``: all; ``is_lost``: by one who lost count."""
        upload_id, side = self.chosen(pick), self.writer(side)
        upload = self.model.running.get(upload_id, Running(GROUP, "", b"", True))
        piece = upload.data[upload.offset :][: None if is_last else size]
        offset = upload.offset + is_lost
        length = offset + len(piece) if is_last and not upload.is_length_known else None
        says_length = length is not None
        refusal = self.model.append(upload_id, len(piece), offset=offset, is_last=says_length)
        work = self.process(side).append(upload_id, offset, piece, length=length)
        self.expect(refusal, work)

    @precondition(lambda self: self.model.running)
    @rule(side=sides, pick=picks, is_to_end=st.booleans())
    def ask_or_terminate(self, side: int, pick: int, is_to_end: bool) -> None:
        upload_id = self.chosen(pick)
        transfers = self.process(self.writer(side)).hot.transfers
        if is_to_end:
            self.expect(self.model.terminate(upload_id), transfers.terminate(ACTOR, upload_id))
            return
        upload = self.model.running.get(upload_id)
        found = self.expect(self.model.look(upload_id), transfers.status(upload_id))
        if found is not None and upload is not None:
            assert (found.offset, found.reserved) == (upload.offset, upload.reserved)

    @rule(side=sides, group=groups_, pick=picks, onto=names)
    def copy(self, side: int, group: str, pick: int, onto: str) -> None:
        source = self.file(group, pick)
        refusal = self.model.copy(group, source, onto)
        self.act(side, refusal, tree.copy, group, _path(source), _path(onto))

    @rule(side=sides, group=groups_, pick=picks, onto=names)
    def move(self, side: int, group: str, pick: int, onto: str) -> None:
        source = self.file(group, pick)
        refusal = self.model.move(group, source, onto)
        self.act(side, refusal, tree.move, group, _path(source), _path(onto))

    @rule(side=sides, group=groups_, pick=picks, is_for_good=st.booleans())
    def remove(self, side: int, group: str, pick: int, is_for_good: bool) -> None:
        name = self.file(group, pick)
        if is_for_good:
            self.act(side, self.model.remove(group, name), tree.remove, group, _path(name))
            return
        refusal = self.model.put_in_trash(group, name)
        entry = self.act(side, refusal, tree.put_in_trash, group, _path(name))
        if entry is not None:
            self.model.trashed(group, name, entry.id)

    @rule(side=sides, group=groups_, pick=picks, is_purge=st.booleans())
    def restore_or_purge(self, side: int, group: str, pick: int, is_purge: bool) -> None:
        trash = list(self.model.groups[group].trash)
        if not trash:
            return
        entry_id = trash[pick % len(trash)]
        if is_purge:
            self.model.purge(group, entry_id)
            self.act(side, None, tree.purge, group, entry_id)
        else:
            name = self.model.restore(group, entry_id)
            assert self.act(side, None, tree.restore, group, entry_id) == _path(name)

    @rule(side=sides, group=groups_, pick=picks, number=st.integers(1, 5), is_back=st.booleans())
    def restore_or_remove_version(
        self, side: int, group: str, pick: int, number: int, is_back: bool
    ) -> None:
        """Often one of those that there are."""
        name = self.file(group, pick)
        if (file := self.model.groups[group].files.get(name)) and number > 2:
            number = file.numbers[pick % len(file.numbers)]
        if is_back:
            refusal, act = self.model.restore_version(group, name, number), acts.restore_version
            self.act(side, refusal, act, group, _path(name), number)
        else:
            refusal = self.model.remove_version(group, name, number)
            self.act(side, refusal, acts.remove_version, group, _path(name), number)

    @rule(group=groups_, limit=st.sampled_from([4000, LIMIT, 30_000]), keep=st.integers(0, 2))
    def rules_change(self, group: str, limit: int, keep: int) -> None:
        """Of what the group may hold, and how many versions of a file it keeps."""
        self.model.groups[group].limit, self.model.groups[group].keep = limit, keep
        change = sa.update(groups).where(groups.c.id == group)
        self.run(self.house.ground.change(change.values(quota_limit=limit, versions_keep=keep)))

    @rule(pick=picks, group=groups_)
    def time_runs_out(self, pick: int, group: str) -> None:
        """For an upload and for something in the trash; nobody has acted on it yet."""
        ground, model = self.house.ground, self.model
        if model.running:
            upload_id = list(model.running)[pick % len(model.running)]
            model.running[upload_id].is_due = True
            late = sa.update(uploads).where(uploads.c.id == upload_id).values(expires_at=1)
            self.run(ground.change(late))
        if trash := model.groups[group].trash:
            entry_id = list(trash)[pick % len(trash)]
            trash[entry_id].is_due = True
            old = sa.update(entries).where(entries.c.id == entry_id).values(deleted_at=1)
            self.run(ground.change(old))

    # A PUT that takes its time

    @precondition(lambda self: self.held is None and self.model.running)
    @rule(side=sides, pick=picks, size=sizes)
    def hold(self, side: int, pick: int, size: int) -> None:
        """An append that is under way until it is let go."""
        upload_id = self.running(pick)
        upload = self.model.running[upload_id]
        size = min(size, len(upload.data) - upload.offset)
        if upload.is_due or upload.parts or not upload.is_length_known or size == 0:
            return
        held = self.run(self.house.hold(side, upload_id, upload, size))
        if held is None:
            self.model.append(upload_id, size, offset=upload.offset)
        else:
            self.model.look(upload_id)
            self.held = (side, held)

    @precondition(lambda self: self.held)
    @rule()
    def let_go(self) -> None:
        """It is recorded, unless somebody else laid hands on the upload."""
        assert self.held is not None
        _, held = self.held
        self.held = None
        held.fault.gate.set()
        upload = self.model.running.get(held.upload_id)
        if upload is not None and upload.epoch == held.epoch:
            self.run(_wait(held.task))
            upload.is_due = False  # each recorded batch makes it expire later
            self.model.reached(held.upload_id, held.offset + held.size)
            return
        with pytest.raises((UploadTakenOver, UploadGone)):
            self.run(_wait(held.task))
        self.is_sound = True

    # Processes die

    @rule(side=sides, lands=st.booleans())
    def crash(self, side: int, lands: bool) -> None:
        """A process is gone; ``lands``: what it was just putting arrives all the same."""
        held = self.held[1] if self.held and self.held[0] == side else None
        if held is not None:
            self.held = None
            if not lands:
                held.task.cancel()
        self.run(self.house.crash(side, held if lands else None))
        if held is not None:
            self.run(_ended(held))
            if (upload := self.model.running.get(held.upload_id)) and upload.epoch == held.epoch:
                found = self.run(self.house.ground.look(held.upload_id))
                assert found.offset < held.offset + held.size, "its PUT was under way"
                self.model.reached(held.upload_id, found.offset)

    @precondition(lambda self: self.model.running)
    @rule(side=sides, pick=picks, size=sizes, left=st.integers(1, 4), is_late=st.booleans())
    def crash_in_append(self, side: int, pick: int, size: int, left: int, is_late: bool) -> None:
        """Some of it may be recorded, nobody was told; what was acknowledged is there."""
        side, upload_id = self.writer(side), self.running(pick)
        upload = self.model.running[upload_id]
        if not upload.is_length_known or upload.is_due or upload.parts:
            return
        piece = upload.data[upload.offset : upload.offset + size]
        work = self.process(side).append(upload_id, upload.offset, piece)
        self.run(self.house.die_in(side, work, left=left, late=is_late))
        found = self.run(self.house.ground.look(upload_id))
        assert found.state in ("open", "done")
        upload.epoch = found.epoch
        assert found.offset <= upload.offset + len(piece)
        self.model.reached(upload_id, found.offset)
        assert (found.state == "done") == (upload_id not in self.model.running)

    # The collector, step by step

    @rule(side=sides, phases=st.integers(1, 5), is_out_of_turn=st.booleans())
    def the_collector_goes_on(self, side: int, phases: int, is_out_of_turn: bool) -> None:
        """By some of its transactions; ``is_out_of_turn``: two collectors are at it."""
        self.is_collected, self.is_seen = True, False
        for _ in range(phases):
            self._collecting[0](side)
            self._collecting.rotate(-1)
        if is_out_of_turn:
            self._collecting.rotate(1)

    def _reap(self, side: int) -> None:
        self.run(self.house.reap(side))
        self._reaped()

    def _reaped(self) -> None:
        """A part whose file went on the way, too, has ended if that was seen before the end."""
        self.model.reap()
        for part in self.model.left_over():
            if self.run(self.house.ground.look(part)).state != "open":
                self.model.fail(part)

    def _condemn(self, side: int) -> None:
        self.run(self.house.step(side, may_doom=False))

    def _doom(self, side: int) -> None:
        self.run(self.house.step(side, may_doom=True))

    def _remove(self, side: int) -> None:
        self.run(self.house.send_removal(side))

    def _settle(self, side: int) -> None:
        for number, removal in enumerate(self.house.removals):
            if not removal.is_settled:
                self.run(self.house.settle(side, number))

    @precondition(lambda self: self.house.removals)
    @rule(pick=picks)
    def a_removal_comes_again(self, pick: int) -> None:
        self.run(self.house.send_again(pick % len(self.house.removals)))

    @rule(side=sides, left=st.integers(0, 12), is_late=st.booleans())
    def collect(self, side: int, left: int, is_late: bool) -> None:
        """To the end; often by one who dies on the way, and then by another."""
        self.is_collected, self.is_seen = True, False
        if left and not (self.held and self.held[0] == side):
            work = collector_of(self.process(side)).run_once(grace_s=0)
            self.run(self.house.die_in(side, work, left=left, late=is_late))
        self.run(self.house.collect(side))
        self._reaped()

    @precondition(lambda self: self.is_collected and self.held is None)
    @rule()
    def grow_old(self) -> None:
        self.is_collected = False
        self.run(self.house.grow_old())

    # What must hold

    @precondition(lambda self: not self.is_seen)
    @rule(look=st.sampled_from(["read", "scrub", "fsck"]))
    def look(self, look: str) -> None:
        self.is_seen = True
        {"read": self._read, "scrub": self._scrub, "fsck": self._fsck}[look]()

    @invariant()
    def counters_are_right_and_all_that_is_referred_to_reads(self) -> None:
        expected = {group: self.model.counters(group) for group in self.model.groups}
        assert self.run(self.house.counters()) == expected
        self.run(self.house.check())
        if self.house.ground.db.is_sqlite:  # on PostgreSQL at the end: it takes its time
            self.run(self.house.check_audit([GROUP, OTHER]))

    def teardown(self) -> None:
        try:
            if hasattr(self, "house") and self.is_sound:
                self._end()
        finally:
            if hasattr(self, "house"):
                self.runner.run(self.house.site.__aexit__())
            self.runner.close()

    def _end(self) -> None:
        """Lets everything end, collects, and looks at all there is."""
        if self.held is not None:
            self.let_go()
        self.run(self.house.converge())
        self._reaped()
        assert not self.model.left_over()
        self.counters_are_right_and_all_that_is_referred_to_reads()
        self.run(self.house.check_books([GROUP, OTHER]))
        self.run(self.house.check_audit([GROUP, OTHER]))
        self._read()
        for upload_id, upload in self.model.running.items():
            self.run(self._check_running(upload_id, upload))
        self._fsck()

    def _read(self) -> None:
        for group, known in self.model.groups.items():
            expected = {name: file.versions for name, file in known.files.items()}
            expected |= {entry_id: entry.file.versions for entry_id, entry in known.trash.items()}
            assert self.run(self.house.bytes_of(group)) == expected

    def _scrub(self) -> None:
        ground = self.house.ground
        report = self.run(run_scrub(ground.db, ground.store, self.house.site.settings))
        assert (report.is_good, report.lost) == (True, 0), report.to_text()

    def _fsck(self) -> None:
        self.run(self.house.check_sound())

    async def _check_running(self, upload_id: str, upload: Running) -> None:
        """What was acknowledged of an open upload is there."""
        found = await self.house.ground.look(upload_id)
        assert (found.offset, found.state) == (upload.offset, "open")
        data = await self.house.ground.read(found.building, 0, found.offset)
        assert data == upload.data[: upload.offset]


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(30):
        return await work


async def _wait(task: "asyncio.Task[T]") -> T:
    return await task


async def _ended(held: Held) -> None:
    await asyncio.wait({held.task})
    if not held.task.cancelled():
        assert held.task.exception() is not None, "who is dead does not answer"


def _path(name: str) -> tree.Path:
    return (parse_name(name),)
