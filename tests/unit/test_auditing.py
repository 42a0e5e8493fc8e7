"""The audit as a whole: all accounts, by itself, figures, words, and the store's own list."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from filestore.errors import NotFound
from filestore.meta import leases
from filestore.meta.tables import groups
from filestore.model import KIB, SYSTEM, BlockState
from filestore_gc.audit_report import AuditResult
from filestore_gc.audit_wording import audit_lines
from filestore_gc.auditing import AUDIT, Auditor
from filestore_gc.metrics import Figures, GcMetrics
from tests.services.collecting import delete, start
from tests.services.damage import audited, blocks_of, content_of, delete_object
from tests.services.hot_path import ACTOR, GROUP, Process, Site, add_group, random_bytes


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


def auditor_of(process: Process, site: Site, naps: Naps | None = None) -> Auditor:
    return Auditor(process.db, process.store, process.id, site.settings, sleep=naps or Naps())


async def drift(process: Process, size: int = 7) -> None:
    change = sa.update(groups).where(groups.c.id == GROUP)
    await process.change(change.values(used=groups.c.used + size))


async def test_all_accounts_are_looked_at_and_the_verdict_is_said(any_site: Site) -> None:
    process = await start(any_site)
    await process.transact(add_group, "grp_more")
    await process.upload(random_bytes(20 * KIB), "a")

    report = await auditor_of(process, any_site).run_once(actor=ACTOR)

    assert (report.result, report.is_good, report.accounts) == (AuditResult.CLEAN, True, 2)
    lines = list(audit_lines(report.to_json()))
    assert lines[1].startswith("verified at 20") and lines[1].endswith(", difference 0 B")
    assert len(await audited(process, "quota.audit")) == 1, "somebody asked for it"


async def test_drift_is_told_with_its_cause_planned_and_corrected(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(20 * KIB), "a")
    auditor = auditor_of(process, any_site)
    await drift(process)

    shown = await auditor.run_once(group=GROUP)
    assert (shown.result, shown.drift.used, shown.left) == (AuditResult.DRIFT, 7, 1)
    text = "\n".join(audit_lines(shown.to_json()))
    assert "difference 7 B in 1 accounts (1 counter)" in text
    assert "would be corrected: used 20487 -> 20480" in text
    assert "without the journal" in text and "entry used -7" in text

    done = await auditor.run_once(repair=True, actor=ACTOR)
    assert (done.result, done.is_good, done.left) == (AuditResult.CORRECTED, True, 0)
    assert "all of it corrected" in "\n".join(audit_lines(done.to_json()))
    assert (await auditor.run_once()).result is AuditResult.CLEAN
    await process.check_books()


async def test_a_group_that_is_not_there_is_refused(any_site: Site) -> None:
    process = await start(any_site)
    for ref in ("nobody", "grp_nobody"):
        with pytest.raises(NotFound):
            await auditor_of(process, any_site).run_once(group=ref)


async def test_by_itself_it_runs_when_due_rests_and_corrects_nothing(any_site: Site) -> None:
    process, naps = await start(any_site), Naps()
    auditor = auditor_of(process, any_site, naps)
    await drift(process)

    with capture_logs() as logs:
        report = await auditor.run_if_due()

    assert report is not None and (report.result, report.left) == (AuditResult.DRIFT, 1)
    assert len(naps.taken) == report.accounts and min(naps.taken) > 0
    assert [(log["log_level"], log["event"]) for log in logs] == [("error", "quota.drift")]
    assert await auditor.run_if_due() is None, "a day has not passed"
    last = await process.db.read(lambda tx: leases.last_turn(tx, AUDIT))
    assert last is not None and last.result == "drift"
    assert "found" not in json.loads(last.report or ""), "names stay with the job"
    (log,) = await audited(process, "quota.audit")
    assert json.loads(log.after)["drift"]["used"] == 7


async def test_the_figures_of_the_last_audit_are_shown(any_site: Site) -> None:
    process = await start(any_site)
    registry = CollectorRegistry()
    figures = Figures(process.db, GcMetrics(registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"filestore_quota_{name}", labels)

    await figures.refresh()
    assert value("audit_last_run_timestamp_seconds") == 0
    await drift(process)
    report = await auditor_of(process, any_site).run_once(actor=SYSTEM)
    await figures.refresh()

    ended = value("audit_last_run_timestamp_seconds")
    assert ended == pytest.approx(report.ended_at / 1e6, abs=0.01)
    assert value("audit_last_run_result", result="drift") == 1
    assert value("audit_last_run_result", result="clean") == 0
    assert (value("drift_bytes", figure="used"), value("drift_bytes", figure="reserved")) == (7, 0)
    assert (value("drift_accounts"), value("audit_last_run_accounts")) == (1, 1)


async def physical(process: Process, site: Site) -> Any:
    report = await auditor_of(process, site).run_once(physical=True)
    assert report.physical is not None
    return report.physical


async def test_what_the_store_lists_is_what_the_block_table_says(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(20 * KIB, "a"), "a")
    await process.upload(random_bytes(20 * KIB, "b"), "b")
    await delete(process, "b")

    found = await physical(process, any_site)

    assert (found.difference, found.findings, found.unnamed) == (0, (), (0, 0))
    live = found.states[BlockState.LIVE]
    assert (live.bytes, live.stored_bytes) == (40 * KIB, live.object_bytes)
    assert found.domains == {"default": (live.blocks, live.stored_bytes)}


async def test_an_object_that_is_gone_is_a_physical_difference(any_site: Site) -> None:
    process = await start(any_site)
    await process.upload(random_bytes(20 * KIB, "a"), "a")
    block = (await blocks_of(process, await content_of(process, "a")))[0]
    await delete_object(process, block)

    report = await auditor_of(process, any_site).run_once(physical=True, repair=True)

    assert report.physical is not None
    (finding,) = report.physical.findings
    assert (finding.kind, report.result) == ("row-without-object", AuditResult.DRIFT)
    assert report.physical.difference == block.stored_size
    assert "difference" in "\n".join(audit_lines(report.to_json()))
