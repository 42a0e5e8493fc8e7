"""``/api/v1/admin/jobs``: asking for long work, seeing how far it is, and cancelling it."""

import asyncio
from typing import Any

import pytest

from filestore.app import Service
from filestore.meta.tables import groups, instance
from filestore_gc import Collector
from tests.http.api import Api
from tests.http.conftest import GROUP, Cast

JOBS = "/api/v1/admin/jobs"
FILE = f"/api/v1/groups/{GROUP}/files/a"


async def ended(admin: Api, location: str) -> Any:
    """The job when it has ended."""
    async with asyncio.timeout(20):
        while (job := (await admin.get(location)).json)["ended_at"] is None:
            continue
    return job


async def test_a_collection_is_planned_and_done_as_a_job(cast: Cast) -> None:
    await cast.member.put(FILE, data=b"x" * 1000)
    await cast.manager.delete(f"{FILE}?permanent=true")
    reports = []
    for dry_run in (True, False):
        made = await cast.admin.post(JOBS, {"kind": "gc", "dry_run": dry_run, "grace_s": 0})
        assert made.status == 202
        assert made.headers["Location"] == f"{JOBS}/{made.json['id']}"
        assert (made.json["state"], made.json["report"]) == ("queued", None)
        job = await ended(cast.admin, made.headers["Location"])
        assert (job["state"], job["error"]) == ("done", None)
        reports.append(job["report"])
    assert [report["result"] for report in reports] == ["planned", "done"]
    assert {report["blocks"] for report in reports} == {1}
    assert job["parameters"] == {"dry_run": False, "grace_s": 0}
    assert job["progress"]["stage"] in ("waiting", "reaping", "collecting")
    assert job["actor"].startswith("usr_") and job["process"].startswith("prc_")

    listed = (await cast.admin.get(f"{JOBS}?limit=1")).json
    assert [item["id"] for item in listed["items"]] == [job["id"]], "the newest first"
    assert "report" not in listed["items"][0]
    rest = (await cast.admin.get(f"{JOBS}?limit=1&after={listed['next']}")).json
    assert (len(rest["items"]), rest["next"]) == (1, None)


async def test_a_collection_that_is_refused_is_a_failed_job_that_says_why(
    cast: Cast, service: Service
) -> None:
    await service.services.db.transact(
        lambda tx: tx.execute(instance.update().values(epoch=instance.c.epoch - 1))
    )
    made = await cast.admin.post(JOBS, {"kind": "gc"})
    job = await ended(cast.admin, made.headers["Location"])
    assert (job["state"], job["error"]["code"]) == ("failed", "database-older")
    assert "older backup" in job["error"]["detail"]
    assert job["report"]["result"] == "refused"


async def test_a_job_at_work_is_cancelled(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def never(_collector: Collector, **_how: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Collector, "run_once", never)
    monkeypatch.setattr("filestore_gc.jobs.BEAT_S", 0.05)
    location = (await cast.admin.post(JOBS, {"kind": "gc"})).headers["Location"]
    async with asyncio.timeout(10):
        await begun.wait()
    assert (await cast.admin.delete(location)).status == 204
    job = await ended(cast.admin, location)
    assert (job["state"], job["report"]) == ("cancelled", None)
    assert (await cast.admin.delete(location)).status == 204, "as often as one likes"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "kind"),
        ({"kind": 7}, 400, "kind"),
        ({"kind": "gc", "grace_s": -1}, 400, "grace_s"),
        ({"kind": "gc", "grace_s": "0"}, 400, "grace_s"),
        ({"kind": "gc", "grace": 0}, 400, "grace"),
    ],
)
async def test_what_a_kind_does_not_take_is_refused(
    admin: Api, body: dict[str, object], status: int, field: str
) -> None:
    refused = await admin.post(JOBS, body)
    assert (refused.status, refused.json["field"]) == (status, field)
    assert (await admin.get(JOBS)).json["items"] == []


async def test_an_unknown_kind_is_told_the_known_ones(admin: Api) -> None:
    refused = await admin.post(JOBS, {"kind": "polish"})
    assert (refused.status, refused.code) == (422, "unknown-kind")
    assert "gc" in refused.json["kinds"]
    assert "polish" in refused.json["detail"] and "gc" in refused.json["detail"]


async def test_only_site_admins_see_jobs(cast: Cast) -> None:
    location = (await cast.admin.post(JOBS, {"kind": "gc"})).headers["Location"]
    for api in (cast.manager, cast.outsider):
        assert (await api.post(JOBS, {"kind": "gc"})).status == 403
        assert (await api.get(location)).status == 403
        assert (await api.delete(location)).status == 403
    assert (await cast.admin.get(f"{JOBS}/job_nothing")).status == 404


async def test_quotas_are_audited_and_corrected_as_a_job(cast: Cast, service: Service) -> None:
    await cast.member.put(FILE, data=b"x" * 1000)

    async def audited(**wishes: object) -> Any:
        made = await cast.admin.post(JOBS, {"kind": "audit", **wishes})
        return await ended(cast.admin, made.headers["Location"])

    assert (await audited())["report"]["result"] == "clean"
    drift = groups.update().where(groups.c.id == cast.group).values(used=groups.c.used + 5)
    await service.services.db.transact(lambda tx: tx.execute(drift))

    shown = await audited(group=GROUP)
    assert (shown["state"], shown["report"]["is_good"]) == ("done", False)
    assert shown["report"]["difference_bytes"] == 5
    (found,) = shown["report"]["found"]
    assert found["plan"]["rows"][-1]["delta_used"] == -5
    done = await audited(group=cast.group, repair=True, physical=True)
    assert (done["report"]["result"], done["report"]["left_accounts"]) == ("corrected", 0)
    assert done["report"]["physical"]["difference_bytes"] == 0
    assert (await audited(group="nobody"))["error"]["code"] == "not-found"
