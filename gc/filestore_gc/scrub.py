"""Scrub: reads live blocks back and verifies them, the one whose check is oldest first.

    report = await run_scrub(db, store, settings, progress=tell)

A block that cannot be read at a second look becomes lost, and its groups learn which files
that concerns. A lost one that reads well again becomes live, and one that has a live twin is
healed. A store that does not answer ends the run; that is no damage. What was read is recorded
with each batch, so the next run goes on from there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

from filestore.blocks.verified import VerifiedReader
from filestore.errors import Json, StoreError
from filestore.failpoints import reached
from filestore.meta import gc_figures, healing
from filestore.meta.affected import Affected
from filestore.meta.database import Database, Tx
from filestore.meta.healing import KnownBlock
from filestore.meta.log import audit, emit
from filestore.meta.turns import in_background
from filestore.model import MIB, SYSTEM, Actor, format_instant
from filestore.settings import Settings
from filestore_gc import wording
from filestore_gc.heal import (
    HealStore,
    find_fault,
    find_problem,
    heal_all,
    heal_hashes,
    is_usable,
    key_of,
    lose,
)
from filestore_gc.pacing import Pace
from filestore_gc.progress import Progress, quiet
from filestore_gc.report import Problem

BATCH: Final = 64
"""Blocks read between two records: at 1 MiB each, a second or so."""
READERS: Final = 4
"""Blocks read at once: hides a store's answer times; each takes some 8 MiB of memory."""
BYTES_PER_S: Final = 50 * MIB
"""What a scrub reads by default: a fifth of what one disk gives."""
KEPT: Final = 1000
"""Lost blocks that a report names; the audit log has all of them."""


GoOn = Callable[[], Awaitable[bool]]
"""Is asked behind each batch whether to read the next one; what it raises ends the work."""


async def always() -> bool:
    """To the end."""
    return True


class ScrubResult(StrEnum):
    CLEAN = "clean"
    DAMAGE = "damage"
    """Blocks were lost now, or are still lost since earlier."""
    REFUSED = "refused"
    """It is not this database's store: nothing was read."""
    FAILED = "failed"
    """The store stopped answering; what was read until then is recorded."""


@dataclass(frozen=True, slots=True)
class LostBlock:
    """A block that became lost, why, and the files that this concerns."""

    subject: str
    fault: str
    affected: Affected

    def to_json(self) -> dict[str, Json]:
        files: list[Json] = [
            {"group": file.group_id, **file.to_json()} for file in self.affected.files
        ]
        return {
            "block": self.subject,
            "fault": self.fault,
            "affected": self.affected.count,
            "files": files,
        }


@dataclass(slots=True)
class ScrubReport:
    """One run. ``still_lost``: blocks that were lost before, and that files still refer to."""

    started_at: int
    ended_at: int = 0
    result: ScrubResult = ScrubResult.CLEAN
    blocks: int = 0
    bytes: int = 0
    lost: int = 0
    still_lost: int = 0
    revived: int = 0
    healed: int = 0
    named: list[LostBlock] = field(default_factory=list)
    problem: Problem | None = None

    @property
    def is_good(self) -> bool:
        """Whether all that was read is well, and nothing is lost."""
        return self.result is ScrubResult.CLEAN

    @property
    def exit_code(self) -> int:
        """0: good. 1: something is lost, or it could not be told."""
        return 0 if self.is_good else 1

    def to_json(self) -> dict[str, Json]:
        return {
            "result": self.result.value,
            "is_good": self.is_good,
            "started_at": format_instant(self.started_at),
            "ended_at": format_instant(self.ended_at),
            "blocks": self.blocks,
            "bytes": self.bytes,
            "lost": self.lost,
            "still_lost": self.still_lost,
            "revived": self.revived,
            "healed_references": self.healed,
            "blocks_lost": [block.to_json() for block in self.named],
            "problem": None
            if self.problem is None
            else {"code": self.problem.code, "reason": self.problem.reason},
        }

    def to_text(self) -> str:
        return "\n".join(wording.scrub_lines(self.to_json()))


