"""Webhooks and events over HTTP: registered, tried, looked at, repeated, removed."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook

from filestore.app import Service
from filestore.errors import Json
from filestore.meta.log import emit
from filestore.meta.tables import audit_log, events
from filestore.settings import Settings, load
from tests.http.api import Api
from tests.http.conftest import GROUP, Cast
from tests.services.receiving import Receiver, status

HOOKS = f"/api/v1/groups/{GROUP}/webhooks"
SITE = "/api/v1/admin/webhooks"
EVENTS = f"/api/v1/groups/{GROUP}/events"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return load(
        flags={
            "data": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "database": database_url,
            "server.shutdown_s": 1,
            "gc.interval_s": 86_400,
            "webhooks.allowed_networks": ["127.0.0.0/8"],
        }
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.begin()
    yield made
    assert made.server is not None
    await made.server.close()


async def _add(api: Api, url: str, *kinds: str, base: str = HOOKS) -> dict[str, Any]:
    made = await api.post(base, {"url": url, "kinds": [*kinds]})
    assert made.status == 201, made.body
    found: dict[str, Any] = made.json
    return found


async def _ended(api: Api, one: str, event: str) -> dict[str, Any]:
    """The delivery when an attempt has ended."""
    async with asyncio.timeout(30):
        while True:
            for item in (await api.get(f"{one}/deliveries")).json["items"]:
                if item["event"] == event and item["ms"] is not None:
                    return dict(item)


async def test_an_upload_is_told_to_a_manager_s_receiver(cast: Cast, receiver: Receiver) -> None:
    made = await _add(cast.manager, receiver.url(), "file.written")
    assert made["secret"].startswith("whsec_")
    assert (await cast.member.put(f"/api/v1/groups/{GROUP}/files/a", data=b"x")).status == 201

    (message,) = await receiver.wait_for(1)
    found: Any = Webhook(made["secret"]).verify(message.body, dict(message.headers))
    assert (found["type"], found["group"], found["data"]["path"]) == (
        *("file.written", cast.group),
        "/a",
    )
    item = await _ended(cast.manager, f"{HOOKS}/{made['id']}", message.id)
    assert (item["state"], item["status"], item["attempts"]) == ("done", 204, 1)


async def test_a_secret_is_shown_once_and_stands_in_no_log(
    cast: Cast, receiver: Receiver, service: Service
) -> None:
    made = await _add(cast.manager, receiver.url(), "file.written")
    one = f"{HOOKS}/{made['id']}"
    answers = [await cast.manager.get(path) for path in (HOOKS, one, EVENTS)]
    answers.append(await cast.manager.patch(one, {"kinds": ["*"]}))
    renewed = await cast.manager.patch(one, {"rotate_secret": True})
    assert renewed.json["secret"] not in (None, made["secret"])
    assert answers[-1].json["secret"] is None

    async def logged(tx: Any) -> list[Any]:
        return list(await tx.execute(sa.select(audit_log.c.act, audit_log.c.after)))

    log = await service.services.db.read(logged)
    assert {"webhook.create", "webhook.change"} <= {act for act, _ in log}
    for secret in (made["secret"], renewed.json["secret"]):
        key = secret.removeprefix("whsec_")
        assert not any(key.encode() in answer.body for answer in answers)
        assert key not in repr(log)

    await cast.manager.post(f"{one}/test")
    (message,) = await receiver.wait_for(1)
    for secret in (made["secret"], renewed.json["secret"]):
        Webhook(secret).verify(message.body, dict(message.headers))


async def test_a_test_says_what_the_receiver_answered_and_can_be_repeated(
    cast: Cast, receiver: Receiver
) -> None:
    receiver.answers["/hook"] = status(500)
    made = await _add(cast.manager, receiver.url(), "file.written")
    one = f"{HOOKS}/{made['id']}"
    sent = await cast.manager.post(f"{one}/test")
    assert (sent.status, sent.json["kind"], sent.json["state"]) == (202, "webhook.ping", "waiting")
    item = await _ended(cast.manager, one, sent.json["event"])
    assert (item["state"], item["status"], item["error"]) == ("waiting", 500, "it answered 500")
    assert (await cast.manager.get(one)).json["failing_since"] is not None

    receiver.answers.clear()
    again = await cast.manager.post(f"{one}/deliveries/{item['event']}/retry")
    assert again.status == 202
    await receiver.wait_for(2)
    async with asyncio.timeout(30):
        while (await cast.manager.get(one)).json["failing_since"] is not None:
            continue
    done = (await cast.manager.get(f"{one}/deliveries?state=done")).json["items"]
    assert [row["event"] for row in done] == [item["event"]]


async def test_a_webhook_is_changed_disabled_and_removed(cast: Cast, receiver: Receiver) -> None:
    made = await _add(cast.manager, receiver.url(), "file.written")
    one = f"{HOOKS}/{made['id']}"
    changed = await cast.manager.patch(one, {"enabled": False, "kinds": ["*", "file.written"]})
    assert (changed.json["enabled"], changed.json["kinds"]) == (False, ["*"])
    assert (await cast.manager.post(f"{one}/test")).code == "conflict"
    assert (await cast.manager.delete(one)).status == 204
    assert (await cast.manager.get(one)).status == 404
    assert (await cast.manager.delete(one)).status == 404
    assert (await cast.manager.get(HOOKS)).json["items"] == []


async def test_webhooks_are_their_group_s_or_the_site_s(cast: Cast, receiver: Receiver) -> None:
    of_group = await _add(cast.manager, receiver.url("/group"), "*")
    of_site = await _add(cast.admin, receiver.url("/site"), "*", base=SITE)
    for base, foreign in ((HOOKS, of_site), (SITE, of_group)):
        assert (await cast.admin.get(f"{base}/{foreign['id']}")).status == 404
    other = "/api/v1/groups/other/webhooks"
    assert (await cast.outsider.get(f"{other}/{of_group['id']}")).status == 404
    assert (await cast.outsider.delete(f"{other}/{of_group['id']}")).status == 404
    await cast.outsider.put("/api/v1/groups/other/files/secret", data=b"x")
    await cast.member.put(f"/api/v1/groups/{GROUP}/files/open", data=b"x")
    await receiver.wait_for(2, "/site")
    await receiver.wait_for(1, "/group")
    assert not any(b"secret" in message.body for message in receiver.at("/group"))


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"url": "https://169.254.169.254/", "kinds": ["*"]}, "url"),
        ({"url": "https://u:hunter2@example.org/", "kinds": ["*"]}, "url"),
        ({"url": "gopher://example.org/", "kinds": ["*"]}, "url"),
        ({"url": "https://example.org/", "kinds": []}, "kinds"),
        ({"url": "https://example.org/", "kinds": ["user.created"]}, "kinds"),
        ({"url": "https://example.org/", "kinds": ["nothing"]}, "kinds"),
    ],
)
async def test_wrong_wishes_are_refused_by_name(
    cast: Cast, wish: dict[str, Any], field: str
) -> None:
    refused = await cast.manager.post(HOOKS, wish)
    assert (refused.status, refused.code, refused.json["field"]) == (400, "bad-request", field)
    assert b"hunter2" not in refused.body
    assert (await cast.manager.get(HOOKS)).json["items"] == []


async def test_a_group_has_so_many_webhooks_and_no_more(cast: Cast) -> None:
    for _ in range(20):
        await _add(cast.manager, "https://example.org/", "*")
    refused = await cast.manager.post(HOOKS, {"url": "https://example.org/", "kinds": ["*"]})
    assert (refused.status, refused.code) == (409, "conflict")
    page = (await cast.manager.get(f"{HOOKS}?limit=15")).json
    rest = (await cast.manager.get(f"{HOOKS}?limit=15&after={page['next']}")).json
    assert len({hook["id"] for hook in [*page["items"], *rest["items"]]}) == 20


async def test_viewers_see_what_happened_in_their_group_alone(cast: Cast, service: Service) -> None:
    for name in ("a", "b", "c"):
        await cast.member.put(f"/api/v1/groups/{GROUP}/files/{name}", data=b"x")
    await cast.outsider.put("/api/v1/groups/other/files/secret", data=b"x")

    page = (await cast.viewer.get(f"{EVENTS}?kinds=file.written&limit=2")).json
    assert [item["data"]["path"] for item in page["items"]] == ["/c", "/b"]
    rest = (await cast.viewer.get(f"{EVENTS}?kinds=file.written&after={page['next']}")).json
    assert ([item["data"]["path"] for item in rest["items"]], rest["next"]) == (["/a"], None)

    await service.services.db.transact(lambda tx: tx.execute(events.update().values(at=1)))
    newer = (await cast.viewer.get(f"{EVENTS}?since={rest['items'][0]['id']}")).json
    assert [item["data"]["path"] for item in newer["items"]] == ["/b", "/c"]
    everything = await cast.viewer.get(EVENTS)
    assert b"secret" not in everything.body
    assert {item["group"] for item in everything.json["items"]} == {cast.group}
    whole = await cast.admin.get("/api/v1/admin/events?kinds=file.written,user.created")
    assert {item["kind"] for item in whole.json["items"]} == {"file.written", "user.created"}


async def test_events_of_others_are_no_place_to_begin(cast: Cast) -> None:
    foreign = (await cast.outsider.get("/api/v1/groups/other/events")).json["items"][0]["id"]
    for since in (foreign, "evt_" + "0" * 26, "x"):
        refused = await cast.viewer.get(f"{EVENTS}?since={since}")
        assert (refused.status, refused.json["field"]) == (400, "since")
    assert (await cast.viewer.get(f"{EVENTS}?kinds=nothing")).json["field"] == "kinds"


async def test_warnings_are_what_concerns_the_quota(cast: Cast, service: Service) -> None:
    said: dict[str, Json] = {"percent": 90, "used_bytes": 9, "limit_bytes": 10}
    act = partial(emit, kind="quota.threshold", payload=said, group_id=cast.group)
    await service.services.db.transact(act)
    found = (await cast.viewer.get(f"/api/v1/groups/{GROUP}/warnings")).json["items"]
    assert [(item["kind"], item["data"]) for item in found] == [("quota.threshold", said)]
    kinds = (await cast.viewer.get("/api/v1/event-kinds")).json["items"]
    assert "quota.threshold" in [item["kind"] for item in kinds]


async def test_figures_show_what_waits(cast: Cast, receiver: Receiver, service: Service) -> None:
    await _add(cast.manager, receiver.url(), "file.written")
    await service.services.hooks.show_figures()
    text = (await cast.admin.get("/metrics")).body.decode()
    assert "filestore_webhook_deliveries_waiting 0.0" in text
    assert 'filestore_webhooks{state="well"} 1.0' in text
    assert 'filestore_webhook_attempts_total{result="done"} 0.0' in text
