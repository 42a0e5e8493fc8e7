"""``filestore quota``: what groups may hold, what they hold, and what that is."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from filestore.cli.connect import collect, run
from filestore.cli.failure import language_of, report, say
from filestore.cli.options import AsJson, Group, size_value
from filestore.cli.output import Column, SizeColumn, TimeColumn, printable, show, show_list, size_of
from filestore.cli.quota_file import read_rows, write_rows
from filestore.cli.quota_text import limit_lines, outcome_line, quota_lines, site_lines
from filestore.client.transport import Document
from filestore.errors import BadRequest
from filestore.model import format_size

quota_app = typer.Typer(help="What groups may hold, and hold.", no_args_is_help=True)

LINES: Final = ("live", "versions", "trash", "reserved", "temporary", "temporary-reserved")
_NONE: Final = -1
_MOST_SAID: Final = 20


def _size_or_none(text: str) -> int:
    return _NONE if text.lower() == "none" else size_value(text)


def _count_or_none(text: str) -> int:
    if text.lower() == "none":
        return _NONE
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is no number of files; write 10000 or none")
    return int(text)


def _line(text: str) -> str:
    if text not in LINES:
        raise typer.BadParameter(f"there is no line {text!r}; there are {', '.join(LINES)}")
    return text


@quota_app.command("show")
def show_quota(group: Group, as_json: AsJson = False) -> None:
    """Show what a group may hold, and what takes the room."""
    quota = run(lambda client: client.groups.quota(group))
    show(quota, *quota_lines(group, quota), as_json=as_json)


@quota_app.command("items")
def list_items(
    group: Group,
    line: Annotated[
        str, typer.Argument(parser=_line, metavar="LINE", help=f"One of: {', '.join(LINES)}.")
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is behind a line of a group's quota; it sums to the line."""

    async def act(client: Any) -> list[Document]:
        found: list[Document] = []
        async for item in client.books.items(group, line):
            found.append(item)
            if len(found) == limit:
                break
        return found

    columns: list[Column] = [
        SizeColumn("SIZE", "bytes"),
        Column("NO.", "version"),
        TimeColumn("SINCE", "at"),
        Column("BY", "author"),
        Column("PATH", "path"),
    ]
    if line == "temporary":
        columns.insert(3, TimeColumn("UNTIL", "expires_at"))
    if line.endswith("reserved"):
        columns[1:2] = [_Running("RECEIVED", "offset"), _Until("UNTIL", "expires_at")]
    show_list(run(act), columns, as_json=as_json, empty=f"nothing is behind {line}")


class _Running(SizeColumn):
    """A size of the upload that an item is of."""

    def cell(self, item: Document) -> str:
        upload = item.get("upload")
        return super().cell(upload if isinstance(upload, dict) else {})


class _Until(TimeColumn):
    """A time of the upload that an item is of."""

    def cell(self, item: Document) -> str:
        upload = item.get("upload")
        return super().cell(upload if isinstance(upload, dict) else {})


@quota_app.command("site")
def show_site(as_json: AsJson = False) -> None:
    """Show all groups together, and what the store holds. For site admins."""
    site = run(lambda client: client.books.site())
    show(site, *site_lines(site), as_json=as_json)


@quota_app.command("pool")
def set_pool(
    size: Annotated[
        int | None,
        typer.Argument(
            parser=_size_or_none, metavar="[SIZE]", help="What the site has for all groups; none."
        ),
    ] = None,
    overcommit: Annotated[
        int | None,
        typer.Option(min=0, metavar="PERCENT", help="How much of it limits may promise together."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show or set what the site has for all groups. Without --overcommit, any limits are fine."""
    if size is None and overcommit is not None:
        raise typer.BadParameter("--overcommit needs SIZE")
    wished = None if size == _NONE else size
    pool: Any = run(
        lambda client: (
            client.books.pool() if size is None else client.books.set_pool(wished, overcommit)
        )
    )
    has = "nobody said" if pool["pool_bytes"] is None else format_size(pool["pool_bytes"])
    bound = "" if pool["allowed_bytes"] is None else f" of {format_size(pool['allowed_bytes'])}"
    show(
        pool,
        f"pool      {has}",
        f"promised  {format_size(pool['limit_bytes'])}{bound}",
        as_json=as_json,
    )


@quota_app.command("set")
def set_quota(
    group: Group,
    size: Annotated[
        int | None,
        typer.Argument(
            parser=size_value, metavar="[SIZE]", help="500MB or 10GiB; if not given, as before."
        ),
    ] = None,
    soft: Annotated[
        int | None,
        typer.Option(
            "--soft", parser=_size_or_none, metavar="SIZE", help="Where warnings end; or none."
        ),
    ] = None,
    files: Annotated[
        int | None,
        typer.Option("--files", parser=_count_or_none, metavar="N", help="How many files; none."),
    ] = None,
    overflow: Annotated[
        bool | None,
        typer.Option(
            "--overflow/--no-overflow", help="Take what is beyond the soft limit as temporary."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set what a group may hold. Less than it holds is allowed: then it can only shrink."""
    limits: Document = {}
    for name, value in (("soft_limit", soft), ("files_limit", files)):
        if value is not None:
            limits[name] = None if value == _NONE else value
    if overflow is not None:
        limits["overflows"] = overflow
    if size is None and not limits:
        raise typer.BadParameter("SIZE, --soft, --files or --overflow must be given")
    changed = run(lambda client: client.groups.set_quota(group, size, limits))
    done = f"quota of {group} is {size_of(changed, 'quota_bytes')}"
    show(changed, done, *limit_lines(changed, limits), as_json=as_json)


@quota_app.command("export")
def export_quotas(as_json: AsJson = False) -> None:
    """Write the limits of all groups as CSV, in bytes, as quota import takes them."""
    items = collect(lambda client: client.books.quotas())
    if as_json:
        show_list(items, (), as_json=True)
    else:
        sys.stdout.write(write_rows(items))


@quota_app.command("import")
def import_quotas(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv",
            help="group,quota_bytes[,soft_limit][,files_limit]; 10GiB; the last two also none.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set the limits of many groups from a CSV file: all of them, or none when a row is wrong."""
    try:
        rows = read_rows(file)
        done: Any = run(lambda client: client.books.set_quotas(rows, dry_run=dry_run))
    except BadRequest as err:
        if as_json:
            raise
        raise typer.Exit(_say_all(err)) from err
    verb = "would change" if dry_run else "changed"
    lines = [outcome_line(row) for row in done["rows"] if row["changed"]]
    counted = f"{verb} {done['changed']} of {len(done['rows'])} groups"
    show(done, *lines, counted, as_json=as_json)


def _say_all(err: BadRequest) -> int:
    """All wrong rows by line: the first is what the error itself says; gives the exit code."""
    code = report(err, as_json=False, language=language_of(os.environ))
    others = err.members.get("errors")
    for one in others[1:_MOST_SAID] if isinstance(others, list) else []:
        if isinstance(one, dict):
            say(printable(f"{one.get('field')}: {one.get('reason')}."))
    return code
