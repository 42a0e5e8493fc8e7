"""Partial and final uploads beyond one request: events, quota, time, answers that are lost."""

import asyncio
import json

import pytest
import sqlalchemy as sa

from filestore.meta.database import Tx
from filestore.meta.tables import events, uploads
from filestore.meta.uploads import count_open_by
from tests.protocol.conftest import Site
from tests.protocol.rows import named

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTIAL = ("Upload-Concat", "partial")


async def _part(site: Site, data: bytes) -> str:
    """The address of a whole partial upload."""
    upload = await site.create(len(data), [PARTIAL])
    if data:
        assert (await site.patch(upload, 0, data)).status == 204
    return upload


async def _written(site: Site, name: str) -> int:
    """How many events say that this file was written."""
    query = sa.select(sa.func.count()).where(
        events.c.kind == "file.written", events.c.payload.contains(f'"{name}"')
    )

    async def look(tx: Tx) -> int:
        return int(await tx.scalar(query) or 0)

    return await site.service.services.db.read(look)


async def test_x12_parts_make_no_file_and_the_final_one_makes_one(site: Site) -> None:
    before = (await site.admin.get(f"/api/v1/groups/{site.group}/tree/?limit=1000")).json
    parts = [await _part(site, b"hello "), await _part(site, b"world"), await _part(site, b"")]
    after = (await site.admin.get(f"/api/v1/groups/{site.group}/tree/?limit=1000")).json
    assert after == before
    concat = ("Upload-Concat", "final;" + " ".join(parts))
    for _ in range(3):
        made = await site.tus("POST", site.collection, [concat, *named("x12").items()])
        assert made.status == 201
        assert (await site.tus("HEAD", made.location)).headers["upload-offset"] == "11"
    assert await _written(site, "/x12") == 1
    versions = await site.admin.get(f"/api/v1/groups/{site.group}/versions/x12")
    assert [item["number"] for item in versions.json["items"]] == [1]


async def test_x12_two_requests_for_the_same_file_at_once_make_one(site: Site) -> None:
    parts = [await _part(site, b"one"), await _part(site, b"two")]
    headers = [("Upload-Concat", "final;" + " ".join(parts)), *named("x12-twice").items()]
    made = await asyncio.gather(*(site.tus("POST", site.collection, headers) for _ in range(6)))
    statuses = sorted(answer.status for answer in made)
    assert set(statuses) <= {201, 409}, made  # 409: robbed by the same request, which goes on
    assert 201 in statuses
    assert len({answer.location for answer in made if answer.status == 201}) == 1
    assert await site.content("x12-twice") == b"onetwo"
    assert await _written(site, "/x12-twice") == 1


async def test_x14_a_final_upload_that_is_being_built_has_no_offset(site: Site) -> None:
    """As it is for a moment, and after a crash."""
    parts = [await _part(site, b"hello "), await _part(site, b"world")]
    headers = [("Upload-Concat", "final;" + " ".join(parts)), *named("x14").items()]
    made = await site.tus("POST", site.collection, headers)
    await site.set_row(made.location, state="open", byte_offset=0)
    head = await site.tus("HEAD", made.location)
    assert head.status == 200
    assert head.headers["upload-length"] == "11"
    assert not {"upload-offset", "upload-expires"} & head.headers.keys()
    await site.set_row(made.location, state="done", byte_offset=11)
    assert await site.offset(made.location) == 11


async def test_parts_keep_their_reservation_and_the_final_one_takes_it_over(site: Site) -> None:
    small = await site.small_group("parts", 1000)
    a, b = await _part(small, bytes(400)), await _part(small, bytes(500))
    assert await small.quota() == (0, 900)
    refused = await small.tus("POST", small.collection, [("Upload-Concat", f"final;{a} {b} {a}")])
    assert refused.status == 413, refused
    assert await small.quota() == (0, 900)
    made = await small.tus("POST", small.collection, [("Upload-Concat", f"final;{a} {b}")])
    assert made.status == 201, made
    assert await small.quota() == (900, 0)
    again = await small.tus("POST", small.collection, [("Upload-Concat", f"final;{a}")])
    assert again.status == 413, again  # it would be charged again, and reserves anew
    for part in (a, b):
        assert (await small.tus("DELETE", part)).status == 204
    assert await small.quota() == (900, 0)


async def test_a_whole_part_expires_and_frees_what_it_reserved(site: Site) -> None:
    small = await site.small_group("expiring", 1000)
    part, used = await _part(small, bytes(300)), await _part(small, bytes(200))
    made = await small.tus(
        "POST", small.collection, [("Upload-Concat", f"final;{used}"), *named("kept").items()]
    )
    assert made.status == 201
    assert await small.quota() == (200, 300)
    for upload in (part, used):
        await small.set_row(upload, expires_at=0)
    late = await small.tus("POST", small.collection, [("Upload-Concat", f"final;{part}")])
    assert late.status == 400  # before any sweeper has run
    await small.reaper.expire_uploads()
    await small.reaper.release_contents()
    for upload in (part, used):
        assert (await small.tus("HEAD", upload)).status == 410
    assert await small.quota() == (200, 0)
    assert await small.content("kept") == bytes(200)


