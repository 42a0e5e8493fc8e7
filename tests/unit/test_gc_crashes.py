"""A collection that ends anywhere: what is left is found by the next one, and nothing is lost."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from filestore.errors import StoreUnavailable
from filestore.meta.database import Database, Tx
from filestore.model import KIB
from filestore_gc import Collector, Result, Tuning
from filestore_gc.guards import raise_epoch
from tests.contract.faulty import Fault, Kind
from tests.services.collecting import (
    DAY_S,
    acts,
    block_rows,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    objects,
    pass_time,
    start,
)
from tests.services.hot_path import ACTOR, Process, Site, random_bytes

T = TypeVar("T")
SIZE = 12 * KIB


class Crash(Exception):
    """The process is gone."""


class Doomed(Database):
    """A database whose process dies right behind its ``nth`` commit; then nothing is done."""

    def __init__(self, inner: Database, nth: int) -> None:
        self.__dict__.update(inner.__dict__)
        self.left = nth

    async def transact(self, act: Callable[[Tx], Awaitable[T]], *, at_once: bool = False) -> T:
        if self.left <= 0:
            raise Crash
        result = await super().transact(act, at_once=at_once)
        self.left -= 1
        if self.left == 0:
            raise Crash
        return result


async def _scene(process: Process) -> None:
    """A file that was deleted and shares a part with one that stays, and an upload that ended."""
    part = random_bytes(SIZE, "shared")
    await process.upload(part + random_bytes(SIZE, "gone"), "gone")
    upload = await process.begin(2 * SIZE, "half")
    await process.append(upload, 0, random_bytes(SIZE, "half"))
    await delete(process, "gone")
    await process.hot.transfers.terminate(ACTOR, upload.id)


async def _check_converged(process: Process) -> None:
    assert await check_everything_referenced_reads(process) > 5
    await check_everything_stored_is_referenced(process)
    await process.check_references()
    await process.check_books()


async def test_a_crash_behind_any_commit_leaves_nothing_that_the_next_run_does_not_find(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE, "shared") + random_bytes(SIZE, "kept"), "kept")
    crashes = 0
    for nth in range(1, 100):
        await _scene(process)
        dying = Doomed(process.db, nth)
        collector = Collector(dying, process.store, process.id, Tuning(removals_per_s=1e6))
        try:
            await collector.run_once(grace_s=0)
        except Crash:
            crashes += 1
        assert await check_everything_referenced_reads(process) > 5
        await collector_of(process).run_once(grace_s=0)
        await _check_converged(process)
        if dying.left > 0:
            break
    assert crashes > 8, "the loop went through a whole run"


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.SLOW_DOWN])
async def test_a_store_that_fails_once_is_asked_again_and_each_try_is_counted(
    any_site: Site, kind: Kind
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    collector = collector_of(process, rest_s=0)
    process.store.plan = [Fault("remove", 0, kind)]

    failed = await collector.run_once(grace_s=0)

    assert failed.result is Result.FAILED
    assert failed.failed > 2 and failed.blocks == 0
    assert failed.problem is not None and failed.problem.code == "store-unavailable"
    (wait,) = failed.waiting
    assert (wait.why, wait.blocks) == ("retry", failed.failed)
    assert {row.state for row in await block_rows(process)} == {"deleting"}
    tries = process.store.calls["remove"]
    assert {row.attempts for row in await block_rows(process)} == {tries}

    process.store.plan = []
    by_itself = await collector.run_if_due()
    assert by_itself is not None and by_itself.blocks == 0, "not before some seconds have passed"
    assert process.store.calls["remove"] == tries
    await pass_time(process, 10 * 2**tries)
    again = await collector.run_if_due()
    assert again is not None and again.blocks == failed.failed
    assert objects(process) == set()


async def test_a_store_that_stays_away_is_not_asked_for_ever_and_trouble_is_said_once(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    collector = collector_of(process, rest_s=0)
    process.store.plan = [Fault("read_identity", 0, Kind.BEFORE)]
    for _ in range(3):
        report = await collector.run_if_due()
        assert report is not None and report.result is Result.FAILED
    assert await acts(process) == ["gc.run"], "the rest was no news"
    process.store.plan = []
    assert (await collector.run_once(grace_s=0)).result is Result.DONE
    assert objects(process) == set()


async def test_a_late_put_lands_behind_the_first_delete_and_is_removed_by_the_second(
    any_site: Site,
) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(1000), "a")
    store = process.store.inner
    stored = dict(store.objects)  # type: ignore[attr-defined]
    await delete(process, "a")
    collector = collector_of(process)
    await collector.run_once(grace_s=0)
    assert objects(process) == set()

    store.objects.update(stored)  # type: ignore[attr-defined]
    assert (await collector.run_once(grace_s=0)).result is Result.NOTHING
    assert objects(process), "nobody knows of it yet"
    await pass_time(process, DAY_S)
    report = await collector.run_once(grace_s=0)

    assert report.removed_rows == 1
    assert objects(process) == set()
    assert await block_rows(process) == []


async def test_nothing_is_doomed_when_the_epoch_cannot_be_raised(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(SIZE), "a")
    await delete(process, "a")
    process.store.plan = [Fault("write_identity", 1, Kind.BEFORE)]
    process.store.calls.clear()

    report = await collector_of(process).run_once(grace_s=0)

    assert report.result is Result.FAILED
    assert {row.state for row in await block_rows(process)} == {"condemned"}
    process.store.plan = []
    assert (await collector_of(process).run_once(grace_s=0)).result is Result.DONE
    assert objects(process) == set()


async def test_an_interrupted_epoch_is_made_good_and_then_raised(any_site: Site) -> None:
    process = await start(any_site)
    process.store.calls.clear()
    process.store.plan = [Fault("write_identity", 1, Kind.BEFORE)]
    with pytest.raises(StoreUnavailable):
        await raise_epoch(process.db, process.store)
    mark = await process.store.read_identity()
    assert mark is not None and mark[1] == 1
    await raise_epoch(process.db, process.store)
    mark = await process.store.read_identity()
    assert mark is not None and mark[1] == 3, "a backup made in between has epoch 2"
