"""The service's skeleton, middleware and connections, around one route of a test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from filestore.app import Service
from filestore.http.call import Call
from filestore.http.connection import METRICS, make_runner
from filestore.http.cors import Cors
from filestore.http.middleware import make_guard, stamp
from filestore.http.routing import Access, Route, mount
from filestore.settings import Settings

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(service: Service, handler: Handler, **limits: float) -> AsyncIterator[str]:
    """The skeleton around one public route at ``/``."""
    app = web.Application(middlewares=[make_guard(service.services, Cors((), ()))])
    app.on_response_prepare.append(stamp)
    app[METRICS] = service.services.metrics
    route = Route(
        method="POST",
        path="/it",
        handler=handler,
        access=Access.PUBLIC,
        summary="Whatever the test does",
        responses={200: None},
    )
    mount(app, [route], service.services)
    settings: Settings = service.settings
    server = settings.server.model_copy(update=limits)
    runner = make_runner(app, settings.model_copy(update={"server": server}))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
