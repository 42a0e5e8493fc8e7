"""Two processes that bring the same new bytes at once: both succeed, each block lives once."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.meta.tables import blocks, gc_queue
from filestore.model import KIB
from tests.contract.faulty import Fault, Kind
from tests.race.barriers import deadlocks
from tests.services.hot_path import SMALL, Process, Site, cut, random_bytes

pytestmark = pytest.mark.usefixtures("no_lost_errors")

ROUNDS = 200
LARGEST = 60 * KIB


@pytest.fixture
async def pair(postgres_site: Site) -> AsyncIterator[list[Process]]:
    yield [await postgres_site.start(params=SMALL) for _ in range(2)]


async def _check_blocks(pair: list[Process]) -> None:
    """One live row for each hash; none uploading; what is condemned is queued."""
    at = pair[0]
    twice = sa.select(blocks.c.hash).where(blocks.c.state == "live").group_by(blocks.c.hash)
    assert await at.all(twice.having(sa.func.count() > 1)) == []
    assert set(await at.block_states()) <= {"live", "condemned"}
    unqueued = sa.select(blocks.c.id).where(
        blocks.c.state == "condemned", ~sa.exists().where(gc_queue.c.block_id == blocks.c.id)
    )
    assert await at.all(unqueued) == []
    await at.check_references()
    await at.check_books()
    for process in pair:
        await process.check_rest()


async def test_both_of_two_processes_succeed_in_every_round(pair: list[Process]) -> None:
    seed = 11
    rng = random.Random(seed)
    lost = 0
    for number in range(ROUNDS):
        data = random_bytes(rng.randrange(1, LARGEST), f"{seed}-{number}")
        done = await asyncio.gather(
            *(process.upload(data, f"{number}-{process.id}") for process in pair)
        )
        assert {upload.state for upload in done} == {"done"}, seed
        rows = [await pair[0].rows(upload.content_id or 0) for upload in done]
        assert rows[0] == rows[1] == cut(data, SMALL)
        lost = (await pair[0].block_states()).get("condemned", 0)
    assert lost, "the two never met: this test proves nothing"
    await _check_blocks(pair)
    assert await deadlocks(pair[0]) == 0


async def test_blocks_in_crossing_orders_do_not_wait_for_each_other(
    pair: list[Process],
) -> None:
    """Rows are made in the order of the file, and live in the order of hashes."""
    pieces = [random_bytes(SMALL.max_size, number) for number in range(8)]
    rng = random.Random(3)
    for number in range(25):
        fresh = [piece[:-8] + number.to_bytes(8, "big") for piece in pieces]
        orders = [rng.sample(fresh, len(fresh)) for _ in pair]
        done = await asyncio.gather(
            *(
                process.upload(b"".join(order), f"{number}-{process.id}")
                for process, order in zip(pair, orders, strict=True)
            )
        )
        for upload, order in zip(done, orders, strict=True):
            stored = await pair[0].read(upload.content_id or 0, 0, 8 * SMALL.max_size)
            assert stored == b"".join(order)
    await _check_blocks(pair)
    assert await deadlocks(pair[0]) == 0


async def test_a_winner_that_is_collected_at_once_is_replaced_by_the_loser(
    pair: list[Process],
) -> None:
    fast, slow = pair
    data = random_bytes(3 * KIB, "winner")  # one block
    fault = Fault("put", 1, Kind.HOLD)
    slow.store.plan = [fault]
    upload = await slow.begin(len(data), "slow")
    running = asyncio.create_task(slow.append(upload, 0, data))
    await fault.reached.wait()
    winner = await fast.upload(data, "fast")
    first = (await fast.rows(winner.content_id or 0))[0]
    await fast.change(sa.text("DELETE FROM content_blocks"))
    condemned = sa.update(blocks).where(blocks.c.state == "live").values(state="deleting")
    await fast.change(condemned)
    fault.gate.set()
    upload = await running
    assert upload.state == "done"
    states = await fast.all(sa.select(blocks.c.state).where(blocks.c.hash == first.hash))
    assert sorted(row.state for row in states) == ["deleting", "live"]
    assert await fast.read(upload.content_id or 0, 0, len(data)) == data


async def test_a_process_that_died_behind_its_rows_keeps_nobody_waiting(
    postgres_site: Site, pair: list[Process]
) -> None:
    data = random_bytes(20 * KIB, "dead")
    doomed, other = pair
    doomed.store.plan = [Fault("put", 0, Kind.HOLD)]
    upload = await doomed.begin(len(data))
    running = asyncio.create_task(doomed.append(upload, 0, data))
    while (await other.block_states()).get("uploading", 0) == 0:
        assert not running.done()
    running.cancel()
    await asyncio.wait((running,))
    await postgres_site.stop(doomed)

    upload = await other.append(upload, 0, data)
    assert upload.state == "done"
    assert await other.rows(upload.content_id or 0) == cut(data, SMALL)
    states = await other.block_states()
    assert states["live"] == len(cut(data, SMALL))
    assert states["uploading"] >= 1, "the reaper's, when their time is over"
