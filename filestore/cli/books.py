"""``filestore quota statement``, ``balance`` and ``verify-journal``: the books of a quota."""

import csv
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

import typer

from filestore.cli.connect import run
from filestore.cli.jobs import BlocksUrl, DatabaseUrl, DataFolder, Where
from filestore.cli.options import AsJson, Group, Quiet
from filestore.cli.output import printable, show, size_of
from filestore.cli.quota import quota_app as quota_app
from filestore.cli.upkeep import exit_code_of, journaled_group, work
from filestore.client import Client
from filestore.client.transport import Document
from filestore.errors import Json
from filestore.model import format_size

Zone = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Time zone of days, such as Europe/Berlin.")
]

_SIGNED: Final = ("bytes", "reserved_bytes", "files")


@quota_app.command("statement")
def show_statement(
    group: Group,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="2026-01-31 or 2026-01-31T12:00:00Z."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to, and not including, this.")
    ] = None,
    tz: Zone = "UTC",
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One table for spreadsheets, by RFC 4180.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what moved a group's quota in a period: balances, entries, and totals.

    Totals are by member, folder at the top, type and day. A statement of any length is written
    as it comes; one that broke off ends with an error and is not whole.
    """
    if as_csv and as_json:
        raise typer.BadParameter("either --csv or --json")
    is_plain = not (as_csv or as_json)

    async def act(client: Client) -> None:
        form = client.statements.of(
            group, begin=begin, end=end, tz=tz, form="json" if as_json else "csv"
        )
        async with form as pieces:
            if is_plain:
                await _print_lines(pieces)
            else:
                await _pass_on(pieces)

    run(act)


@quota_app.command("balance")
def show_balance(
    group: Group,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="2026-01-31 or 2026-01-31T12:00:00Z. Else now."),
    ] = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
) -> None:
    """Show what a group's quota held at a moment."""
    found = run(lambda client: client.statements.balance(group, at, tz=tz))
    lines = [
        f"at        {found.get('at') or 'now'}, behind row {found.get('seq')} of the journal",
        f"used      {size_of(found, 'used_bytes')} in {found.get('files')} files",
        f"reserved  {size_of(found, 'reserved_bytes')} for {found.get('reserved_files')} files",
    ]
    show(found, *lines, as_json=as_json)


@quota_app.command("verify-journal")
def verify_journal(
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="A group's name or id; else all.")
    ] = None,
    data: DataFolder = None,
    database: DatabaseUrl = None,
    blocks: BlocksUrl = None,
    accept_restore: Annotated[
        bool,
        typer.Option(
            "--accept-restore",
            help="After a restore: heads of rows that the backup does not have go from the store;"
            " the audit log keeps them.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Prove that no journal was changed: rows, balances, seals, and the heads in the block store.

    It may run while the service does. Exit code 0: all is intact; 1: something is wrong, and
    every finding is listed with its group and row.
    """
    where = Where(data, database, blocks)
    wishes: dict[str, Json] = {
        "group": journaled_group(group, where),
        "accept_restore": accept_restore,
    }
    report = work("verify-journal", wishes, where, as_json=as_json, quiet=quiet)
    show(report, *journal_lines(report), as_json=as_json)
    raise typer.Exit(exit_code_of(report))


def journal_lines(report: Document) -> Iterator[str]:
    """A verification for people."""
    yield (
        f"{report.get('rows')} rows of {report.get('groups')} groups verified:"
        f" {report.get('sealed_rows')} sealed by {report.get('seals')} seals,"
        f" {report.get('marks')} heads in the block store"
    )
    findings = report.get("findings")
    for finding in findings if isinstance(findings, list) else []:
        if isinstance(finding, dict):
            name = finding.get("group_name") or finding.get("group")
            yield f"WRONG: {name}, row {finding.get('seq')}: {finding.get('detail')}"
    if report.get("omitted"):
        yield f"and {report.get('omitted')} more"
    yield "all is intact" if report.get("is_good") else "the journal is NOT intact"


async def _pass_on(pieces: AsyncIterator[bytes]) -> None:
    """Writes the bytes as they are, whatever the terminal's encoding."""
    out: Any = getattr(sys.stdout, "buffer", None)
    async for piece in pieces:
        if out is None:
            sys.stdout.write(piece.decode())
        else:
            out.write(piece)
    sys.stdout.flush()


async def _print_lines(pieces: AsyncIterator[bytes]) -> None:
    """The table for people, a line each."""
    rest, columns = b"", list[str]()
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\r\n")  # no name has a line break
        for cells in csv.reader(record.decode() for record in whole):
            if not columns:
                columns = cells
            else:
                print(printable(_line(dict(zip(columns, cells, strict=True)))))
    sys.stdout.flush()


def _line(line: dict[str, str]) -> str:
    match line["line"]:
        case "opening" | "closing":
            return (
                f"{line['line']} balance: {_size(line['used_after'])} in {line['files_after']}"
                f" files, {_size(line['reserved_after'])} reserved"
            )
        case "entry":
            who = line["actor"] or "the service"
            what = " ".join(filter(None, (line["cause"], line["path"])))
            return (
                f"{line['seq']:>8}  {line['at'][:19]}Z  {who}  {what}  {_moved(line)}"
                f"  = {_size(line['used_after'])}"
            )
        case kind:
            column = {"folder": "path", "day": "at"}.get(kind, kind)
            return f"by {kind}: {line.get(column) or '-'}  {_moved(line)}"


def _moved(line: dict[str, str]) -> str:
    used, reserved, files = (int(line[name] or 0) for name in _SIGNED)
    parts = [_signed(used)] if used else []
    parts += [f"{_signed(reserved)} reserved"] if reserved else []
    parts += [f"{files:+} files"] if files else []
    return ", ".join(parts) or "0 B"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{format_size(abs(size))}"


def _size(text: str) -> str:
    return format_size(int(text or 0))
