"""What PostgreSQL does when a writer pins a block that a collector condemns.

Facts A to E of the design's reference on safe collection, with our own statements on the
writer's side. SQLite cannot show them. Who changes a lock here changes what is lost.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from filestore.meta import blocks as queries
from filestore.meta.database import Tx, violates
from filestore.meta.tables import blocks, content_blocks, contents, gc_queue
from filestore.model import Codec
from tests.race.barriers import Paused, after, until_waiting
from tests.services.hot_path import Process, Site

BLOCK = 1
CONTENT = 1
UNREFERENCED = ~sa.exists().where(content_blocks.c.block_id == blocks.c.id)


@pytest.fixture
async def at(postgres_site: Site) -> AsyncIterator[Process]:
    """One live block that nothing refers to, and a content under construction."""
    at = await postgres_site.start()
    block = {
        "id": BLOCK, "domain_id": "default", "hash": bytes(32), "generation": "0" * 16,
        "size": 5, "stored_size": 37, "codec": "plain", "state": "live",
    }  # fmt: skip
    await at.change(blocks.insert().values(block))
    content = {
        "id": CONTENT, "public_id": "cnt_1", "domain_id": "default", "state": "building",
        "min_size": 64, "avg_size": 256, "max_size": 1024, "level": 2,
    }  # fmt: skip
    await at.change(contents.insert().values(content))
    yield at


async def _pin(tx: Tx) -> set[int]:
    """What the hot path does: locks the live block, then refers to it."""
    pinned = await queries.pin_live(tx, [BLOCK])
    for block_id in pinned:
        await _refer(tx, block_id)
    return pinned


async def _refer(tx: Tx, block_id: int = BLOCK) -> None:
    row = {"content_id": CONTENT, "byte_offset": 0, "size": 5, "block_id": block_id}
    await tx.execute(content_blocks.insert().values(row))


async def _condemn_in_one_statement(tx: Tx) -> int:
    return await _condemn(tx, UNREFERENCED)


async def _lock_then_condemn(tx: Tx) -> int:
    await tx.execute(sa.select(blocks.c.id).where(blocks.c.id == BLOCK).with_for_update())
    return await _condemn(tx, UNREFERENCED)


async def _condemn(tx: Tx, *where: Any) -> int:
    change = sa.update(blocks).where(blocks.c.id == BLOCK, *where).values(state="condemned")
    done = await tx.execute(change)
    return int(done.rowcount)


async def _state(at: Process) -> tuple[str, int]:
    """The block's state, and how many references it has."""
    pins = sa.select(sa.func.count()).select_from(content_blocks)
    return await at.one(sa.select(blocks.c.state)), await at.one(pins)


async def test_a_condemning_in_one_statement_would_lose_a_pinned_block(at: Process) -> None:
    async with Paused(at, _pin) as pinning:
        assert await after(at, _condemn_in_one_statement, pinning) == ({BLOCK}, 1)
    assert await _state(at) == ("condemned", 1)


async def test_b_condemning_after_the_lock_in_a_second_statement_sees_the_pin(
    at: Process,
) -> None:
    async with Paused(at, _pin) as pinning:
        assert await after(at, _lock_then_condemn, pinning) == ({BLOCK}, 0)
    assert await _state(at) == ("live", 1)


async def test_c_the_foreign_key_alone_does_not_wait_for_a_collector(at: Process) -> None:
    async with Paused(at, _condemn) as condemning:
        await asyncio.wait_for(at.db.transact(_refer), 10)
        assert await condemning.go_on() == 1
    assert await _state(at) == ("condemned", 1)


async def test_d_pinning_waits_for_a_collector_and_then_pins_nothing(at: Process) -> None:
    async with Paused(at, _lock_then_condemn) as condemning:
        assert await after(at, _pin, condemning) == (1, set())
    assert await _state(at) == ("condemned", 0)


async def test_e_for_key_share_would_not_wait_and_would_pin_what_is_condemned(
    at: Process,
) -> None:
    async def weak_pin(tx: Tx) -> None:
        live = sa.select(blocks.c.id).where(blocks.c.id == BLOCK, blocks.c.state == "live")
        await tx.execute(live.with_for_update(read=True, key_share=True))
        await _refer(tx)

    async with Paused(at, _condemn) as condemning:
        await asyncio.wait_for(at.db.transact(weak_pin), 10)
        assert await condemning.go_on() == 1
    assert await _state(at) == ("condemned", 1)


