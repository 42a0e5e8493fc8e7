"""What an upload may rely on after a database was restored, until fsck has repaired it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import sqlalchemy as sa

from filestore.meta.instance import find_instance
from filestore.meta.tables import instance
from filestore.transfer.assembly import running_hot_path
from filestore_gc import Doubt
from filestore_gc.guards import raise_epoch
from tests.contract.faulty import Fault
from tests.contract.faulty import Kind as Fails
from tests.services.collecting import TINY, start
from tests.services.damage import (
    block,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    put_file,
    read_file,
    repaired,
    told,
    until_reached,
)
from tests.services.hot_path import Process, Site


@asynccontextmanager
async def doubting(site: Site, process: Process) -> AsyncIterator[Process]:
    """The process as the service makes it when it starts on this database and store."""
    sift = Doubt(process.db, process.store).sift
    running = running_hot_path(
        site.settings, process.db, process.store, process.id, params=TINY, sift=sift
    )
    async with running as hot:
        yield replace(process, hot=hot)


async def restore_older(process: Process) -> None:
    """The store's epoch goes on, and the database's is as it was."""
    before = await process.db.read(find_instance)
    assert before is not None
    await raise_epoch(process.db, process.store)
    await process.change(sa.update(instance).values(epoch=before.epoch))


async def test_no_upload_relies_on_a_block_that_a_restored_database_only_believes_in(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    gone, *well = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, gone)
    await restore_older(process)

    async with doubting(any_site, process) as again:
        await again.upload(data, "b")
        assert await read_file(again, "b") == data, "it was acknowledged, so it is there"
        assert await read_file(again, "a") == data, "healed by the same bytes"
    assert (await block(process, gone.block_id)).state == "lost"
    assert [(await block(process, one.block_id)).state for one in well] == ["live"] * len(well)
    assert len(await told(process, "block.lost")) == 1
    assert (await repaired(process)).exit_code == 0
    await check_clean(process)


async def test_doubt_ends_when_both_are_brought_together_and_costs_nothing_then(
    any_site: Site,
) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    await restore_older(process)
    async with doubting(any_site, process) as again:
        await again.upload(data, "b")
        process.store.calls.clear()
        await again.upload(data, "c")
        assert process.store.calls["get"] > 0
        await repaired(process)
        await again.upload(data, "d")
        process.store.calls.clear()
        await again.upload(data, "e")
        assert not process.store.calls, "all blocks are known, and nobody asks the store"


async def test_an_upload_waits_for_a_store_that_cannot_tell(any_site: Site) -> None:
    process = await start(any_site)
    data = await put_file(process, "a", 1)
    await restore_older(process)
    async with doubting(any_site, process) as again:
        look = Fault("read_identity", 0, Fails.HOLD)
        process.store.plan = [look]
        sending = asyncio.create_task(again.upload(data, "b"))
        await until_reached(look, sending)
        assert not sending.done()
        look.gate.set()
        await sending
        assert await read_file(again, "b") == data
