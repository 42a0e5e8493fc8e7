"""Small worlds of partial uploads and the final ones that are made of them."""

from collections.abc import Iterator

from tests.model.checks import DAMAGED
from tests.model.collecting import Scrub
from tests.model.concatenating import GROUP, Concatenate, End
from tests.model.life import Life
from tests.model.releasing import DropVersions
from tests.model.rules import Rules
from tests.model.scenarios import Programs, Scenario, Tables, live_block, make_life
from tests.model.world import (
    BLOCKS,
    CONTENTS,
    ENTRIES,
    GROUPS,
    OBJECTS,
    REFS,
    UPLOADS,
    VERSIONS,
    Content,
    Entry,
    Group,
    Object,
    Ref,
    Upload,
    Version,
)
from tests.model.writing import Append


def scenarios_of_parts() -> Iterator[Scenario]:
    """One for each rule, in their order."""
    yield Scenario("parts_locked_when_taken", "quota", _two_finals)
    yield Scenario("parts_by_id", "deadlock", _crossed_finals)
    yield Scenario("only_whole_parts", "offset", _growing_part)
    yield Scenario("taken_in_one_transaction", "quota", _two_finals)
    yield Scenario("final_fenced", "revived", _final_against_its_end)
    yield Scenario("sources_held", "offset", _part_ends_meanwhile)
    yield Scenario("copied_blocks_pinned", "damage", _parts_end_in_a_batch, "sources_held")
    yield Scenario("twins_pinned", "damage", _lost_block_of_a_part)
    yield Scenario("parts_locked_when_given_back", "quota", _final_and_part_end)
    yield Scenario("ended_finals_give_back", "unpaid", _final_and_part_end)
    yield Scenario("parts_before_groups", "deadlock", _given_back_against_taken)


def _parts(**data: str) -> Tables:
    """Whole partial uploads, one block for each different byte; and an entry for the files."""
    letters = sorted(set("".join(data.values())))
    numbers = {letter: at for at, letter in enumerate(letters, 1)}
    size = sum(map(len, data.values()))
    return {
        BLOCKS: {at: live_block(letter, at) for letter, at in numbers.items()},
        OBJECTS: {at: Object(letter) for letter, at in numbers.items()},
        CONTENTS: {f"of {name}": Content(wanted, "building") for name, wanted in data.items()},
        REFS: {
            (f"of {name}", at): Ref(1, numbers[letter], False)
            for name, wanted in data.items()
            for at, letter in enumerate(wanted)
        },
        UPLOADS: {name: _part(name, len(wanted)) for name, wanted in data.items()},
        GROUPS: {GROUP: Group(size)},
        ENTRIES: {"e": Entry(False)},
    }


def _part(name: str, size: int) -> Upload:
    return Upload(f"of {name}", "open", size, 0, size, False, "partial")


def _taken(rows: Tables, by: str, data: str) -> Tables:
    """The parts' reservations have passed to a final upload of all of them, without bytes yet."""
    for name, part in rows[UPLOADS].items():
        rows[UPLOADS][name] = part._replace(reserved=0, taken_by=by)
    rows[UPLOADS][by] = Upload(f"of {by}", "open", 0, 0, len(data), False, "final")
    rows[CONTENTS][f"of {by}"] = Content(data, "building")
    return rows


def _two_finals(rules: Rules, depth: int) -> Life:
    """Of the same part, which may end meanwhile: only one of them takes what it reserves."""
    programs: Programs = {
        "P0": Concatenate("f", ("p", "a")),
        "P1": Concatenate("g", ("p", "a")),
        "expiry": End("p"),
    }
    return make_life(rules, _parts(p="a"), programs, collectors=depth, scans=False)


def _crossed_finals(rules: Rules, depth: int) -> Life:
    programs: Programs = {
        "P0": Concatenate("f", ("p", "a"), ("q", "b")),
        "P1": Concatenate("g", ("q", "b"), ("p", "a")),
    }
    return make_life(rules, _parts(p="a", q="b"), programs, collectors=1, scans=False)


