"""An S3 service that dies and comes back: the same program, ports and data.

``tests.services.s3`` starts services that live as long as their guard. Here the program below
the guard is killed and started again by its own command line; the guard stays and ends with
its folder as ever.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.services import s3
from tests.services.s3 import S3Service
from tests.services.server import tied

_PATIENCE_S: Final = 30.0
_SERVICES: Final = {"seaweedfs": s3.seaweedfs, "minio": s3.minio}


class Outage:
    """Ends and revives the program of ``service``."""

    def __init__(self, service: S3Service) -> None:
        self.service = service
        self._pid = _program_of(service)
        self._command = _words(self._pid, "cmdline")
        self._command[0] = str(Path(f"/proc/{self._pid}/exe").readlink())
        self._environment = dict(word.split("=", 1) for word in _words(self._pid, "environ"))
        self._revived: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Outage of {self.service.name}, pid {self._pid}>"

    def begin(self) -> None:
        """Kills -9 the service; returns when it is gone."""
        os.kill(self._pid, signal.SIGKILL)
        if self._revived is not None:
            self._revived.wait()
        deadline = time.monotonic() + _PATIENCE_S
        while _is_running(self._pid):
            assert time.monotonic() < deadline, f"{self!r} does not end"
            time.sleep(0.01)

    def end(self) -> None:
        """Starts it again; returns when it stores."""
        with (self.service.folder / "log").open("ab") as log:
            self._revived = subprocess.Popen(
                tied(self._command),
                env=self._environment,
                cwd=self.service.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid = self._revived.pid
        s3._wait_until_ready(self.service)

    def close(self) -> None:
        """Ends what :meth:`end` started."""
        if self._revived is not None:
            self._revived.kill()
            self._revived.wait()


@contextmanager
def mortal(name: str) -> Iterator[Outage]:
    """A service of its own for one test: ``seaweedfs`` or ``minio``."""
    with _SERVICES[name]() as service:
        outage = Outage(service)
        try:
            yield outage
        finally:
            outage.close()


def _program_of(service: S3Service) -> int:
    """The process whose working folder is the service's, and which is not the guard."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.joinpath("cwd").readlink() == service.folder.resolve():
                found.append(int(process.name))
    programs = [pid for pid in found if Path(_words(pid, "cmdline")[0]).name not in ("sh", "cat")]
    (program,) = programs
    return program


def _words(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().rstrip("\0").split("\0")


def _is_running(pid: int) -> bool:
    """Not for what has ended and waits for its parent to notice."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
