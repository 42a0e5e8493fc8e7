"""Puts the parts of the hot path together, as the settings say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from filestore.acts.uploads import Limits
from filestore.blocks.backend import Backend
from filestore.blocks.verified import VerifiedReader
from filestore.meta.database import Database
from filestore.model import MAX_BLOCK_SIZE, ChunkerParams
from filestore.settings import Settings
from filestore.transfer.background import run_forever
from filestore.transfer.budget import MemoryBudget
from filestore.transfer.buffers import Buffers
from filestore.transfer.digests import DigestKeeper
from filestore.transfer.egress import Egress
from filestore.transfer.engine import Engine, Tuning
from filestore.transfer.placing import Placer, Sift, rely_on_all
from filestore.transfer.recording import Recorder
from filestore.transfer.service import Transfers
from filestore.transfer.tail import TailCache
from filestore.transfer.workers import Workers

NEW_CONTENTS: Final = ChunkerParams()


@dataclass(frozen=True, slots=True)
class HotPath:
    """What the protocols use of it."""

    engine: Engine
    transfers: Transfers
    egress: Egress


@contextlib.asynccontextmanager
async def running_hot_path(
    settings: Settings,
    db: Database,
    store: Backend,
    process_id: str,
    *,
    params: ChunkerParams = NEW_CONTENTS,
    sift: Sift = rely_on_all,
) -> AsyncIterator[HotPath]:
    """The hot path, running; at the end its threads and tasks have ended.

    ``params`` is how new contents are cut; those begun before keep their own. ``sift`` says which
    blocks that are known may be relied on.

    Of the memory budget, uploads get a half, downloads five sixteenths, the cache of tails two
    and hashing what is stored one: a crowd of slow readers cannot keep uploads from memory,
    nor the other way.
    """
    total = settings.transfer.memory_budget_bytes
    pool = ThreadPoolExecutor(settings.transfer.threads, thread_name_prefix="filestore-hash")
    workers = Workers(pool)
    reader = VerifiedReader(store)
    placer = Placer(
        db,
        store,
        workers,
        process_id=process_id,
        deadline_s=settings.blocks.put_deadline_s,
        zstd_level=settings.blocks.zstd_level,
        sift=sift,
    )
    ahead, wait_s = settings.transfer.read_ahead, settings.transfer.memory_wait_s
    budget = MemoryBudget(total // 2, wait_s=wait_s)
    egress = Egress(db, reader, MemoryBudget(total * 5 // 16, wait_s=wait_s), read_ahead=ahead)
    hashing = Egress(
        db,
        reader,
        MemoryBudget(total // 16, wait_s=wait_s),
        read_ahead=ahead,
        piece_size=MAX_BLOCK_SIZE,
    )
    engine = Engine(
        db=db,
        process_id=process_id,
        workers=workers,
        budget=budget,
        buffers=Buffers(budget),
        placer=placer,
        recorder=Recorder(db, placer, expire_s=settings.uploads.expire_after_s),
        reader=reader,
        egress=egress,
        hashing=hashing,
        digests=DigestKeeper(),
        tails=TailCache(total // 8),
        limits=_limits(settings),
        tuning=_tuning(settings),
    )
    transfers = Transfers(engine, params)
    background = [
        asyncio.create_task(run_forever(engine)),
        asyncio.create_task(transfers.neighbours.run()),
    ]
    try:
        yield HotPath(engine, transfers, egress)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await transfers.close()
        await engine.digests.close()
        await placer.close()
        engine.buffers.close()
        pool.shutdown()


def _limits(settings: Settings) -> Limits:
    uploads = settings.uploads
    return Limits(
        max_size=uploads.max_size_bytes,
        expire_s=uploads.expire_after_s,
        cap_s=uploads.expire_cap_s,
        per_user=uploads.running_per_user,
        per_group=uploads.running_per_group,
        reserve_step=uploads.reserve_step_bytes,
    )


def _tuning(settings: Settings) -> Tuning:
    transfer = settings.transfer
    return Tuning(
        buffer_min=transfer.buffer_min_bytes,
        buffer_max=transfer.buffer_max_bytes,
        batches_in_flight=transfer.batches_in_flight,
        verify_wait_s=transfer.verify_wait_s,
        lock_wait_s=transfer.lock_wait_s,
    )