def _growing_part(rules: Rules, depth: int) -> Life:
    """A part gets its last byte, which replaces its tail; then it can be taken."""
    rows = _parts(p="a") | {GROUPS: {GROUP: Group(2)}}
    rows[CONTENTS]["of p"] = Content("ab", "building")
    rows[REFS]["of p", 0] = Ref(1, 1, True)
    rows[UPLOADS]["p"] = _part("p", 1)._replace(reserved=2)
    programs: Programs = {
        "P0": Append("p", 2, tries=1),
        "P1": Concatenate("f", ("p", "ab"), may_die=depth > 1),
    }
    if depth > 1:
        programs["expiry"] = End("p")
    return make_life(rules, rows, programs, collectors=1)


def _final_against_its_end(rules: Rules, depth: int) -> Life:
    """Its process dies on the way, the request comes again, and somebody terminates it."""
    rows = _taken(_parts(p="ab"), "f", "ab")
    programs: Programs = {
        "P0": Concatenate("f", ("p", "ab"), may_die=True),
        "P1": Concatenate("f", ("p", "ab")),
        "termination": End("f"),
    }
    return make_life(rules, rows, programs, collectors=depth, scans=False)


def _part_ends_meanwhile(rules: Rules, depth: int) -> Life:
    """Between two batches, and in the middle of one; what it was may be collected."""
    rows = _parts(p="ab")
    programs: Programs = {
        "P0": Concatenate("f", ("p", "ab"), may_die=True),
        "expiry": End("p"),
        "expiry of f": End("f"),
    }
    return make_life(rules, rows, programs, collectors=depth, scans=False)


def _parts_end_in_a_batch(rules: Rules, depth: int) -> Life:
    """Two parts are copied together, by what was seen of their rows."""
    rows = _taken(_parts(p="a", q="b"), "f", "ab")
    programs: Programs = {
        "P0": Concatenate("f", ("p", "a"), ("q", "b"), batch=2, may_die=True),
        "expiry": End("p"),
    }
    if depth > 1:
        programs["expiry of f"] = End("f")
    return make_life(rules, rows, programs, collectors=depth, scans=False)


def _lost_block_of_a_part(rules: Rules, depth: int) -> Life:
    """Its live twin, block 2, is of a file that is just deleted."""
    rows = _taken(_parts(p="a"), "f", "a")
    rows[BLOCKS] = {1: live_block("a", 1)._replace(state="lost"), 2: live_block("a", 2)}
    rows[OBJECTS] = {1: Object(DAMAGED), 2: Object("a")}
    rows[CONTENTS]["d"] = Content("a", "complete")
    rows[REFS]["d", 0] = Ref(1, 2, False)
    rows[VERSIONS] = {"v1": Version("e", "d", True)}
    programs: Programs = {
        "P0": Concatenate("f", ("p", "a"), may_die=True),
        "delete": DropVersions("v1"),
        "scrub": Scrub(may_die=depth > 1),
    }
    return make_life(rules, rows, programs, collectors=depth, scans=False)


def _final_and_part_end(rules: Rules, depth: int) -> Life:
    rows = _taken(_parts(p="a", q="b"), "f", "ab")
    programs: Programs = {"expiry": End("p"), "termination": End("f", may_die=True)}
    if depth > 1:
        programs["P0"] = Concatenate("f", ("p", "a"), ("q", "b"))
    return make_life(rules, rows, programs, collectors=1, scans=False)


def _given_back_against_taken(rules: Rules, depth: int) -> Life:
    """One final upload ends while another one of the same part begins."""
    rows = _taken(_parts(p="a"), "f", "a")
    programs: Programs = {
        "termination": End("f"),
        "P0": Concatenate("g", ("p", "a"), may_die=depth > 1),
    }
    return make_life(rules, rows, programs, collectors=1, scans=False)
