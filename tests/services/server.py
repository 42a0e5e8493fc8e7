"""The service itself as a child process, for tests that kill it or run two of it.

Nothing is patched: it is started by its command line, it is asked over HTTP, and what it
writes to standard error is kept for the report of a test that failed. Linux ends the child
when the thread that started it ends, also by ``kill -9``.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from filestore import failpoints

_ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = (_ROOT, _ROOT / "chunker", _ROOT / "gc")
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0
_TIE: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Process(Protocol):
    """A process of the service, as :class:`subprocess.Popen` has it; ``stdout`` is bytes."""

    pid: int
    stdout: Any

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Server:
    """One ``filestore serve`` at a time over the same data.

    With port 0 ``url`` is another one after each start. ``settings`` are named ``section.key``;
    ``environment`` holds further variables, such as keys. No setting of the surroundings
    reaches the service. ``failpoint`` says where the next start is to end, if anywhere.
    """

    def __init__(
        self,
        data: Path,
        *,
        database: str | None = None,
        blocks: str | None = None,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self.url = ""
        self.starts = 0
        self.failpoint = ""
        self._command = ["serve", "--data", str(data), "--listen", f"127.0.0.1:{port}"]
        self._command += [] if database is None else ["--database", database]
        self._command += [] if blocks is None else ["--blocks", blocks]
        self._environment = _environment(settings or {}, environment or {})
        self._log = data.with_name(f"{data.name}.log")
        self._process: Process | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid} at {self.url}" if self.is_running else "not running"
        return f"<Server {self.data.name}, {state}, {self.starts} starts>"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the service was never started"
        return self._process.pid

    @property
    def admin_token(self) -> str:
        """The token that the first start made."""
        return (self.data / "admin.token").read_text(encoding="ascii").strip()

    @property
    def log(self) -> str:
        """What all starts together wrote to standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def peak_memory(self) -> int:
        """The most memory in bytes that the running process ever held."""
        return self._memory("VmHWM")

    @property
    def memory(self) -> int:
        """The memory in bytes that the running process holds now."""
        return self._memory("VmRSS")

    def start(self) -> str:
        """Starts it and waits until it takes requests; the URL.

        :raises RuntimeError: it ended, or was silent for a minute; says what it wrote.
        """
        self.launch()
        line = self._first_line()
        if not line.startswith("listening on http://"):
            code = self.kill()
            raise RuntimeError(f"the service did not start ({line=}, exit {code}):\n{self.tail()}")
        self.url = line.removeprefix("listening on ")
        return self.url

    def launch(self) -> None:
        """Starts it and waits for nothing."""
        assert not self.is_running, f"{self!r} runs already"
        self.starts += 1
        self._forget()
        self.data.parent.mkdir(parents=True, exist_ok=True)
        environment = self._environment | {failpoints.VARIABLE: self.failpoint}
        with self._log.open("ab", buffering=0) as log:
            self._process = self._begin(self._command, environment, log.fileno())

    def kill(self) -> int:
        """Ends it as a power cut would; the exit code. Harmless if it does not run."""
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Asks it to stop and waits; the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self, timeout_s: float = _START_TIMEOUT_S) -> int:
        """Waits until it ends by itself; the exit code.

        :raises subprocess.TimeoutExpired: it still runs.
        """
        assert self._process is not None
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """Kills it if it runs and gives everything back."""
        if self._process is not None:
            self.kill()
        self._forget()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.splitlines()[-lines:])

    def _begin(self, command: Sequence[str], environment: dict[str, str], log: int) -> Process:
        """A process whose standard error is ``log``."""
        return subprocess.Popen(
            tied([sys.executable, "-m", "filestore", *command]),
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=self.data.parent,
            start_new_session=True,  # Ctrl-C is for pytest
        )

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None, "the service was never started"
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(_STOP_TIMEOUT_S)

    def _memory(self, kind: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith(f"{kind}:"))
        return int(line.split()[1]) * 1024

    def _first_line(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        deadline, line = time.monotonic() + _START_TIMEOUT_S, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                break
            read = os.read(self._process.stdout.fileno(), 4096)
            if not read:
                break
            line += read
        return line.decode(errors="replace").removesuffix("\n")

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def tied(command: Sequence[str]) -> list[str]:
    """``command``, an absolute path first, so that it ends when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def _environment(settings: Mapping[str, object], extra: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if not name.startswith("FILESTORE_")}
    found["PYTHONPATH"] = os.pathsep.join(map(str, SOURCES))
    for name, value in settings.items():
        found[f"FILESTORE_{name.replace('.', '__').upper()}"] = str(value)
    return {**found, **extra}
