"""fsck in constant memory: the merge of two streams, pages, and what a report keeps."""

import tracemalloc
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from filestore.blocks.memory import MemoryStore
from filestore.blocks.port import BlockKey, StoredObject
from filestore.meta import fsck_sums
from filestore.meta.database import Tx
from filestore.meta.fsck_sums import COUNTERS
from filestore.meta.healing import KnownBlock
from filestore.meta.tables import blocks, gc_queue, groups
from filestore.model import BlockState, Codec
from filestore_gc.fsck_objects import BATCH, ObjectCheck, Suspicion, merge, suspect
from filestore_gc.fsck_plan import DAY_S, Act, Terms, plan_repair
from filestore_gc.fsck_report import Finding, Findings, FsckReport, FsckResult, Kind, Note, NoteKind
from filestore_gc.fsck_run import repairing
from filestore_gc.heal import key_of, parse_path
from filestore_gc.wording import plan_lines
from tests.contract.faulty import FaultyStore
from tests.services.collecting import collector_of, delete, start
from tests.services.damage import (
    AT_ONCE,
    blocks_of,
    check_clean,
    content_of,
    delete_object,
    fsck,
    kinds,
    put_file,
    put_orphan,
)
from tests.services.hot_path import DOMAIN, GROUP, Process, Site, random_bytes

T = TypeVar("T")

LIVE = KnownBlock(1, DOMAIN, bytes(32), "0123456789abcdef", 10, 42, Codec.PLAIN, BlockState.LIVE)
DAY_US = DAY_S * 1_000_000


def a_block(number: int, state: BlockState = BlockState.LIVE) -> KnownBlock:
    hash = number.to_bytes(2, "big") + bytes(30)
    return replace(LIVE, block_id=number, hash=hash, state=state)


def its_object(block: KnownBlock, size: int = 42) -> StoredObject:
    return StoredObject(key_of(block).path, size)


async def stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
async def test_the_merge_gives_each_item_once_and_pairs_what_belongs_together(
    in_store: set[int], in_rows: set[int]
) -> None:
    objects = stream(its_object(a_block(number)) for number in sorted(in_store))
    rows = stream(a_block(number) for number in sorted(in_rows))
    merged = [pair async for pair in merge(objects, rows)]

    expected = {
        number: (number in in_store, number in in_rows) for number in sorted(in_store | in_rows)
    }
    assert [(found is not None, row is not None) for found, row in merged] == list(
        expected.values()
    )
    for found, row in merged:
        if found is not None and row is not None:
            assert found.path == key_of(row).path


def test_only_live_blocks_need_their_object() -> None:
    there = its_object(LIVE)
    assert suspect(there, LIVE) is None
    assert suspect(None, LIVE) is Kind.MISSING
    assert suspect(its_object(LIVE, 41), LIVE) is Kind.WRONG_SIZE
    assert suspect(there, None) is Kind.ORPHAN
    for state in (BlockState.UPLOADING, BlockState.CONDEMNED, BlockState.DELETING):
        for found in (there, its_object(LIVE, 1), None):
            assert suspect(found, replace(LIVE, state=state)) is None
    lost = replace(LIVE, state=BlockState.LOST)
    assert (suspect(there, lost), suspect(None, lost)) == (Kind.READABLE, None)


def test_only_paths_of_blocks_are_taken_for_blocks() -> None:
    key = BlockKey(DOMAIN, bytes(range(32)), "0123456789abcdef")
    assert parse_path(key.path) == key
    for path in (
        key.path.upper(),
        key.path + "0",
        key.path[:-1],
        key.path.replace("/00/", "/01/"),
        key.path.replace("/00/", "/"),
        "default/ab/README",
        "",
    ):
        assert parse_path(path) is None, path


async def test_any_number_of_objects_is_held_against_rows_in_the_memory_of_a_page(
    memory_site: Site,
) -> None:
    """Four times as many take no more of it. The streams are made as they are read."""
    process = await start(memory_site)

    async def peak_of(count: int) -> int:
        class Check(ObjectCheck):
            async def _rows(self, domain: str) -> AsyncIterator[KnownBlock]:
                async for block in stream(a_block(number) for number in range(count)):
                    yield block

        class Many(MemoryStore):
            async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
                async for found in stream(its_object(a_block(number)) for number in range(count)):
                    yield found

            async def domains(self) -> list[str]:
                return []

        check = Check(process.db, Many(), Findings())
        tracemalloc.start()
        await check.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (check.objects, check.blocks) == (count, count)
        return peak

    await peak_of(10)  # what is made once is not counted
    few, many = await peak_of(500), await peak_of(2000)
    assert many < few + 20_000, f"{few} bytes for 500 objects, {many} for 2000"


