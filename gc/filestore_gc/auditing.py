"""The audit of quotas as the service and its jobs see it: run once, and run by itself.

    async with running_auditor(settings, db, store, process_id) as auditor:
        report = await auditor.run_once(repair=True)

By itself it runs once in ``audit.interval_s``, one at a time over all processes, and never
corrects anything: a difference is a defect or a hand in the database, and is for people to see.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from filestore.errors import FilestoreError, Json, NotFound, StoreError
from filestore.meta import audit_sums, gc_figures
from filestore.meta.database import Database
from filestore.meta.groups import find_group
from filestore.meta.log import audit
from filestore.meta.turns import in_background
from filestore.model import SYSTEM, Actor
from filestore.quota.auditing import Audited, audit_account
from filestore.settings import Settings
from filestore_gc.audit_physical import audit_physical
from filestore_gc.audit_report import AuditReport
from filestore_gc.fsck_objects import ObjectStore
from filestore_gc.lease import Lease, TakenOver, Turn
from filestore_gc.progress import Progress, quiet
from filestore_gc.report import Problem
from filestore_gc.stopping import end

AUDIT: Final = "audit"
"""The name of the lease."""
PAGE: Final = 100
"""Accounts whose ids are read at once."""
REST: Final = 3
"""How many times as long as an account took it rests behind it, when nobody waits for it."""
LOOK_S: Final = 600.0
"""Between two looks whether an audit is due, at most."""

_log: Final = structlog.get_logger("filestore.audit")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be audited. ``account``: one of them; None: all."""

    account: str | None = None
    repair: bool = False
    physical: bool = False


class Auditor:
    """Audits one database, and on request its store; any number of them may exist."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        process_id: str,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._store = store
        self._interval_s = settings.audit.interval_s
        self._lease = Lease(db, process_id, name=AUDIT)
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<Auditor, {self._lease!r}>"

    async def run_once(
        self,
        *,
        group: str | None = None,
        repair: bool = False,
        physical: bool = False,
        actor: Actor = SYSTEM,
        progress: Progress = quiet,
    ) -> AuditReport:
        """An audit that somebody asks for: of all accounts, in the place of the one that runs by
        itself, or of one ``group``, by its name or id.

        :raises NotFound: there is no such group.
        :raises DatabaseUnavailable: what is corrected is corrected. Safe to repeat.
        """
        if group is not None:
            wish = Wish(await self._account(group), repair, physical)
            return await self._run(wish, actor, progress)
        async with self._lease.at_once() as turn:
            report = await self._run(Wish(None, repair, physical), actor, progress)
            _settle(turn, report)
        return report

    async def run_if_due(self) -> AuditReport | None:
        """An audit of all accounts at an easy pace; None when it is not due, or is under way, or
        another process took over.

        :raises DatabaseUnavailable: safe to repeat.
        """
        async with self._lease.if_due(self._interval_s) as turn:
            if turn is None:
                return None
            try:
                report = await self._run(Wish(), SYSTEM, quiet, turn)
            except TakenOver:
                return None
            _settle(turn, report)
        return report

    async def run_forever(self) -> None:
        """Runs by itself, again and again; an error waits for the next time."""
        pause = min(LOOK_S, self._interval_s / 10)
        await self._sleep(random.uniform(0, pause))
        while True:
            try:
                await self.run_if_due()
            except FilestoreError as err:
                _log.warning("audit.failed", error=str(err))
            except Exception:
                _log.exception("audit.crashed")  # a defect, which must not end it for ever
            await self._sleep(pause)

    @in_background
    async def _run(
        self, wish: Wish, actor: Actor, progress: Progress, turn: Turn | None = None
    ) -> AuditReport:
        report = AuditReport(wish.repair, await self._db.read(gc_figures.clock))
        async for account in self._accounts(wish.account):
            began = self._clock()
            audited = await audit_account(self._db, account, repair=wish.repair, actor=actor)
            if audited is not None:
                report.add(audited)
                _warn(audited)
            progress({"accounts": report.accounts, "drifted": report.drifted})
            if turn is not None:
                await turn.keep()
                await self._sleep(REST * (self._clock() - began))
        if wish.physical:
            await self._look_at_store(report, progress)
        report.ended_at = await self._db.read(gc_figures.clock)
        if report.drifted or actor != SYSTEM:
            await self._db.transact(
                partial(audit, actor=actor, act="quota.audit", after=_said(report))
            )
        return report

    async def _look_at_store(self, report: AuditReport, progress: Progress) -> None:
        def tell(objects: int) -> None:
            progress({"accounts": report.accounts, "objects": objects})

        try:
            report.physical = await audit_physical(self._db, self._store, on_page=tell)
        except StoreError as err:
            report.problem = Problem(err.code, str(err))
            return
        for finding in report.physical.findings:
            _log.error("audit.physical", what=finding.kind.value, subject=finding.subject)

    async def _accounts(self, one: str | None) -> AsyncIterator[str]:
        if one is not None:
            yield one
            return
        after = ""
        while ids := await self._db.read(partial(audit_sums.account_page, after=after, limit=PAGE)):
            for account in ids:
                yield account
            after = ids[-1]

    async def _account(self, ref: str) -> str:
        """The id of an account by a group's name or id; also that of a deleted group or a pool."""
        group = await self._db.read(partial(find_group, ref=ref))
        if group is not None:
            return group.id
        if await self._db.read(partial(audit_sums.is_account, account_id=ref)):
            return ref
        raise NotFound(what="group")


@contextlib.asynccontextmanager
async def running_auditor(
    settings: Settings, db: Database, store: ObjectStore, process_id: str
) -> AsyncIterator[Auditor]:
    """An auditor that also runs by itself while the block runs, unless the settings say no."""
    auditor = Auditor(db, store, process_id, settings)
    if not settings.audit.interval_s:
        yield auditor
        return
    background = asyncio.create_task(auditor.run_forever())
    try:
        yield auditor
    finally:
        await end(background)


def _warn(audited: Audited) -> None:
    """Says in the log what differs. An alarm may be set on it."""
    if not audited.differences:
        return
    drift = audited.drift
    _log.error(
        "quota.drift",
        group=audited.account.name,
        account=audited.account.id,
        used_bytes=drift.used,
        reserved_bytes=drift.reserved,
        files=drift.files + drift.reserved_files,
        corrected=audited.is_corrected and not audited.left,
        causes=[each.cause for each in audited.differences[:3]],
    )


def _settle(turn: Turn, report: AuditReport) -> None:
    turn.result = report.result.value
    turn.report = _said(report)


def _said(report: AuditReport) -> Json:
    """What is kept of an audit: its figures without the names."""
    told = report.to_json()
    return {
        name: value for name, value in told.items() if name not in ("found", "notes", "physical")
    }
