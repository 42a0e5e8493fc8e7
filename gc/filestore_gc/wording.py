"""What fsck and scrub found, for people: lines made from the same documents that JSON gives.

So a report reads the same from a job of the server and from a run on the store itself. Names
of files are as people gave them: who prints the lines escapes control characters.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from filestore.model import format_size

Document = Mapping[str, Any]


def run_lines(run: Document) -> Iterator[str]:
    """A run of fsck: the check and its plan; after a repair what was done, and what is left."""
    repaired = run.get("repaired")
    yield from check_lines(run if repaired is None else run["before"])
    plan = run["plan"]
    if plan["actions"] or plan["left"] or repaired is not None:
        yield from plan_lines(plan)
    if repaired is not None:
        yield from repair_lines(run)


def repair_lines(run: Document) -> Iterator[str]:
    """What a repair has done, and the check behind it."""
    yield from repaired_lines(run["repaired"])
    yield from check_lines(run)


def check_lines(report: Document) -> Iterator[str]:
    """What was looked at, the damage with its files, then the notes."""
    size = format_size(report["object_bytes"])
    yield f"{report['objects']} objects ({size}) and {report['blocks']} blocks looked at"
    yield from _problem_lines(report)
    yield f"damage: {report['damage'] or 'none'}"
    for finding in report["findings"]:
        yield from _finding_lines(finding)
    if report["omitted"] or not report["complete"]:
        yield "  there is more of this than is listed"
    for note in report["notes"]:
        yield _note_line(note)


def plan_lines(plan: Document) -> Iterator[str]:
    """The steps of a repair in their order, and what it leaves."""
    yield f"repair: {_counts(plan['counts']) or 'nothing to do'}"
    for action in plan["actions"]:
        size = f" ({format_size(action['bytes'])})" if action["bytes"] else ""
        yield f"  {action['act']} {action['subject']}{size}: {action['why']}"
    for left in plan["left"]:
        yield f"  left: {left['subject']}: {left['why']}"
    if plan["omitted"] or not plan["complete"]:
        yield "  there is more than this plan lists"


def repaired_lines(repaired: Document) -> Iterator[str]:
    """What a repair has done."""
    yield f"done: {_counts(repaired['done']) or 'nothing'}"
    if repaired["healed_references"]:
        yield f"healed: {repaired['healed_references']} references repointed"
    for left in repaired["skipped"]:
        yield f"  skipped: {left['subject']}: {left['why']}"
    if repaired["problem"] is not None:
        yield f"broke off: {repaired['problem']['reason']}"


def scrub_lines(report: Document) -> Iterator[str]:
    """What a scrub has read, and what that came to."""
    yield f"{report['blocks']} blocks ({format_size(report['bytes'])}) read and verified"
    yield from _problem_lines(report)
    yield f"lost: {report['lost']} now, {report['still_lost']} since earlier"
    yield (
        f"healed: {report['revived']} blocks read again,"
        f" {report['healed_references']} references repointed"
    )
    for block in report["blocks_lost"]:
        yield f"  {block['block']}: {block['fault']}"
        yield from _file_lines(block)


def _problem_lines(report: Document) -> Iterator[str]:
    if report["problem"] is not None:
        yield f"{report['result']}: {report['problem']['reason']}"


def _finding_lines(finding: Document) -> Iterator[str]:
    word = "damage" if finding["damage"] else "note"
    yield f"  {word}: {finding['kind']} {finding['subject']}: {finding['said']}"
    yield from _file_lines(finding)


def _file_lines(thing: Document) -> Iterator[str]:
    """The files that a thing concerns, as many as it names."""
    for file in thing["files"]:
        version = file["version"]
        what = f"upload {file['path']}" if version is None else f"{file['path']} version {version}"
        trashed = " (in the trash)" if file["trashed"] else ""
        yield f"    group {file['group']}: {what}{trashed}"
    unnamed = thing["affected"] - len(thing["files"])
    if unnamed > 0:
        yield f"    and {unnamed} more"


def _note_line(note: Document) -> str:
    size = f", {format_size(note['bytes'])}" if note["bytes"] else ""
    since = f", since {note['oldest']}" if note["oldest"] else ""
    return f"  note: {note['count']} {note['kind'].replace('-', ' ')}{size}{since}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())
