"""A proxy that answers some requests itself, as overloaded or restarting servers do."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

LOST: Final = 0
"""In place of a status: the request is passed on, and its answer is lost."""

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass
class Proxy:
    """Stands at ``url`` before a service. ``faults``: (method, status) of answers to come, each
    given once, to the next request of that method; ``given``: how many were."""

    target: str
    session: aiohttp.ClientSession
    url: str = ""
    faults: list[tuple[str, int]] = field(default_factory=list)
    given: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = next((one for one in self.faults if one[0] == request.method), None)
        if fault is not None:
            self.faults.remove(fault)
            self.given += 1
            if fault[1] != LOST:
                return web.Response(status=fault[1], headers={"Tus-Resumable": "1.0.0"})
        response = await self._pass_on(request, body)
        if fault is not None and request.transport is not None:
            request.transport.abort()
        return response

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(self.target + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if _passes(name)}
        async with self.session.request(
            request.method, url, headers=headers, data=_pieces(body), allow_redirects=False
        ) as answer:
            found = {name: value for name, value in answer.headers.items() if _passes(name)}
            return web.Response(status=answer.status, headers=found, body=await answer.read())


def _passes(name: str) -> bool:
    return name.lower() not in _HOP


def _pieces(body: bytes) -> bytes | None:
    return body or None


@contextlib.asynccontextmanager
async def proxy_before(target: str) -> AsyncIterator[Proxy]:
    """A running proxy."""
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(target, session)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()
