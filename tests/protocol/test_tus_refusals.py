"""What is refused early: before the body is asked for, and so that the client reads the answer."""

import contextlib
import json

import pytest

from tests.protocol.conftest import MAX_SIZE, Site
from tests.protocol.rows import BODY_TYPE, named
from tests.protocol.wire import Answer, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

BIG = 3 * 2**20


async def _refused_early(site: Site, target: str, headers: Headers, method: str) -> Answer:
    """The answer to a request of which only the beginning is ever sent."""
    async with site.connected() as wire:
        sent = [site.bearer, ("Tus-Resumable", "1.0.0"), *headers]
        await wire.head(method, target, sent)
        await wire.send(bytes(10_000))
        answer = await wire.answer(method)
        assert answer.headers["connection"] == "close"
        with contextlib.suppress(ConnectionError):
            await wire.send(bytes(200_000))
        assert await wire.rest() == b""
    return answer


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (409, {"Upload-Offset": "7"}),
        (413, {"Content-Length": str(BIG + 1)}),
        (415, {"Content-Type": "text/plain"}),
        (400, {"Upload-Offset": "x"}),
        (412, {"Tus-Resumable": "2.0.0"}),
        (401, {"Authorization": "Bearer wrong"}),
        (400, {"Upload-Checksum": "sha1"}),
        (415, {"Content-Encoding": "gzip"}),
    ],
)
async def test_p16_an_early_refusal_is_read_by_a_client_that_is_still_sending(
    site: Site, status: int, changes: dict[str, str]
) -> None:
    upload = await site.create(BIG)
    fields = {
        "Authorization": site.bearer[1],
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": BODY_TYPE,
        "Content-Length": str(BIG),
        **changes,
    }
    async with site.connected() as wire:
        await wire.head("PATCH", upload, list(fields.items()))
        await wire.send(bytes(10_000))
        answer = await wire.answer("PATCH")
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert await wire.rest() == b""
    assert await site.offset(upload) == 0
    assert (await site.tus("DELETE", upload)).status == 204


async def test_p16_a_refused_creation_is_read_by_a_client_that_is_still_sending(
    site: Site,
) -> None:
    too_long = ("Upload-Length", str(MAX_SIZE + 1))
    body = [("Content-Type", BODY_TYPE), ("Content-Length", str(MAX_SIZE + 1))]
    before = await site.running()
    answer = await _refused_early(site, site.collection, [too_long, *body], "POST")
    assert answer.status == 413
    assert await site.running() == before


async def test_w8_who_asks_before_sending_is_refused_without_being_told_to_send(
    site: Site,
) -> None:
    small = await site.small_group("w8", 100)
    expect = [("Expect", "100-continue"), ("Content-Type", BODY_TYPE)]
    for status, fields in (
        (413, {"Upload-Length": "101", "Content-Length": "101"}),
        (413, {"Upload-Length": "50", "Content-Length": "51"}),
        (400, {"Upload-Length": "50", "Content-Length": "50", "Upload-Metadata": "a ***"}),
        (400, {"Content-Length": "50"}),
        (409, {"Upload-Length": "50", "Content-Length": "50", **named("folder")}),
    ):
        if status == 409:
            await small.admin.put("/api/v1/groups/w8/folders/folder")
        async with small.connected() as wire:
            headers = [small.bearer, ("Tus-Resumable", "1.0.0"), *expect, *fields.items()]
            await wire.head("POST", small.collection, headers)
            answer = await wire.answer("POST")
        assert (answer.status, answer.interim) == (status, ()), fields
    assert await small.running() == {}


async def test_w8_who_asks_before_sending_is_told_to_send_when_all_is_well(site: Site) -> None:
    expect = [("Expect", "100-continue"), ("Content-Type", BODY_TYPE)]
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), *expect, ("Upload-Length", "10")]
        await wire.head("POST", site.collection, [*headers, ("Content-Length", "5")])
        assert await wire.interim() == 100
        await wire.send(b"hello")
        made = await wire.answer("POST")
    assert (made.status, made.headers["upload-offset"]) == (201, "5")
    async with site.connected() as wire:
        headers = [site.bearer, ("Tus-Resumable", "1.0.0"), *expect, ("Upload-Offset", "5")]
        await wire.head("PATCH", made.location, [*headers, ("Content-Length", "5")])
        assert await wire.interim() == 100
        await wire.send(b"world")
        assert (await wire.answer("PATCH")).status == 204


async def test_n4_a_creation_beyond_the_quota_names_what_is_needed_and_what_is_there(
    site: Site,
) -> None:
    small = await site.small_group("n4", 100)
    await small.create(60)
    refused = await small.tus("POST", small.collection, [("Upload-Length", "41")])
    assert refused.status == 413
    told = json.loads(refused.body)
    assert told["type"] == "urn:filestore:problem:quota-exceeded"
    assert (told["needed"], told["free"], told["reserved"], told["freeable"]) == (41, 40, 60, 0)
    assert told["reserved_by"] == [{"user": "token", "bytes": 60, "uploads": 1}]
    assert await small.quota() == (0, 60)
    await small.create(40)
    assert await small.quota() == (0, 100)


async def test_d9_an_upload_of_unknown_length_cannot_outgrow_the_quota(site: Site) -> None:
    small = await site.small_group("d9", 100_000)
    upload = await small.create()
    assert (await small.patch(upload, 0, bytes(60_000))).status == 204
    refused = await small.patch(upload, 60_000, bytes(40_001))
    assert refused.status == 413
    assert json.loads(refused.body)["type"] == "urn:filestore:problem:quota-exceeded"
    used, reserved = await small.quota()
    assert (used, reserved <= 100_000) == (0, True)
    offset = await small.offset(upload)
    assert offset == 60_000
    last = await small.patch(upload, offset, bytes(100), [("Upload-Length", "60100")])
    assert last.status == 204, last
    assert await small.quota() == (60_100, 0)


async def test_d7_a_length_beyond_the_quota_leaves_the_upload_as_it_was(site: Site) -> None:
    small = await site.small_group("d7", 1000)
    upload = await small.create()
    refused = await small.patch(upload, 0, b"", [("Upload-Length", "1001")])
    assert refused.status == 413
    assert (await small.tus("HEAD", upload)).headers["upload-defer-length"] == "1"
    assert await small.quota() == (0, 0)


async def test_w5_a_creation_that_outgrows_the_quota_leaves_nothing(site: Site) -> None:
    small = await site.small_group("w5", 1000)
    headers = [("Upload-Defer-Length", "1"), ("Content-Type", BODY_TYPE)]
    refused = await small.tus("POST", small.collection, headers, bytes(1001))
    assert refused.status == 413
    assert await small.running() == {}
    assert await small.quota() == (0, 0)


async def test_a_header_beyond_all_bounds_is_refused_in_the_words_of_the_service(
    site: Site,
) -> None:
    answer = await site.tus("POST", site.collection, [("Upload-Metadata", "k" * 140_000)])
    assert answer.status == 431
    assert json.loads(answer.body)["type"] == "urn:filestore:problem:header-too-large"
    assert answer.headers["tus-resumable"] == "1.0.0"


async def test_two_lengths_of_one_body_are_refused(site: Site) -> None:
    upload = await site.create(5)
    for extra in (("Content-Length", "4"), ("Transfer-Encoding", "chunked")):
        answer = await site.patch(upload, 0, b"hello", [extra])
        assert answer.status == 400
    assert await site.offset(upload) == 0
