"""Versions that their group's rule does not keep: they go, in batches, and nothing else does."""

import json

import pytest
import sqlalchemy as sa

from filestore.meta.tables import audit_log, events, groups, quota_journal, versions
from filestore.model import KIB
from filestore_gc import Result, reaping
from tests.services.collecting import (
    DAY_S,
    acts,
    check_everything_referenced_reads,
    check_everything_stored_is_referenced,
    collector_of,
    pass_time,
    start,
)
from tests.services.hot_path import GROUP, Process, Site, random_bytes

SIZE = 12 * KIB


async def _versions(process: Process, count: int, name: str = "a") -> None:
    for number in range(count):
        await process.upload(random_bytes(SIZE, f"{name}{number}"), name)


async def _rule(process: Process, keep: int = 0, keep_s: int = 0) -> None:
    await process.change(groups.update().values(versions_keep=keep, versions_keep_s=keep_s))


async def _numbers(process: Process) -> list[int]:
    rows = await process.all(sa.select(versions.c.number).order_by(versions.c.number))
    return [row.number for row in rows]


async def test_without_a_rule_every_version_stays(any_site: Site) -> None:
    process = await start(any_site)
    await _versions(process, 3)
    await pass_time(process, 1000 * DAY_S)
    report = await collector_of(process).run_once(grace_s=0)
    assert (report.result, report.reaped.versions) == (Result.NOTHING, 0)
    assert await _numbers(process) == [1, 2, 3]


async def test_the_newest_are_kept_and_the_others_go_with_their_quota_and_a_trace(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "PRUNE_BATCH", 2)
    process = await start(any_site)
    await _versions(process, 5)
    await _versions(process, 1, "b")
    await _rule(process, keep=2)

    plan = await collector_of(process).plan(grace_s=0)
    report = await collector_of(process).run_once(grace_s=0)

    assert (report.reaped.versions, report.reaped.bytes) == (3, 3 * SIZE)
    assert (plan.reaped.versions, plan.blocks, plan.bytes) == (3, report.blocks, report.bytes)
    assert {line.reason for line in plan.freed} == {"retention"}
    assert await _numbers(process) == [1, 4, 5]
    assert (await process.check_books()).used == 3 * SIZE
    await check_everything_stored_is_referenced(process)
    assert await check_everything_referenced_reads(process) > 3
    assert await acts(process, "version.") == ["version.expire"] * 2, "in two batches"
    logged = (await process.all(sa.select(audit_log).where(audit_log.c.act == "version.expire")))[0]
    assert (logged.group_id, logged.target, logged.actor_id) == (GROUP, "/a", None)
    assert json.loads(logged.before) == {"versions": 2, "bytes": 2 * SIZE}
    assert (
        await process.one(sa.select(sa.func.count()).where(events.c.kind == "version.expired")) == 2
    )
    moved = sa.select(sa.func.sum(quota_journal.c.delta_used)).where(
        quota_journal.c.cause == "expire"
    )
    assert int(await process.one(moved)) == -3 * SIZE


async def test_time_counts_from_when_a_version_was_replaced(any_site: Site) -> None:
    process = await start(any_site)
    await _rule(process, keep_s=DAY_S)
    await _versions(process, 1)
    await pass_time(process, 10 * DAY_S)
    await process.upload(random_bytes(SIZE, "new"), "a")
    collector = collector_of(process)

    await pass_time(process, DAY_S - 60)
    assert (await collector.run_once(grace_s=0)).reaped.versions == 0
    await pass_time(process, 60)
    assert (await collector.run_once(grace_s=0)).reaped.versions == 1
    assert await _numbers(process) == [2]


async def test_with_both_rules_a_version_goes_when_neither_keeps_it(any_site: Site) -> None:
    process = await start(any_site)
    await _versions(process, 3)
    await pass_time(process, 2 * DAY_S)
    await _versions(process, 2, "a")
    await _rule(process, keep=2, keep_s=DAY_S)

    report = await collector_of(process).run_once(grace_s=0)

    assert report.reaped.versions == 2, "the third was replaced just now"
    assert await _numbers(process) == [3, 4, 5]


async def test_bytes_that_another_version_shares_stay(any_site: Site) -> None:
    process = await start(any_site)
    shared = random_bytes(SIZE, "shared")
    for seed in range(3):
        await process.upload(shared + random_bytes(100, seed), "a")
    await _rule(process, keep=1)
    plan = await collector_of(process).plan(grace_s=0)
    report = await collector_of(process).run_once(grace_s=0)
    assert (plan.blocks, plan.bytes) == (report.blocks, report.bytes)
    assert report.bytes < SIZE
    assert await _numbers(process) == [3]
    await check_everything_stored_is_referenced(process)
