"""curl as a tus client: one process a request, which can be killed in the middle."""

import asyncio
import re
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

from tests.e2e.tus import BODY_TYPE
from tests.http.api import Api
from tests.services.needs import find_program

_PATIENCE_S: Final = 60.0


class Curl:
    """Runs curl with the token of ``api``; files of its own lie in ``folder``."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._url = api.url
        self._head = ["-H", f"Authorization: Bearer {api.token}", "-H", "Tus-Resumable: 1.0.0"]
        self._program = str(find_program("curl"))
        self.folder = folder

    async def create(self, group: str, size: int, metadata: str) -> str:
        """A new upload; its path."""
        headers = ["-H", f"Upload-Length: {size}", "-H", f"Upload-Metadata: {metadata}"]
        head = await self._ask("-X", "POST", *headers, f"{self._url}/api/v1/groups/{group}/uploads")
        return _header(head, "Location").removeprefix(self._url)

    async def offset(self, upload: str) -> int:
        """How far the upload is."""
        return int(_header(await self._ask("--head", self._url + upload), "Upload-Offset"))

    async def patch(self, upload: str, offset: int, file: Path) -> int:
        """Sends a whole file; the offset afterwards."""
        process = await self.begin_patch(upload, offset, "-T", str(file))
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return int(_header(_last_head(out), "Upload-Offset"))

    async def begin_patch(self, upload: str, offset: int, *options: str) -> Process:
        """A running PATCH; ``-T -`` takes its body from standard input, in chunks."""
        headers = ["-H", f"Upload-Offset: {offset}", "-H", f"Content-Type: {BODY_TYPE}"]
        return await self._run("-X", "PATCH", *headers, *options, self._url + upload)

    async def _ask(self, *arguments: str) -> str:
        process = await self._run(*arguments)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return _last_head(out)

    async def _run(self, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *(self._program, "--silent", "--show-error", "--fail-with-body", "--include"),
            *(*self._head, *arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )


async def kill_when_read(process: Process, size: int) -> None:
    """Kills -9 a process when it has read ``size`` bytes of its files."""
    deadline = time.monotonic() + _PATIENCE_S
    while _bytes_read(process.pid) < size:
        assert process.returncode is None and time.monotonic() < deadline, process
        await asyncio.sleep(0.005)
    await kill(process)


async def kill(process: Process) -> None:
    """Kills -9 a process that still runs."""
    assert process.returncode is None, f"it ended before it was killed: {process}"
    process.kill()
    await process.communicate()


def _bytes_read(pid: int) -> int:
    found = re.search(r"^rchar: ([0-9]+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _last_head(out: bytes) -> str:
    """The head of the last answer: one of ``100 Continue`` may stand before it."""
    heads = [part for part in out.decode("latin-1").split("\r\n\r\n") if part.startswith("HTTP/")]
    return heads[-1]


def _header(head: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r?$", head, re.IGNORECASE | re.MULTILINE)
    assert found is not None, f"no {name} in:\n{head}"
    return found[1]
