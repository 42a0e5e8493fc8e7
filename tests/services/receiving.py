"""A receiver of webhooks: a real server that keeps what it is sent and answers as it is told."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Message:
    """What came: where, under which headers, and the bytes that the signature is of."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers 204, or what stands for a path in ``answers``; remembers everything."""

    messages: list[Message] = field(default_factory=list)
    answers: dict[str, Answering] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _now: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)
    server: TestServer | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self._now[path] += 1
        self.most_at_once[path] = max(self.most_at_once[path], self._now[path])
        try:
            message = Message(path, request.headers, await request.read())
            async with self._came:
                self.messages.append(message)
                self._came.notify_all()
            answer = self.answers.get(path)
            return web.Response(status=204) if answer is None else await answer(request)
        finally:
            self._now[path] -= 1

    def url(self, path: str = "/hook") -> str:
        assert self.server is not None
        return str(self.server.make_url(path))

    def at(self, path: str = "/hook") -> list[Message]:
        return [message for message in self.messages if message.path == path]

    async def wait_for(self, count: int, path: str = "/hook") -> list[Message]:
        """Returns when that many came there."""
        async with asyncio.timeout(60), self._came:
            await self._came.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    async def begin(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.server = TestServer(app)
        await self.server.start_server()


def status(code: int, headers: dict[str, str] | None = None) -> Answering:
    """Answers with this status."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return answer


def after(gate: asyncio.Event) -> Answering:
    """Answers when the gate opens."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response(status=204)

    return answer
