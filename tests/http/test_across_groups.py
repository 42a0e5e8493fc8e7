"""Acts that reach into a second group ask for the rights in both, and tell nothing of either."""

from tests.http.api import Api
from tests.http.conftest import Cast

MATHS = "/api/v1/groups/maths"
OTHER = "/api/v1/groups/other"


async def _seat(cast: Cast, role: str, user: str = "member-maths") -> None:
    answer = await cast.admin.put(f"{OTHER}/members/{user}", {"role": role})
    assert answer.status in (200, 201)


async def _used(api: Api, group: str) -> int:
    return int((await api.get(f"{group}/quota")).json["used_bytes"])


async def test_who_is_no_member_there_is_told_of_no_such_group(cast: Cast) -> None:
    await cast.member.put(f"{MATHS}/files/a", data=b"hello")
    for act in ("move", "copy"):
        wish = {"from": "a", "to": "a", "to_group": "other"}
        refused = await cast.member.post(f"{MATHS}/{act}", wish)
        nowhere = await cast.member.post(f"{MATHS}/{act}", wish | {"to_group": "nowhere"})
        assert (
            (refused.status, refused.code) == (nowhere.status, nowhere.code) == (404, "not-found")
        )
        assert refused.json["what"] == nowhere.json["what"]
    assert (await cast.viewer.get(f"{MATHS}/files/a")).body == b"hello"


async def test_a_viewer_there_may_put_nothing_there(cast: Cast) -> None:
    await cast.member.put(f"{MATHS}/files/a", data=b"hello")
    await _seat(cast, "viewer")
    wish = {"from": "a", "to": "a", "to_group": "other"}
    for act in ("move", "copy"):
        assert (await cast.member.post(f"{MATHS}/{act}", wish)).status == 403
    assert await _used(cast.admin, OTHER) == 0


async def test_a_member_of_both_moves_and_copies_and_quotas_follow(cast: Cast) -> None:
    await cast.member.put(f"{MATHS}/files/f/a", data=b"hello")
    await _seat(cast, "member")
    wish = {"from": "f", "to": "got", "to_group": "other"}
    copied = await cast.member.post(f"{MATHS}/copy", wish)
    assert (copied.status, copied.json["path"]) == (201, "/got")
    assert (await _used(cast.admin, MATHS), await _used(cast.admin, OTHER)) == (5, 5)
    moved = await cast.member.post(f"{MATHS}/move", wish | {"to": "moved"})
    assert (moved.status, moved.json["path"]) == (200, "/moved")
    assert (await _used(cast.admin, MATHS), await _used(cast.admin, OTHER)) == (0, 10)
    assert (await cast.outsider.get(f"{OTHER}/files/moved/a")).body == b"hello"


async def test_without_room_there_it_is_refused_and_stays(cast: Cast) -> None:
    await cast.member.put(f"{MATHS}/files/a", data=b"hello")
    await _seat(cast, "member")
    await cast.admin.patch(OTHER, {"quota_bytes": 4})
    wish = {"from": "a", "to": "a", "to_group": "other"}
    refused = await cast.member.post(f"{MATHS}/move", wish)
    assert (refused.status, refused.code) == (413, "quota-exceeded")
    assert await _used(cast.admin, MATHS) == 5


async def test_a_share_is_set_by_managers_shown_and_kept(cast: Cast) -> None:
    path = f"{MATHS}/members/member-maths"
    await cast.member.put(f"{MATHS}/files/a", data=b"hello")
    assert (await cast.member.put(f"{path}/share", {"share_bytes": 1})).status == 403
    set_to = await cast.manager.put(f"{path}/share", {"share_bytes": 6})
    assert (set_to.json["share_bytes"], set_to.json["used_bytes"]) == (6, 5)
    refused = await cast.member.put(f"{MATHS}/files/b", data=b"hi")
    assert (refused.status, refused.code) == (413, "share-exceeded")
    assert refused.json["free"] == 1
    await cast.manager.put(f"{path}/share", {"share_bytes": None})
    assert (await cast.member.put(f"{MATHS}/files/b", data=b"hi")).status == 201
    shown = (await cast.viewer.get(path)).json
    assert (shown["share_bytes"], shown["used_bytes"]) == (None, 7)
    unknown = await cast.manager.put(f"{MATHS}/members/outsider/share", {"share_bytes": 1})
    assert unknown.status == 404


async def test_the_pool_of_temporary_files_is_for_site_admins(cast: Cast) -> None:
    pool = "/api/v1/admin/temporary-pool"
    assert (await cast.manager.put(pool, {"limit_bytes": 5})).status == 403
    before = (await cast.admin.get(pool)).json
    assert (before["limit_bytes"], before["keep_s"]) == (0, 7 * 86_400)
    opened = await cast.admin.put(pool, {"limit_bytes": 3})
    assert (opened.json["limit_bytes"], opened.json["keep_s"]) == (3, 7 * 86_400)
    after = await cast.admin.put(pool, {"limit_bytes": 5, "keep_s": 3600})
    assert after.json == (await cast.admin.get(pool)).json
    assert (after.json["limit_bytes"], after.json["keep_s"]) == (5, 3600)
    smaller = await cast.admin.put(pool, {"limit_bytes": 4})
    assert (smaller.json["limit_bytes"], smaller.json["keep_s"]) == (4, 3600), (
        "what is unsaid stays"
    )
    names = [group["name"] for group in (await cast.admin.get("/api/v1/groups")).json["items"]]
    assert names == ["maths", "other"], "the pool is an account and no group"
    assert (await cast.admin.get("/api/v1/groups/pool_temporary")).status == 404
    assert (await cast.member.get(f"{MATHS}/temporary")).json == {"items": [], "next": None}
