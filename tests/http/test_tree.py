"""Folders: listing in pages, making, moving, copying; and names that somebody means ill with."""

import json

import pytest

from tests.http.api import Api, RawConnection
from tests.http.conftest import Cast

GROUP = "/api/v1/groups/maths"
FILES = GROUP + "/files"
TREE = GROUP + "/tree"


async def _names(api: Api, path: str = "") -> list[str]:
    return [item["name"] for item in (await api.get(f"{TREE}{path}")).json["items"]]


async def _used(api: Api) -> int:
    return int((await api.get(f"{GROUP}/quota")).json["used_bytes"])


async def test_a_folder_shows_itself_and_what_lies_in_it(cast: Cast) -> None:
    root = await cast.viewer.get(TREE)
    assert (root.json["kind"], root.json["path"], root.json["items"]) == ("folder", "/", [])
    made = await cast.member.put(f"{FILES}/a/b.txt", data=b"hello")
    await cast.member.put(f"{GROUP}/folders/a/c/d")
    found = (await cast.viewer.get(f"{TREE}/a")).json
    assert (found["kind"], found["name"], found["path"]) == ("folder", "a", "/a")
    assert found["size"] is found["etag"] is found["version"] is found["mime"] is None
    file, folder = found["items"]
    assert file == made.json
    assert (folder["kind"], folder["path"]) == ("folder", "/a/c")
    assert set(folder) == set(file)


async def test_a_file_shows_itself_alone(cast: Cast) -> None:
    made = (await cast.member.put(f"{FILES}/a/b.txt", data=b"hello")).json
    found = (await cast.viewer.get(f"{TREE}/a/b.txt")).json
    assert found == {**made, "items": [made], "next": None}


async def test_a_folder_is_listed_in_pages_by_name(cast: Cast) -> None:
    names = sorted(f"n{number}" for number in range(7))
    for name in reversed(names):
        await cast.member.put(f"{GROUP}/folders/f/{name}")
    found, after = [], ""
    while after is not None:
        page = (await cast.viewer.get(f"{TREE}/f?limit=3{after}")).json
        assert len(page["items"]) <= 3
        found += [item["name"] for item in page["items"]]
        after = page["next"] and f"&after={page['next']}"
    assert found == names
    assert (await cast.viewer.get(f"{TREE}/f?after=x")).code == "bad-request"


async def test_making_a_folder_twice_is_harmless_and_a_file_is_in_the_way(cast: Cast) -> None:
    first = await cast.member.put(f"{GROUP}/folders/a/b")
    second = await cast.member.put(f"{GROUP}/folders/a/b")
    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json
    assert (await cast.member.put(f"{GROUP}/folders/")).status == 200
    await cast.member.put(f"{FILES}/file", data=b"x")
    for path in ("file", "file/x"):
        refused = await cast.member.put(f"{GROUP}/folders/{path}")
        assert (refused.status, refused.code) == (409, "conflict")


