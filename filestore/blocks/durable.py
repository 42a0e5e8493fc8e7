"""Files that survive a loss of power, in a folder that may vanish: blocking, for threads.

The recipe of a write: a temporary name, all bytes, a look at the length, fsync of the file,
rename, fsync of the folder, and before that of every parent of a folder that is new to this
process (another process may have made it a moment ago and not have synced it yet).

Everything is done relative to a descriptor of the root, opened anew each time and compared
with the folder that was there at the start. So a disk that is unmounted is an error, and
nothing is ever written to the empty mount point below it.
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filestore.blocks.backend import IDENTITY_FOLDER, newest_mark
from filestore.blocks.deadline import refuse_if_late
from filestore.blocks.port import MAX_OBJECT_SIZE, Buffer
from filestore.errors import BlockDamaged
from filestore.failpoints import reached

TEMPORARY_FOLDER: Final = ".tmp"

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OWN_FOLDER: Final = 0o700
_OWN_FILE: Final = 0o600  # blocks are read through the service alone, whatever the umask is
_IOV_MAX: Final = 1024  # Linux: limits.h, the buffers that one writev takes


class Withdrawn(Exception):
    """The write was called off before it took effect."""


class Ticket:
    """Lets the caller call a write off until the moment it takes effect."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._is_withdrawn = False

    def withdraw(self) -> None:
        self._is_withdrawn = True

    def confirm(self) -> None:
        """Goes on if the write is still wanted.

        :raises Withdrawn: it is not.
        :raises StoreUnavailable: its deadline has passed.
        """
        if self._is_withdrawn:
            raise Withdrawn
        refuse_if_late(self._deadline)


class Uncertain(OSError):
    """The object may or may not be there after a loss of power."""


