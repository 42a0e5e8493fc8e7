"""``filestore fsck`` and ``filestore scrub``: whether what is stored is whole, and repairs."""

import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from filestore.cli.connect import run
from filestore.cli.jobs import (
    BlocksUrl,
    DatabaseUrl,
    DataFolder,
    Watch,
    Where,
    work_as_job,
    work_directly,
)
from filestore.cli.options import AsJson, Quiet, size_value
from filestore.cli.output import show
from filestore.client.transport import Document
from filestore.errors import EXIT_FAILED, EXIT_REFUSED, Json, NotFound
from filestore.ids import looks_like_id

if TYPE_CHECKING:
    from filestore_gc.kinds import Ground

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,10})\s?([smhdw]?)", re.ASCII)


def duration_value(text: str) -> int:
    """Seconds, of ``90``, ``90s``, ``15m``, ``12h``, ``30d`` or ``4w``.

    :raises typer.BadParameter: it is none of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 15m, 12h, 30d or 4w")
    return int(match[1]) * _UNITS[match[2]]


def check(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Show the plan, then do what is safe, and check again."),
    ] = False,
    data: DataFolder = None,
    database: DatabaseUrl = None,
    blocks: BlocksUrl = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Hold database and store against each other. Nothing is changed without --repair.

    It may run while the service does. Exit code 0: nothing is damaged; 1: something is, or it could
    not be told; 3: it is not this database's store.
    """
    from filestore_gc import wording  # the service takes a while to import

    where = Where(data, database, blocks)

    def run(*, repairs: bool) -> Document:
        return work("fsck", {"repair": repairs}, where, as_json=as_json, quiet=quiet)

    report = run(repairs=repair and as_json)
    show(report, *wording.run_lines(report), as_json=as_json)
    if repair and not as_json and _plans_something(report):
        report = run(repairs=True)
        words = wording.repair_lines if "repaired" in report else wording.run_lines
        show(report, *words(report), as_json=False)
    raise typer.Exit(exit_code_of(report))


def scrub(
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            parser=size_value,
            metavar="SIZE",
            help="Bytes read in a second, at most, such as 20MiB; instead of the setting.",
        ),
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            parser=duration_value,
            metavar="DURATION",
            help="Leave out what was read back within this time, such as 12h or 30d.",
        ),
    ] = None,
    data: DataFolder = None,
    database: DatabaseUrl = None,
    blocks: BlocksUrl = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Read what is stored back and verify it, oldest check first.

    A block that cannot be read is lost, and the files that it affects are listed to their
    groups. Exit code 0: nothing is lost; 1: something is, or it could not be told; 3: it is not
    this database's store. May be broken off and repeated with --older-than.
    """
    from filestore_gc import wording  # the service takes a while to import

    wishes: dict[str, Json] = {"bytes_per_s": rate, "older_than_s": older_than or 0}
    where = Where(data, database, blocks)
    report = work("scrub", wishes, where, as_json=as_json, quiet=quiet)
    show(report, *wording.scrub_lines(report), as_json=as_json)
    raise typer.Exit(exit_code_of(report))


def exit_code_of(report: Document) -> int:
    """0: nothing is damaged. 3: refused. 1: anything else."""
    if report.get("is_good"):
        return 0
    return EXIT_REFUSED if report.get("result") == "refused" else EXIT_FAILED


def work(
    kind: str, wishes: dict[str, Json], where: Where, *, as_json: bool, quiet: bool
) -> Document:
    """The report of one piece of work: of a job of the server, or done here.

    :raises typer.BadParameter: a wish is out of its range.
    """
    if where.is_direct:
        return _directly(kind, wishes, where, Watch(sys.stderr, as_json=as_json, quiet=quiet))
    return work_as_job(kind, wishes, as_json=as_json, quiet=quiet)


def journaled_group(ref: str | None, where: Where) -> str | None:
    """The id that a server has for ``ref``, before it is asked for a job; directly, ``ref`` itself.

    An id that is no group's is kept: a deleted group and a pool have books, too.

    :raises NotFound: there is no such group.
    """
    if ref is None or where.is_direct:
        return ref
    try:
        return str(run(lambda client: client.groups.show(ref)).get("id"))
    except NotFound:
        if not looks_like_id(ref) and not ref.startswith("pool_"):
            raise
        return ref


def _directly(kind: str, wishes: dict[str, Json], where: Where, watch: Watch) -> Document:
    from pydantic import ValidationError

    from filestore.model import SYSTEM
    from filestore_gc.jobs import Asked
    from filestore_gc.kinds import known_kinds

    class Shown(Asked):
        """Says on the terminal how far it is."""

        def tell(self, progress: Json) -> None:
            watch.see({"id": kind, "state": "running", "progress": progress})

    async def act(ground: "Ground") -> Document:
        known = known_kinds(ground)[kind]
        try:
            asked_for = known.parameters.model_validate(wishes)
        except ValidationError as err:
            wrong = err.errors()[0]
            raise typer.BadParameter(f"{wrong['loc'][0]}: {wrong['msg']}") from err
        ended = await known.work(asked_for, Shown(SYSTEM))
        return _document(ended.report)

    return work_directly(where, act)


def _plans_something(report: Document) -> bool:
    return bool(_document(report.get("plan")).get("actions"))


def _document(value: Json) -> Document:
    return value if isinstance(value, dict) else {}
