"""The collector's figures: right, of one moment, and without a walk over tables at each scrape."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from filestore.meta.tables import instance
from filestore.model import KIB, BlockState
from filestore_gc import Result, Scrubber
from filestore_gc.metrics import LIVE_EVERY_S, Figures, GcMetrics
from tests.services.collecting import collector_of, delete, start
from tests.services.hot_path import Process, Site, random_bytes

ROOT = Path(__file__).parents[2]


class Shown:
    """The figures of a process, with a clock of their own."""

    def __init__(self, process: Process) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.figures = Figures(process.db, GcMetrics(self.registry), clock=lambda: self.now)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"filestore_{name}", labels)


async def test_blocks_queue_and_the_last_run_are_shown(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(12 * KIB, "a"), "a")
    await process.upload(random_bytes(12 * KIB, "b"), "b")
    await delete(process, "a")
    shown = Shown(process)
    collector = collector_of(process, grace_s=3600)

    waiting = await collector.run_once()
    await shown.figures.refresh()
    assert shown.value("blocks", state="condemned") == waiting.condemned > 0
    assert (shown.value("blocks_bytes", state="condemned") or 0) > 11 * KIB
    assert shown.value("gc_queue_blocks") == waiting.condemned
    oldest = shown.value("blocks_oldest_timestamp_seconds", state="condemned")
    assert oldest is not None and waiting.started_at / 1e6 - 1 < oldest <= waiting.ended_at / 1e6
    assert 0 < (shown.value("gc_queue_oldest_timestamp_seconds") or 0) <= oldest
    assert (shown.value("blocks_bytes", state="live") or 0) > 11 * KIB

    freed = await collector.run_once(grace_s=0)
    await shown.figures.refresh()
    assert shown.value("blocks", state="condemned") == 0
    assert shown.value("blocks_oldest_timestamp_seconds", state="condemned") is None
    assert shown.value("gc_last_run_freed_blocks") == freed.blocks > 0
    assert shown.value("gc_last_run_freed_bytes") == freed.bytes
    ended = shown.value("gc_last_run_timestamp_seconds")
    assert ended == pytest.approx(freed.ended_at / 1e6, abs=0.01)
    assert 0 <= (shown.value("gc_last_run_seconds") or 0) < 60
    results = {result: shown.value("gc_last_run_result", result=result) for result in Result}
    assert results == {result: float(result is Result.DONE) for result in Result}


async def test_a_refusal_is_shown_with_its_reason_until_it_is_over(any_site: Site) -> None:
    process = await start(any_site)
    shown = Shown(process)
    change = instance.update()
    await process.change(change.values(epoch=instance.c.epoch - 1))
    await collector_of(process).run_once()
    await shown.figures.refresh()
    assert shown.value("gc_last_run_result", result="refused") == 1
    assert shown.value("gc_last_run_problem", code="database-older") == 1

    await process.change(change.values(epoch=instance.c.epoch + 1))
    await collector_of(process).run_once()
    await shown.figures.refresh()
    assert shown.value("gc_last_run_result", result="refused") == 0
    assert shown.value("gc_last_run_problem", code="database-older") is None


async def test_scrubs_are_summed_and_the_oldest_check_is_shown(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(12 * KIB), "a")
    shown = Shown(process)
    await shown.figures.refresh()
    assert shown.value("scrub_read_blocks") == 0
    checked = shown.value("scrub_oldest_check_timestamp_seconds") or 0
    assert checked > 0

    scrubber = Scrubber(process.db, process.store, process.id, any_site.settings)
    first, second = await scrubber.run_once(), await scrubber.run_once(older_than_s=3600)
    await shown.figures.refresh()
    assert (first.blocks > 0, second.blocks) == (True, 0)
    assert shown.value("scrub_read_blocks") == first.blocks
    assert shown.value("scrub_read_bytes") == first.bytes
    assert shown.value("scrub_last_run_result", result="clean") == 1
    ended = shown.value("scrub_last_run_timestamp_seconds")
    assert ended == pytest.approx(second.ended_at / 1e6, abs=0.01)
    assert (shown.value("scrub_oldest_check_timestamp_seconds") or 0) > checked


async def test_live_blocks_are_counted_seldom(any_site: Site) -> None:
    process = await start(any_site)
    shown = Shown(process)
    await shown.figures.refresh()
    await process.upload(random_bytes(12 * KIB), "a")
    await shown.figures.refresh()
    assert shown.value("blocks", state="live") == 0
    shown.now += LIVE_EVERY_S
    await shown.figures.refresh()
    assert (shown.value("blocks", state="live") or 0) > 0


def test_every_metric_and_every_state_is_in_the_readme_of_the_collector() -> None:
    registry = CollectorRegistry()
    GcMetrics(registry)
    text = (ROOT / "gc" / "README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(filestore_(?:blocks|gc_|scrub_|quota_|journal_)[a-z_]*)", text))
    assert documented == {metric.name for metric in registry.collect()}
    assert all(f"`{state}`" in text for state in BlockState)