async def test_parts_that_a_file_is_made_of_do_not_count_as_running(site: Site) -> None:
    """Clients leave them to expire: else these would be all that a user may run."""
    db = site.service.services.db
    user_id = await db.read(
        lambda tx: tx.scalar(sa.select(uploads.c.user_id).where(uploads.c.part == "partial"))
    )

    await site.create(1)

    async def count() -> int:
        return (await db.read(lambda tx: count_open_by(tx, [str(user_id)])))[str(user_id)]

    before = await count()
    parts = [await _part(site, b"a"), await _part(site, b"b")]
    assert await count() == before + 2
    headers = [("Upload-Concat", "final;" + " ".join(parts))]
    assert (await site.tus("POST", site.collection, headers)).status == 201
    assert await count() == before


async def test_a_part_is_listed_among_the_running_uploads(site: Site) -> None:
    part = await _part(site, b"hello")
    answer = await site.admin.get(f"{site.collection}?limit=1000")
    (item,) = [item for item in answer.json["items"] if part.endswith(item["id"])]
    assert (item["part"], item["offset"], item["length"], item["reserved"]) == ("partial", 5, 5, 5)


async def test_two_creations_with_one_key_at_once_make_one_upload(site: Site) -> None:
    headers = [("Upload-Length", "10"), ("Idempotency-Key", "race"), *named("race").items()]
    made = await asyncio.gather(*(site.tus("POST", site.collection, headers) for _ in range(8)))
    assert {answer.status for answer in made} == {201}
    assert len({answer.location for answer in made}) == 1


async def test_a_key_survives_the_loss_of_the_answer_to_a_creation_with_upload(site: Site) -> None:
    data = bytes(range(256)) * 40
    fields = [
        *(("Upload-Length", str(len(data))), ("Idempotency-Key", "lost")),
        *(("Content-Type", "application/offset+octet-stream"), *named("lost").items()),
    ]
    headers = [
        *(site.bearer, ("Tus-Resumable", "1.0.0"), ("Content-Length", str(len(data)))),
        *fields,
    ]
    before = set(await site.running())
    async with site.connected() as wire:
        await wire.head("POST", site.collection, headers)
        await wire.send(data[:5000])
    async with asyncio.timeout(20):
        while not (begun := set(await site.running()) - before):
            continue
    await site.wait_for(begun.pop(), 5000)
    async with site.connected() as wire:
        await wire.head("POST", site.collection, headers)
        made = await wire.answer("POST")
    assert (made.status, made.headers["upload-offset"]) == (201, "5000")
    assert (await site.patch(made.location, 5000, data[5000:])).status == 204
    again = await site.tus("POST", site.collection, fields, data)
    assert (again.status, again.headers["upload-offset"]) == (201, str(len(data)))
    assert await site.content("lost") == data
    assert await _written(site, "/lost") == 1


@pytest.mark.parametrize("key", [(), [("Idempotency-Key", "x4-bytes")]])
async def test_x4_addresses_of_other_letters_than_urls_have_are_refused(
    site: Site, key: list[tuple[str, str]]
) -> None:
    part = await _part(site, b"hello")
    for spoilt in (
        part.encode() + b"#\xff",
        b"/\xff" + part.encode(),
        part.encode() + b"#\xc3\xa9",
    ):
        concat = ("Upload-Concat", b"final;" + spoilt)
        refused = await site.tus("POST", site.collection, [concat, *key])
        assert refused.status == 400, refused


async def test_x4_a_thousand_absolute_addresses_make_a_file_and_one_more_is_refused(
    site: Site,
) -> None:
    """Some 100 characters each, as behind a proxy with a long name."""
    part = "https://" + "files." * 8 + "example.org" + await _part(site, b"hello")
    for count, status in ((1000, 201), (1001, 400)):
        concat = ("Upload-Concat", "final;" + " ".join([part] * count))
        assert 100_000 < len(concat[1]) < 131_072
        made = await site.tus("POST", site.collection, [concat, *named("thousand").items()])
        assert made.status == status, made
    assert await site.content("thousand") == b"hello" * 1000


async def test_x4_addresses_that_are_longer_than_a_header_may_be_are_refused_with_the_limit(
    site: Site,
) -> None:
    part = "https://" + "files." * 20 + "example.org" + await _part(site, b"hello")
    refused = await site.tus(
        "POST", site.collection, [("Upload-Concat", "final;" + " ".join([part] * 1000))]
    )
    problem = json.loads(refused.body)
    assert (refused.status, problem["header"]) == (431, "Upload-Concat")
    assert problem["limit"] == 131_072
