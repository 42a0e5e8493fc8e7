"""Whether the service lives and can work, and its figures."""

import pytest
from sqlalchemy import Update

from filestore.app import Service
from filestore.errors import DatabaseUnavailable, StoreFull, StoreUnavailable
from filestore.http.application import all_routes
from filestore.http.routing import Access
from filestore.meta.tables import instance
from filestore.settings import Server, Settings
from tests.http.api import Api


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


def test_metrics_are_open_where_the_settings_say_so() -> None:
    closed = {route.path: route.access for route in all_routes(Settings())}
    public = Settings(server=Server(metrics="public"))
    opened = {route.path: route.access for route in all_routes(public)}
    assert closed["/metrics"] is Access.ADMIN
    assert opened == {**closed, "/metrics": Access.PUBLIC}