async def test_objects_whose_rows_came_behind_the_page_are_no_orphans(memory_site: Site) -> None:
    """As if every row had been read before its upload, and every object listed behind it."""
    process = await start(memory_site)
    await put_file(process, "a", 1)
    orphan = await put_orphan(process, random_bytes(100))

    class Early(ObjectCheck):
        async def _rows(self, domain: str) -> AsyncIterator[KnownBlock]:
            async for nothing in stream(list[KnownBlock]()):
                yield nothing

    check = Early(process.db, process.store, Findings())
    await check.run()
    assert check.objects > 5
    assert [finding.subject for finding in check.findings.items] == [orphan.path]


async def test_rows_whose_objects_came_behind_the_listing_miss_nothing(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    (gone, *_) = await blocks_of(process, await content_of(process, "a"))
    await delete_object(process, gone)

    class Early(FaultyStore):
        async def walk(self, domain: str, *, after: str = "") -> AsyncIterator[StoredObject]:
            async for nothing in stream(list[StoredObject]()):
                yield nothing

    check = ObjectCheck(process.db, Early(process.store.inner), Findings())
    await check.run()
    assert check.blocks > 5
    assert [finding.subject for finding in check.findings.items] == [key_of(gone).path]


async def test_a_block_that_is_collected_between_the_looks_is_no_finding(memory_site: Site) -> None:
    process = await start(memory_site)
    await put_file(process, "a", 1)
    seen = await blocks_of(process, await content_of(process, "a"))
    check = ObjectCheck(process.db, process.store, Findings())
    for block in seen:
        check._suspicions.append(Suspicion(Kind.MISSING, None, block, key_of(block)))
    await delete(process, "a")
    await collector_of(process).run_once(grace_s=0)
    await check._look_again()
    assert check.findings.items == []


async def test_what_is_right_again_under_the_lock_is_no_finding(any_site: Site) -> None:
    process = await start(any_site)
    change = sa.update(groups).where(groups.c.id == GROUP)
    await process.change(change.values(used=groups.c.used + 1))
    page = await process.db.read(lambda tx: COUNTERS.page(tx, after="", rows=10))
    assert [wrong.group_id for wrong in page[1]] == [GROUP]
    assert len(await process.db.transact(lambda tx: COUNTERS.again(tx, [GROUP]))) == 1
    await process.change(change.values(used=groups.c.used - 1))
    assert await process.db.transact(lambda tx: COUNTERS.again(tx, [GROUP])) == []


async def test_what_is_made_good_between_the_looks_is_not_reported(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await start(any_site)
    wrong = sa.update(groups).where(groups.c.id == GROUP)
    await process.change(wrong.values(used=groups.c.used + 1))
    assert kinds(await fsck(process)) == {"quota-counters": 1}

    async def make_good(tx: Tx, names: Sequence[Any]) -> None:
        await tx.execute(wrong.values(used=groups.c.used - 1))

    monkeypatch.setattr(fsck_sums, "COUNTERS", replace(COUNTERS, hold=make_good))
    assert kinds(await fsck(process)) == {}


async def test_more_rows_than_a_page_are_all_looked_at(any_site: Site) -> None:
    process = await start(any_site)
    await add_live(process, BATCH + 1)
    report = await fsck(process)
    assert report.blocks == BATCH + 1
    assert kinds(report) == {
        "block-nobody-collects": BATCH + 1,
        "row-without-object": BATCH + 1,
    }
    assert kinds(await fsck(process, page=40)) == kinds(report)


async def add_live(process: Process, count: int) -> None:
    """Rows of live blocks that have neither objects nor references."""
    rows = [
        {
            "domain_id": DOMAIN,
            "hash": key_of(a_block(number)).hash,
            "generation": LIVE.generation,
            "size": 10,
            "stored_size": 42,
            "codec": "plain",
            "state": "live",
        }
        for number in range(count)
    ]
    await process.change(sa.insert(blocks).values(rows))


async def test_a_report_keeps_so_many_of_a_kind_and_says_that_there_are_more(
    memory_site: Site,
) -> None:
    process = await start(memory_site)
    await add_live(process, 10)
    report = await fsck(process, kept=4)
    assert kinds(report) == {"block-nobody-collects": 4, "row-without-object": 4}
    assert not report.is_whole and "there is more" in report.to_text()
    assert report.to_json()["complete"] is False
    assert not plan_repair(report, AT_ONCE).is_whole


async def test_a_repair_goes_on_until_everything_is_dealt_with(memory_site: Site) -> None:
    process = await start(memory_site)
    await add_live(process, 10)
    for number in range(9):
        await put_orphan(process, random_bytes(100, number))
    steps = [step async for step in repairing(process.db, process.store, terms=AT_ONCE, kept=4)]
    assert len(steps) == 3 and not steps[0].after.is_whole
    assert steps[-1].repaired.done == {Act.LOSE: 10, Act.QUEUE: 10, Act.SET_ASIDE: 9}
    assert len(steps[-1].plan.actions) == 12, "what was planned first"
    await check_clean(process)
    assert await process.one(sa.select(sa.func.count()).select_from(gc_queue)) == 10


# ---- plans ---------------------------------------------------------------------------------


def report_of(*findings: Finding, notes: tuple[Note, ...] = ()) -> FsckReport:
    counts = {finding.kind: 1 for finding in findings}
    return FsckReport(
        FsckResult.DAMAGE, 40 * DAY_US, 40 * DAY_US, findings=findings, counts=counts, notes=notes
    )


def orphan(*, age_s: int, reads_well: bool = True) -> Finding:
    at = 40 * DAY_US - age_s * 1_000_000
    return Finding(Kind.ORPHAN, "it", "no row", written_at=at, reads_well=reads_well)


OLDER = Finding(Kind.EPOCH, "database-older", "a backup was restored")


def acts_of(*findings: Finding, terms: Terms = AT_ONCE) -> list[Act]:
    return [action.act for action in plan_repair(report_of(*findings), terms).actions]


def test_an_orphan_is_set_aside_when_it_is_old_enough() -> None:
    terms = Terms(min_age_s=DAY_S)
    assert acts_of(orphan(age_s=DAY_S), terms=terms) == [Act.SET_ASIDE]
    assert acts_of(orphan(age_s=DAY_S - 1), terms=terms) == []
    unknown = replace(orphan(age_s=0), written_at=0)
    assert acts_of(unknown, terms=terms) == [], "nobody knows how old it is"
    assert acts_of(unknown) == [Act.SET_ASIDE]


def test_only_a_restored_database_adopts_and_only_what_reads_well() -> None:
    assert acts_of(orphan(age_s=1)) == [Act.SET_ASIDE]
    assert acts_of(orphan(age_s=1), OLDER) == [Act.ADOPT, Act.JOIN]
    assert acts_of(orphan(age_s=1, reads_well=False), OLDER) == [Act.SET_ASIDE, Act.JOIN]
    older_store = replace(OLDER, subject="store-older")
    assert acts_of(orphan(age_s=1), older_store) == [Act.SET_ASIDE, Act.JOIN]


def test_epochs_are_joined_last_and_only_when_nothing_is_left() -> None:
    young = orphan(age_s=1, reads_well=False)
    assert acts_of(young, OLDER, terms=Terms()) == []
    cut = replace(report_of(OLDER), is_whole=False)
    assert plan_repair(cut, AT_ONCE).actions == ()


def test_the_quarantine_is_emptied_by_days() -> None:
    days = ("1970-01-01", "1970-01-09", "1970-01-10", "1970-02-09")
    note = Note(NoteKind.QUARANTINE, 9, examples=days)
    plan = plan_repair(report_of(notes=(note,)), Terms(keep_s=31 * DAY_S))
    assert [(action.act, action.subject) for action in plan.actions] == [
        (Act.EMPTY, "1970-01-01"),
        (Act.EMPTY, "1970-01-09"),
    ]


def test_a_plan_reads_as_text_and_json() -> None:
    report = report_of(orphan(age_s=DAY_S), Finding(Kind.REFERENCE, "content 7", "a gap"))
    plan = plan_repair(report, AT_ONCE)
    text = "\n".join(plan_lines(plan.to_json()))
    assert "set-aside it" in text and "left: content 7" in text
    assert plan.to_json() == {
        "counts": {"set-aside": 1},
        "omitted": 0,
        "actions": [{"act": "set-aside", "subject": "it", "why": "no row names it", "bytes": 0}],
        "left": [
            {
                "subject": "content 7",
                "why": "no step is safe; restore the file from elsewhere",
            }
        ],
        "complete": True,
    }
