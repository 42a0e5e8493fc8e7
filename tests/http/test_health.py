"""Whether the service lives and can work, and its figures."""

import asyncio
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Update

from filestore.app import Service
from filestore.errors import DatabaseUnavailable, StoreFull, StoreUnavailable
from filestore.http.application import all_routes
from filestore.http.health import FIGURES_S, KEEP_S, READINESS, Readiness, WholeService
from filestore.http.routing import Access
from filestore.meta.tables import instance
from filestore.settings import Server, Settings
from filestore.telemetry import Metrics
from tests.http.api import Api
from tests.http.conftest import GROUP, Cast


class BrokenStore:
    """A store that answers what it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def check(self) -> None:
        raise self.error


async def test_a_healthy_service_says_so_without_a_token(api: Api) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await api.get(path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (StoreUnavailable(reason="secret host name"), "store-unavailable"),
        (StoreFull(), "store-full"),
    ],
)
async def test_a_store_that_cannot_be_used_makes_the_service_not_ready_but_alive(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    store = service.services.store
    assert store is not None
    monkeypatch.setattr(type(store), "check", BrokenStore(error).check)
    refused = await api.get("/readyz")
    assert (refused.status, refused.code) == (503, "not-ready")
    assert refused.json["reasons"] == {"store": why}
    assert refused.headers["Retry-After"] == "5"
    assert "secret" not in refused.body.decode()
    assert (await api.get("/healthz")).status == 200


async def test_a_collection_that_refuses_is_a_detail_and_keeps_nobody_from_being_served(
    api: Api, service: Service
) -> None:
    def move(by: int) -> Update:
        return instance.update().values(epoch=instance.c.epoch + by)

    for by in (-1, 1):
        await service.services.db.transact(lambda tx, by=by: tx.execute(move(by)))  # type: ignore[misc]
        await service.services.collector.run_once()
        answer = await api.get("/readyz")
        assert (answer.status, answer.json["status"]) == (200, "ok")
        if by < 0:
            assert answer.json["collection"]["code"] == "database-older"
            assert "older backup" in answer.json["collection"]["reason"]
    assert answer.json == {"status": "ok"}


class CountingStore:
    """A store that counts who asks, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def check(self) -> None:
        self.asked += 1
        self.is_asked.set()
        await self.may_answer.wait()


async def test_many_who_ask_at_once_are_one_check_and_its_answer_holds_for_a_second(
    service: Service,
) -> None:
    store, now = CountingStore(), [0.0]
    readiness = Readiness(replace(service.services, store=store), clock=lambda: now[0])
    crowd = [asyncio.create_task(readiness.failing()) for _ in range(20)]
    await store.is_asked.wait()
    store.may_answer.set()
    assert await asyncio.gather(*crowd) == [{}] * 20
    now[0] += KEEP_S / 2
    assert await readiness.failing() == {}
    assert store.asked == 1
    now[0] += KEEP_S
    assert await readiness.failing() == {}
    assert store.asked == 2


async def test_readyz_asks_through_what_is_shared(api: Api, service: Service) -> None:
    service.web[READINESS]._holds_until = float("inf")
    service.web[READINESS]._failing = {"store": "store-full"}
    assert (await api.get("/readyz")).json["reasons"] == {"store": "store-full"}


async def test_a_database_that_is_gone_makes_the_service_not_ready(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(_look: object) -> None:
        raise DatabaseUnavailable(retry_after_s=5)

    monkeypatch.setattr(service.services.db, "read", read)
    refused = await api.get("/readyz")
    assert (refused.status, refused.json["reasons"]) == (503, {"database": "database-unavailable"})
    assert (await api.get("/healthz")).status == 200
    answer = await api.by(None).get("/api/v1/groups")
    assert answer.status == 401


async def test_metrics_count_requests_by_route_and_never_by_address(api: Api, admin: Api) -> None:
    assert (await api.get("/metrics")).status == 401
    await admin.get("/api/v1/groups/some-group")
    await admin.get("/some/address")
    text = (await admin.get("/metrics")).body.decode()
    counted = 'filestore_requests_total{method="GET",route="/api/v1/groups/{g}",status="404"} 1.0'
    assert counted in text
    assert 'route="none",status="404"' in text
    assert "some-group" not in text
    assert "/some/address" not in text


def _figure(text: bytes, name: str) -> float:
    line = next(line for line in text.decode().splitlines() if line.startswith(f"{name} "))
    return float(line.split()[-1])


async def test_metrics_show_quotas_uploads_memory_and_connections(cast: Cast) -> None:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
    assert (await cast.member.post(f"/api/v1/groups/{GROUP}/uploads", headers=tus)).status == 201
    made = await cast.member.put(f"/api/v1/groups/{GROUP}/files/a", data=b"x" * 77)
    assert made.status == 201
    text = (await cast.admin.get("/metrics")).body
    assert _figure(text, 'filestore_quota_bytes{kind="used"}') == 77
    assert _figure(text, 'filestore_quota_bytes{kind="reserved"}') == 1000
    assert _figure(text, 'filestore_quota_bytes{kind="limit"}') > 10 * 2**20
    assert _figure(text, "filestore_groups") == 2
    assert _figure(text, "filestore_uploads_open") == 1
    assert _figure(text, "filestore_uploads_open_bytes") == 0
    for part in ("uploads", "downloads"):
        assert _figure(text, f'filestore_memory_limit_bytes{{part="{part}"}}') > 2**20
        assert _figure(text, f'filestore_memory_bytes{{part="{part}"}}') >= 0
    assert _figure(text, "filestore_connections") >= 1


async def test_sums_over_the_database_are_read_again_only_after_a_while(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(_look: object) -> None:
        raise DatabaseUnavailable

    now = [0.0]
    whole = WholeService(service.services, clock=lambda: now[0])
    await whole.show()
    monkeypatch.setattr(service.services.db, "read", read)
    await whole.show()
    registry = service.services.metrics.registry
    assert registry.get_sample_value("filestore_groups") == 0
    now[0] += FIGURES_S
    await whole.show()
    assert math.isnan(registry.get_sample_value("filestore_groups") or 0)


def test_every_figure_is_explained_to_operators() -> None:
    declared = {family.name for family in Metrics().registry.collect()}
    own = {name for name in declared if name.startswith("filestore_")}
    text = (Path(__file__).parents[2] / "config/README.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(filestore_\w+)`", text, re.MULTILINE))
    assert {name.removesuffix("_total") for name in explained} == own


def test_metrics_are_open_where_the_settings_say_so() -> None:
    closed = {route.path: route.access for route in all_routes(Settings())}
    public = Settings(server=Server(metrics="public"))
    opened = {route.path: route.access for route in all_routes(public)}
    assert closed["/metrics"] is Access.ADMIN
    assert opened == {**closed, "/metrics": Access.PUBLIC}
