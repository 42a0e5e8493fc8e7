"""Versions of a file, and the uploads that are on their way to become one."""

import pytest
import sqlalchemy as sa
from yarl import URL

from filestore.app import Service
from filestore.meta.database import Tx
from filestore.meta.tables import contents
from tests.http.conftest import Cast

GROUP = "/api/v1/groups/maths"
FILES = GROUP + "/files"


async def test_versions_are_listed_newest_first_with_their_authors(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a", data=b"one", headers={"Content-Type": "text/plain"})
    second = await cast.manager.put(f"{FILES}/a", data=b"second")
    found = (await cast.viewer.get(f"{GROUP}/versions/a")).json
    newest, oldest = found["items"]
    assert found["next"] is None
    assert (newest["number"], newest["size"], newest["current"]) == (2, 6, True)
    assert (oldest["number"], oldest["size"], oldest["current"]) == (1, 3, False)
    assert (newest["author"], oldest["author"]) == ("manager-maths", "member-maths")
    assert (newest["mime"], oldest["mime"]) == ("application/octet-stream", "text/plain")
    assert newest["etag"] == second.headers["ETag"]
    old = await cast.viewer.get(f"{FILES}/a?version=1")
    assert (old.headers["ETag"], old.body) == (oldest["etag"], b"one")
    assert set(newest) == {
        *("id", "number", "size", "mime", "author", "created_at", "etag", "current", "expires_at"),
    }


async def test_versions_are_listed_in_pages(cast: Cast) -> None:
    for number in range(5):
        await cast.member.put(f"{FILES}/a", data=b"%d" % number)
    found, after = [], ""
    while after is not None:
        page = (await cast.viewer.get(f"{GROUP}/versions/a?limit=2{after}")).json
        found += [item["number"] for item in page["items"]]
        after = page["next"] and f"&after={page['next']}"
    assert found == [5, 4, 3, 2, 1]


async def _write(cast: Cast, *sizes: int) -> None:
    for size in sizes:
        assert (await cast.member.put(f"{FILES}/f/a", data=b"x" * size)).status in (200, 201)


async def _numbers(cast: Cast) -> list[int]:
    found = (await cast.viewer.get(f"{GROUP}/versions/f/a")).json["items"]
    return [item["number"] for item in found]


async def _used(cast: Cast) -> int:
    return int((await cast.viewer.get(f"{GROUP}/quota")).json["used_bytes"])


async def test_an_old_version_is_removed_and_its_room_is_free(cast: Cast, service: Service) -> None:
    await _write(cast, 1, 2, 3)
    assert (await cast.viewer.delete(f"{GROUP}/versions/f/a?version=1")).status == 403
    assert (await cast.member.delete(f"{GROUP}/versions/f/a?version=1")).status == 204
    assert await _numbers(cast) == [3, 2]
    assert await _used(cast) == 5
    assert (await cast.viewer.get(f"{FILES}/f/a?version=1")).json["what"] == "version"
    states = await _states(service)
    assert sorted(states) == ["complete", "complete", "deleting"]
    for query, status in (
        ("version=1", 404),
        ("version=3", 409),
        ("version=9", 404),
        ("version=0", 400),
        ("", 400),
        ("version=1&before=3", 400),
    ):
        answer = await cast.member.delete(f"{GROUP}/versions/f/a?{query}")
        assert answer.status == status, query
    assert (await cast.member.delete(f"{GROUP}/versions/f?version=1")).status == 404
    assert await _numbers(cast) == [3, 2]
    assert await _used(cast) == 5


async def test_all_versions_before_a_number_are_removed_but_never_the_current(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filestore.acts.versions.BATCH", 2)
    await _write(cast, 1, 2, 3, 4, 5, 6)
    assert (await cast.member.delete(f"{GROUP}/versions/f/a?before=4")).status == 204
    assert await _numbers(cast) == [6, 5, 4]
    assert (await cast.member.delete(f"{GROUP}/versions/f/a?before=100")).status == 204
    assert (await cast.member.delete(f"{GROUP}/versions/f/a?before=100")).status == 204
    assert await _numbers(cast) == [6]
    assert await _used(cast) == 6


async def test_an_old_version_becomes_current_again_as_a_new_one(
    cast: Cast, service: Service
) -> None:
    await _write(cast, 1, 2)
    where = f"{GROUP}/versions/f/a/restore"
    assert (await cast.viewer.post(where, {"version": 1})).status == 403
    made = await cast.manager.post(where, {"version": 1})
    assert (made.status, made.json["version"], made.json["size"]) == (201, 3, 1)
    assert (await cast.viewer.get(f"{FILES}/f/a")).body == b"x"
    newest = (await cast.viewer.get(f"{GROUP}/versions/f/a")).json["items"][0]
    assert (newest["author"], newest["current"]) == ("manager-maths", True)
    assert await _used(cast) == 4
    assert (await cast.member.post(where, {"version": 3})).status == 409
    assert (await cast.member.post(where, {"version": 9})).status == 404
    assert (await cast.member.delete(f"{GROUP}/versions/f/a?version=1")).status == 204
    assert "deleting" not in await _states(service)
    await cast.admin.patch(GROUP, {"quota_bytes": 4})
    full = await cast.member.post(where, {"version": 2})
    assert (full.code, full.json["needed"], full.json["freeable_versions"]) == (
        "quota-exceeded",
        2,
        2,
    )
    assert await _numbers(cast) == [3, 2]


async def _states(service: Service) -> list[str]:
    query = sa.select(contents.c.state)
    return await service.services.db.read(lambda tx: _all(tx, query))


async def _all(tx: Tx, query: sa.Select[tuple[str]]) -> list[str]:
    return list(await tx.scalars(query))


async def test_only_files_have_versions(cast: Cast) -> None:
    await cast.member.put(f"{GROUP}/folders/f")
    for path in ("f", "none", ""):
        assert (await cast.viewer.get(f"{GROUP}/versions/{path}")).status == 404, path


async def test_running_uploads_are_listed_for_all_members(cast: Cast) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Metadata": "filename YS50eHQ=,path L2Yv"}
    made = await cast.member.post(f"{GROUP}/uploads", headers={**headers, "Upload-Length": "10"})
    assert made.status == 201
    unknown = {**headers, "Upload-Defer-Length": "1"}
    assert (await cast.manager.post(f"{GROUP}/uploads", headers=unknown)).status == 201
    found = (await cast.viewer.get(f"{GROUP}/uploads")).json["items"]
    mine, other = sorted(found, key=lambda item: item["user"], reverse=True)
    assert made.headers["Location"] == f"{cast.member.url}/api/v1/uploads/{mine['id']}"
    assert (mine["user"], mine["path"], mine["protocol"]) == ("member-maths", "/f/a.txt", "tus")
    assert (mine["offset"], mine["length"], mine["reserved"]) == (0, 10, 10)
    assert (other["user"], other["length"], other["reserved"]) == ("manager-maths", None, 0)
    assert mine["created_at"] < mine["expires_at"]
    assert (await cast.outsider.get(f"{GROUP}/uploads")).status == 404


async def test_who_is_no_member_any_more_cannot_go_on_with_an_upload(cast: Cast) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    made = await cast.member.post(f"{GROUP}/uploads", headers={**tus, "Upload-Length": "10"})
    upload = URL(made.headers["Location"]).path
    assert (await cast.member.call("HEAD", upload, headers=tus)).status == 200
    member = f"{GROUP}/members/member-maths"
    await cast.admin.put(member, {"role": "viewer"})
    assert (await cast.member.call("HEAD", upload, headers=tus)).status == 403
    assert (await cast.member.delete(upload, headers=tus)).status == 403
    assert (await cast.admin.delete(member)).status == 204
    for method in ("HEAD", "PATCH", "DELETE"):
        assert (await cast.member.call(method, upload, headers=tus)).status == 404
    assert len((await cast.viewer.get(f"{GROUP}/uploads")).json["items"]) == 1
    assert (await cast.manager.delete(upload, headers=tus)).status == 204
    assert (await cast.viewer.get(f"{GROUP}/uploads")).json["items"] == []
