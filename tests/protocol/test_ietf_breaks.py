"""The draft over connections that break, fall silent, or come two at a time.

L4 and L7 to L9, L11 and L12 of the checklist; each in both versions. After every break the client
goes on where the server says, and the file is what was sent.
"""

import random
import re
import time
from dataclasses import dataclass

import pytest

from tests.protocol.conftest import Site
from tests.protocol.ietf_rows import INCONSISTENT, PARTIAL
from tests.protocol.wire import Answer, Headers, Wire, chunked

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("version", ["6", "8"]),
]

DATA = random.Random(9).randbytes(2_500_000)
POINTS = (0, 1, 300_000, 1_200_000, len(DATA) - 1)
"""Where connections break: around and between the cuts of blocks."""


@dataclass(frozen=True)
class Client:
    """A client of the draft with one file."""

    site: Site
    version: str
    name: str

    @property
    def speaks(self) -> Headers:
        return [("Upload-Draft-Interop-Version", self.version), self.site.bearer]

    @property
    def path(self) -> str:
        return f"/api/v1/groups/{self.site.group}/files/{self.name}"

    async def ask(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        speaks = ("Upload-Draft-Interop-Version", self.version)
        return await self.site.ask(method, target, [speaks, *headers], body)

    async def create(self, headers: Headers = ()) -> str:
        """The address of a careful creation."""
        made = await self.ask("PUT", self.path, [("Upload-Complete", "?0"), *headers], b"")
        assert made.status == 201, made
        return made.location

    async def begin_put(self, wire: Wire, *headers: tuple[str, str]) -> str:
        """Sends the head of an optimistic creation; the address that 104 names."""
        await wire.head("PUT", self.path, [*self.speaks, ("Upload-Complete", "?1"), *headers])
        status, fields = await wire.told()
        assert status == 104, fields
        assert fields["upload-draft-interop-version"] == self.version
        return re.sub(r"^http://[^/]+", "", fields["location"])

    async def begin_append(
        self, wire: Wire, upload: str, offset: int, framing: tuple[str, str], complete: str = "?1"
    ) -> None:
        """Sends the head of an append; returns when the server reads its body."""
        headers = [*self.speaks, *_piece(offset, complete), ("Expect", "100-continue"), framing]
        await wire.head("PATCH", upload, headers)
        assert await wire.interim() == 100

    async def append(self, upload: str, offset: int, complete: str = "?1") -> Answer:
        return await self.ask("PATCH", upload, _piece(offset, complete), DATA[offset:])

    async def stands(self, upload: str) -> Answer:
        found = await self.ask("HEAD", upload)
        assert found.status == 204, found
        return found

    async def offset(self, upload: str) -> int:
        return int((await self.stands(upload)).headers["upload-offset"])

    async def finish(self, upload: str) -> None:
        """Goes on from wherever it stands; the file is all of the data, and goes again."""
        offset = await self.offset(upload)
        answer = await self.append(upload, offset)
        assert (answer.status, answer.headers["upload-complete"]) == (201, "?1"), answer
        assert await self.site.content(self.name) == DATA
        gone = await self.site.admin.delete(f"{self.path}?permanent=true")
        assert gone.status == 204, gone


def _piece(offset: int, complete: str) -> Headers:
    return [
        ("Upload-Offset", str(offset)),
        ("Upload-Complete", complete),
        ("Content-Type", PARTIAL),
    ]


_WHOLE = ("Content-Length", str(len(DATA)))


@pytest.mark.parametrize("point", POINTS)
async def test_l7_what_came_of_a_creation_before_a_break_is_kept(
    site: Site, version: str, point: int
) -> None:
    client = Client(site, version, f"l7-create-{version}-{point}")
    async with site.connected() as wire:
        upload = await client.begin_put(wire, _WHOLE)
        await wire.send(DATA[:point])
    await site.wait_for(upload, point)
    stands = await client.stands(upload)
    assert stands.headers["upload-offset"] == str(point)
    assert stands.headers["upload-complete"] == "?0"
    assert stands.headers["upload-length"] == str(len(DATA))
    assert await site.content(client.name) is None
    await client.finish(upload)


@pytest.mark.parametrize("point", POINTS)
async def test_l7_what_came_of_an_append_before_a_break_is_kept(
    site: Site, version: str, point: int
) -> None:
    client = Client(site, version, f"l7-append-{version}-{point}")
    upload = await client.create()
    async with site.connected() as wire:
        await client.begin_append(wire, upload, 0, _WHOLE)
        await wire.send(DATA[:point])
    await site.wait_for(upload, point)
    await client.finish(upload)


async def test_l7_a_rest_of_unknown_length_that_breaks_is_not_taken_for_whole(
    site: Site, version: str
) -> None:
    client = Client(site, version, f"l7-chunks-{version}")
    async with site.connected() as wire:
        upload = await client.begin_put(wire, ("Transfer-Encoding", "chunked"))
        await wire.send(chunked(DATA[:700_000])[: -len(b"0\r\n\r\n")])
    await site.wait_for(upload, 700_000)
    stands = await client.stands(upload)
    assert stands.headers["upload-complete"] == "?0"
    assert "upload-length" not in stands.headers
    await client.finish(upload)


async def test_l7_a_client_that_crashes_leaves_a_gapless_beginning(
    site: Site, version: str
) -> None:
    client = Client(site, version, f"l7-rst-{version}")
    async with site.connected() as wire:
        upload = await client.begin_put(wire, _WHOLE)
        await wire.send(DATA[:1_000_000])
        wire.reset()
    assert 0 <= await client.offset(upload) <= 1_000_000
    await client.finish(upload)


async def test_l7_a_silent_client_is_told_where_to_go_on(site: Site, version: str) -> None:
    client = Client(site, version, f"l7-silent-{version}")
    async with site.connected() as wire:
        upload = await client.begin_put(wire, _WHOLE)
        await wire.send(DATA[:500_000])
        answer = await wire.answer("PUT")
    assert (answer.status, answer.headers["upload-complete"]) == (408, "?0"), answer
    assert answer.location == upload
    assert await client.offset(upload) == 500_000
    await client.finish(upload)


async def test_l7_content_with_a_digest_that_breaks_off_is_not_appended(
    site: Site, version: str
) -> None:
    client = Client(site, version, f"l7-digest-{version}")
    upload = await client.create()
    async with site.connected() as wire:
        digest = ("Content-Digest", f"sha-256=:{'A' * 43}=:")
        headers = [*client.speaks, *_piece(0, "?0"), ("Content-Length", "1000000"), digest]
        await wire.head("PATCH", upload, [*headers, ("Expect", "100-continue")])
        assert await wire.interim() == 100
        await wire.send(DATA[:600_000])
    assert await client.offset(upload) == 0
    await client.finish(upload)


async def test_l8_progress_is_told_while_bytes_arrive_and_is_never_more_than_is_safe(
    site: Site, version: str
) -> None:
    client = Client(site, version, f"l8-{version}")
    async with site.connected() as wire:
        upload = await client.begin_put(wire, _WHOLE)
        await wire.send(DATA[:2_000_000])
        status, fields = await wire.told()
        assert (status, set(fields)) == (104, {"upload-draft-interop-version", "upload-offset"})
        said = int(fields["upload-offset"])
        assert 0 < said <= 2_000_000
        assert (await site.running())[upload] >= said
        wire.reset()
    assert await client.offset(upload) >= said
    await client.finish(upload)


async def test_l8_http_1_0_has_no_interim_answers(site: Site, version: str) -> None:
    client = Client(site, version, f"l8-old-{version}")
    async with site.connected() as wire:
        headers = [*client.speaks, ("Upload-Complete", "?1"), ("Content-Length", "5")]
        await wire.head("PUT", client.path, headers, version="1.0")
        await wire.send(b"hello")
        answer = await wire.answer("PUT")
    assert (answer.status, answer.interim, answer.headers["upload-complete"]) == (201, (), "?1")


async def test_l4_limits_do_not_tighten_while_an_upload_goes_on(site: Site, version: str) -> None:
    client = Client(site, version, f"l4-{version}")
    made = await client.ask("PUT", client.path, [("Upload-Complete", "?0")], b"")
    upload = made.location
    await site.set_row(upload, expires_at=int((time.time() + 100) * 1e6))
    before = await client.stands(upload)
    assert (await client.ask("PATCH", upload, _piece(0, "?0"), b"hello")).status == 204
    after = await client.stands(upload)
    sizes = [_limits(answer)["max-size"] for answer in (made, before, after)]
    assert len(set(sizes)) == 1
    age = "expires" if version == "6" else "max-age"
    assert _limits(after)[age] > 100 >= _limits(before)[age], "progress gives it time again"


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_l9_a_newcomer_ends_the_transfer_that_runs(
    site: Site, version: str, method: str
) -> None:
    client = Client(site, version, f"l9-{method}-{version}")
    upload = await client.create()
    async with site.connected() as wire:
        await client.begin_append(wire, upload, 0, _WHOLE)
        await wire.send(DATA[:400_000])
        offset = 0
        if method == "HEAD":
            offset = await client.offset(upload)
        elif method == "DELETE":
            assert (await client.ask("DELETE", upload)).status == 204
        else:
            assert (await client.append(upload, 0, "?0")).status == 409
            offset = await client.offset(upload)
        first = await wire.answer("PATCH")
        assert first.status in (409, 410), first
    if method == "DELETE":
        assert (await client.ask("HEAD", upload)).status == 410
        return
    assert 0 <= offset <= 400_000
    await client.finish(upload)


async def test_l11_an_upload_whose_time_is_over_is_gone(site: Site, version: str) -> None:
    client = Client(site, version, f"l11-{version}")
    upload = await client.create()
    await site.set_row(upload, expires_at=0)
    gone = await client.ask("HEAD", upload)
    assert (gone.status, gone.headers.get("upload-offset")) == (410, None)
    assert (await client.append(upload, 0)).status == 410
    assert await site.content(client.name) is None


async def test_l12_who_lost_the_right_meanwhile_does_not_complete_an_upload(
    site: Site, version: str
) -> None:
    client = Client(site, version, f"l12-role-{version}")
    upload = await client.create()
    members = f"/api/v1/groups/{site.group}/members/token"
    async with site.connected() as wire:
        await client.begin_append(wire, upload, 0, ("Content-Length", "5"))
        await wire.send(b"hell")
        assert (await site.admin.put(members, {"role": "viewer"})).status == 200
        await wire.send(b"o")
        refused = await wire.answer("PATCH")
    assert refused.status == 403, refused
    assert await site.content(client.name) is None
    assert (await site.admin.put(members, {"role": "member"})).status == 200
    assert (await client.ask("DELETE", upload)).status == 204


async def test_l12_a_token_that_was_revoked_meanwhile_does_not_complete_an_upload(
    site: Site, version: str
) -> None:
    made = await site.admin.post("/api/v1/tokens", {"user": "token", "name": f"l12-{version}"})
    client = Client(site.by(made.json["token"]), version, f"l12-token-{version}")
    upload = await client.create()
    async with site.connected() as wire:
        await client.begin_append(wire, upload, 0, ("Content-Length", "5"))
        await wire.send(b"hell")
        assert (await site.admin.delete(f"/api/v1/tokens/{made.json['id']}")).status == 204
        await wire.send(b"o")
        refused = await wire.answer("PATCH")
    assert refused.status == 401, refused
    owner = Client(site, version, client.name)
    assert await site.content(client.name) is None
    assert (await owner.ask("DELETE", upload)).status == 204


async def test_l12_bytes_that_no_quota_was_reserved_for_do_not_become_a_file(
    site: Site, version: str
) -> None:
    small = await site.small_group(f"small-{version}", 1_000_000)
    client = Client(small, version, "outgrown")
    refused = await client.ask("PUT", client.path, [("Upload-Complete", "?1")], DATA[:1_000_001])
    assert (refused.status, refused.headers["upload-complete"]) == (413, "?0"), refused
    assert "upload-limit" in refused.headers
    upload = await client.create()
    async with small.connected() as wire:
        headers = [*client.speaks, *_piece(0, "?1"), ("Transfer-Encoding", "chunked")]
        await wire.head("PATCH", upload, headers)
        await wire.send(chunked(DATA[:1_000_001]))
        refused = await wire.answer("PATCH")
    assert refused.status == 413, refused
    assert (await client.ask("DELETE", upload)).status == 204
    assert await small.quota() == (0, 0)


async def test_l3_a_body_that_outgrows_the_length_leaves_nothing_reserved(
    site: Site, version: str
) -> None:
    other = await site.small_group(f"outgrown-{version}", 3_000_000)
    client = Client(other, version, "outgrown")
    upload = await client.create([("Upload-Length", "1000000")])
    assert await other.quota() == (0, 1_000_000)
    async with other.connected() as wire:
        headers = [*client.speaks, *_piece(0, "?0"), ("Transfer-Encoding", "chunked")]
        await wire.head("PATCH", upload, headers)
        await wire.send(chunked(DATA[:1_000_001]))
        refused = await wire.answer("PATCH")
    assert refused.status == 400, refused
    assert INCONSISTENT.encode() in refused.body
    assert (await client.ask("HEAD", upload)).status == 410
    assert await other.quota() == (0, 0)


def _limits(answer: Answer) -> dict[str, int]:
    pairs = (part.split("=") for part in answer.headers["upload-limit"].split(", "))
    return {key: int(value) for key, value in pairs}
