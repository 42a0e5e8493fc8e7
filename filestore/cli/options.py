"""Arguments and options that several commands share."""

import re
from typing import Annotated

import typer

from filestore.cli.places import Place, parse_entry, parse_place
from filestore.model import parse_size


def size_value(text: str) -> int:
    """A size such as ``10GiB``.

    :raises typer.BadParameter: it is no size.
    """
    try:
        return parse_size(text)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err


def duration_s(text: str) -> int:
    """Seconds of a duration such as ``30d`` or ``12h``.

    :raises typer.BadParameter: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,6})([dhs])", text, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 30d, 12h or 600s")
    return int(found[1]) * {"d": 86_400, "h": 3600, "s": 1}[found[2]]


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON document on standard output. An error is a problem document (RFC 9457)"
        " in one line on standard error, progress are JSON lines there.",
    ),
]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="A group's name or id.")]
User = Annotated[str, typer.Argument(metavar="USER", help="A user's name or id.")]
Folder = Annotated[
    Place,
    typer.Argument(parser=parse_place, metavar="GROUP[:/PATH]", help="A folder or file."),
]
DownloadSource = Annotated[
    Place,
    typer.Argument(parser=parse_place, metavar="GROUP:/PATH", help="A file or folder."),
]
UploadTarget = Annotated[
    Place,
    typer.Argument(
        parser=parse_place,
        metavar="GROUP[:/FOLDER/]",
        help="Where they go. Without a slash at the end: the new name of the one FILE, unless"
        " there is a folder called so.",
    ),
]
MoveTarget = Annotated[
    Place,
    typer.Argument(
        parser=parse_place,
        metavar="GROUP:/PATH[/]",
        help="The new path, or, with a slash at the end, the folder to put it in.",
    ),
]
Entry = Annotated[
    Place, typer.Argument(parser=parse_entry, metavar="GROUP:/PATH", help="A file or folder.")
]
Quota = Annotated[
    int | None,
    typer.Option(
        "--quota",
        parser=size_value,
        metavar="SIZE",
        help="What the group may hold: 500MB, 10GiB. KiB = 1024, kB = 1000. If it is not given:"
        " what the server gives to new groups.",
    ),
]
NewQuota = Annotated[
    int, typer.Argument(parser=size_value, metavar="SIZE", help="For example 500MB or 10GiB.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
