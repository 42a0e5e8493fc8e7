"""Small worlds, one for each rule: right as designed, and wrong without the rule.

A scenario holds what its rule is about and little else, so that all of it can be explored.
``depth`` 1 is for every run of the tests; more adds processes that get in the way, and takes
minutes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.model.checks import DAMAGED
from tests.model.collecting import Clock, Collect, Read, Scan, Scrub, Store
from tests.model.life import Life, Program
from tests.model.releasing import Complete, Copy, DropVersions, Expire, Release, Row, Take, Trash
from tests.model.rules import Rules
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    ENTRIES,
    GROUPS,
    MARKS,
    OBJECTS,
    OLD,
    QUEUE,
    REFS,
    UPLOADS,
    VERSIONS,
    Block,
    Content,
    Entry,
    Group,
    Mark,
    Object,
    Ref,
    Table,
    Task,
    Upload,
    Version,
)
from tests.model.writing import Append, Reserve

Tables = dict[Table[Any, Any], dict[Any, Any]]
Programs = dict[str, Program]


@dataclass(frozen=True)
class Scenario:
    """``rule`` off must break a promise of the kind ``breaks``. ``make`` gets the depth.

    ``and_without``: another rule that closes the same trace, and has to be off as well.
    """

    rule: str
    breaks: str
    make: Callable[[Rules, int], Life]
    and_without: str = ""


def scenarios() -> Iterator[Scenario]:
    """One for each rule, in their order."""
    yield Scenario("ids_never_reused", "damage", _reaped_writer)
    yield Scenario("content_lock_on_release", "lost file", _copy_against_release)
    yield Scenario("second_statement_on_release", "stuck", _last_two_versions)
    yield Scenario("upload_row_locked_inside", "offset", _take_over)
    yield Scenario("fence_on_reservations", "quota", _step_against_expiry)
    yield Scenario("task_locked", "stuck", _release_against_collector, "queue_holds_block")
    yield Scenario("skip_locked_in_tx2", "wait", _pin_against_collector)
    yield Scenario("scan_uploading", "stuck", _dying_writer)
    yield Scenario("put_deadline_and_tombstone", "orphan", _late_put)
    yield Scenario("loser_queues_its_row", "stuck", _same_bytes_twice)
    yield Scenario("live_ordered_by_hash", "deadlock", _crossed_batches)
    yield Scenario("live_and_pin_together", "stuck", _dying_writer)
    yield Scenario("repoint_on_heal", "orphan", _heal)
    yield Scenario("readers_resolve_again", "false error", _read_against_tail)
    yield Scenario("lock_order", "deadlock", _complete_against_purge)
    yield Scenario("entry_lock_on_completion", "invisible", _complete_against_trash)
    yield Scenario("pin_looks_under_lock", "damage", _pin_against_collector)
    yield Scenario("collector_looks_behind_lock", "damage", _pin_against_collector)
    yield Scenario("queue_touches_tasks", "stuck", _release_against_collector, "queue_holds_block")
    yield Scenario("queue_holds_block", "stuck", _release_against_collector, "task_locked")
    yield Scenario("expiry_is_committed", "damage", _due_upload)
    yield Scenario("groups_before_queue", "deadlock", _declare_against_complete)
    yield Scenario("contents_by_id", "deadlock", _folder_copy)
    yield Scenario("losers_by_hash", "deadlock", _shared_rows)
    yield Scenario("heal_takes_rows_first", "deadlock", _heal_against_release)


def make_life(
    rules: Rules, rows: Tables, programs: Programs, *, collectors: int = 2, scans: bool = True
) -> Life:
    """Adds the garbage collection, any part of which may die and begin again."""
    names = tuple(f"collector {at}" for at in range(1, collectors + 1))
    may_wait = not rules.task_locked  # then it does; what is shown is what comes of it
    collecting: Programs = {name: Collect(may_die=True, may_wait=may_wait) for name in names}
    collecting["reaper"] = Release(may_die=True)
    if scans:
        collecting["scan"] = Scan(may_die=True)
    rows = {MARKS: {"generation": Mark(10)}, **rows}
    return Life({**collecting, **programs}, rows, rules, twins=names)


def _open(content: str, *, offset: int = 0, reserved: int = 0, is_due: bool = False) -> Upload:
    return Upload(content, "open", offset, 0, reserved, is_due)


def live_block(data: str, generation: int) -> Block:
    return Block(data, generation, "live", "before", OLD)


def _stored(data: str) -> Tables:
    """Block 1, live."""
    return {BLOCKS: {1: live_block(data, 1)}, OBJECTS: {1: Object(data)}}


def _building(**data: str) -> Tables:
    """Empty uploads, one for each name, whose clients send ``data``."""
    return {
        CONTENTS: {f"of {name}": Content(wanted, "building") for name, wanted in data.items()},
        UPLOADS: {name: _open(f"of {name}") for name in data},
    }


def _begun(data: str, *, is_due: bool = False) -> Tables:
    """An upload whose first byte is there: block 1, its provisional tail."""
    return {
        **_stored(data[0]),
        CONTENTS: {"of u": Content(data, "building")},
        REFS: {("of u", 0): Ref(1, 1, True)},
        UPLOADS: {"u": _open("of u", offset=1, is_due=is_due)},
    }


def _complete(*versions: str) -> Tables:
    """A content of one block, with these versions."""
    return {
        **_stored("a"),
        CONTENTS: {"c": Content("a", "complete")},
        REFS: {("c", 0): Ref(1, 1, False)},
        ENTRIES: {"e": Entry(False)},
        VERSIONS: {name: Version("e", "c", True) for name in versions},
    }


def _reaped_writer(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Append("u", 1, cut_every=1, tries=depth, may_die=True),
        "P1": Append("w", 1, cut_every=1, tries=1),
    }
    return make_life(rules, _building(u="a", w="b"), programs)


def _copy_against_release(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "copy": Copy("e", "c"),
        "delete": DropVersions("v1"),
    }
    return make_life(rules, _complete("v1"), programs)


def _last_two_versions(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "delete 1": DropVersions("v1"),
        "delete 2": DropVersions("v2"),
    }
    if depth > 1:
        programs["copy"] = Copy("e", "c")
    return make_life(rules, _complete("v1", "v2"), programs)


def _take_over(rules: Rules, depth: int) -> Life:
    programs: Programs = {"P0": Append("u", 2, tries=depth), "P1": Append("u", 3, tries=1)}
    if depth > 1:
        programs["P1"] = Append("u", 3, tries=1, may_die=True)
    return make_life(rules, _begun("abcd"), programs)


def _step_against_expiry(rules: Rules, depth: int) -> Life:
    rows = _begun("abcd") | {GROUPS: {"g": Group(1)}}
    rows[UPLOADS] = {"u": _open("of u", offset=1, reserved=1)}
    programs: Programs = {
        "P0": Reserve("u", "g", 1),
        "expiry": Expire("u", "g"),
    }
    if depth > 1:
        programs["P1"] = Append("u", 2)
    return make_life(rules, rows, programs)


def _release_against_collector(rules: Rules, depth: int) -> Life:
    rows = _complete() | {QUEUE: {1: Task()}}
    rows[CONTENTS] = {"c": Content("a", "deleting")}
    programs: Programs = {}
    if depth > 1:
        rows[CONTENTS]["of u"] = Content("ab", "building")
        rows[REFS]["of u", 0] = Ref(1, 1, True)
        rows[UPLOADS] = {"u": _open("of u", offset=1)}
        programs |= {"P0": Append("u", 2, may_die=True)}
    return make_life(rules, rows, programs)


def _pin_against_collector(rules: Rules, depth: int) -> Life:
    rows = _stored("a") | _building(u="ab") | {QUEUE: {1: Task()}}
    programs: Programs = {"P0": Append("u", 1)}
    if depth > 1:
        rows = _stored("a") | _building(u="ab", w="a") | {QUEUE: {1: Task()}}
        programs = {"P0": Append("u", 2, cut_every=1, tries=1), "P1": Append("w", 1, tries=1)}
    return make_life(rules, rows, programs)


def _dying_writer(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Append("u", 1, tries=3 - min(depth, 2), may_die=True),
        "expiry": Expire("u"),
    }
    if depth > 1:
        programs["P1"] = Append("u", 1, tries=1, may_die=True)
    return make_life(rules, _building(u="a"), programs)


def _late_put(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Append("u", 1, cut_every=1, tries=depth, may_stall=True, may_die=True),
        "collector 1": Collect(may_stall=True),
        "expiry": Expire("u"),
        "store": Store(),
        "clock": Clock(),
    }
    return make_life(rules, _building(u="a"), programs)


def _same_bytes_twice(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Append("u", 1, cut_every=1, tries=1),
        "P1": Append("w", 1, cut_every=1, tries=1),
    }
    if depth > 1:
        programs |= {"expiry": Expire("u")}
    return make_life(rules, _building(u="a", w="a"), programs)


def _crossed_batches(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Append("u", 2, cut_every=1, tries=1),
        "P1": Append("w", 2, cut_every=1, tries=1),
    }
    rows = _building(u="ab", w="ba")
    return make_life(rules, rows, programs, collectors=depth, scans=False)


def _heal(rules: Rules, depth: int) -> Life:
    rows = _complete("v1") | {OBJECTS: {1: Object(DAMAGED)}}
    begun = _building(u="a")
    rows[CONTENTS] |= begun[CONTENTS]
    rows[UPLOADS] = begun[UPLOADS]
    programs: Programs = {
        "P0": Append("u", 1, cut_every=1, may_die=True),
        "scrub": Scrub(may_die=True),
    }
    if depth > 1:
        programs |= {"expiry": Expire("u"), "delete": DropVersions("v1")}
    return make_life(rules, rows, programs)


def _read_against_tail(rules: Rules, depth: int) -> Life:
    programs: Programs = {"P0": Append("u", 2), "reader": Read("u")}
    if depth > 1:
        programs |= {"P1": Append("u", 3), "expiry": Expire("u")}
    return make_life(rules, _begun("abcd"), programs)


def _finished() -> Tables:
    """An upload with all its bytes and its reservation, and an entry to go to."""
    return _begun("a") | {
        UPLOADS: {"u": _open("of u", offset=1, reserved=1)},
        GROUPS: {"g": Group(1)},
        ENTRIES: {"e": Entry(False)},
    }


def _complete_against_purge(rules: Rules, depth: int) -> Life:
    order: list[Row] = [(GROUPS, "g"), (ENTRIES, "e")]
    purge = Take(*(order if rules.lock_order else order[::-1]))
    programs: Programs = {"P0": Complete("u", "g", "e"), "purge": purge}
    if depth > 1:
        programs |= {"expiry": Expire("u", "g"), "trash": Trash("e")}
    return make_life(rules, _finished(), programs)


def _complete_against_trash(rules: Rules, depth: int) -> Life:
    programs: Programs = {"P0": Complete("u", "g", "e"), "trash": Trash("e")}
    if depth > 1:
        programs |= {"expiry": Expire("u", "g"), "copy": Copy("e", "of u")}
    return make_life(rules, _finished(), programs)


def _due_upload(rules: Rules, depth: int) -> Life:
    rows = _begun("ab", is_due=True) | {QUEUE: {1: Task()}}
    programs: Programs = {"P0": Append("u", 2)}
    if depth > 1:
        programs |= {"expiry": Expire("u")}
    return make_life(rules, rows, programs)


def _declare_against_complete(rules: Rules, depth: int) -> Life:
    """Two uploads of one group that share block 1: one unstages it, one supersedes it."""
    rows = _begun("a") | {GROUPS: {"g": Group(0)}}
    rows[UPLOADS]["w"] = _open("of w")
    rows[CONTENTS]["of w"] = Content("a", "building")
    locks: list[Row] = [(GROUPS, "g"), (QUEUE, 1)]
    declare = locks if rules.groups_before_queue else locks[::-1]
    programs: Programs = {
        "take-over of w": Take((UPLOADS, "w"), *declare),
        "completion of u": Take((UPLOADS, "u"), *locks),
    }
    return make_life(rules, rows, programs)


def _folder_copy(rules: Rules, depth: int) -> Life:
    """Another group of the same domain deletes what this one copies, for good."""
    rows = _complete("v1")
    rows[CONTENTS]["d"] = Content("a", "complete")
    rows[REFS]["d", 0] = Ref(1, 1, False)
    rows[VERSIONS] |= {
        "v2": Version("e", "d", True),
        "mine of c": Version("e", "c", True),
        "mine of d": Version("e", "d", True),
    }
    programs: Programs = {
        "copy": Copy("e", "d", "c"),
        "delete": DropVersions("v1", "v2"),
    }
    return make_life(rules, rows, programs)


def _shared_rows(rules: Rules, depth: int) -> Life:
    """Two uploads of one process store the blocks 1 and 2 together: hashes a and b.

    Another process was first with b. The batch of u knows it and gives row 2 up; the batch of
    w does not yet.
    """
    rows = _building(u="ab", w="ab")
    rows[BLOCKS] = {
        1: Block("a", 1, "uploading", "P0", OLD),
        2: Block("b", 2, "uploading", "P0", OLD),
    }
    rows[OBJECTS] = {1: Object("a"), 2: Object("b")}
    hashes: list[Row] = [(BLOCKS, 1), (BLOCKS, 2)]
    programs: Programs = {
        "batch of u": Take((UPLOADS, "u"), *(hashes if rules.losers_by_hash else hashes[::-1])),
        "batch of w": Take((UPLOADS, "w"), *hashes),
    }
    return make_life(rules, rows, programs)


def _heal_against_release(rules: Rules, depth: int) -> Life:
    """A content goes away whose lost block has a live twin: block 2, of another content."""
    rows = _complete()
    rows[BLOCKS] = {1: live_block("a", 1)._replace(state="lost"), 2: live_block("a", 2)}
    rows[OBJECTS] = {1: Object(DAMAGED), 2: Object("a")}
    rows[CONTENTS] = {"c": Content("a", "deleting"), "d": Content("a", "complete")}
    rows[REFS]["d", 0] = Ref(1, 2, False)
    rows[VERSIONS] = {"v1": Version("e", "d", True)}
    programs: Programs = {"scrub": Scrub(may_die=True)}
    if depth > 1:
        programs["delete"] = DropVersions("v1")
    return make_life(rules, rows, programs)
