"""Balance sheets over HTTP: of groups, which learn nothing of each other, and of the site."""

import asyncio
from typing import Any

import pytest

from tests.http.api import Api
from tests.http.conftest import GROUP, Cast

ROOT = f"/api/v1/groups/{GROUP}"
SHEET = f"{ROOT}/quota/sheet"
SITE = "/api/v1/admin/sheet"
POOL = "/api/v1/admin/pool"
QUOTAS = "/api/v1/admin/quotas"
SIZE = 3000
LIMIT = 10 * 2**20


async def put(api: Api, path: str, data: bytes, group: str = GROUP) -> None:
    answer = await api.put(f"/api/v1/groups/{group}/files/{path}", data=data)
    assert answer.status in (200, 201, 204), answer.body


async def begin(api: Api, length: int) -> str:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": f"{length}"}
    made = await api.post(f"{ROOT}/uploads", headers=headers)
    assert made.status == 201, made.body
    return made.headers["Location"].rpartition("/")[2]


async def items(api: Api, line: str, limit: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await api.get(f"{SHEET}/{line}?limit={limit}{after}")
        assert page.status == 200, page.body
        found += page.json["items"]
        if page.json["next"] is None:
            return found
        after = f"&after={page.json['next']}"


async def test_every_line_opens_what_is_behind_it(cast: Cast) -> None:
    for data in (b"a", b"b", b"c"):
        await put(cast.member, "f/a", data * SIZE)
    await put(cast.member, "f/b", b"c" * SIZE)
    await put(cast.member, "gone", b"d" * SIZE)
    assert (await cast.member.delete(f"{ROOT}/files/gone")).status == 204
    upload = await begin(cast.member, 5 * SIZE)

    sheet = (await cast.viewer.get(SHEET)).json
    lines = {line["line"]: line for line in sheet["lines"]}
    assert {name: line["bytes"] for name, line in lines.items()} == {
        "live": 2 * SIZE,
        "versions": 2 * SIZE,
        "trash": SIZE,
        "reserved": 5 * SIZE,
        "temporary": 0,
        "temporary-reserved": 0,
    }
    assert sheet["name"] == GROUP
    quota = sheet["quota"]
    assert quota == (await cast.viewer.get(f"{ROOT}/quota")).json
    assert (quota["used_bytes"], quota["reserved_bytes"]) == (5 * SIZE, 5 * SIZE)
    assert (quota["unique_bytes"], quota["shared_bytes"], quota["files"]) == (4 * SIZE, SIZE, 3)
    for name, line in lines.items():
        found = await items(cast.viewer, name)
        assert sum(item["bytes"] for item in found) == line["bytes"]
        assert (await cast.viewer.get(f"{line['items']}?limit=100")).json["items"] == found
    (first, second) = await items(cast.viewer, "live")
    assert (first["path"], first["version"], second["path"]) == ("/f/a", 3, "/f/b")
    assert (first["author"], first["upload"]) == ("member-maths", None)
    assert [item["version"] for item in await items(cast.viewer, "versions")] == [1, 2]
    assert [item["path"] for item in await items(cast.viewer, "trash")] == ["/gone"]
    (running,) = await items(cast.viewer, "reserved")
    assert (running["upload"]["id"], running["upload"]["length"]) == (upload, 5 * SIZE)
    assert running["upload"]["offset"] == 0 and running["upload"]["expires_at"].endswith("Z")


async def test_lines_are_for_members_and_cursors_for_their_own_line(cast: Cast) -> None:
    await put(cast.member, "a", b"a")
    await put(cast.member, "b", b"b")
    assert (await cast.outsider.get(SHEET)).status == 404
    assert (await cast.outsider.get(f"{SHEET}/live")).status == 404
    assert (await cast.viewer.get(f"{SHEET}/nothing")).json["what"] == "line of the sheet"
    after = (await cast.viewer.get(f"{SHEET}/live?limit=1")).json["next"]
    for line in ("reserved", "trash", "temporary"):
        assert (await cast.viewer.get(f"{SHEET}/{line}?after={after}")).status == 400
    for days in ("6", "367", "x"):
        assert (await cast.viewer.get(f"{SHEET}?days={days}")).status == 400


async def test_the_site_shows_what_groups_share_and_no_group_does(cast: Cast) -> None:
    await put(cast.member, "a", b"a" * SIZE)
    await put(cast.member, "b", b"a" * SIZE)
    await put(cast.outsider, "a", b"a" * SIZE, group="other")
    alone = (await cast.viewer.get(f"{ROOT}/quota")).json
    assert (alone["unique_bytes"], alone["shared_bytes"]) == (SIZE, SIZE)

    site = (await cast.admin.get(SITE)).json
    assert (site["groups"], site["files"], site["used_bytes"]) == (2, 3, 3 * SIZE)
    assert (site["live_bytes"], site["trash_bytes"], site["versions_bytes"]) == (3 * SIZE, 0, 0)
    assert (site["unique_in_groups_bytes"], site["unique_bytes"]) == (2 * SIZE, SIZE)
    assert (site["shared_in_groups_bytes"], site["shared_between_groups_bytes"]) == (SIZE, SIZE)
    assert site["plain_bytes"] == SIZE > site["stored_bytes"] > 0
    assert site["compression_ratio"] > 1
    assert [one["state"] for one in site["blocks"]] == ["live"]
    assert (await cast.manager.get(SITE)).status == 403


async def _limits(admin: Api, quota_bytes: int) -> None:
    for group in (GROUP, "other"):
        answer = await admin.patch(f"/api/v1/groups/{group}", {"quota_bytes": quota_bytes})
        assert answer.status == 200, answer.body


async def test_limits_are_not_raised_beyond_what_the_site_may_promise(cast: Cast) -> None:
    await _limits(cast.admin, 100)
    set_ = await cast.admin.put(POOL, {"pool_bytes": 200, "overcommit_percent": 150})
    assert set_.json == {
        "pool_bytes": 200,
        "overcommit_percent": 150,
        "limit_bytes": 200,
        "allowed_bytes": 300,
        "overcommit_ratio": 1.0,
    }
    assert (await cast.admin.patch(ROOT, {"quota_bytes": 200})).status == 200
    refused = [
        await cast.admin.patch(ROOT, {"quota_bytes": 201}),
        await cast.admin.post("/api/v1/groups", {"name": "third", "quota_bytes": 1}),
        await cast.admin.put(QUOTAS, {"rows": [{"group": "other", "quota_bytes": 101}]}),
    ]
    for answer in refused:
        assert (answer.status, answer.code) == (409, "over-committed")
        members = {name: answer.json[name] for name in ("after", "allowed", "free", "pool")}
        assert members == {"after": 301, "allowed": 300, "free": 0, "pool": 200}
    assert (await cast.admin.get("/api/v1/groups/third")).status == 404
    assert (await cast.admin.get(ROOT)).json["quota_bytes"] == 200

    assert (await cast.admin.put(POOL, {"pool_bytes": 10, "overcommit_percent": 100})).status == 200
    assert (await cast.admin.patch(ROOT, {"quota_bytes": 150})).status == 200, "it may shrink"
    assert (await cast.admin.patch(ROOT, {"quota_bytes": 151})).status == 409
    swap = [{"group": "other", "quota_bytes": 150}, {"group": GROUP, "quota_bytes": 100}]
    assert (await cast.admin.put(QUOTAS, {"rows": swap})).status == 200
    assert (await cast.admin.put(POOL, {"pool_bytes": None})).json["allowed_bytes"] is None
    assert (await cast.admin.patch(ROOT, {"quota_bytes": 2**62})).status == 200
    assert (
        await cast.admin.patch("/api/v1/groups/other", {"quota_bytes": 2**63 - 1})
    ).status == 200
    assert (await cast.admin.get(POOL)).json["limit_bytes"] == 2**62 + 2**63 - 1
    assert (await cast.manager.get(POOL)).status == 403


async def test_two_who_raise_at_once_do_not_promise_more_than_allowed(cast: Cast) -> None:
    await _limits(cast.admin, 100)
    await cast.admin.put(POOL, {"pool_bytes": 300, "overcommit_percent": 100})
    for _ in range(5):
        answers = await asyncio.gather(
            cast.admin.patch(ROOT, {"quota_bytes": 200}),
            cast.admin.patch("/api/v1/groups/other", {"quota_bytes": 200}),
            cast.admin.post("/api/v1/groups", {"name": "third", "quota_bytes": 100}),
        )
        statuses = sorted(answer.status for answer in answers)
        assert statuses in ([200, 409, 409], [201, 409, 409]), statuses
        assert (await cast.admin.get(POOL)).json["limit_bytes"] == 300
        await _limits(cast.admin, 100)
        await cast.admin.delete("/api/v1/groups/third")


@pytest.mark.parametrize("asked", [True, False])
async def test_quotas_of_many_groups_are_set_all_or_none(cast: Cast, asked: bool) -> None:
    await put(cast.member, "a", b"a" * SIZE)
    rows = [
        {"group": GROUP, "quota_bytes": SIZE - 1, "soft_limit": 10, "files_limit": 5, "line": 2},
        {"group": "other", "quota_bytes": 2**40, "line": 3},
    ]
    done = await cast.admin.put(QUOTAS, {"rows": rows, "dry_run": asked})
    assert (done.json["dry_run"], done.json["changed"]) == (asked, 2)
    first = done.json["rows"][0]
    assert first["before"] == {"quota_bytes": LIMIT, "soft_limit": None, "files_limit": None}
    assert first["after"] == {"quota_bytes": SIZE - 1, "soft_limit": 10, "files_limit": 5}
    assert (first["line"], first["used_bytes"], first["below_use"]) == (2, SIZE, True)
    assert done.json["rows"][1]["below_use"] is False
    now = (await cast.admin.get(ROOT)).json
    assert now["quota_bytes"] == (LIMIT if asked else SIZE - 1)
    assert now["soft_limit"] == (None if asked else 10)
    log = (await cast.admin.get("/api/v1/admin/audit-log?act=group.change")).json["items"]
    assert len(log) == (0 if asked else 2)

    wrong = [*rows, {"group": "nobody", "quota_bytes": 1, "line": 4}, {**rows[0], "line": 5}]
    refused = await cast.admin.put(QUOTAS, {"rows": wrong, "dry_run": asked})
    assert (refused.status, refused.code) == (400, "bad-request")
    assert [one["line"] for one in refused.json["errors"]] == [4, 5]
    assert "line 4, group: there is no group 'nobody'" in refused.json["detail"]
    assert "stands in line 2 already" in refused.json["errors"][1]["reason"]
    for bad in ([], [{"group": "a"}], [{"group": "a", "quota_bytes": -1}], [{"quota_bytes": 1}]):
        assert (await cast.admin.put(QUOTAS, {"rows": bad})).status == 400
    assert (await cast.manager.put(QUOTAS, {"rows": rows})).status == 403


async def test_limits_of_all_groups_are_listed_and_set_as_they_are(cast: Cast) -> None:
    first = (await cast.admin.get(f"{QUOTAS}?limit=1")).json
    rest = (await cast.admin.get(f"{QUOTAS}?limit=1&after={first['next']}")).json
    listed = [*first["items"], *rest["items"]]
    assert [item["group"] for item in listed] == [GROUP, "other"] and rest["next"] is None
    rows = [{name: item[name] for name in item if name != "id"} for item in listed]
    assert (await cast.admin.put(QUOTAS, {"rows": rows})).json["changed"] == 0


async def test_soft_limit_files_and_overflow_are_kept_and_taken_away_by_admins(cast: Cast) -> None:
    limits = {"soft_limit": 100, "files_limit": 7, "overflows": True}
    assert (await cast.admin.patch(ROOT, limits)).status == 200
    now = (await cast.viewer.get(ROOT)).json
    assert {name: now[name] for name in limits} == limits
    quota = (await cast.viewer.get(f"{ROOT}/quota")).json
    assert (quota["soft_limit_bytes"], quota["files_limit"], quota["overflows"]) == (100, 7, True)
    for field in limits:
        assert (await cast.manager.patch(ROOT, {field: limits[field]})).status == 403
    await cast.admin.patch(ROOT, {"name": GROUP})
    assert (await cast.viewer.get(ROOT)).json["soft_limit"] == 100, "what is left out stays"
    await cast.admin.patch(ROOT, {"soft_limit": None, "files_limit": None, "overflows": False})
    now = (await cast.viewer.get(ROOT)).json
    assert [now[name] for name in limits] == [None, None, False]