async def test_pins_of_one_block_do_not_wait_for_each_other(at: Process) -> None:
    async with Paused(at, lambda tx: queries.pin_live(tx, [BLOCK])):
        second = at.db.transact(lambda tx: queries.pin_live(tx, [BLOCK]))
        assert await asyncio.wait_for(second, 10) == {BLOCK}


async def test_a_collector_that_skips_locked_blocks_does_not_wait_for_a_writer(
    at: Process,
) -> None:
    skipping = sa.select(blocks.c.id).with_for_update(skip_locked=True)

    async def collect(tx: Tx) -> list[int]:
        return list((await tx.execute(skipping)).scalars())

    async with Paused(at, _pin):
        assert await asyncio.wait_for(at.db.transact(collect), 10) == []
    assert await at.db.transact(collect) == [BLOCK]


async def test_an_event_that_comes_while_its_task_is_deleted_is_not_lost(at: Process) -> None:
    await at.transact(queries.enqueue, [BLOCK], "first")

    async def collect(tx: Tx) -> None:
        await tx.execute(sa.select(gc_queue).with_for_update(skip_locked=True))
        await tx.execute(sa.select(blocks.c.id).with_for_update(skip_locked=True))
        await tx.execute(sa.delete(gc_queue))

    async with Paused(at, collect) as collecting:
        await after(at, lambda tx: queries.enqueue(tx, [BLOCK], "second"), collecting)
    assert await at.one(sa.select(gc_queue.c.reason)) == "second"


async def test_a_collector_never_deletes_a_task_that_is_being_touched(at: Process) -> None:
    await at.transact(queries.enqueue, [BLOCK], "first")

    async def collect(tx: Tx) -> list[int]:
        task = sa.select(gc_queue.c.block_id).with_for_update(skip_locked=True)
        return list((await tx.execute(task)).scalars())

    async with Paused(at, lambda tx: queries.enqueue(tx, [BLOCK], "second")):
        assert await asyncio.wait_for(at.db.transact(collect), 10) == []
    assert await at.one(sa.select(gc_queue.c.reason)) == "second"


async def test_queueing_never_makes_a_task_due_earlier(at: Process) -> None:
    await at.transact(queries.enqueue, [BLOCK], "first")
    await at.change(sa.update(gc_queue).values(not_before=2**60))
    await at.transact(queries.enqueue, [BLOCK, BLOCK], "second")
    assert await at.one(sa.select(gc_queue.c.not_before)) == 2**60


async def _announced(at: Process, *generations: str) -> list[queries.StoredBlock]:
    """Rows of one hash that are uploading, one of each generation."""
    await at.change(sa.text("DELETE FROM blocks"))
    news = [queries.NewBlock(bytes(32), 5, generation) for generation in generations]

    async def announce(tx: Tx) -> list[int]:
        return await queries.insert_uploading(tx, "default", at.id, news, deadline_s=60)

    ids = await at.db.transact(announce)
    return [
        queries.StoredBlock(block_id, new.generation, 37, Codec.PLAIN)
        for block_id, new in zip(ids, news, strict=True)
    ]


async def test_going_live_names_id_generation_and_state(at: Process) -> None:
    (stored,) = await _announced(at, "a" * 16)
    other = dataclasses.replace(stored, generation="b" * 16)
    assert await at.transact(queries.make_live, [other]) == set()
    assert await at.one(sa.select(blocks.c.state)) == "uploading"
    assert await at.transact(queries.make_live, [stored]) == {stored.block_id}
    assert await at.transact(queries.make_live, [stored]) == {stored.block_id}, "shared"
    await at.change(sa.update(blocks).values(state="condemned"))
    assert await at.transact(queries.make_live, [stored]) == set()


async def test_the_second_to_go_live_waits_and_is_refused_whole(at: Process) -> None:
    ours, theirs = await _announced(at, "a" * 16, "b" * 16)
    async with Paused(at, lambda tx: queries.make_live(tx, [ours])) as first:
        second = asyncio.create_task(at.transact(queries.make_live, [theirs]))
        await until_waiting(at, second)
        await first.go_on()
        with pytest.raises(IntegrityError) as refused:
            await second
    assert violates(refused.value, "uq_blocks_live")
    states = await at.all(sa.select(blocks.c.id, blocks.c.state).order_by(blocks.c.id))
    assert [row.state for row in states] == ["live", "uploading"]
