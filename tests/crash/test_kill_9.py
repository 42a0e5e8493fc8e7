"""The server is killed again and again while clients upload, overwrite and delete and the
collector runs; no promise is ever broken, and nothing is left behind.

``FILESTORE_CRASH_ROUNDS`` says how many times (``make crash``: 1,000 on each backend);
``FILESTORE_CRASH_SEED`` repeats what the harness decided, though not what the system did.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import pytest

from tests.crash.havoc import SETTINGS, Havoc
from tests.crash.offline import offline
from tests.crash.promises import Promises
from tests.e2e import backends
from tests.e2e.material import Material
from tests.e2e.stage import GROUP, Stage, make_group
from tests.services.forked import ForkedServer

FEW = 12

TRIES = 2
"""Rounds for each one that counts, at most: else the harness proves too little."""

BACKENDS = (
    backends.DISK,
    pytest.param(
        backends.SEAWEEDFS, marks=[pytest.mark.needs("postgres", "seaweedfs"), pytest.mark.e2e]
    ),
    pytest.param(backends.MINIO, marks=[pytest.mark.needs("postgres", "minio"), pytest.mark.e2e]),
)


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_no_promise_is_broken_by_kill_9(stage: Stage) -> None:
    wanted = int(os.environ.get("FILESTORE_CRASH_ROUNDS", FEW))
    seed = int(os.environ.get("FILESTORE_CRASH_SEED", secrets.randbits(32)))
    sys.stderr.write(f"FILESTORE_CRASH_SEED={seed} FILESTORE_CRASH_ROUNDS={wanted}\n")
    server, api = await stage.open(settings=SETTINGS)
    havoc = Havoc(stage, server, api, seed)

    async with havoc.acting_up():
        while havoc.counted < wanted and havoc.rounds < TRIES * wanted:
            await havoc.round()
    await havoc.acting.check([file.name for file in havoc.promises.living])
    await havoc.acting.check_sums()
    collected = await _collected(stage)

    assert havoc.promises.open == []
    assert havoc.counted >= wanted, f"most kills proved nothing: {havoc!r}"
    assert havoc.promises.begun >= wanted, f"little was uploaded: {havoc!r}"
    assert collected > 0, "the collector had nothing to do"
    sys.stderr.write(f"{havoc!r}, {collected} bytes collected while it ran\n")


async def _collected(stage: Stage) -> int:
    """Bytes that the collections between the kills freed. What is left then is in order.

    Uploads whose creation was not answered are all that nobody knows of: they expire.
    """
    stage.servers[-1].kill()
    async with offline(stage) as store:
        freed = await store.freed_by_collections()
        await store.let_uploads_expire()
        await store.converge()
        await store.check()
    return freed


class Amnesiac(ForkedServer):
    """Comes back, the second time, with the database of the first time."""

    def start(self) -> str:
        saved = self.data.with_name("saved")
        if self.starts == 1:
            shutil.copytree(self.data, saved, ignore=shutil.ignore_patterns("blocks"))
        elif self.starts >= 2 and saved.exists():
            for path in self.data.glob("filestore.sqlite3*"):
                path.unlink()
            shutil.copytree(saved, self.data, dirs_exist_ok=True)
            shutil.rmtree(saved)
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
        async with havoc.acting_up():
            for _ in range(3):
                await havoc.round()
    assert caught.value.subgroup(AssertionError) is not None


def test_an_offset_that_goes_back_is_a_broken_promise(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.jsonl")
    promise = promises.created("/api/v1/uploads/upl_1", "a.bin", Material("a", 10))
    promises.reached(promise, 5)

    with pytest.raises(AssertionError, match="went to 4"):
        promises.reached(promise, 4)
    promises.close()
    assert (promise.offset, promises.open, promises.living) == (5, [promise], [])


def test_a_file_that_comes_back_or_goes_is_a_broken_promise(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.jsonl")
    promises.asked("a.bin", [Material("a", 10)])
    promises.answered("a.bin")
    with pytest.raises(AssertionError, match="versions of"):
        promises.found("a.bin", [])

    promises.asked("a.bin", [])
    promises.found("a.bin", [10])
    assert promises.file("a.bin").wanted is None, "the act had no effect"
    promises.asked("a.bin", [])
    promises.found("a.bin", [])
    with pytest.raises(AssertionError, match="versions of"):
        promises.found("a.bin", [10])
    promises.close()
    assert promises.living == []
