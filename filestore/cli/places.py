"""``GROUP:/PATH``: how the command line names a file or folder of a group."""

from dataclasses import dataclass

import typer

from filestore.names import parse_path


@dataclass(frozen=True, slots=True)
class Place:
    """A group and a path in it; ``path`` has no slashes at its ends, "" is the root folder.

    ``is_folder`` when the text says so: there is no path, or it ends with a slash.
    """

    group: str
    path: str
    is_folder: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    def below(self, name: str) -> "Place":
        """What is called ``name`` in this folder."""
        return Place(self.group, f"{self.path}/{name}" if self.path else name, False)

    def __str__(self) -> str:
        return f"{self.group}:/{self.path}"


def parse_place(text: str) -> Place:
    """``GROUP``, ``GROUP:/`` or ``GROUP:/PATH``; group may also be an id.

    :raises typer.BadParameter: it is none of these.
    :raises BadName: a name in the path is not allowed.
    """
    group, colon, path = text.partition(":")
    if not group or (colon and path and not path.startswith("/")):
        raise typer.BadParameter(f"{text!r} is not GROUP:/PATH")
    parse_path(path)
    inner = path.strip("/")
    return Place(group, inner, is_folder=not inner or path.endswith("/"))


def parse_entry(text: str) -> Place:
    """``GROUP:/PATH`` with a path that is not the root folder."""
    place = parse_place(text)
    if not place.path:
        raise typer.BadParameter(f"{text!r} names no file or folder; write GROUP:/PATH")
    return place
