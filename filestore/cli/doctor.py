"""``filestore doctor``: finds what stands between clients and a server, and says what to change."""

import asyncio
from typing import Annotated, Final

import typer

from filestore.cli.options import AsJson
from filestore.cli.output import show
from filestore.client.doctor import PROBLEM, Doctor, Finding
from filestore.errors import EXIT_FAILED, Json

_MARKS: Final = {"ok": "ok     ", "warning": "WARNING", "problem": "PROBLEM", "skipped": "skipped"}


def examine(
    url: Annotated[
        str, typer.Argument(metavar="URL", envvar="FILESTORE_URL", help="As clients see it.")
    ],
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="FILESTORE_TOKEN",
            help="A token that may write to a group. Better in FILESTORE_TOKEN: others on this"
            " machine see the command line.",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="Where to try uploads.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find a proxy that buffers or truncates, a wrong clock, old TLS, lost headers.

    It begins uploads, breaks them, and ends them; no file appears. Exit code 1: a problem.
    """
    findings = asyncio.run(Doctor(url, token or None, group=group).examine())
    is_well = all(finding.level != PROBLEM for finding in findings)
    document: Json = {"url": url, "well": is_well, "findings": [_shown(one) for one in findings]}
    lines = [line for finding in findings for line in _lines(finding)]
    show(document, *lines, as_json=as_json)
    if not is_well:
        raise typer.Exit(EXIT_FAILED)


def _shown(finding: Finding) -> Json:
    change: Json = {program: list(lines) for program, lines in finding.change.items()}
    return {
        "check": finding.check,
        "level": finding.level,
        "says": finding.says,
        "change": change,
    }


def _lines(finding: Finding) -> list[str]:
    """The finding for people, and what to change below it."""
    told = [f"{_MARKS[finding.level]}  {finding.check}: {finding.says}"]
    for program, lines in finding.change.items():
        told += [f"         {program}: {line}" for line in lines]
    return told
