"""Files by their path: stored whole, given back byte for byte, safe for whoever opens them."""

import base64
import hashlib
import io
import json
import random
from collections.abc import AsyncIterator

import pytest

from filestore_chunker import block_hash
from tests.http.api import Api, RawConnection
from tests.http.conftest import Cast

FILES = "/api/v1/groups/maths/files"
DATA = random.Random(3).randbytes(3_000_000)


async def _quota(api: Api) -> tuple[int, int]:
    found = (await api.get("/api/v1/groups/maths/quota")).json
    return found["used_bytes"], found["reserved_bytes"]


async def _running(api: Api) -> list[object]:
    items: list[object] = (await api.get("/api/v1/groups/maths/uploads")).json["items"]
    return items


async def test_a_file_comes_back_as_it_was_sent(cast: Cast) -> None:
    made = await cast.member.put(
        f"{FILES}/a/b.bin", data=io.BytesIO(DATA), headers={"Content-Type": "a/b"}
    )
    assert made.status == 201, made
    item = made.json
    assert (item["kind"], item["path"], item["size"]) == ("file", "/a/b.bin", len(DATA))
    assert (item["mime"], item["version"], item["etag"]) == ("a/b", 1, made.headers["ETag"])
    got = await cast.viewer.get(f"{FILES}/a/b.bin")
    assert (got.status, got.body == DATA) == (200, True)
    digest = base64.b64encode(block_hash(DATA)).decode()
    assert got.headers["Repr-Digest"] == f"blake3=:{digest}:"
    assert got.headers["Content-Length"] == str(len(DATA))
    head = await cast.viewer.call("HEAD", f"{FILES}/a/b.bin")
    for name in ("ETag", "Content-Length", "Content-Type", "Last-Modified", "Repr-Digest"):
        assert head.headers[name] == got.headers[name]
    assert await _quota(cast.member) == (len(DATA), 0)


async def test_a_second_upload_to_a_path_is_a_new_version(cast: Cast) -> None:
    first = await cast.member.put(f"{FILES}/a", data=b"one")
    second = await cast.member.put(f"{FILES}/a", data=b"second")
    assert (first.status, second.status) == (201, 200)
    assert second.json["version"] == 2
    assert first.headers["ETag"] != second.headers["ETag"]
    assert (await cast.viewer.get(f"{FILES}/a")).body == b"second"
    assert (await cast.viewer.get(f"{FILES}/a?version=1")).body == b"one"
    assert (await cast.viewer.get(f"{FILES}/a?version=3")).status == 404
    assert (await cast.viewer.get(f"{FILES}/a?version=0")).status == 400
    assert await _quota(cast.member) == (9, 0)


async def test_a_file_of_unknown_length_is_complete_at_the_end_of_its_chunks(
    cast: Cast, api: Api
) -> None:
    async with RawConnection(api.url) as raw:
        await _put_head(raw, cast, "chunked", "Transfer-Encoding: chunked")
        await raw.send(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        status, headers = await raw.head()
        assert (status, json.loads(await raw.body(headers))["size"]) == (201, 11)
    assert (await cast.viewer.get(f"{FILES}/chunked")).body == b"hello world"


async def test_an_empty_file_is_a_file(cast: Cast) -> None:
    assert (await cast.member.put(f"{FILES}/empty", data=b"")).status == 201
    got = await cast.viewer.get(f"{FILES}/empty")
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")


async def _put_head(raw: RawConnection, cast: Cast, name: str, *lines: str) -> None:
    request = [
        f"PUT {FILES}/{name} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {cast.member.token}",
    ]
    await raw.send("\r\n".join([*request, *lines, "", ""]).encode())


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_breaks_off_leaves_nothing(cast: Cast, api: Api, framing: str) -> None:
    async with RawConnection(api.url) as raw:
        await _put_head(raw, cast, "half", framing, "Expect: 100-continue")
        assert await raw.head() == (100, {})
        assert len(await _running(cast.member)) == 1
        await raw.send(b"5\r\nhello")
    while await _running(cast.member):
        continue
    assert (await cast.viewer.get(f"{FILES}/half")).status == 404
    assert await _quota(cast.member) == (0, 0)


async def test_a_file_beyond_the_quota_is_refused_before_its_first_byte(
    cast: Cast, api: Api
) -> None:
    async with RawConnection(api.url) as raw:
        await _put_head(raw, cast, "big", f"Content-Length: {11 * 2**20}", "Expect: 100-continue")
        status, headers = await raw.head()
        told = json.loads(await raw.body(headers))
    assert (status, told["type"]) == (413, "urn:filestore:problem:quota-exceeded")
    assert (told["needed"], told["free"], told["limit"]) == (11 * 2**20, 10 * 2**20, 10 * 2**20)
    assert headers["connection"] == "close"
    assert await _quota(cast.member) == (0, 0)


async def test_a_file_of_unknown_length_stops_at_the_quota_and_leaves_nothing(
    cast: Cast,
) -> None:
    await cast.admin.patch("/api/v1/groups/maths", {"quota_bytes": 1_000_000})

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, 2_000_000, 100_000):
            yield DATA[start : start + 100_000]

    refused = await cast.member.put(f"{FILES}/big", data=chunks())
    assert (refused.status, refused.code) == (413, "quota-exceeded")
    assert await _quota(cast.member) == (0, 0)
    assert (await cast.viewer.get(f"{FILES}/big")).status == 404


