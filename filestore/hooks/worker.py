"""Sends what waits for webhooks, in each process, a few at a time.

    async with running_hooks(db, tuning, registry) as hooks:
        hooks.wake()

A webhook that fails keeps no other one waiting: only half of the places are for those. At the end
what is under way is broken off; since it may have arrived, it is sent again, under the same id,
when its claim has run out.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from filestore.acts import webhooks as acts
from filestore.errors import FilestoreError
from filestore.failpoints import reached
from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.metrics import HookMetrics
from filestore.hooks.schedule import judge
from filestore.hooks.sending import Sender, sending
from filestore.meta import deliveries, events
from filestore.meta.database import Database
from filestore.meta.deliveries import Claim, Instant, Outcome
from filestore.meta.tables import now_us
from filestore.settings import Settings

POLL_S: Final = 1.0
"""How often a process looks for what others queued, and for what is due again."""
FIGURES_S: Final = 30.0
"""Between two looks at what waits: two scrapes."""
TIDY_S: Final = 600.0
"""Between two times that old events are forgotten."""
BATCH: Final = 1000
"""Events that are forgotten in one transaction: some 10 ms."""
MARGIN_S: Final = 20.0
"""How much longer than sending may take a claim lasts: recording waits for the database."""

_log: Final = structlog.get_logger("filestore.hooks")


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a process sends. ``disable_after_s``: without any success; ``keep_s``: of events."""

    policy: AddressPolicy
    timeout_s: float = 10.0
    places: int = 8
    disable_after_s: float = 5 * 86_400
    keep_s: float = 30 * 86_400
    lease_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> "Tuning":
        said = settings.webhooks
        return cls(
            policy=AddressPolicy(said.allowed_networks),
            timeout_s=said.timeout_s,
            places=said.concurrency,
            disable_after_s=said.disable_after_s,
            keep_s=said.keep_s,
            lease_s=said.timeout_s + MARGIN_S,
        )


class Hooks:
    """What sends in this process. ``now`` and ``clock``: the database's time and the wall's."""

    def __init__(
        self,
        db: Database,
        tuning: Tuning,
        metrics: HookMetrics,
        *,
        now: Callable[[], Instant] = now_us,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.policy = tuning.policy
        self._db = db
        self._tuning = tuning
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._dice = dice
        self._woken = asyncio.Event()
        self._under_way: set[int] = set()
        self._failing = 0

    def __repr__(self) -> str:
        return f"<Hooks, {len(self._under_way)} under way, {self._failing} to failing webhooks>"

    def wake(self) -> None:
        """There is something to send: looks at once."""
        self._woken.set()

    async def run_forever(self) -> None:
        """Sends what is due until it is cancelled."""
        async with (
            sending(self.policy, timeout_s=self._tuning.timeout_s, clock=self._clock) as sender,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                try:
                    await self.take_all(tasks, sender)
                except FilestoreError as err:
                    _log.warning("webhooks.failed", error=str(err))
                except Exception:  # a defect, which is said loudly and tried again
                    _log.exception("webhooks.crashed", again_in_s=POLL_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._woken.wait()
                self._woken.clear()

    async def send_due(self) -> int:
        """Sends all that is due now and returns when it is done; how many attempts it were."""
        count = 0
        async with sending(
            self.policy, timeout_s=self._tuning.timeout_s, clock=self._clock
        ) as sender:
            while (claim := await self._claim()) is not None:
                await self._deliver(claim, sender)
                count += 1
        return count

    async def take_all(self, tasks: asyncio.TaskGroup, sender: Sender) -> None:
        """Begins with all that is due now and has a place."""
        while len(self._under_way) < self._tuning.places:
            claim = await self._claim()
            if claim is None:
                return
            self._begin(claim)
            tasks.create_task(self._deliver_one(claim, sender))

    async def _claim(self) -> Claim | None:
        now = self._now()
        if not await self._db.read(partial(deliveries.has_due, now=now)):
            return None
        act = partial(
            deliveries.claim,
            now=now,
            lease_us=round(self._tuning.lease_s * 1e6),
            healthy_only=self._failing >= max(1, self._tuning.places // 2),
        )
        return await self._db.transact(act)

    def _begin(self, claim: Claim) -> None:
        self._under_way.add(claim.delivery_id)
        self._failing += claim.is_failing

    async def _deliver_one(self, claim: Claim, sender: Sender) -> None:
        try:
            await self._deliver(claim, sender)
        except FilestoreError as err:
            _log.warning("webhook.not_recorded", webhook=claim.webhook_id, error=str(err))
        except Exception:  # a defect, which must not end the work for all others
            _log.exception("webhook.crashed", webhook=claim.webhook_id)
        finally:
            self._under_way.discard(claim.delivery_id)
            self._failing -= claim.is_failing
            self.wake()

    async def _deliver(self, claim: Claim, sender: Sender) -> None:
        answer = await sender.send(claim)
        reached("hook.sent")
        outcome = judge(answer, claim.attempt, self._dice())
        self._metrics.count(outcome)
        act = partial(
            acts.settle,
            claim=claim,
            outcome=outcome,
            now=self._now(),
            disable_after_us=round(self._tuning.disable_after_s * 1e6),
        )
        is_disabled = await self._db.transact(act)
        _tell(claim, outcome, is_disabled)

    async def tidy(self) -> int:
        """Forgets old events, and webhooks of groups that are gone; how many events."""
        before = self._now() - round(self._tuning.keep_s * 1e6)
        total, gone = 0, BATCH
        while gone == BATCH:
            gone = await self._db.transact(partial(events.forget, before=before, limit=BATCH))
            total += gone
        await acts.remove_of_deleted_groups(self._db)
        return total

    async def show_figures(self) -> None:
        self._metrics.show(await self._db.read(deliveries.figures))

    async def keep_house(self) -> None:
        """Figures and forgetting, until it is cancelled."""
        tidied_at = float("-inf")
        while True:
            try:
                await self.show_figures()
                if time.monotonic() - tidied_at >= TIDY_S:
                    await self.tidy()
                    tidied_at = time.monotonic()
            except FilestoreError as err:
                _log.warning("webhooks.not_tidied", error=str(err))
            except Exception:  # a defect, which must not end it for ever
                _log.exception("webhooks.not_tidied")
            await asyncio.sleep(FIGURES_S)


@contextlib.asynccontextmanager
async def running_hooks(
    db: Database, tuning: Tuning, registry: CollectorRegistry
) -> AsyncIterator[Hooks]:
    """Sends while the block runs."""
    hooks = Hooks(db, tuning, HookMetrics(registry))
    tasks = [asyncio.create_task(hooks.run_forever()), asyncio.create_task(hooks.keep_house())]
    try:
        yield hooks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell(claim: Claim, outcome: Outcome, is_disabled: bool) -> None:
    if outcome.error is not None:
        _log.info(
            "webhook.failed",
            webhook=claim.webhook_id,
            event_id=claim.event,
            attempt=claim.attempt,
            status=outcome.status,
            reason=outcome.error,
        )
    if is_disabled:
        _log.warning("webhook.disabled", webhook=claim.webhook_id)
