"""Who may not write any more completes nothing, whatever the protocol; what was acknowledged stays.

Each upload is under way when its client loses its rights, and goes on when they are given back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from filestore.transfer.concatenating import Concatenation
from tests.protocol.conftest import Site
from tests.protocol.ietf_rows import PARTIAL
from tests.protocol.rows import named
from tests.protocol.wire import Answer, Headers, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA = b"hello world"
HEAD, TAIL = DATA[:8], DATA[8:]
REFUSALS = {"removed": (404, "not-found"), "lowered": (403, "forbidden")}
REFUSALS["revoked"] = (401, "unauthenticated")
IETF = ("Upload-Draft-Interop-Version", "8")
WAITS = ("Expect", "100-continue")


@dataclass(frozen=True)
class Loser:
    """A client that is to lose its rights."""

    site: Site
    name: str
    change: str

    @property
    def path(self) -> str:
        return f"/api/v1/groups/{self.site.group}/files/{self.name}"

    @property
    def _member(self) -> str:
        return f"/api/v1/groups/{self.site.group}/members/token"

    async def lose(self) -> None:
        if self.change == "removed":
            assert (await self.site.admin.delete(self._member)).status == 204
        elif self.change == "lowered":
            assert (await self.site.admin.put(self._member, {"role": "viewer"})).status == 200
        else:
            await self._revoke()

    async def regain(self) -> Site:
        """The site for the same user, who may write again."""
        given = await self.site.admin.put(self._member, {"role": "member"})
        assert given.status in (200, 201)
        made = await self.site.admin.post("/api/v1/tokens", {"user": "token", "name": "again"})
        return self.site.by(made.json["token"])

    async def _revoke(self) -> None:
        tokens = await self.site.admin.get("/api/v1/tokens?user=token&limit=1000")
        (mine,) = [item for item in tokens.json["items"] if item["name"] == self.name]
        assert (await self.site.admin.delete(f"/api/v1/tokens/{mine['id']}")).status == 204


@pytest_asyncio.fixture(loop_scope="module", params=list(REFUSALS))
async def loser(request: pytest.FixtureRequest, site: Site) -> Loser:
    name = f"rights-{request.node.name}".replace("[", "-").replace("]", "")
    made = await site.admin.post("/api/v1/tokens", {"user": "token", "name": name})
    return Loser(site.by(made.json["token"]), name, request.param)


async def _ended(loser: Loser, begin: Callable[[Wire], Awaitable[None]], method: str) -> Answer:
    """The answer to a request that loses its rights between its first and its last byte."""
    async with loser.site.connected() as wire:
        await begin(wire)
        await wire.send(HEAD)
        await loser.lose()
        await wire.send(TAIL)
        return await wire.answer(method)


def _check_refused(loser: Loser, answer: Answer) -> None:
    status, code = REFUSALS[loser.change]
    assert answer.status == status, answer
    assert f":{code}".encode() in answer.body, answer


async def _check_goes_on(loser: Loser, upload: str, least: int) -> None:
    """Nothing appeared; with the rights back it goes on where it was acknowledged."""
    site = await loser.regain()
    assert await site.content(loser.name) is None
    speaks, kind = [("Tus-Resumable", "1.0.0")], "application/offset+octet-stream"
    if (await site.ask("HEAD", upload, speaks)).status == 409:
        speaks, kind = [IETF, ("Upload-Complete", "?1")], PARTIAL
    stands = await site.ask("HEAD", upload, speaks)
    assert stands.status in (200, 204), stands
    offset = int(stands.headers["upload-offset"])
    assert least <= offset < len(DATA)
    piece = [("Upload-Offset", str(offset)), ("Content-Type", kind)]
    done = await site.ask("PATCH", upload, [*speaks, *piece], DATA[offset:])
    assert done.status in (201, 204), done
    assert await site.content(loser.name) == DATA


def _begin(
    loser: Loser, method: str, target: str, headers: Headers
) -> Callable[[Wire], Awaitable[None]]:
    async def begin(wire: Wire) -> None:
        length = ("Content-Length", str(len(DATA)))
        await wire.head(method, target, [loser.site.bearer, WAITS, *headers, length])
        while (await wire.told())[0] != 100:
            pass

    return begin


@pytest.mark.parametrize("speaks", ["tus", "ietf"])
async def test_no_append_completes_for_who_lost_the_right(loser: Loser, speaks: str) -> None:
    site = loser.site
    if speaks == "tus":
        upload = await site.create(2 + len(DATA), list(named(loser.name).items()))
        assert (await site.patch(upload, 0, b">>")).status == 204
    else:
        made = await site.ask("PUT", loser.path, [IETF, ("Upload-Complete", "?0")], b">>")
        assert made.status == 201, made
        upload = made.location
    headers = (
        [("Tus-Resumable", "1.0.0"), *site.piece(2)]
        if speaks == "tus"
        else [IETF, ("Upload-Complete", "?1"), ("Upload-Offset", "2"), ("Content-Type", PARTIAL)]
    )
    answer = await _ended(loser, _begin(loser, "PATCH", upload, headers), "PATCH")
    _check_refused(loser, answer)
    again = await loser.regain()
    assert await again.content(loser.name) is None
    assert 2 <= (await again.running())[upload] < 2 + len(DATA)


async def test_a_creation_with_all_its_bytes_does_not_complete_and_can_go_on(
    loser: Loser,
) -> None:
    headers = [("Tus-Resumable", "1.0.0"), ("Upload-Length", str(len(DATA)))]
    headers += [*named(loser.name).items(), ("Content-Type", "application/offset+octet-stream")]
    before = await loser.site.running()
    begin = _begin(loser, "POST", loser.site.collection, headers)
    _check_refused(loser, await _ended(loser, begin, "POST"))
    (upload,) = (await loser.site.running()).keys() - before.keys()
    await _check_goes_on(loser, upload, 0)


async def test_an_optimistic_creation_does_not_complete_and_can_go_on(loser: Loser) -> None:
    headers = [IETF, ("Upload-Complete", "?1")]
    before = await loser.site.running()
    _check_refused(loser, await _ended(loser, _begin(loser, "PUT", loser.path, headers), "PUT"))
    (upload,) = (await loser.site.running()).keys() - before.keys()
    await _check_goes_on(loser, upload, 0)


async def test_a_plain_put_does_not_complete_and_leaves_nothing(loser: Loser) -> None:
    before = await loser.site.running()
    _check_refused(loser, await _ended(loser, _begin(loser, "PUT", loser.path, []), "PUT"))
    assert await loser.site.running() == before
    assert await (await loser.regain()).content(loser.name) is None


async def test_a_final_upload_does_not_complete_and_its_parts_stay(
    loser: Loser, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = loser.site
    parts = []
    for data in (HEAD, TAIL):
        parts.append(await site.create(len(data), [("Upload-Concat", "partial")]))
        assert (await site.patch(parts[-1], 0, data)).status == 204
    build, is_lost = Concatenation.run, asyncio.Event()

    async def run(self: Concatenation) -> None:
        if not is_lost.is_set():
            is_lost.set()
            await loser.lose()
        await build(self)

    monkeypatch.setattr(Concatenation, "run", run)
    headers = [("Upload-Concat", "final;" + " ".join(parts)), *named(loser.name).items()]
    _check_refused(loser, await site.tus("POST", site.collection, headers))
    again = await loser.regain()
    assert await again.content(loser.name) is None
    made = await again.tus("POST", site.collection, headers)
    assert made.status == 201, made
    assert await again.content(loser.name) == DATA


async def test_a_partial_upload_does_not_become_whole(loser: Loser) -> None:
    site = loser.site
    upload = await site.create(len(DATA), [("Upload-Concat", "partial")])
    headers = [("Tus-Resumable", "1.0.0"), *site.piece(0)]
    _check_refused(loser, await _ended(loser, _begin(loser, "PATCH", upload, headers), "PATCH"))
    assert await (await loser.regain()).offset(upload) < len(DATA)
