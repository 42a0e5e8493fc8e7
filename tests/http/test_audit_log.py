"""The audit log: everything that changes something is in it, and nothing that is secret."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from filestore.app import Service
from filestore.cells import plain_cell
from filestore.http.application import all_routes
from filestore.meta import jobs
from filestore.model import Actor
from filestore.settings import Settings
from tests.http.api import Api, Reply
from tests.http.conftest import GROUP, Cast

LOG: Final = "/api/v1/admin/audit-log"
ROOT: Final = f"/api/v1/groups/{GROUP}"
TUS: Final = {"Tus-Resumable": "1.0.0"}
BYTES: Final = {"Content-Type": "application/offset+octet-stream"}

NOT_WALKED: Final = {
    ("POST", "/api/v1/groups/{g}/temporary/{version}/keep"),
    ("POST", "/api/v1/groups/{g}/webhooks/{webhook}/deliveries/{event}/retry"),
    ("POST", "/api/v1/admin/webhooks/{webhook}/deliveries/{event}/retry"),
}
"""They need what only time brings: a file beyond the soft limit, a delivery that has failed."""

Step = tuple[str, str, str, Reply]
"""Method and path of a route, the act that must be in the log, and the answer."""


async def records(api: Api, query: str = "", path: str = LOG) -> list[dict[str, Any]]:
    answer = await api.get(f"{path}?limit=1000{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["items"]
    return found


async def _admin_acts(admin: Api, service: Service) -> AsyncIterator[Step]:
    groups, users, tokens = "/api/v1/groups", "/api/v1/users", "/api/v1/tokens"
    made = await admin.post(groups, {"name": "walked", "quota_bytes": 1000})
    yield "POST", groups, "group.create", made
    one = f"{groups}/walked"
    yield "PATCH", f"{groups}/{{g}}", "group.change", await admin.patch(one, {"quota_bytes": 2000})
    made = await admin.post(users, {"name": "walker"})
    yield "POST", users, "user.create", made
    path = f"{groups}/{{g}}/members/{{user}}"
    yield "PUT", path, "member.put", await admin.put(f"{one}/members/walker", {"role": "member"})
    share = await admin.put(f"{one}/members/walker/share", {"share_bytes": 5})
    yield "PUT", f"{path}/share", "member.share", share
    yield "DELETE", path, "member.remove", await admin.delete(f"{one}/members/walker")
    yield "DELETE", f"{groups}/{{g}}", "group.delete", await admin.delete(one)
    token = await admin.post(tokens, {"user": "walker"})
    yield "POST", tokens, "token.create", token
    gone = await admin.delete(f"{tokens}/{token.json['id']}")
    yield "DELETE", f"{tokens}/{{token}}", "token.revoke", gone
    renamed = await admin.patch(f"{users}/walker", {"name": "runner"})
    yield "PATCH", f"{users}/{{user}}", "user.change", renamed
    yield "DELETE", f"{users}/{{user}}", "user.remove", await admin.delete(f"{users}/runner")
    pool = await admin.put("/api/v1/admin/pool", {"pool_bytes": 2**60})
    yield "PUT", "/api/v1/admin/pool", "site.change", pool
    temporary = await admin.put("/api/v1/admin/temporary-pool", {"limit_bytes": 5, "keep_s": 3600})
    yield "PUT", "/api/v1/admin/temporary-pool", "pool.change", temporary
    rows = [{"group": GROUP, "quota_bytes": 2**20}]
    quotas = await admin.put("/api/v1/admin/quotas", {"rows": rows})
    yield "PUT", "/api/v1/admin/quotas", "group.change", quotas
    yield (
        "POST",
        "/api/v1/admin/jobs",
        "job.ask",
        await admin.post("/api/v1/admin/jobs", {"kind": "gc", "dry_run": True}),
    )
    waiting = await service.services.db.transact(lambda tx: jobs.insert(tx, "never", {}, Actor()))
    ended = await admin.delete(f"/api/v1/admin/jobs/{waiting.id}")
    yield "DELETE", "/api/v1/admin/jobs/{job}", "job.cancel", ended


async def _webhook_acts(api: Api, base: str, route: str) -> AsyncIterator[Step]:
    hook = {"url": "https://hooks.example.org/in", "kinds": ["file.written"]}
    made = await api.post(base, hook)
    yield "POST", route, "webhook.create", made
    one = f"{base}/{made.json['id']}"
    changed = await api.patch(one, {"kinds": ["*"]})
    yield "PATCH", f"{route}/{{webhook}}", "webhook.change", changed
    yield "POST", f"{route}/{{webhook}}/test", "webhook.test", await api.post(f"{one}/test")
    yield "DELETE", f"{route}/{{webhook}}", "webhook.remove", await api.delete(one)


async def _group_acts(manager: Api) -> AsyncIterator[Step]:
    g, files = "/api/v1/groups/{g}", f"{ROOT}/files"
    for data in (b"one", b"two"):
        put = await manager.put(f"{files}/a", data=data)
    yield "PUT", f"{g}/files/{{path}}", "file.write", put
    back = await manager.post(f"{ROOT}/versions/a/restore", {"version": 1})
    yield "POST", f"{g}/versions/{{path}}/restore", "version.restore", back
    dropped = await manager.delete(f"{ROOT}/versions/a?version=1")
    yield "DELETE", f"{g}/versions/{{path}}", "version.remove", dropped
    yield "PUT", f"{g}/folders/{{path}}", "folder.create", await manager.put(f"{ROOT}/folders/f")
    copied = await manager.post(f"{ROOT}/copy", {"from": "/a", "to": "/f/b"})
    yield "POST", f"{g}/copy", "entry.copy", copied
    moved = await manager.post(f"{ROOT}/move", {"from": "/f/b", "to": "/c"})
    yield "POST", f"{g}/move", "entry.move", moved
    yield "DELETE", f"{g}/files/{{path}}", "entry.trash", await manager.delete(f"{files}/c")
    (item,) = (await manager.get(f"{ROOT}/trash")).json["items"]
    restored = await manager.post(f"{ROOT}/trash/{item['id']}/restore")
    yield "POST", f"{g}/trash/{{entry}}/restore", "entry.restore", restored
    await manager.delete(f"{files}/c")
    purged = await manager.delete(f"{ROOT}/trash/{item['id']}")
    yield "DELETE", f"{g}/trash/{{entry}}", "entry.purge", purged
    empty = await manager.post(f"{ROOT}/uploads", headers={**TUS, "Upload-Length": "0"})
    yield "POST", f"{g}/uploads", "file.write", empty
    begun = await manager.post(f"{ROOT}/uploads", headers={**TUS, "Upload-Length": "1"})
    where = begun.headers["Location"].partition("/api/")[2]
    sent = {**TUS, **BYTES, "Upload-Offset": "0"}
    filled = await manager.patch(f"/api/{where}", headers=sent, data=b"x")
    yield "PATCH", "/api/v1/uploads/{upload}", "file.write", filled
    begun = await manager.post(f"{ROOT}/uploads", headers={**TUS, "Upload-Length": "1"})
    where = begun.headers["Location"].partition("/api/")[2]
    ended = await manager.delete(f"/api/{where}", headers=TUS)
    yield "DELETE", "/api/v1/uploads/{upload}", "upload.terminated", ended


async def test_every_route_that_changes_something_writes_what_it_did(
    cast: Cast, service: Service, settings: Settings
) -> None:
    walked = set()
    last = max(record["id"] for record in await records(cast.admin))
    secrets = [cast.admin.token, cast.manager.token]
    hooks = "/api/v1/admin/webhooks"
    for steps in (
        _admin_acts(cast.admin, service),
        _group_acts(cast.manager),
        _webhook_acts(cast.manager, f"{ROOT}/webhooks", "/api/v1/groups/{g}/webhooks"),
        _webhook_acts(cast.admin, hooks, hooks),
    ):
        async for method, path, act, answer in steps:
            assert answer.status < 300, (method, path, answer.body)
            new = [one for one in await records(cast.admin) if one["id"] > last]
            mine = [one for one in new if one["act"] == act and one["actor_id"] is not None]
            assert mine, (method, path, act, new)
            said = mine[0]
            assert said["actor"] in ("admin", "manager-maths") and said["token_id"]
            assert said["request_id"] == answer.headers["X-Request-ID"], (method, path)
            if act.endswith(".change"):
                assert said["before"] != said["after"] and said["after"]
            if b'"token":"' in answer.body:
                secrets.append(answer.json["token"])
            if act == "webhook.create":
                secrets.append(answer.json["secret"])
            walked.add((method, path))
            last = new[0]["id"]
    changing = {
        (route.method, route.path)
        for route in all_routes(settings)
        if route.method in ("POST", "PUT", "PATCH", "DELETE")
    }
    assert walked == changing - NOT_WALKED
    whole = (await cast.admin.get(f"{LOG}/export?format=jsonl")).body.decode()
    assert len(secrets) == 5
    assert not [secret for secret in secrets if secret and secret in whole]


async def test_the_log_is_asked_by_who_what_where_and_when_and_in_pages(cast: Cast) -> None:
    for name in "abc":
        assert (await cast.member.put(f"{ROOT}/files/{name}", data=b"x")).status == 201
    every = await records(cast.admin)
    assert [one["id"] for one in every] == sorted((one["id"] for one in every), reverse=True)
    mine = await records(cast.admin, "&actor=member-maths")
    assert [one["target"] for one in mine] == ["/c", "/b", "/a"]
    assert {one["actor_id"] for one in mine} == {mine[0]["actor_id"]}
    assert await records(cast.admin, f"&actor={mine[0]['actor_id']}") == mine
    assert await records(cast.admin, f"&group={GROUP}&act=file.write") == mine
    assert await records(cast.admin, f"&group={cast.group}&act=file.write") == mine
    at = mine[1]["at"]
    assert mine[0] not in await records(cast.admin, f"&act=file.write&to={at}")
    assert mine[2] not in await records(cast.admin, f"&act=file.write&from={mine[0]['at']}")
    for unknown in ("actor=nobody", "group=nogroup", f"group=grp_{'0' * 26}"):
        for path in (LOG, f"{LOG}/export"):
            answer = await cast.admin.get(f"{path}?{unknown}")
            assert (answer.status, answer.code) == (404, "not-found"), unknown
    assert await records(cast.manager, "&actor=nobody", f"{ROOT}/audit-log") == []
    assert await records(cast.admin, "&actor=viewer-maths") == [], "who has done nothing is known"
    other = (await cast.admin.get("/api/v1/groups/other")).json["id"]
    assert (await cast.admin.delete("/api/v1/groups/other")).status == 204
    gone = await records(cast.admin, "&group=other")
    assert gone[0]["act"] == "group.delete" and gone == await records(cast.admin, f"&group={other}")
    every = await records(cast.admin)
    paged, after = [], ""
    while after is not None:
        page = (await cast.admin.get(f"{LOG}?limit=2{after}")).json
        paged += page["items"]
        after = page["next"] and f"&after={page['next']}"
    assert paged == every
    joined = await records(cast.admin, "&act=member.put")
    assert {one["target_name"] for one in joined} >= {"member-maths", "outsider"}
    for wrong in ("from=yesterday", "to=2026-01-31", "act=Group", "actor=", "since=1"):
        assert (await cast.admin.get(f"{LOG}?{wrong}")).status == 400
    assert (await cast.manager.get(LOG)).status == 403
    assert (await cast.manager.get(f"{LOG}/export")).status == 403


async def test_managers_see_the_acts_of_their_own_group_alone(cast: Cast) -> None:
    await cast.outsider.put("/api/v1/groups/other/files/a", data=b"x")
    await cast.member.put(f"{ROOT}/files/a", data=b"x")
    found = await records(cast.manager, path=f"{ROOT}/audit-log")
    assert found and {one["group_id"] for one in found} == {cast.group}
    assert not {"token_id", "request_id"} & found[0].keys()
    assert found[0]["act"] == "file.write" and found[0]["actor"] == "member-maths"
    assert await records(cast.admin, path=f"{ROOT}/audit-log") == found
    assert (await cast.manager.get(f"{ROOT}/audit-log?group=other")).status == 400
    assert (await cast.member.get(f"{ROOT}/audit-log")).status == 403
    assert (await cast.outsider.get(f"{ROOT}/audit-log")).status == 404


@pytest.mark.parametrize("chunk", [1, 500])
async def test_an_export_has_all_records_whatever_their_number(
    cast: Cast, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filestore.acts.log._CHUNK", chunk)
    assert (await cast.member.put(f"{ROOT}/folders/=1+1")).status == 201
    named = {"name": "@SUM(1)"}
    assert (await cast.admin.patch(ROOT, named)).status == 200
    every = await records(cast.admin)

    lines = await cast.admin.get(f"{LOG}/export")
    assert lines.headers["Content-Type"] == "application/jsonl"
    assert [json.loads(line) for line in lines.body.decode().splitlines()] == every
    table = await cast.admin.get(f"{LOG}/export?format=csv")
    assert table.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
    assert [int(row["id"]) for row in rows] == [one["id"] for one in every]
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in "=+-@" and cell]
    assert {plain_cell(row["group"]) for row in rows} >= {"@SUM(1)", ""}
    only = await cast.admin.get(f"{LOG}/export?act=folder.create&group={cast.group}")
    assert len(only.body.splitlines()) == 1
    none = await cast.admin.get(f"{LOG}/export?format=csv&actor=viewer-maths")
    assert len(none.body.splitlines()) == 1, "the header alone"
    assert (await cast.admin.get(f"{LOG}/export?format=xml")).status == 400
