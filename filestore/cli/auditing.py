"""``filestore quota audit``: whether what quotas count is what is there, and corrections."""

from typing import Annotated

import typer

from filestore.cli.books import quota_app as quota_app
from filestore.cli.jobs import BlocksUrl, DatabaseUrl, DataFolder, Where
from filestore.cli.options import AsJson, Quiet
from filestore.cli.output import show
from filestore.cli.upkeep import exit_code_of, journaled_group, work
from filestore.client.transport import Document


@quota_app.command("audit")
def audit(
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="Its name or id; without it, all.")
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Show the correcting entries, then write them."),
    ] = False,
    physical: Annotated[
        bool,
        typer.Option("--physical", help="Hold the blocks against the store's own list, too."),
    ] = False,
    data: DataFolder = None,
    database: DatabaseUrl = None,
    blocks: BlocksUrl = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Hold counters and journals against what is there. Nothing is changed without --repair.

    It may run while the service does. Exit code 0: the difference is 0; 1: it is not, or it could
    not be told.
    """
    from filestore_gc import audit_wording  # the service takes a while to import

    where = Where(data, database, blocks)
    group = journaled_group(group, where)

    def run(*, repairs: bool) -> Document:
        wishes = {"group": group, "repair": repairs, "physical": physical}
        return work("audit", {**wishes}, where, as_json=as_json, quiet=quiet)

    report = run(repairs=repair and as_json)
    show(report, *audit_wording.audit_lines(report), as_json=as_json)
    if repair and not as_json and report.get("found"):
        report = run(repairs=True)
        show(report, *audit_wording.audit_lines(report), as_json=False)
    raise typer.Exit(exit_code_of(report))