async def test_an_expected_digest_is_checked_before_the_file_appears(cast: Cast) -> None:
    right = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"hullo").digest()).decode()
    for body in (b"hello", b""):
        refused = await cast.member.put(
            f"{FILES}/a", data=body, headers={"Repr-Digest": f"sha-256=:{wrong}:"}
        )
        assert (refused.status, refused.code) == (422, "digest-mismatch")
        assert (await cast.viewer.get(f"{FILES}/a")).status == 404
    headers = {"Repr-Digest": f"sha-256=:{right}:"}
    assert (await cast.member.put(f"{FILES}/a", data=b"hello", headers=headers)).status == 201
    unknown = {"Repr-Digest": "md5=:AAAA:"}
    assert (await cast.member.put(f"{FILES}/a", data=b"hello", headers=unknown)).status == 400
    assert await _quota(cast.member) == (5, 0)


async def test_a_folder_is_no_file(cast: Cast) -> None:
    assert (await cast.member.put("/api/v1/groups/maths/folders/f")).status == 201
    refused = await cast.member.put(f"{FILES}/f", data=b"x")
    assert (refused.status, refused.code) == (409, "conflict")
    assert (await cast.viewer.get(f"{FILES}/f")).status == 404
    await cast.member.put(f"{FILES}/x", data=b"x")
    refused = await cast.member.put(f"{FILES}/x/y", data=b"x")
    assert (refused.status, refused.code) == (409, "conflict")
    for method in ("PUT", "DELETE"):
        assert (await cast.member.call(method, f"{FILES}/")).code == "bad-name"
    assert await _quota(cast.member) == (1, 0)


async def test_a_part_of_a_file_is_not_taken_for_the_file(cast: Cast) -> None:
    headers = {"Content-Range": "bytes 0-4/10"}
    refused = await cast.member.put(f"{FILES}/part", data=b"hello", headers=headers)
    assert (refused.status, refused.code) == (400, "bad-header")


async def test_a_coded_body_is_refused(cast: Cast) -> None:
    headers = {"Content-Encoding": "gzip"}
    refused = await cast.member.put(f"{FILES}/z", data=b"hello", headers=headers)
    assert (refused.status, refused.code) == (415, "coded-body")
    assert (await cast.viewer.get(f"{FILES}/z")).status == 404


async def test_deleting_puts_into_the_trash_and_permanently_is_for_managers(cast: Cast) -> None:
    for name in ("a", "b"):
        await cast.member.put(f"{FILES}/{name}", data=b"hello")
    assert (await cast.member.delete(f"{FILES}/a")).status == 204
    assert (await cast.viewer.get(f"{FILES}/a")).status == 404
    assert await _quota(cast.member) == (10, 0)
    for who in (cast.member, cast.viewer):
        assert (await who.delete(f"{FILES}/b?permanent=true")).status == 403
    assert (await cast.viewer.get(f"{FILES}/b")).status == 200
    assert (await cast.manager.delete(f"{FILES}/b?permanent=true")).status == 204
    assert await _quota(cast.member) == (5, 0)
    assert (await cast.manager.delete(f"{FILES}/b")).status == 404
    assert (await cast.manager.delete(f"{FILES}/a?permanent=yes")).status == 400


