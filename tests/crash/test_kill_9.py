"""The server is killed again and again while clients upload; no promise is ever broken.

``FILESTORE_CRASH_ROUNDS`` says how many times (``make crash``: 100); ``FILESTORE_CRASH_SEED``
repeats what the harness decided, though not what the system did.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import pytest

from tests.crash.havoc import Havoc
from tests.crash.promises import Promises
from tests.e2e import backends
from tests.e2e.material import Material
from tests.e2e.stage import GROUP, Stage, make_group
from tests.services.server import Server

FEW = 5

BACKENDS = (
    backends.DISK,
    pytest.param(
        backends.SEAWEEDFS, marks=[pytest.mark.needs("postgres", "seaweedfs"), pytest.mark.e2e]
    ),
    pytest.param(backends.MINIO, marks=[pytest.mark.needs("postgres", "minio"), pytest.mark.e2e]),
)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_no_promise_is_broken_by_kill_9(stage: Stage) -> None:
    rounds = int(os.environ.get("FILESTORE_CRASH_ROUNDS", FEW))
    seed = int(os.environ.get("FILESTORE_CRASH_SEED", secrets.randbits(32)))
    sys.stderr.write(f"FILESTORE_CRASH_SEED={seed} FILESTORE_CRASH_ROUNDS={rounds}\n")
    server, api = await stage.open()
    havoc = Havoc(stage, server, api, seed)

    async with havoc.uploading():
        for _ in range(rounds):
            await havoc.round()
    await havoc.check(havoc.promises.files)

    assert havoc.promises.open == []
    assert len(havoc.promises.files) >= rounds, f"little was uploaded: {havoc!r}"
    sys.stderr.write(f"{havoc!r}\n")


class Amnesiac(Server):
    """Comes back, the second time, with the database of the first time."""

    def start(self) -> str:
        saved = self.data.with_name("saved")
        if self.starts == 1:
            shutil.copytree(self.data, saved, ignore=shutil.ignore_patterns("blocks"))
        elif self.starts == 2:
            for path in self.data.glob("filestore.sqlite3*"):
                path.unlink()
            shutil.copytree(saved, self.data, dirs_exist_ok=True)
        return super().start()


@pytest.mark.parametrize("backend", [backends.DISK], indirect=True)
async def test_a_server_that_forgets_is_caught(stage: Stage) -> None:
    server = Amnesiac(stage.folder / "data")
    stage.servers.append(server)
    server.start()
    api = stage.admin(server)
    await make_group(api, GROUP, 2**40)
    havoc = Havoc(stage, server, api, seed=1)

    with pytest.raises(ExceptionGroup) as caught:
        async with havoc.uploading():
            await havoc.round()
            await havoc.round()
    assert caught.value.subgroup(AssertionError) is not None
    assert server.starts == 3


def test_an_offset_that_goes_back_is_a_broken_promise(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.jsonl")
    promise = promises.created("/api/v1/uploads/upl_1", "a.bin", Material("a", 10))
    promises.reached(promise, 5)

    with pytest.raises(AssertionError, match="went to 4"):
        promises.reached(promise, 4)
    promises.close()
    assert (promise.offset, promises.open, promises.files) == (5, [promise], [])
