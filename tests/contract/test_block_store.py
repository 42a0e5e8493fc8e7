"""The contract of :mod:`tests.contract.block_store` on every store and around every wrapper."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from filestore.blocks.backend import Backend
from filestore.blocks.limited import LimitedStore
from filestore.blocks.memory import MemoryStore
from filestore.blocks.open import guard_store, make_store
from filestore.blocks.retrying import RetryingStore
from filestore.ids import new_generation
from tests.contract.block_store import CHECKS, Check
from tests.contract.faulty import Fault, FaultyStore, Kind
from tests.services.s3 import S3Service

Make = Callable[[pytest.FixtureRequest, ThreadPoolExecutor], Backend]


def _memory(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    return MemoryStore()


def _disk(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    folder: Path = request.getfixturevalue("tmp_path")
    return make_store(f"file:{folder}/blocks", process_id="prc_test", threads=threads)


def _s3(fixture: str) -> Make:
    def make(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
        service: S3Service = request.getfixturevalue(fixture)
        return make_store(
            service.bucket_url("contract", prefix=f"blocks/{new_generation()}"),
            process_id="prc_test",
            threads=threads,
            access_key=service.access_key,
            secret_key=service.secret_key,
        )

    return make


def _limited(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    return LimitedStore(MemoryStore(), max_puts=2, max_gets=2)


def _retrying(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    """Around a store whose every kind of call fails once before and once after its effect."""

    async def no_wait(seconds: float) -> None:
        return

    plan = [
        Fault(operation, nth, kind)
        for operation in (
            *("put", "get", "remove", "read_identity", "write_identity"),
            *("write_mark", "remove_marks"),
        )
        for nth, kind in ((1, Kind.BEFORE), (2, Kind.AFTER), (4, Kind.SLOW_DOWN))
    ]
    for walk in ("walk", "walk_marks"):
        plan += [Fault(walk, 1, Kind.BEFORE), Fault(walk, 2, Kind.TRUNCATED)]
    return RetryingStore(FaultyStore(MemoryStore(), plan), sleep=no_wait)


def _faulty(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    return FaultyStore(MemoryStore())


def _guarded_disk(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Backend:
    return guard_store(_disk(request, threads), max_puts=3, max_gets=3)


STORES: Final[dict[str, Make]] = {
    "memory": _memory,
    "disk": _disk,
    "seaweedfs": _s3("seaweedfs_service"),
    "minio": _s3("minio_service"),
    "limited": _limited,
    "retrying": _retrying,
    "faulty": _faulty,
    "guarded disk": _guarded_disk,
}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(params=list(STORES))
async def store(
    request: pytest.FixtureRequest, threads: ThreadPoolExecutor
) -> AsyncIterator[Backend]:
    made = STORES[request.param](request, threads)
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_contract(store: Backend, check: Check) -> None:
    await check(store)
