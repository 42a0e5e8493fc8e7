"""What deleting would free, and what is damaged: shown to members, and no word of others."""

from pathlib import Path
from typing import Any

from filestore.settings import Settings
from tests.http.api import Api
from tests.http.conftest import GROUP, Cast
from tests.http.test_jobs import JOBS, ended

ROOT = f"/api/v1/groups/{GROUP}"
SIZE = 3000


async def _put(api: Api, path: str, data: bytes, group: str = GROUP) -> None:
    assert (await api.put(f"/api/v1/groups/{group}/files/{path}", data=data)).status == 201


async def test_a_member_sees_what_a_path_would_free_and_an_admin_also_what_others_hold(
    cast: Cast,
) -> None:
    await _put(cast.member, "f/a", b"a" * SIZE)
    await _put(cast.member, "f/b%20%C3%A9", b"b" * SIZE)
    await _put(cast.member, "b", b"b" * SIZE)
    await _put(cast.outsider, "a", b"a" * SIZE, group="other")

    seen = await cast.viewer.get(f"{ROOT}/freeable?path=/f")
    assert seen.status == 200
    assert seen.json == {
        "path": "/f",
        "quota_bytes": 2 * SIZE,
        "versions": 2,
        "unique_bytes": SIZE,
        "shared_bytes": SIZE,
        "held_by": [{"path": "/b", "bytes": SIZE, "trashed": False, "upload": False}],
        "physical": None,
    }
    one = await cast.viewer.get(f"{ROOT}/freeable?path=f/b%20%C3%A9")
    assert one.json["quota_bytes"] == SIZE
    whole = (await cast.viewer.get(f"{ROOT}/freeable")).json
    assert (whole["path"], whole["quota_bytes"], whole["shared_bytes"]) == ("/", 3 * SIZE, 0)

    known = (await cast.admin.get(f"{ROOT}/freeable?path=/f/a")).json
    assert known["unique_bytes"] == SIZE, "as the group sees it"
    assert known["physical"]["freed_bytes"] == 0
    assert [group["name"] for group in known["physical"]["held_by_groups"]] == ["other"]

    assert (await cast.outsider.get(f"{ROOT}/freeable")).status == 404
    assert (await cast.viewer.get(f"{ROOT}/freeable?path=nothing")).status == 404
    assert (await cast.viewer.get(f"{ROOT}/freeable?path=a/../b")).status == 400
    assert (await cast.viewer.get(f"{ROOT}/freeable?folder=f")).status == 400


async def test_what_lies_in_the_trash_is_asked_by_its_id(cast: Cast) -> None:
    await _put(cast.member, "a", b"a" * SIZE)
    assert (await cast.member.delete(f"{ROOT}/files/a")).status == 204
    (item,) = (await cast.viewer.get(f"{ROOT}/trash")).json["items"]
    found = await cast.viewer.get(f"{ROOT}/trash/{item['id']}/freeable")
    assert (found.status, found.json["path"], found.json["unique_bytes"]) == (200, "/a", SIZE)
    assert (await cast.viewer.get(f"{ROOT}/trash/nothing/freeable")).status == 404
    assert (await cast.viewer.get(f"{ROOT}/freeable?path=a")).status == 404


async def test_damage_that_a_job_finds_is_listed_to_its_group_until_it_is_healed(
    cast: Cast, settings: Settings
) -> None:
    for name in "abc":
        await _put(cast.member, name, b"same" * SIZE)
    (block,) = _objects(settings)
    block.unlink()
    assert (await cast.viewer.get(f"{ROOT}/damaged")).json == {"items": [], "next": None}

    checked = await _job(cast.admin, "fsck")
    assert (checked["result"], checked["is_good"], checked["damage"]) == ("damage", False, 1)
    assert checked["plan"]["counts"] == {"mark-lost": 1}
    scrubbed = await _job(cast.admin, "scrub", bytes_per_s=2**30)
    assert (scrubbed["lost"], scrubbed["is_good"]) == (1, False)

    page = (await cast.viewer.get(f"{ROOT}/damaged?limit=2")).json
    rest = (await cast.viewer.get(f"{ROOT}/damaged?limit=2&after={page['next']}")).json
    listed = [*page["items"], *rest["items"]]
    assert (len(page["items"]), rest["next"]) == (2, None)
    assert {item["path"] for item in listed} == {"/a", "/b", "/c"}
    assert {(item["version"], item["current"], item["bytes"]) for item in listed} == {
        (1, True, 4 * SIZE)
    }
    assert (await cast.admin.get(f"{ROOT}/damaged")).status == 200
    assert (await cast.outsider.get("/api/v1/groups/other/damaged")).json["items"] == []

    await _put(cast.member, "again", b"same" * SIZE)
    assert (await cast.viewer.get(f"{ROOT}/damaged")).json["items"] == []
    assert (await _job(cast.admin, "fsck", repair=True))["is_good"]


async def _job(admin: Api, kind: str, **wishes: object) -> dict[str, Any]:
    """The report of a job, which must be done."""
    made = await admin.post(JOBS, {"kind": kind, **wishes})
    job = await ended(admin, made.headers["Location"])
    assert (job["state"], job["error"]) == ("done", None), job
    return dict(job["report"])


def _objects(settings: Settings) -> list[Path]:
    folder = Path(settings.blocks_url.removeprefix("file:"))
    return [path for path in folder.glob("default/*/*") if path.is_file()]
