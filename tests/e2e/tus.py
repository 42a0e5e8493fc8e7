"""tus from the other side: uploads whose every request, and every byte, a test decides on."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final

import aiohttp
from yarl import URL

from tests.e2e.material import MIB, Material
from tests.http.api import Api, RawConnection, Reply

TUS: Final = {"Tus-Resumable": "1.0.0"}
BODY_TYPE: Final = "application/offset+octet-stream"
_PATIENCE_S: Final = 30.0


async def create(
    api: Api, group: str, size: int, name: str, *, metadata: dict[str, str] | None = None
) -> Reply:
    """Asks for an upload; its path is ``path_of`` the answer."""
    pairs = {"filename": name} | (metadata or {})
    encoded = (f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in pairs.items())
    headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": ",".join(encoded)}
    return await api.post(f"/api/v1/groups/{group}/uploads", headers=headers)


def path_of(reply: Reply) -> str:
    """The path of an upload that was created."""
    assert reply.status == 201, (reply.status, reply.body)
    return URL(reply.headers["Location"]).path


async def begin(api: Api, group: str, name: str, material: Material) -> str:
    """An upload for all of ``material``; its path."""
    return path_of(await create(api, group, material.size, name))


async def offset_of(api: Api, upload: str) -> int:
    """How far the upload is, as HEAD says. Whoever holds it is asked to let go."""
    reply = await api.call("HEAD", upload, headers=TUS)
    assert reply.status == 200, (reply.status, reply.headers)
    return int(reply.headers["Upload-Offset"])


async def listed_offset(api: Api, group: str, upload: str) -> int | None:
    """How far the upload is, as the list of running ones says; disturbs nobody."""
    reply = await api.get(f"/api/v1/groups/{group}/uploads?limit=100")
    assert reply.status == 200, reply.body
    offsets = {str(item["id"]): int(item["offset"]) for item in reply.json["items"]}
    return offsets.get(upload.rpartition("/")[2])


async def only_running(api: Api, group: str) -> str:
    """The path of the only running upload of the group."""
    (item,) = (await api.get(f"/api/v1/groups/{group}/uploads")).json["items"]
    return f"/api/v1/uploads/{item['id']}"


async def wait_for_offset(api: Api, group: str, upload: str, least: int) -> int:
    """Waits until at least ``least`` bytes are recorded."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            offset = await listed_offset(api, group, upload)
            assert offset is not None, f"{upload} is not running"
            if offset >= least:
                return offset
            await asyncio.sleep(0.02)


async def patch(
    api: Api, upload: str, material: Material, begin: int, end: int | None = None, *, base: int = 0
) -> Reply:
    """Sends the bytes from ``begin`` to ``end`` in one request. ``base``: where in the material
    the upload begins, if it is a partial one."""
    end = material.size if end is None else end
    headers = TUS | {
        "Upload-Offset": str(begin - base),
        "Content-Type": BODY_TYPE,
        "Content-Length": str(end - begin),
        "Authorization": f"Bearer {api.token}",
    }

    async def body() -> AsyncIterator[bytes]:
        for piece in material.pieces(begin, end):
            yield piece

    url = URL(api.url + upload, encoded=True)
    async with api.session.patch(url, headers=headers, data=body()) as answer:
        return Reply(answer.status, answer.headers, await answer.read())


async def upload(
    api: Api, group: str, name: str, material: Material, *, piece: int | None = None
) -> str:
    """Uploads everything, ``piece`` bytes a request; the path of the finished upload."""
    path, offset = await begin(api, group, name, material), 0
    while offset < material.size:
        end = material.size if piece is None else min(offset + piece, material.size)
        reply = await patch(api, path, material, offset, end)
        assert reply.status == 204, (reply.status, reply.body)
        offset = int(reply.headers["Upload-Offset"])
        assert offset == end
    return path


class SlowPatch:
    """A PATCH whose body comes when the test wants it. Not read to its end, it breaks off."""

    def __init__(self, api: Api, upload: str, begin: int, size: int) -> None:
        self._head = (
            f"PATCH {upload} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {api.token}\r\n"
            f"Tus-Resumable: 1.0.0\r\nContent-Type: {BODY_TYPE}\r\n"
            f"Upload-Offset: {begin}\r\nContent-Length: {size}\r\n\r\n"
        )
        self._connection = RawConnection(api.url)

    async def __aenter__(self) -> "SlowPatch":
        await self._connection.__aenter__()
        await self._connection.send(self._head.encode())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, err, trace)

    async def feed(self, material: Material, begin: int, end: int) -> None:
        """Sends these bytes; returns when the system has taken them."""
        for piece in material.pieces(begin, end):
            await self._connection.send(piece)

    async def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer.

        :raises ConnectionError: the connection broke without one.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._connection.head()
        except asyncio.IncompleteReadError as err:
            raise ConnectionError("the server closed the connection") from err


async def assert_equal(api: Api, group: str, name: str, material: Material) -> None:
    """Downloads the whole file and compares it, without holding it."""
    async with _get(api, group, name) as answer:
        assert answer.status == 200, await answer.read()
        assert int(answer.headers["Content-Length"]) == material.size
        await _assert_body(answer, material, 0, material.size)


async def assert_range_equal(
    api: Api, group: str, name: str, material: Material, begin: int, end: int
) -> None:
    """Downloads [begin, end) and compares it."""
    async with _get(api, group, name, f"bytes={begin}-{end - 1}") as answer:
        assert answer.status == 206, await answer.read()
        assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{material.size}"
        await _assert_body(answer, material, begin, end)


async def assert_ranges_equal(
    api: Api, group: str, name: str, material: Material, ranges: list[tuple[int, int]]
) -> None:
    """Downloads several ranges in one request and compares each part."""
    wanted = ",".join(f"{begin}-{end - 1}" for begin, end in ranges)
    async with _get(api, group, name, f"bytes={wanted}") as answer:
        body = await answer.read()
        assert answer.status == 206, body[:1000]
        kind = answer.headers["Content-Type"]
        assert len(body) == int(answer.headers["Content-Length"])
    found = re.fullmatch(r'multipart/byteranges; *boundary="?([^"]+)"?', kind)
    assert found is not None, kind
    assert _parts(body, found[1].encode()) == [
        (f"bytes {begin}-{end - 1}/{material.size}", material.read(begin, end))
        for begin, end in ranges
    ]


def _get(
    api: Api, group: str, name: str, wanted: str | None = None
) -> "aiohttp.client._RequestContextManager":
    headers = {"Authorization": f"Bearer {api.token}"}
    if wanted is not None:
        headers["Range"] = wanted
    return api.session.get(f"{api.url}/api/v1/groups/{group}/files/{name}", headers=headers)


async def _assert_body(
    answer: aiohttp.ClientResponse, material: Material, begin: int, end: int
) -> None:
    at = begin
    async for piece in answer.content.iter_chunked(MIB):
        assert at + len(piece) <= end, f"more than the {end - begin} bytes came"
        assert piece == material.read(at, at + len(piece)), f"wrong bytes behind byte {at}"
        at += len(piece)
    assert at == end


def _parts(body: bytes, boundary: bytes) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part. Source: RFC 2046, section 5.1.1."""
    preamble, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert preamble.strip() == b"" and pieces.pop().startswith(b"--")
    found = []
    for piece in pieces:
        head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode().split("\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in lines}
        found.append((headers["content-range"], data))
    return found