class DurableFolder:
    """The files below ``root``. Errors of the system come through as :class:`OSError`."""

    def __init__(self, root: Path, *, process_id: str) -> None:
        self.root = root
        self._process_id = process_id
        self._numbers = itertools.count(1)
        self._synced: set[str] = set()
        self._seen: tuple[int, int] | None = None
        self._store_id: str | None = None

    def prepare(self) -> None:
        """Makes the root, durably, and remembers which folder it is."""
        _make_folders(self.root)
        with _opened(self.root, _FOLDER_FLAGS) as root:
            found = os.fstat(root)
            self._seen = (found.st_dev, found.st_ino)
            self._remember(_names(root, IDENTITY_FOLDER))
            for folder in (TEMPORARY_FOLDER, IDENTITY_FOLDER):
                self._make(root, folder)

    def write(
        self, path: str, parts: Sequence[Buffer], ticket: Ticket, *, keep_free: int | None = None
    ) -> None:
        """Writes a file; folders come into being as needed.

        Fails with ``ENOSPC`` before anything is written if fewer than ``keep_free`` bytes of
        the disk would be left; None: as far as the disk goes. Writes at the same time do not
        see each other, so together they may take a file of each thread more.

        :raises Uncertain: it was renamed into place, and the folder could not be synced.
        """
        folder, _, name = path.rpartition("/")
        temporary = f"{self._process_id}.{next(self._numbers)}"
        ticket.confirm()
        with self._opened_root() as root:
            if keep_free is not None:
                _refuse_if_full(root, keep_free + sum(memoryview(part).nbytes for part in parts))
            with self._made(root, TEMPORARY_FOLDER) as scratch, self._made(root, folder) as target:
                try:
                    _write_new(temporary, parts, scratch)
                    reached("disk.synced")
                    ticket.confirm()
                    os.rename(temporary, name, src_dir_fd=scratch, dst_dir_fd=target)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=scratch)
                    raise
                reached("disk.renamed")
                try:
                    os.fsync(target)
                except OSError as err:
                    raise Uncertain(err.errno, err.strerror) from err
                reached("disk.durable")

    def read(self, path: str) -> bytes:
        """A file's bytes.

        :raises FileNotFoundError: there is none, and the root is the right one.
        :raises BlockDamaged: it is larger than any object.
        """
        with self._opened_root() as root, _opened(path, _READ_FLAGS, root) as fd:
            size = os.fstat(fd).st_size
            if size > MAX_OBJECT_SIZE:
                raise BlockDamaged(reason=f"the object has {size} bytes")
            return _read_all(fd, size)

    def remove(self, paths: Sequence[str]) -> None:
        """Removes files, durably; one that is not there counts as removed."""
        with self._opened_root() as root:
            for folder, group in itertools.groupby(sorted(paths), _folder_of):
                with suppress(FileNotFoundError), _opened(folder, _FOLDER_FLAGS, root) as fd:
                    for path in group:
                        with suppress(FileNotFoundError):
                            os.unlink(path.rpartition("/")[2], dir_fd=fd)
                    reached("disk.unlinked")
                    os.fsync(fd)  # also when nothing was there: an earlier unlink may hang

    def move(self, paths: Sequence[str], target: str) -> None:
        """Moves files to the same paths below the folder ``target``, durably; one that is not
        there counts as moved."""
        with self._opened_root() as root:
            for folder, group in itertools.groupby(sorted(paths), _folder_of):
                with suppress(FileNotFoundError), _opened(folder, _FOLDER_FLAGS, root) as source:
                    with self._made(root, f"{target}/{folder}") as aim:
                        for path in group:
                            name = path.rpartition("/")[2]
                            with suppress(FileNotFoundError):
                                os.rename(name, name, src_dir_fd=source, dst_dir_fd=aim)
                        reached("disk.moved")
                        os.fsync(aim)  # before the other: a file may be found twice, never not
                    os.fsync(source)

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder; none if there is no such folder."""
        with self._opened_root() as root:
            return _names(root, folder)

    def files(self, folder: str) -> list[tuple[str, int, int]]:
        """The sorted names, sizes and times (microseconds) of the plain files in a folder."""
        with (
            self._opened_root() as root,
            suppress(FileNotFoundError, NotADirectoryError),
            _opened(folder, _FOLDER_FLAGS, root) as fd,
        ):
            return sorted(_files(fd))
        return []

    def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """Removes the temporary files of dead processes; says how many."""
        swept = 0
        with self._opened_root() as root, self._made(root, TEMPORARY_FOLDER) as fd:
            for name in os.listdir(fd):
                owner = name.rpartition(".")[0]
                if owner == self._process_id or is_alive(owner):
                    continue
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=fd)
                    swept += 1
        return swept

    def read_marks(self) -> list[str]:
        """The names of the identity marks."""
        with self._opened_root() as root:
            marks = _names(root, IDENTITY_FOLDER)
        self._remember(marks)
        return marks

    def free_space(self) -> tuple[int, bool]:
        """Bytes that may still be written, and whether the disk takes writes at all."""
        with self._opened_root() as root:
            return _room(root), not os.fstatvfs(root).f_flag & os.ST_RDONLY

    @contextmanager
    def _opened_root(self) -> Iterator[int]:
        try:
            root = os.open(self.root, _FOLDER_FLAGS)
        except FileNotFoundError as err:  # never to be taken for a missing object
            raise OSError(errno.ESTALE, "the folder is gone") from err
        try:
            self._check_root(root)
            yield root
        finally:
            os.close(root)

    def _check_root(self, root: int) -> None:
        """Goes on if this is the folder that was prepared, or holds the same identity.

        A disk that comes back may have another device number; its identity tells it.
        """
        found = os.fstat(root)
        if (found.st_dev, found.st_ino) == self._seen:
            return
        mark = newest_mark(_names(root, IDENTITY_FOLDER))
        if self._store_id is None or mark is None or mark[0] != self._store_id:
            reason = "another folder lies there than at the start: is the disk mounted"
            raise OSError(errno.ESTALE, reason)
        self._synced.clear()
        self._seen = (found.st_dev, found.st_ino)

    def _remember(self, marks: list[str]) -> None:
        mark = newest_mark(marks)
        self._store_id = mark[0] if mark else self._store_id

    @contextmanager
    def _made(self, root: int, folder: str) -> Iterator[int]:
        """A folder that is durable itself, made again if somebody tidied it away."""
        if folder not in self._synced:
            self._make(root, folder)
        try:
            fd = os.open(folder, _FOLDER_FLAGS, dir_fd=root)
        except FileNotFoundError:
            self._synced.clear()
            self._make(root, folder)
            fd = os.open(folder, _FOLDER_FLAGS, dir_fd=root)
        try:
            yield fd
        finally:
            os.close(fd)

    def _make(self, root: int, folder: str) -> None:
        """Makes ``folder`` and its parents durable."""
        if folder in self._synced:
            return
        parent, _, _ = folder.rpartition("/")
        if parent:
            self._make(root, parent)
        with suppress(FileExistsError):
            os.mkdir(folder, _OWN_FOLDER, dir_fd=root)
        with _opened(parent or ".", _FOLDER_FLAGS, root) as fd:
            os.fsync(fd)
        self._synced.add(folder)


def _make_folders(path: Path) -> None:
    """Makes a folder and its missing parents, each synced in the folder that holds it."""
    if path.is_dir():
        return
    _make_folders(path.parent)
    path.mkdir(_OWN_FOLDER, exist_ok=True)
    with _opened(path.parent, _FOLDER_FLAGS) as fd:
        os.fsync(fd)


@contextmanager
def _opened(path: str | Path, flags: int, dir_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, _OWN_FILE, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _room(folder: int) -> int:
    """Bytes that may still be written to the disk; none when no file can be made any more."""
    found = os.fstatvfs(folder)
    if found.f_files and not found.f_favail:  # a file system without a bound says 0 of 0
        return 0
    return found.f_bavail * found.f_frsize


def _refuse_if_full(folder: int, needed: int) -> None:
    if _room(folder) < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_new(name: str, parts: Sequence[Buffer], folder: int) -> None:
    views = [memoryview(part).cast("B") for part in parts]
    size = sum(view.nbytes for view in views)
    with _opened(name, _WRITE_FLAGS, folder) as fd:
        _write_all(fd, views)
        written = os.fstat(fd).st_size
        if written != size:
            raise OSError(errno.EIO, f"{written} of {size} bytes were written")
        reached("disk.written")
        os.fsync(fd)


def _write_all(fd: int, views: list[memoryview]) -> None:
    """Writes all views; ``writev`` may take only a part of them at a time."""
    while views:
        written = os.writev(fd, views[:_IOV_MAX])
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if written:
            views[0] = views[0][written:]


def _read_all(fd: int, size: int) -> bytes:
    """``size`` bytes, or fewer if the file ends before."""
    first = os.read(fd, size)
    if len(first) == size:
        return first
    pieces = [first]
    while piece := os.read(fd, size):
        pieces.append(piece)
    return b"".join(pieces)


def _names(root: int, folder: str) -> list[str]:
    try:
        with _opened(folder, _FOLDER_FLAGS, root) as fd:
            return sorted(os.listdir(fd))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(fd: int) -> Iterator[tuple[str, int, int]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield entry.name, found.st_size, found.st_mtime_ns // 1000


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]