async def test_moving_takes_everything_along(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a/b/c.txt", data=b"hello")
    moved = await cast.member.post(f"{GROUP}/move", {"from": "a/b", "to": "/x/y/"})
    assert (moved.status, moved.json["path"], moved.json["kind"]) == (200, "/x/y", "folder")
    assert (await cast.viewer.get(f"{FILES}/x/y/c.txt")).body == b"hello"
    assert (await cast.viewer.get(f"{TREE}/a/b")).status == 404
    renamed = await cast.member.post(f"{GROUP}/move", {"from": "x/y/c.txt", "to": "x/y/C.txt"})
    assert (renamed.status, renamed.json["name"]) == (200, "C.txt")
    assert await _names(cast.viewer, "/x/y") == ["C.txt"]
    assert await _used(cast.viewer) == 5


async def test_a_move_that_makes_no_sense_changes_nothing(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a/b", data=b"one")
    await cast.member.put(f"{FILES}/c", data=b"two")
    for source, target, status in (
        ("a/b", "c", 409),
        ("a", "a/x", 409),
        ("", "x", 409),
        ("a", "", 409),
        ("none", "x", 404),
        ("a/b", "c/x", 409),
        ("a/b", "x/../y", 400),
    ):
        refused = await cast.member.post(f"{GROUP}/move", {"from": source, "to": target})
        assert refused.status == status, (source, target)
    assert await _names(cast.viewer) == ["a", "c"]
    assert (await cast.viewer.get(f"{FILES}/a/b")).body == b"one"
    assert (await cast.viewer.get(f"{FILES}/c")).body == b"two"


async def test_a_body_that_is_no_relocation_is_refused(cast: Cast) -> None:
    bodies: list[object] = [{"from": "a"}, {"source": "a", "target": "b"}, {"from": 1, "to": "x"}]
    for body in (*bodies, []):
        refused = await cast.member.post(f"{GROUP}/copy", body)
        assert (refused.status, refused.code) == (400, "bad-request")


async def test_a_copy_counts_in_the_quota_and_has_the_same_bytes(cast: Cast) -> None:
    for name in ("f/a", "f/sub/b"):
        await cast.member.put(f"{FILES}/{name}", data=b"hello")
    copied = await cast.member.post(f"{GROUP}/copy", {"from": "f", "to": "g/h"})
    assert (copied.status, copied.json["path"]) == (201, "/g/h")
    assert (await cast.viewer.get(f"{FILES}/g/h/sub/b")).body == b"hello"
    assert await _used(cast.viewer) == 20
    single = await cast.member.post(f"{GROUP}/copy", {"from": "f/a", "to": "single"})
    original = (await cast.viewer.get(f"{TREE}/f/a")).json
    assert single.json["etag"] == original["etag"]
    assert single.json["id"] != original["id"]
    refused = await cast.member.post(f"{GROUP}/copy", {"from": "f", "to": "f/again"})
    assert refused.status == 409
    refused = await cast.member.post(f"{GROUP}/copy", {"from": "f/a", "to": "single"})
    assert (refused.status, refused.code) == (409, "exists")
    assert await _used(cast.viewer) == 25


async def test_a_copy_beyond_the_quota_changes_nothing(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a", data=bytes(600))
    await cast.admin.patch("/api/v1/groups/maths", {"quota_bytes": 1000})
    refused = await cast.member.post(f"{GROUP}/copy", {"from": "a", "to": "b"})
    assert (refused.status, refused.code) == (413, "quota-exceeded")
    assert await _names(cast.viewer) == ["a"]
    assert await _used(cast.viewer) == 600


async def test_names_that_differ_only_in_normalization_are_one_file(cast: Cast) -> None:
    composed, decomposed = "caf%C3%A9", "cafe%CC%81"
    first = await cast.member.put(f"{FILES}/{composed}", data=b"one")
    second = await cast.member.put(f"{FILES}/{decomposed}", data=b"two")
    assert (first.status, second.status) == (201, 200)
    assert second.json["name"] == "caf\u00e9"
    assert await _names(cast.viewer) == ["caf\u00e9"]
    for name in (composed, decomposed):
        assert (await cast.viewer.get(f"{FILES}/{name}")).body == b"two"


HOSTILE = {
    "dots": (b"..", b"a/../b", b".", b"%2e%2e", b"%2E%2e/x", b"a/%2e./b", b".%2e"),
    "slash": (b"a%2Fb", b"%2F", b"a%2fb/c", b"%2e%2e%2fetc"),
    "backslash": (b"a%5Cb", b"a\\b", b"..%5c.."),
    "control": (b"a%00b", b"%00", b"a%0Ab", b"a%0d%0aX:%20y", b"a%7f", b"a%C2%85", b"%E2%80%A8x"),
    "bidi": (b"a%E2%80%AEtxt.exe", b"%E2%81%A6x", b"x%E2%80%8E%E2%80%AA"),
    "utf-8": (b"%ff", b"a%C3", b"%C0%AF", b"%ED%A0%80", b"%F4%90%80%80"),
    "percent": (b"100%", b"a%zz", b"%2", b"%u0041"),
    "empty": (b"a//b", b"/a", b"a/"),
    "space": (b"%20a", b"a%20", b"a/%20/b", b"%C2%A0x"),
    "invisible": (b"%E2%80%8B", b"%C2%AD"),
    "too-long": (b"x" * 256, b"%C3%A9" * 128, b"a/" + b"y" * 300),
    "too-deep": (b"a/" * 64 + b"b",),
    "path-too-long": (b"x" * 250 + (b"/" + b"x" * 250) * 16,),
}
"""Paths as they stand in the request line, by the rule that refuses them."""


@pytest.mark.parametrize("rule", HOSTILE)
async def test_a_hostile_path_is_refused_and_nothing_is_made_of_it(
    cast: Cast, api: Api, rule: str
) -> None:
    for path in HOSTILE[rule]:
        for method, kind in (
            ("PUT", "files"),
            ("GET", "files"),
            ("PUT", "folders"),
            ("GET", "tree"),
        ):
            status, told = await _raw(api, cast, method, f"{GROUP}/{kind}/".encode() + path)
            assert (status, told["type"]) == (400, "urn:filestore:problem:bad-name"), (method, path)
            assert told["rule"] == rule, (method, path, told)
    assert await _names(cast.viewer) == []
    assert await _used(cast.viewer) == 0


async def test_a_hostile_path_in_a_body_is_refused(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a", data=b"x")
    for path in ("../a", "a\x00b", "a\u202eb", "x" * 300, "a//b", "\ud800", " a", "b\\c"):
        for body in ({"from": "a", "to": path}, {"from": path, "to": "b"}):
            raw = json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            refused = await cast.member.post(f"{GROUP}/move", data=raw, headers=headers)
            assert refused.status == 400, (body, refused)
            assert refused.code in ("bad-name", "bad-request")
    assert await _names(cast.viewer) == ["a"]


async def test_unusual_names_are_taken_as_they_are(cast: Cast, api: Api) -> None:
    for path, name in (
        (b"%252F", "%2F"),
        (b"a:b*c%22%3C%3E|?", 'a:b*c"<>|'),
        (b"...", "..."),
        (b"%F0%9F%98%80", "\U0001f600"),
        (b"%c3%A9", "\u00e9"),
        (b"x" * 255, "x" * 255),
        (b"con", "con"),
        (b"a%3Fb%23c", "a?b#c"),
    ):
        status, told = await _raw(api, cast, "PUT", f"{FILES}/".encode() + path, b"hi")
        assert (status, told.get("name")) == (201, name), path


async def test_bytes_that_no_address_may_hold_are_refused(cast: Cast, api: Api) -> None:
    for path in (b"\xff\xfe", "\u00e9".encode(), b"a\x01b", b"a\x00b"):
        status, told = await _raw(api, cast, "PUT", f"{FILES}/".encode() + path)
        assert (status, told["type"]) == (400, "urn:filestore:problem:bad-request"), path
    assert await _names(cast.viewer) == []


async def _raw(
    api: Api, cast: Cast, method: str, target: bytes, body: bytes = b""
) -> tuple[int, dict[str, object]]:
    async with RawConnection(api.url) as raw:
        head = (
            f"Host: x\r\nAuthorization: Bearer {cast.member.token}\r\nContent-Length: {len(body)}"
        )
        await raw.send(b"%s %s HTTP/1.1\r\n" % (method.encode(), target))
        await raw.send(f"{head}\r\n\r\n".encode() + body)
        status, headers = await raw.head()
        return status, json.loads(await raw.body(headers))