async def test_a_token_without_the_scope_does_not_delete_for_good(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/a", data=b"hello")
    made = await cast.manager.post("/api/v1/tokens", {"name": "w", "scopes": ["read", "write"]})
    writer = cast.manager.by(made.json["token"])
    refused = await writer.delete(f"{FILES}/a?permanent=true")
    assert (refused.status, "manage" in refused.json["detail"]) == (403, True)
    assert (await writer.delete(f"{FILES}/a")).status == 204


async def test_conditions_keep_writers_from_overwriting_each_other(cast: Cast) -> None:
    put, data = cast.member.put, {"data": b"x"}
    path = f"{FILES}/a"
    assert (await put(path, **data, headers={"If-Match": "*"})).status == 412
    made = await put(path, **data, headers={"If-None-Match": "*"})
    assert made.status == 201
    for headers in ({"If-None-Match": "*"}, {"If-Match": '"cnt_other"'}):
        refused = await put(path, **data, headers=headers)
        assert (refused.status, refused.code) == (412, "precondition-failed")
    empty = await put(path, data=b"", headers={"If-None-Match": "*"})
    assert empty.status == 412
    again = await put(path, **data, headers={"If-Match": made.headers["ETag"]})
    assert (again.status, again.json["version"]) == (200, 2)
    stale = await cast.member.delete(path, headers={"If-Match": made.headers["ETag"]})
    assert stale.status == 412
    fresh = await cast.member.delete(path, headers={"If-Match": again.headers["ETag"]})
    assert fresh.status == 204
    assert await _quota(cast.member) == (2, 0)


async def test_of_two_that_create_the_same_file_one_is_told(cast: Cast, api: Api) -> None:
    """Both are let in; the condition is looked at again when the file would appear."""
    async with RawConnection(api.url) as one, RawConnection(api.url) as two:
        for raw in (one, two):
            lines = ("Content-Length: 5", "If-None-Match: *", "Expect: 100-continue")
            await _put_head(raw, cast, "race", *lines)
            assert await raw.head() == (100, {})
        for raw in (one, two):
            await raw.send(b"hello")
        answers = [(await raw.head())[0] for raw in (one, two)]
    assert sorted(answers) == [201, 412]
    assert (await cast.viewer.get("/api/v1/groups/maths/tree/race")).json["version"] == 1
    assert await _quota(cast.member) == (5, 0)


async def test_readers_that_have_the_file_are_not_sent_it_again(cast: Cast) -> None:
    made = await cast.member.put(f"{FILES}/a", data=b"hello")
    etag = made.headers["ETag"]
    modified = (await cast.viewer.get(f"{FILES}/a")).headers["Last-Modified"]
    for headers in ({"If-None-Match": etag}, {"If-Modified-Since": modified}):
        for method in ("GET", "HEAD"):
            got = await cast.viewer.call(method, f"{FILES}/a", headers=headers)
            assert (got.status, got.body, got.headers["ETag"]) == (304, b"", etag)
    for headers in ({"If-Match": '"other"'}, {"If-Match": f"W/{etag}"}):
        got = await cast.viewer.get(f"{FILES}/a", headers=headers)
        assert (got.status, got.code) == (412, "precondition-failed")
    assert (await cast.viewer.get(f"{FILES}/a", headers={"If-None-Match": "x"})).status == 400


async def test_what_a_group_stored_cannot_run_in_a_browser(cast: Cast) -> None:
    for name, mime in (("x.html", "text/html"), ("x.svg", "image/svg+xml"), ("x.png", "image/png")):
        headers = {"Content-Type": mime}
        await cast.member.put(f"{FILES}/{name}", data=b"<script>", headers=headers)
        for query in ("", "?inline=true"):
            got = await cast.viewer.get(f"{FILES}/{name}{query}")
            kind = got.headers["Content-Disposition"].partition(";")[0]
            assert kind == ("inline" if query and mime == "image/png" else "attachment")
            assert got.headers["Content-Type"] == mime
            assert got.headers["X-Content-Type-Options"] == "nosniff"
            assert got.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
            assert got.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert got.headers["Cache-Control"] == "private, no-cache"
    assert (await cast.viewer.get(f"{FILES}/x.png?inline=1")).status == 400
    assert (await cast.viewer.get(f"{FILES}/x.png?inlined=true")).status == 400


async def test_a_type_that_is_none_is_refused(cast: Cast) -> None:
    headers = {"Content-Type": "text"}
    refused = await cast.member.put(f"{FILES}/a", data=b"x", headers=headers)
    assert (refused.status, refused.code) == (400, "bad-header")


async def test_who_is_no_member_cannot_tell_a_file_from_none(cast: Cast) -> None:
    await cast.member.put(f"{FILES}/there", data=b"x")
    for method in ("GET", "PUT", "DELETE"):
        answers = [await cast.outsider.call(method, f"{FILES}/{name}") for name in ("there", "not")]
        assert [answer.status for answer in answers] == [404, 404]
        told = [{**answer.json, "instance": ""} for answer in answers]
        assert told[0] == told[1]


async def test_viewers_only_read(cast: Cast) -> None:
    assert (await cast.viewer.put(f"{FILES}/a", data=b"x")).status == 403
    await cast.member.put(f"{FILES}/a", data=b"x")
    assert (await cast.viewer.delete(f"{FILES}/a")).status == 403
    assert (await cast.viewer.get(f"{FILES}/a")).body == b"x"
