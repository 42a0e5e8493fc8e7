"""Servers that start in a fifth of the time: forked from a process that has imported them.

Python's imports are what a start of the service costs, a second and more. A test that starts
it hundreds of times has one process import everything once; each start is a fork of that. All
else is as with :class:`tests.services.server.Server`: a process of its own that runs the same
command line.
"""

import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from tests.services.server import SOURCES, Process, Server

_PRELOADED: Final = ["filestore.cli.main", "filestore.cli.serve", "filestore.meta.migrations"]
_PR_SET_PDEATHSIG: Final = 1
_SIGKILL: Final = 9


class ForkedServer(Server):
    """The service in a process that is a fork. It ends, at the latest, with pytest."""

    def _begin(self, command: Sequence[str], environment: dict[str, str], log: int) -> Process:
        context = multiprocessing.get_context("forkserver")
        _prepare()
        said, say = context.Pipe(duplex=False)
        with say, Connection(os.dup(log), readable=False) as errors:
            arguments = (list(command), environment, self.data.parent, say, errors)
            process = context.Process(target=_run, args=arguments)
            process.start()
        return _Forked(process, said)


class _Forked:
    """A forked process as the caller knows processes."""

    def __init__(self, process: ForkServerProcess, stdout: Connection) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid
        self.stdout = stdout

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended a moment ago
            os.kill(self.pid, sig)


def _prepare() -> None:
    """The process to fork from runs; it finds the sources by the environment."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, SOURCES))
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(
    command: list[str], environment: dict[str, str], folder: Path, out: Connection, err: Connection
) -> None:
    """The life of the fork."""
    from filestore.cli.main import main

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    os.setsid()  # Ctrl-C is for pytest
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for connection, number in ((out, 1), (err, 2)):
        os.dup2(connection.fileno(), number)
        connection.close()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)
    main(command)
