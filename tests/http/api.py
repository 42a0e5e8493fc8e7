"""What tests talk to the service with: real requests, and answers that are easy to look at."""

import asyncio
import json
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """An answer that has been read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the problem document."""
        assert self.headers["Content-Type"] == PROBLEM, (self.status, self.headers, self.body)
        return str(self.json["type"]).removeprefix("urn:filestore:problem:")


@dataclass(frozen=True)
class Api:
    """Sends requests with one token. Paths are taken as they are, percent-encoded already."""

    session: aiohttp.ClientSession
    url: str
    token: str | None = None

    def by(self, token: str | None) -> "Api":
        """The same service, asked with another token."""
        return replace(self, token=token)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        async with self.session.request(
            method, URL(self.url + path, encoded=True), json=json, data=data, headers=sent
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, json: object = None, **options: Any) -> Reply:
        return await self.call("POST", path, json=json, **options)

    async def put(self, path: str, json: object = None, **options: Any) -> Reply:
        return await self.call("PUT", path, json=json, **options)

    async def patch(self, path: str, json: object = None, **options: Any) -> Reply:
        return await self.call("PATCH", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.call("DELETE", path, **options)


class RawConnection:
    """A socket to the service, for requests that no client library would send."""

    def __init__(self, url: str) -> None:
        self._url = URL(url)

    async def __aenter__(self) -> "RawConnection":
        assert self._url.host is not None and self._url.port is not None
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    async def send(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(":") for line in lines[1:] if line]
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def body(self, headers: dict[str, str]) -> bytes:
        return await self.reader.readexactly(int(headers.get("content-length", "0")))
