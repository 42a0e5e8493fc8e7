"""What the arguments of ``upload`` mean: files, empty folders, and what cannot be sent.

Local names are bytes. Those that are no UTF-8 arrive here with lone surrogates (PEP 383); the
upload refuses them by name, so nothing here has to.
"""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from filestore.cli.places import Place
from filestore.client import Target
from filestore.client.local import why_not_regular
from filestore.errors import LocalFile


@dataclass(frozen=True, slots=True)
class Source:
    """A local file, and the folder below the target that it goes to ("" for the target)."""

    path: Path
    folder: str

    def target(self, place: Place) -> Target:
        """Where it goes when ``place`` was asked for."""
        if not place.is_folder and not self.folder:
            return Target(place.group, place.folder, place.name)
        folder = "/".join(part for part in (place.path, self.folder) if part)
        return Target(place.group, folder, self.path.name)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something below a folder that is not meant to be sent, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class Found:
    """All that the arguments mean, in a stable order. ``empty_folders`` are as
    ``Source.folder``; ``failed`` should have been sent and cannot be read."""

    files: list[Source] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[LocalFile] = field(default_factory=list)


def find_sources(arguments: Sequence[Path], *, recursive: bool) -> Found:
    """Links to files are followed, links to folders only where they are arguments themselves.

    :raises typer.BadParameter: a folder without ``recursive``.
    """
    found = Found()
    for path in arguments:
        if path.is_dir():
            if not recursive:
                raise typer.BadParameter(f"{path} is a folder; give --recursive to upload it")
            _walk(path, found)
        elif path.exists():
            found.files.append(Source(path, ""))
        else:
            found.failed.append(_absent(path))
    return found


def check_distinct(files: Sequence[Source], place: Place) -> None:
    """:raises typer.BadParameter: two files would become one, of which only the last is seen."""
    seen: dict[str, Path] = {}
    for source in files:
        target = source.target(place)
        key = unicodedata.normalize("NFC", target.path)
        if key in seen:
            raise typer.BadParameter(
                f"{seen[key]} and {source.path} would both become {target}; nothing was sent"
            )
        seen[key] = source.path


def _walk(top: Path, found: Found) -> None:
    base = Path(os.path.abspath(top))  # so that . and .. have a name

    def unreadable(err: OSError) -> None:
        reason = (err.strerror or type(err).__name__).rstrip(".")
        found.failed.append(LocalFile(path=str(err.filename), reason=reason))

    for folder, folders, names in os.walk(base, onerror=unreadable):
        inside = "/".join((base.name, *Path(folder).relative_to(base).parts))
        links = sorted(name for name in folders if Path(folder, name).is_symlink())
        folders[:] = sorted(set(folders) - set(links))
        for name in links:
            found.skipped.append(Skipped(Path(folder, name), "it is a link to a folder"))
        files = [name for name in sorted(names) if _is_file(Path(folder, name), found)]
        found.files += [Source(Path(folder, name), inside) for name in files]
        if not files and not folders:
            found.empty_folders.append(inside)


def _is_file(path: Path, found: Found) -> bool:
    """Whether it is to be sent; if not, ``found`` says why."""
    try:
        reason = why_not_regular(path.stat().st_mode)
    except OSError as err:
        gone = _absent(path) if isinstance(err, FileNotFoundError) else None
        reason = (err.strerror or type(err).__name__).rstrip(".")
        found.failed.append(gone or LocalFile(path=str(path), reason=reason))
        return False
    if reason is not None:
        found.skipped.append(Skipped(path, reason))
    return reason is None


def _absent(path: Path) -> LocalFile:
    if path.is_symlink():
        return LocalFile(path=str(path), reason="it is a link to something that is not there")
    return LocalFile(path=str(path), reason="there is no such file")