class Scrub:
    """Scrubs one database and its store; made for one run.

    ``older_than_s``: leaves out what was checked within that time. ``progress`` is told behind
    each batch, and ``go_on`` asked, which may raise. ``max_lost``: how many that are lost since
    earlier are looked at. ``clock`` and ``sleep`` are those of the rate.
    """

    def __init__(
        self,
        db: Database,
        store: HealStore,
        *,
        bytes_per_s: float = BYTES_PER_S,
        older_than_s: int = 0,
        max_lost: int | None = None,
        progress: Progress = quiet,
        go_on: GoOn = always,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._store = store
        self._reader = VerifiedReader(store)
        self._older_than_us = older_than_s * 1_000_000
        self._pace = Pace(bytes_per_s, clock=clock, sleep=sleep)
        self._max_lost = max_lost
        self._progress = progress
        self._go_on = go_on
        self._total = 0
        self._readers = asyncio.Semaphore(READERS)
        self._report = ScrubReport(0)

    def __repr__(self) -> str:
        return f"<Scrub, {self._report.blocks} blocks read, {self._report.lost} lost>"

    async def run(self, actor: Actor = SYSTEM) -> ScrubReport:
        """:meth:`look`, recorded in the audit log."""
        report = await self.look()
        await self._db.transact(partial(record, actor=actor, report=report))
        return report

    @in_background
    async def look(self) -> ScrubReport:
        """Reads every block that was live at the start once, and what was lost.

        May be cancelled anywhere: what was read is recorded, the run itself is not.

        :raises DatabaseUnavailable: what was recorded is recorded. Safe to repeat.
        """
        report = self._report = ScrubReport(await self._db.read(gc_figures.clock))
        try:
            problem = await find_problem(self._db, self._store)
            if problem is not None and not is_usable(problem):
                report.result, report.problem = ScrubResult.REFUSED, problem
            else:
                await self._work()
        except StoreError as err:
            report.result, report.problem = ScrubResult.FAILED, Problem(err.code, str(err))
        report.ended_at = await self._db.read(gc_figures.clock)
        return report

    async def _work(self) -> None:
        report = self._report
        report.healed += await heal_all(self._db)
        await self._look_at_lost()
        await self._db.transact(healing.date_unchecked)
        until = report.started_at - self._older_than_us
        after = (-1, 0)
        page = partial(healing.oldest_checks, until=until, limit=BATCH)
        self._total = await self._db.read(partial(healing.count_checks, until=until))
        self._tell()
        while checks := await self._db.read(partial(page, after=after)):
            after = (checks[-1].checked_at, checks[-1].block.block_id)
            await self._read([check.block for check in checks])
            self._tell()
            if not await self._go_on():
                break
        if report.lost or report.still_lost:
            report.result = ScrubResult.DAMAGE

    def _tell(self) -> None:
        report = self._report
        self._progress(
            {
                "blocks": report.blocks,
                "blocks_total": max(self._total, report.blocks),
                "bytes": report.bytes,
                "lost": report.lost,
                "still_lost": report.still_lost,
                "revived": report.revived,
                "healed_references": report.healed,
            }
        )

    async def _read(self, batch: Sequence[KnownBlock]) -> None:
        """Reads a batch, some at once; what was read well is recorded, whatever breaks off."""
        faults: dict[int, str | None] = {}

        async def read(block: KnownBlock) -> None:
            async with self._readers:
                await self._pace.take(block.stored_size or block.size)
                faults[block.block_id] = await find_fault(self._reader, block)

        try:
            await _together([read(block) for block in batch])
        finally:
            well = [block for block in batch if faults.get(block.block_id, "") is None]
            if well:
                await self._db.transact(partial(healing.note_checked, checked=well))
                reached("scrub.checked")
        self._report.blocks += len(faults)
        self._report.bytes += sum(block.stored_size or block.size for block in batch)
        for block in batch:
            if (fault := faults[block.block_id]) is not None:
                await self._lose(block, fault)

    async def _lose(self, block: KnownBlock, fault: str) -> None:
        affected = await lose(self._db, self._store, block, fault)
        if affected is None:
            return  # it was collected meanwhile
        self._report.lost += 1
        if len(self._report.named) < KEPT:
            self._report.named.append(LostBlock(key_of(block).path, fault, affected))

    async def _look_at_lost(self) -> None:
        """What is lost since earlier: what reads well again becomes live."""
        after, seen = 0, 0
        page = partial(healing.lost_page, limit=BATCH)
        while found := await self._db.read(partial(page, after=after)):
            if self._max_lost is not None and seen >= self._max_lost:
                break
            after, seen = found[-1].block_id, seen + len(found)
            for block in found:
                await self._pace.take(block.stored_size or block.size)
                if await find_fault(self._reader, block) is not None:
                    self._report.still_lost += 1
                elif await healing.revive(self._db, block):
                    self._report.revived += 1
                    hashes = [block.hash]
                    self._report.healed += await heal_hashes(self._db, block.domain, hashes)


async def run_scrub(
    db: Database,
    store: HealStore,
    settings: Settings,
    *,
    bytes_per_s: float | None = None,
    older_than_s: int = 0,
    actor: Actor = SYSTEM,
    progress: Progress = quiet,
) -> ScrubReport:
    """One scrub as a command or a job asks for it, by the rate in the settings or another.

    :raises DatabaseUnavailable: what was recorded is recorded. Safe to repeat.
    """
    rate = settings.scrub.bytes_per_s if bytes_per_s is None else bytes_per_s
    scrub = Scrub(db, store, bytes_per_s=rate, older_than_s=older_than_s, progress=progress)
    return await scrub.run(actor)


async def record(tx: Tx, actor: Actor, report: ScrubReport) -> None:
    """Writes down that somebody, or the service, has scrubbed, and what that came to."""
    said = report.to_json() | {"blocks_lost": len(report.named)}
    await audit(tx, actor, "scrub.run", target=report.result, after=said)
    await emit(tx, "scrub.ran", said)


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Waits for all; the first failure ends the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
