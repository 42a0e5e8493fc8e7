"""Webhooks against a real receiver, on both databases: at least once, in order, within bounds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from prometheus_client import CollectorRegistry
from standardwebhooks.webhooks import Webhook

from filestore.acts import webhooks as acts
from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.metrics import HookMetrics
from filestore.hooks.schedule import ATTEMPTS, pause_s
from filestore.hooks.signing import new_secret
from filestore.hooks.worker import Hooks, Tuning, running_hooks
from filestore.meta import deliveries, events
from filestore.meta.database import Database, Tx, open_database
from filestore.meta.log import emit
from filestore.meta.tables import audit_log, now_us, webhook_deliveries
from filestore.meta.tables import domains as domain_rows
from filestore.meta.tables import events as event_rows
from filestore.meta.tables import groups as group_rows
from filestore.meta.tables import webhooks as hook_rows
from filestore.model import Actor, DeliveryState
from tests.services.receiving import Receiver, after, status
from tests.services.server import Server

LOCAL = AddressPolicy(["127.0.0.0/8"])
LATER_US = 10_000_000
ACTOR = Actor("usr_1", None, None)


class Clock:
    """The database's time, which the test moves."""

    def __init__(self, us: int) -> None:
        self.us = us

    def now(self) -> int:
        return self.us

    def pass_s(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


@dataclass
class Scene:
    """One database, a receiver, and what sends to it."""

    db: Database
    clock: Clock
    receiver: Receiver
    registry: CollectorRegistry

    def hooks(self, db: Database | None = None, **tuning: Any) -> Hooks:
        said: dict[str, Any] = {"policy": LOCAL} | tuning
        return Hooks(
            db or self.db,
            Tuning(**said),
            HookMetrics(CollectorRegistry()),
            now=self.clock.now,
            clock=lambda: self.clock.us / 1e6,
            dice=lambda: 0.0,
        )

    async def add(
        self, path: str = "/hook", kinds: tuple[str, ...] = ("*",), group: str | None = None
    ) -> tuple[str, str]:
        """The id of a new webhook, and its secret."""
        secret = new_secret()
        hook = await acts.create(self.db, ACTOR, group, self.receiver.url(path), secret, kinds)
        return hook.id, secret

    async def happen(self, *kinds: str, group: str | None = None) -> None:
        """One act with these events."""

        async def act(tx: Tx) -> None:
            for number, kind in enumerate(kinds):
                await emit(tx, kind, {"number": number}, group_id=group)

        await self.db.transact(act)

    async def rows(self, table: sa.Table) -> list[Any]:
        async def look(tx: Tx) -> list[Any]:
            return list(await tx.execute(sa.select(table).order_by(table.c.id)))

        return await self.db.read(look)


async def _seed(tx: Tx) -> int:
    await tx.execute(domain_rows.insert().values(id="default"))
    for name in ("one", "two"):
        await tx.execute(
            group_rows.insert().values(
                id=f"grp_{name}",
                name=name,
                name_key=name,
                domain_id="default",
                quota_limit=1,
                trash_retention_s=0,
            )
        )
    return int(await tx.scalar(sa.select(now_us())) or 0)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.begin()
    yield made
    assert made.server is not None
    await made.server.close()


@pytest.fixture
async def scene(any_database: str, receiver: Receiver) -> AsyncIterator[Scene]:
    db = await open_database(any_database)
    began = await db.transact(_seed)
    yield Scene(db, Clock(began + LATER_US), receiver, CollectorRegistry())
    await db.close()


async def test_what_arrives_is_signed_and_names_the_event(scene: Scene) -> None:
    _, secret = await scene.add(kinds=("file.written",), group="grp_one")
    await scene.happen("file.written", "file.expired", group="grp_one")
    await scene.happen("file.written", group="grp_two")

    assert await scene.hooks().send_due() == 1

    (message,) = scene.receiver.messages
    found: Any = Webhook(secret).verify(message.body, dict(message.headers))
    (event, _, _) = await scene.rows(event_rows)
    assert (found["type"], found["group"], found["data"]) == (
        *("file.written", "grp_one"),
        {"number": 0},
    )
    assert message.id == event.public_id
    assert message.headers["Content-Type"] == "application/json"
    (delivery,) = await scene.rows(webhook_deliveries)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("done", 1, 204)


async def test_exactly_what_was_committed_is_told_in_order(scene: Scene) -> None:
    await scene.add()
    await scene.happen("file.written", "folder.created")

    async def broken(tx: Tx) -> None:
        await emit(tx, "file.written", {"number": 7})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await scene.db.transact(broken)
    await scene.happen("gc.ran")
    await scene.hooks().send_due()

    told = [message.json["type"] for message in scene.receiver.messages]
    assert told == ["file.written", "folder.created", "gc.ran"]
    assert await scene.hooks().send_due() == 0, "nothing is told twice"


async def test_the_site_hears_of_all_groups_and_disabled_webhooks_of_nothing(scene: Scene) -> None:
    await scene.add("/site")
    await scene.add("/one", group="grp_one")
    off, _ = await scene.add("/off")
    await acts.alter(scene.db, ACTOR, None, off, acts.Change(is_enabled=False))
    await scene.happen("file.written", group="grp_one")
    await scene.happen("file.written", group="grp_two")
    await scene.happen("user.created")
    await scene.hooks().send_due()
    assert [len(scene.receiver.at(path)) for path in ("/site", "/one", "/off")] == [3, 1, 0]


@pytest.mark.parametrize("failure", ["500", "timeout", "refused"])
async def test_what_failed_is_repeated_under_the_same_id_when_its_pause_is_over(
    scene: Scene, failure: str
) -> None:
    gate = asyncio.Event()
    hook, _ = await scene.add()
    if failure == "refused":
        await scene.db.transact(lambda tx: tx.execute(_change_url("http://127.0.0.1:1/hook")))
    else:
        scene.receiver.answers["/hook"] = status(500) if failure == "500" else after(gate)
    await scene.happen("file.written")
    hooks = scene.hooks(timeout_s=0.3)

    assert await hooks.send_due() == 1
    assert await hooks.send_due() == 0, "not before the pause is over"
    gate.set()
    scene.receiver.answers.clear()
    await scene.db.transact(lambda tx: tx.execute(_change_url(scene.receiver.url())))
    scene.clock.pass_s(pause_s(1, 0.0))
    (before,) = await scene.rows(webhook_deliveries)
    assert await hooks.send_due() == 1

    said = {"500": "answered 500", "timeout": "within 0.3 s", "refused": "ECONNREFUSED"}
    assert said[failure] in before.last_error
    (row,) = await scene.rows(webhook_deliveries)
    assert (row.state, row.attempts, row.last_error) == ("done", 2, None)
    assert len({message.id for message in scene.receiver.messages}) == 1
    (found,) = await scene.rows(hook_rows)
    assert (found.id, found.failing_since) == (hook, None)


def _change_url(url: str) -> sa.Update:
    return hook_rows.update().values(url=url)


async def test_after_the_last_attempt_it_has_failed_and_can_be_sent_by_hand(scene: Scene) -> None:
    hook, _ = await scene.add()
    scene.receiver.answers["/hook"] = status(500)
    await scene.happen("file.written")
    hooks = scene.hooks()
    while (await scene.rows(webhook_deliveries))[0].state == "waiting":
        await hooks.send_due()
        scene.clock.pass_s(pause_s(ATTEMPTS, 0.0))
    assert len(scene.receiver.messages) == ATTEMPTS

    scene.receiver.answers.clear()
    await acts.retry(scene.db, ACTOR, None, hook, scene.receiver.messages[0].id)
    assert await hooks.send_due() == 1
    assert (await scene.rows(webhook_deliveries))[0].state == "done"
    assert len({message.id for message in scene.receiver.messages}) == 1


async def test_410_disables_a_webhook_and_others_are_told(scene: Scene) -> None:
    hook, _ = await scene.add("/gone")
    await scene.add("/other", kinds=("webhook.disabled",))
    scene.receiver.answers["/gone"] = status(410)
    await scene.happen("file.written", "file.written")
    await scene.hooks().send_due()

    assert len(scene.receiver.at("/gone")) == 1
    (told,) = scene.receiver.at("/other")
    assert told.json["data"]["webhook"] == hook
    assert "webhook.disable" in [row.act for row in await scene.rows(audit_log)]


async def test_a_webhook_that_fails_for_days_is_disabled(scene: Scene) -> None:
    hook, _ = await scene.add()
    scene.receiver.answers["/hook"] = status(500)
    await scene.happen("file.written")
    hooks = scene.hooks(disable_after_s=3600)
    await hooks.send_due()
    scene.clock.pass_s(3599)
    await hooks.send_due()
    (row,) = await scene.rows(hook_rows)
    assert row.disabled_at is None and row.failing_since is not None
    scene.clock.pass_s(3600)
    await hooks.send_due()
    (row,) = await scene.rows(hook_rows)
    assert row.disabled_at == scene.clock.us

    await acts.alter(scene.db, ACTOR, None, hook, acts.Change(is_enabled=True))
    scene.receiver.answers.clear()
    scene.clock.pass_s(3600)
    await hooks.send_due()
    assert (await scene.rows(webhook_deliveries))[0].state == "done", "what waited is sent"


async def test_a_wish_for_a_pause_is_respected(scene: Scene) -> None:
    await scene.add()
    scene.receiver.answers["/hook"] = status(429, {"Retry-After": "600"})
    await scene.happen("file.written")
    hooks = scene.hooks()
    await hooks.send_due()
    scene.clock.pass_s(599)
    assert await hooks.send_due() == 0
    scene.clock.pass_s(1)
    assert await hooks.send_due() == 1


async def test_redirects_are_not_followed(scene: Scene) -> None:
    await scene.add("/from")
    scene.receiver.answers["/from"] = status(307, {"Location": scene.receiver.url("/to")})
    await scene.happen("file.written")
    await scene.hooks().send_due()
    assert [message.path for message in scene.receiver.messages] == ["/from"]
    assert "redirects are not followed" in (await scene.rows(webhook_deliveries))[0].last_error


async def test_addresses_that_are_not_allowed_are_never_connected_to(scene: Scene) -> None:
    await scene.add()
    await scene.happen("file.written")
    port = scene.receiver.url().rpartition(":")[2]
    for url in (scene.receiver.url(), f"https://localhost:{port}", f"http://localhost:{port}"):
        await scene.db.transact(partial(_set_url, url=url))
        await scene.hooks(policy=AddressPolicy()).send_due()
        assert scene.receiver.messages == []
        (row,) = await scene.rows(webhook_deliveries)
        assert row.last_error == "its address is not one that webhooks may go to"
        scene.clock.pass_s(86_400)


async def _set_url(tx: Tx, url: str) -> None:
    await tx.execute(_change_url(url))


async def test_a_huge_answer_is_not_read(scene: Scene) -> None:
    sent, ended = 0, asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while sent < 2**30:
                await answer.write(b"x" * 65_536)
                sent += 65_536
        except ConnectionError:
            raise
        finally:
            ended.set()
        return answer

    await scene.add()
    scene.receiver.answers["/hook"] = flood
    await scene.happen("file.written")
    await scene.hooks().send_due()
    async with asyncio.timeout(30):
        await ended.wait()
    assert (await scene.rows(webhook_deliveries))[0].state == "done"
    assert sent < 64 * 2**20, "what sockets hold"


async def test_a_process_that_dies_before_it_records_makes_it_arrive_again(scene: Scene) -> None:
    await scene.add()
    await scene.happen("file.written")
    act = partial(deliveries.claim, now=scene.clock.us, lease_us=30_000_000, healthy_only=False)
    lost = await scene.db.transact(act)
    assert lost is not None
    hooks = scene.hooks()
    assert await hooks.send_due() == 0, "it is under way"
    scene.clock.pass_s(30)
    assert await hooks.send_due() == 1
    assert scene.receiver.messages[0].id == lost.event
    late = deliveries.Outcome(DeliveryState.FAILED, 500, "late", 1)

    async def record_late(tx: Tx) -> bool:
        return await acts.settle(tx, lost, late, now=scene.clock.us, disable_after_us=0)

    assert not await scene.db.transact(record_late), "who was robbed changes nothing"
    assert (await scene.rows(webhook_deliveries))[0].state == "done"


async def test_slow_and_failing_receivers_hold_no_other_up(scene: Scene) -> None:
    gate = asyncio.Event()
    slow = [f"/slow{number}" for number in range(3)]
    for path in slow:
        await scene.add(path)
        scene.receiver.answers[path] = after(gate)
    await scene.add("/quick")
    await scene.happen(*["file.written"] * 20)
    tuning = Tuning(policy=LOCAL, places=4, timeout_s=60)
    async with running_hooks(scene.db, tuning, scene.registry) as hooks:
        hooks.wake()
        await scene.receiver.wait_for(20, "/quick")
        assert all(len(scene.receiver.at(path)) == 1 for path in slow)
        gate.set()
        for path in slow:
            await scene.receiver.wait_for(20, path)
    assert max(scene.receiver.most_at_once.values()) == 1, "one at a time per webhook"


async def test_only_half_of_the_places_are_for_webhooks_that_fail(scene: Scene) -> None:
    for path in ("/a", "/b", "/c", "/d"):
        await scene.add(path)
        scene.receiver.answers[path] = status(500)
    await scene.happen("file.written")
    await scene.hooks().send_due()
    await scene.add("/well")
    gate = asyncio.Event()
    for path in ("/a", "/b", "/c", "/d"):
        scene.receiver.answers[path] = after(gate)
    await scene.happen("file.written", "file.written")
    tuning = Tuning(policy=LOCAL, places=4, timeout_s=60)
    async with running_hooks(scene.db, tuning, scene.registry):
        await scene.receiver.wait_for(2, "/well")
        gate.set()


async def test_the_end_does_not_wait_for_a_receiver(scene: Scene) -> None:
    scene.receiver.answers["/hook"] = after(asyncio.Event())
    await scene.add()
    await scene.happen("file.written")
    tuning = Tuning(policy=LOCAL, timeout_s=60)
    async with asyncio.timeout(20):
        async with running_hooks(scene.db, tuning, scene.registry):
            await scene.receiver.wait_for(1)
    assert (await scene.rows(webhook_deliveries))[0].state == "waiting"


async def test_old_events_are_forgotten_and_awaited_ones_stay(scene: Scene) -> None:
    await scene.happen("file.written")
    await scene.add()
    await scene.happen("file.written", "folder.created")
    hooks = scene.hooks(keep_s=100)
    scene.clock.pass_s(200)
    assert await hooks.tidy() == 1
    await hooks.send_due()
    assert await hooks.tidy() == 2
    assert await scene.rows(event_rows) == await scene.rows(webhook_deliveries) == []


async def test_webhooks_of_a_deleted_group_go_when_it_was_told(scene: Scene) -> None:
    await scene.add(group="grp_one")

    async def delete(tx: Tx) -> None:
        await tx.execute(group_rows.update().values(deleted_at=1))
        await emit(tx, "group.deleted", {}, group_id="grp_one")

    await scene.db.transact(delete)
    hooks = scene.hooks()
    await hooks.tidy()
    assert len(await scene.rows(hook_rows)) == 1
    await hooks.send_due()
    await hooks.tidy()
    assert [message.json["type"] for message in scene.receiver.messages] == ["group.deleted"]
    assert await scene.rows(hook_rows) == []


async def test_a_list_that_is_followed_shows_each_event_once(scene: Scene) -> None:
    await scene.happen("file.written", "folder.created", "file.written", group="grp_one")
    await scene.happen("file.written", group="grp_two")
    await scene.db.transact(lambda tx: tx.execute(event_rows.update().values(at=1)))

    async def page(since: str | None, after: str | None = None) -> list[str]:
        wish = events.Wish("grp_one", ("file.written",), since)
        found = await scene.db.read(partial(events.page, wish=wish, after=after, limit=1))
        return [event.id for event in found]

    first, _, third, _ = [row.public_id for row in await scene.rows(event_rows)]
    assert await page(None) == [third]
    assert await page(None, third) == [first]
    assert await page(first) == [third]
    assert await page(first, third) == []


async def test_what_emits_while_a_webhook_is_removed_is_not_failed_by_it(
    postgres_database: str,
) -> None:
    db = await open_database(postgres_database)
    await db.transact(_seed)
    hook = await acts.create(db, ACTOR, None, "https://a.example/", new_secret(), ["*"])
    removed, may_end = asyncio.Event(), asyncio.Event()

    async def remove(tx: Tx) -> None:
        await tx.execute(sa.delete(hook_rows).where(hook_rows.c.id == hook.id))
        removed.set()
        await may_end.wait()

    async def act(tx: Tx) -> None:
        await emit(tx, "file.written", {})

    removing = asyncio.create_task(db.transact(remove))
    await removed.wait()
    emitting = asyncio.create_task(db.transact(act))
    async with asyncio.timeout(20):
        while not await db.read(_somebody_waits):
            continue
    may_end.set()
    await asyncio.gather(removing, emitting)
    await db.close()


async def _somebody_waits(tx: Tx) -> bool:
    query = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(await tx.scalar(query))


async def test_two_processes_deliver_each_event_once_and_in_order(
    postgres_database: str, receiver: Receiver
) -> None:
    one, two = [await open_database(postgres_database) for _ in range(2)]
    began = await one.transact(_seed)
    scene = Scene(one, Clock(began + LATER_US), receiver, CollectorRegistry())
    for path in ("/a", "/b", "/c"):
        await scene.add(path)
    for _ in range(30):
        await scene.happen("file.written")

    async def work(hooks: Hooks, empty: int = 0) -> None:
        while empty < 3:
            empty = 0 if await hooks.send_due() else empty + 1

    senders = [scene.hooks(db) for db in (one, one, two, two)]
    await asyncio.gather(*(work(hooks) for hooks in senders))

    order = [row.public_id for row in await scene.rows(event_rows)]
    for path in ("/a", "/b", "/c"):
        assert [message.id for message in receiver.at(path)] == order
        assert receiver.most_at_once[path] == 1
    await one.close()
    await two.close()


async def test_a_server_that_is_killed_after_sending_sends_again_with_the_same_id(
    tmp_path: Path, receiver: Receiver
) -> None:
    settings = {"webhooks.allowed_networks": "127.0.0.0/8", "webhooks.timeout_s": 1}
    server = Server(tmp_path / "data", settings=settings)
    await asyncio.to_thread(server.start)
    server.kill()
    db = await open_database(f"sqlite+aiosqlite:///{tmp_path}/data/filestore.sqlite3")
    scene = Scene(db, Clock(0), receiver, CollectorRegistry())
    await scene.add()
    await scene.happen("file.written")
    await db.close()

    server.failpoint = "hook.sent:1"
    await asyncio.to_thread(server.launch)
    await receiver.wait_for(1)
    await asyncio.to_thread(server.wait)
    server.failpoint = ""
    await asyncio.to_thread(server.start)
    first, second = await receiver.wait_for(2)
    server.close()
    assert (first.id, first.body) == (second.id, second.body)
