"""Versions of a file, and the uploads that are on their way to become one."""

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
        *("id", "number", "size", "mime", "author", "created_at", "etag", "current"),
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
    assert made.headers["Location"] == f"/api/v1/uploads/{mine['id']}"
    assert (mine["user"], mine["path"], mine["protocol"]) == ("member-maths", "/f/a.txt", "tus")
    assert (mine["offset"], mine["length"], mine["reserved"]) == (0, 10, 10)
    assert (other["user"], other["length"], other["reserved"]) == ("manager-maths", None, 0)
    assert mine["created_at"] < mine["expires_at"]
    assert (await cast.outsider.get(f"{GROUP}/uploads")).status == 404


async def test_who_is_no_member_any_more_cannot_go_on_with_an_upload(cast: Cast) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    made = await cast.member.post(f"{GROUP}/uploads", headers={**tus, "Upload-Length": "10"})
    upload = made.headers["Location"]
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
