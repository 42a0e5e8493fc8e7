"""Many clients that trickle beside one that is fast, in little memory: all over plain sockets."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from filestore.model import KIB, MIB
from filestore.settings import Settings, load
from tests.protocol.conftest import Site
from tests.protocol.rows import named
from tests.protocol.wire import Wire
from tests.services.hot_path import random_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

CROWD = 40
FIRST = 600 * KIB
SIZE = MIB
FAST = 16 * MIB
BUDGET = 32 * MIB
"""Half of it is for uploads, which is less than the first bytes of the crowd together."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("data")
    return load(
        flags={
            "data": folder,
            "listen": "127.0.0.1:0",
            "server.shutdown_s": 1,
            "gc.interval_s": 86_400,
            "transfer.memory_budget_bytes": BUDGET,
        }
    )


class Slow:
    """A client that sends much at once and then 1 KiB now and then."""

    def __init__(self, site: Site, number: int, wire: Wire) -> None:
        self._site = site
        self._number = number
        self._wire = wire
        self.data = random_bytes(SIZE, f"slow {number}")
        self.upload = ""
        self.sent = 0

    async def begin(self) -> None:
        name = list(named(f"slow-{self._number}").items())
        self.upload = await self._site.create(SIZE, name)
        await self._site.begin_patch(self._wire, self.upload, 0, ("Content-Length", str(SIZE)))
        await self.send(FIRST)

    async def send(self, size: int) -> None:
        await self._wire.send(self.data[self.sent : self.sent + size])
        self.sent += size

    async def is_answered(self) -> bool:
        """Whether the server has ended it; a healthy one never says a word."""
        asked = asyncio.create_task(self._wire.reader.read(1))
        done, _ = await asyncio.wait((asked,), timeout=0)
        asked.cancel()
        await asyncio.wait((asked,))
        return bool(done)

    def leave(self) -> None:
        self._wire.writer.close()


async def test_a_crowd_that_trickles_loses_nothing_and_a_fast_one_is_served(site: Site) -> None:
    budget = site.service.services.transfers._engine.budget
    async with AsyncExitStack() as stack:
        crowd = []
        for number in range(CROWD):
            wire = await stack.enter_async_context(site.connected())
            crowd.append(Slow(site, number, wire))
        await asyncio.gather(*(slow.begin() for slow in crowd))
        fast = await site.create(FAST, list(named("fast").items()))
        data = random_bytes(FAST, "fast")
        running = asyncio.create_task(site.patch(fast, 0, data))
        while not running.done() or crowd[0].sent < FIRST + 20 * KIB:
            for slow in crowd:
                if slow.sent < SIZE - KIB:
                    await slow.send(KIB)
            await asyncio.wait((running,), timeout=0.01)
        assert (await running).status == 204
        assert not any([await slow.is_answered() for slow in crowd])
        assert budget.used <= budget.total * 1.1
        for slow in crowd:
            slow.leave()
        for slow in crowd:
            await site.wait_for(slow.upload, slow.sent)
            assert await site.offset(slow.upload) == slow.sent
    assert await site.content("fast") == data
    for slow in crowd[:: CROWD // 4]:
        assert (await site.patch(slow.upload, slow.sent, slow.data[slow.sent :])).status == 204
        assert await site.content(f"slow-{slow._number}") == slow.data
