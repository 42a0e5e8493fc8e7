"""``filestore gc``: frees what nothing refers to any more, or says what that would be."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from filestore.cli.jobs import (
    BlocksUrl,
    DatabaseUrl,
    DataFolder,
    Where,
    work_as_job,
    work_directly,
)
from filestore.cli.options import AsJson, Quiet
from filestore.cli.output import Column, SizeColumn, TimeColumn, printable, show, table
from filestore.client.transport import Document
from filestore.errors import EXIT_FAILED, EXIT_REFUSED, Json
from filestore.model import format_size

if TYPE_CHECKING:
    from filestore_gc.kinds import Ground

gc_app = typer.Typer(help="What nothing refers to any more.", no_args_is_help=True)

_COLUMNS: Final = (
    SizeColumn("BYTES", "bytes"),
    Column("BLOCKS", "blocks"),
    Column("GROUP", "group_name"),
    Column("REASON", "reason"),
    Column("SINCE", "age"),
)
_WHY: Final = {
    "grace": "in their grace",
    "tombstone": "removed; only their rows stay, for a day",
    "retry": "the store has not acknowledged their removal, tried again",
    "in-use": "ALARM: something refers to them, looked at again",
    "queued": "queued",
}
_REAPED: Final = (
    ("uploads", "upload", "that ran out of time"),
    ("entries", "item", "past its time in the trash"),
    ("versions", "version", "that its group does not keep"),
    ("contents", "content", "that nothing refers to"),
    ("unfinished", "block", "whose writer is gone"),
    ("found", "block", "that no task named"),
)


@gc_app.command("run")
def run_gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be freed, and what waits.")
    ] = False,
    grace: Annotated[
        int | None,
        typer.Option(
            "--grace",
            min=0,
            metavar="SECONDS",
            help="Instead of the setting, also for what waits already; 0 frees at once.",
        ),
    ] = None,
    data: DataFolder = None,
    database: DatabaseUrl = None,
    blocks: BlocksUrl = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Free what nothing refers to. Exit code 3: a guard refused; 1: the store failed.

    Asks the server of FILESTORE_URL, waits for a collection under way, and then for the end.
    """
    where = Where(data, database, blocks)
    if where.is_direct:
        report = _directly(where, dry_run=dry_run, grace_s=grace)
    else:
        wishes: dict[str, Json] = {"dry_run": dry_run, "grace_s": grace}
        report = work_as_job("gc", wishes, as_json=as_json, quiet=quiet)
    show(report, *report_lines(report), as_json=as_json)
    problem = report.get("problem")
    if isinstance(problem, dict) and not as_json:
        told = f"filestore: {report.get('result')}: {problem.get('reason')}"
        print(printable(told), file=sys.stderr)
    raise typer.Exit(exit_code_of(report))


def exit_code_of(report: Document) -> int:
    """0: done, or nothing to do. 3: refused. 1: anything else."""
    match report.get("result"):
        case "planned" | "done" | "nothing":
            return 0
        case "refused":
            return EXIT_REFUSED
        case _:
            return EXIT_FAILED


def report_lines(report: Document) -> Iterator[str]:
    """A plan or a run for people."""
    is_plan = report.get("result") == "planned"
    freed = _documents(report, "freed")
    if report.get("result") == "nothing" or (is_plan and not _says_anything(report)):
        yield "there is nothing to do" if is_plan else "there was nothing to do"
    else:
        verb = "would free" if is_plan else "freed"
        yield f"{verb} {_amount(report)}"
    if freed:
        yield from table(freed, _COLUMNS)
    reaped = report.get("reaped")
    if isinstance(reaped, dict):
        yield from _reaped_lines(reaped, "would end" if is_plan else "ended")
    for wait in _documents(report, "waiting"):
        why = _WHY.get(str(wait.get("why")), str(wait.get("why")))
        yield f"waiting: {_amount(wait)}: {why}, {_until(wait)}"
    for alarm in _documents(report, "alarms"):
        yield f"ALARM: block {alarm.get('block')} is {alarm.get('state')} and in use"
    if failed := report.get("failed"):
        yield f"not removed yet, tried again later: {failed} blocks"


def _directly(where: Where, *, dry_run: bool, grace_s: int | None) -> Document:
    async def collect(ground: "Ground") -> Document:
        if dry_run:
            return (await ground.collector.plan(grace_s=grace_s)).to_json()
        return (await ground.collector.run_once(grace_s=grace_s)).to_json()

    return work_directly(where, collect)


def _says_anything(report: Document) -> bool:
    reaped = report.get("reaped")
    return bool(report.get("blocks") or (isinstance(reaped, dict) and any(reaped.values())))


def _reaped_lines(reaped: Document, verb: str) -> Iterator[str]:
    for member, thing, what in _REAPED:
        count = reaped.get(member)
        if isinstance(count, int) and count:
            yield f"{verb}: {_counted(count, thing)} {what}"
    size = reaped.get("bytes")
    if isinstance(size, int) and size:
        yield f"quota given back: {format_size(size)}"


def _until(wait: Document) -> str:
    first = TimeColumn("", "first_at").cell(wait)
    last = TimeColumn("", "last_at").cell(wait)
    return f"until {last}" if first == last else f"until {first} to {last}"


def _amount(document: Document) -> str:
    blocks, size = document.get("blocks"), document.get("bytes")
    count = _counted(blocks if isinstance(blocks, int) else 0, "block")
    return f"{count}, {format_size(size if isinstance(size, int) else 0)}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _documents(report: Document, member: str) -> list[Document]:
    found = report.get(member)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
