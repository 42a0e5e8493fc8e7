"""The trash: out of sight, still charged, back at its place, or gone for good."""

from tests.http.api import Api
from tests.http.conftest import Cast

GROUP = "/api/v1/groups/maths"
FILES = GROUP + "/files"
TRASH = GROUP + "/trash"


async def _trash(api: Api) -> list[dict[str, object]]:
    items: list[dict[str, object]] = (await api.get(TRASH)).json["items"]
    return items


async def _used(api: Api) -> int:
    return int((await api.get(f"{GROUP}/quota")).json["used_bytes"])


async def test_what_is_deleted_is_listed_with_who_when_and_how_much(cast: Cast) -> None:
    for body in (b"one", b"three"):
        await cast.member.put(f"{FILES}/f/a", data=body)
    await cast.member.put(f"{FILES}/f/sub/b", data=b"x")
    await cast.member.put(f"{FILES}/c", data=b"xy")
    assert (await cast.member.delete(f"{FILES}/f")).status == 204
    assert (await cast.manager.delete(f"{FILES}/c")).status == 204
    found = {item["path"]: item for item in await _trash(cast.viewer)}
    assert set(found) == {"/f", "/c"}
    assert (found["/f"]["kind"], found["/f"]["size"]) == ("folder", 9)
    assert (found["/c"]["kind"], found["/c"]["size"], found["/c"]["name"]) == ("file", 2, "c")
    assert found["/f"]["deleted_by"] == "member-maths"
    assert found["/c"]["deleted_by"] == "manager-maths"
    assert str(found["/c"]["deleted_at"]).endswith("Z")
    assert await _used(cast.viewer) == 11
    quota = (await cast.viewer.get(f"{GROUP}/quota")).json
    assert quota["trash_bytes"] == 11


async def test_the_trash_is_listed_in_pages(cast: Cast) -> None:
    for number in range(5):
        await cast.member.put(f"{FILES}/{number}", data=b"x")
        await cast.member.delete(f"{FILES}/{number}")
    found, after = set(), ""
    while after is not None:
        page = (await cast.viewer.get(f"{TRASH}?limit=2{after}")).json
        found |= {item["name"] for item in page["items"]}
        after = page["next"] and f"&after={page['next']}"
    assert found == set("01234")


async def test_what_is_restored_is_back_with_all_its_versions(cast: Cast) -> None:
    for body in (b"one", b"two!"):
        await cast.member.put(f"{FILES}/f/a", data=body)
    await cast.member.delete(f"{FILES}/f/a")
    (item,) = await _trash(cast.viewer)
    back = await cast.member.post(f"{TRASH}/{item['id']}/restore")
    assert (back.status, back.json["path"], back.json["version"]) == (200, "/f/a", 2)
    assert (await cast.viewer.get(f"{FILES}/f/a")).body == b"two!"
    assert (await cast.viewer.get(f"{FILES}/f/a?version=1")).body == b"one"
    assert await _trash(cast.viewer) == []
    again = await cast.member.post(f"{TRASH}/{item['id']}/restore")
    assert (again.status, again.code) == (404, "not-found")


async def test_a_taken_name_gets_a_number_and_a_lost_folder_is_made_again(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/f/a.txt", data=b"old")
    await cast.member.delete(f"{FILES}/f/a.txt")
    (item,) = await _trash(cast.viewer)
    await cast.member.put(f"{FILES}/f/a.txt", data=b"new")
    back = await cast.member.post(f"{TRASH}/{item['id']}/restore")
    assert back.json["path"] == "/f/a (2).txt"
    await cast.member.delete(f"{FILES}/f/a.txt")
    (item,) = await _trash(cast.viewer)
    await cast.member.delete(f"{FILES}/f")
    back = await cast.member.post(f"{TRASH}/{item['id']}/restore")
    assert back.json["path"] == "/f/a.txt"
    assert (await cast.viewer.get(f"{FILES}/f/a.txt")).body == b"new"


async def test_purging_is_for_managers_and_frees_the_quota_at_once(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/f/a", data=b"hello")
    await cast.member.delete(f"{FILES}/f")
    (item,) = await _trash(cast.viewer)
    for who in (cast.viewer, cast.member):
        assert (await who.delete(f"{TRASH}/{item['id']}")).status == 403
    assert await _used(cast.viewer) == 5
    assert (await cast.manager.delete(f"{TRASH}/{item['id']}")).status == 204
    assert await _used(cast.viewer) == 0
    assert await _trash(cast.viewer) == []
    assert (await cast.manager.delete(f"{TRASH}/{item['id']}")).status == 404


async def test_what_is_not_in_the_trash_of_the_group_is_not_found(cast: Cast) -> None:
    made = (await cast.member.put(f"{FILES}/alive", data=b"x")).json
    await cast.outsider.put("/api/v1/groups/other/files/foreign", data=b"x")
    await cast.outsider.delete("/api/v1/groups/other/files/foreign")
    foreign = (await cast.outsider.get("/api/v1/groups/other/trash")).json["items"][0]
    for entry in (made["id"], foreign["id"], "ent_" + "0" * 26, "x", "%00", "%ff", "a%2Fb"):
        assert (await cast.member.post(f"{TRASH}/{entry}/restore")).status == 404, entry
        assert (await cast.manager.delete(f"{TRASH}/{entry}")).status == 404, entry
    assert (await cast.viewer.get(f"{FILES}/alive")).body == b"x"
    assert len((await cast.outsider.get("/api/v1/groups/other/trash")).json["items"]) == 1
