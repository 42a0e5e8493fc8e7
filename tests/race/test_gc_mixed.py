"""Uploads, deletions, downloads and collections all at once, without any grace.

A few pieces of bytes make all the files, so nearly every block is deleted, collected, pinned
and stored again at the same time. The grace is 0: safety must not depend on time.
"""

import asyncio
import random
from collections.abc import Sequence

import pytest

from filestore.meta.tables import leases
from filestore.model import KIB
from filestore_gc import Report
from tests.services.collecting import (
    DAY_S,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    delete,
    objects,
    pass_time,
    start,
)
from tests.services.hot_path import Process, Site, random_bytes

PIECES = [random_bytes(5 * KIB, number) for number in range(4)]
ROUNDS = 10
_OVERLAPPED = {"store-unavailable", "store-older"}
"""What a collection says that finds the epoch raised by another one in its midst."""


class User:
    """Writes, replaces, reads and deletes files of its own, and knows what must be in them."""

    def __init__(self, name: str, processes: Sequence[Process], dice: random.Random) -> None:
        self._name = name
        self._processes = processes
        self._dice = dice
        self.files: dict[str, tuple[int, bytes]] = {}
        self.reads = 0

    async def live(self) -> None:
        for number in range(ROUNDS):
            await self._write(f"{self._name}-{number}")
            if self._dice.random() < 0.6:
                await self.read(self._dice.choice(sorted(self.files)))
            if self._dice.random() < 0.7:
                name = self._dice.choice(sorted(self.files))
                del self.files[name]
                await delete(self._process(), name)

    async def read(self, name: str) -> None:
        content_id, data = self.files[name]
        assert await self._process().read(content_id, 0, len(data)) == data, name
        self.reads += 1

    def _process(self) -> Process:
        return self._dice.choice(self._processes)

    async def _write(self, name: str) -> None:
        """In one request, or in several that may reach different processes."""
        data = b"".join(self._dice.choices(PIECES, k=self._dice.randint(1, 3)))
        upload = await self._process().begin(len(data), name)
        cuts = [0, len(data)]
        if self._dice.random() < 0.5:
            cuts = sorted({*cuts, *(self._dice.randrange(len(data)) for _ in range(3))})
        for begin, end in zip(cuts, cuts[1:], strict=False):
            upload = await self._process().append(upload, begin, data[begin:end])
        assert upload.state == "done"
        assert upload.content_id is not None
        self.files[name] = (upload.content_id, data)


async def _collect(process: Process, done: asyncio.Event) -> list[Report]:
    collector = collector_of(process)
    reports = []
    while not done.is_set():
        reports.append(await collector.run_once(grace_s=0))
    return reports


async def _rob(process: Process, done: asyncio.Event) -> None:
    """Takes the lease from whoever has it, again and again, so that collections overlap."""
    while not done.is_set():
        await process.change(leases.update().values(process_id=None))


async def _run(processes: Sequence[Process], seed: str, *, overlap: bool = False) -> None:
    users = [User(f"u{n}", processes, random.Random(f"{seed}-{n}")) for n in range(3)]
    done = asyncio.Event()
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        collecting = [tasks.create_task(_collect(process, done)) for process in processes]
        if overlap:
            tasks.create_task(_rob(processes[0], done))
        async with asyncio.TaskGroup() as living:
            for user in users:
                living.create_task(user.live())
        done.set()
    reports = [report for task in collecting for report in task.result()]

    assert sum(user.reads for user in users) > 5
    assert sum(report.blocks for report in reports) > 50, "this run proved nothing"
    assert not [alarm for report in reports for alarm in report.alarms]
    problems = {report.problem.code for report in reports if report.problem}
    assert problems <= (_OVERLAPPED if overlap else set())
    for user in users:
        for name in user.files:
            await user.read(name)
    await _check_converged(processes[0])


async def _check_converged(process: Process) -> None:
    collector = collector_of(process)
    await collector.run_once(grace_s=0)
    assert await check_everything_referenced_reads(process) > 0
    await check_everything_stored_is_referenced(process)
    await process.check_references()
    await process.check_books()
    await pass_time(process, DAY_S)
    await collector.run_once(grace_s=0)
    assert set(await process.block_states()) == {"live"}
    assert await process.queued() == set()
    assert objects(process)


async def test_nothing_live_is_lost_and_nothing_dead_stays(any_site: Site) -> None:
    seed = f"{random.randrange(10**9)}"
    print(f"seed {seed}")
    await _run([await start(any_site)], seed)


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("overlap", [False, True])
async def test_nothing_live_is_lost_with_two_processes_and_two_collectors(
    postgres_site: Site, overlap: bool
) -> None:
    seed = f"{random.randrange(10**9)}"
    print(f"seed {seed}")
    processes = [await start(postgres_site), await start(postgres_site)]
    await _run(processes, seed, overlap=overlap)
