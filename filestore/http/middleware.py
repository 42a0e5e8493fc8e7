"""What happens to every request, whatever route it takes: id, strict headers, errors, figures.

One middleware, because the order matters: the id comes first, so that everything behind it
can name it; errors are turned into documents last, so that nothing escapes.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from filestore.errors import BadHeader, CodedBody, FilestoreError, Internal
from filestore.http import override
from filestore.http.call import FIELDS, REQUEST_ID, ROUTE, Services, no_content
from filestore.http.cors import Cors
from filestore.http.ietf_fields import spoken
from filestore.http.override import UPLOAD_PATH
from filestore.http.problems import client_gone, from_aiohttp, problem_response
from filestore.ids import new_id

TUS_RESUMABLE: Final = "1.0.0"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log: Final = structlog.get_logger("filestore.http")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,39}", re.ASCII)
"""Ids that are taken over from the client or a proxy; 40 characters fit the audit log."""

_SINGLE: Final = frozenset(
    {
        *("authorization", "content-length", "content-type", "content-encoding", "host"),
        *("expect", "range", "x-request-id", "transfer-encoding"),
        *("origin", "idempotency-key", override.HEADER.lower()),
    }
)
_SINGLE_PREFIXES: Final = ("upload-", "tus-", "if-")
"""Headers that come once or not at all: of two, somebody would read the other one.
Source: RFC 9110, section 5.3; "If-" is stricter than the RFC, which allows lists in parts."""


def make_guard(services: Services, cors: Cors) -> Middleware:
    """The middleware around all routes, also around the router's own 404 and 405."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        began = time.perf_counter()
        request_id = _accept_id(request.headers.get("X-Request-ID", ""))
        request[REQUEST_ID] = request_id
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            services.metrics.requests_running.track_inprogress(),
        ):
            response = await _answer(request, handler, cors)
            if not request.content.is_eof() and request.body_exists:
                response.force_close()  # else the client would have to send it all, for nothing
            _record(services, request, response, time.perf_counter() - began)
        return response

    return guard


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Puts on every answer, just before it is sent, what every answer has."""
    headers = response.headers
    if REQUEST_ID in request:
        headers["X-Request-ID"] = request[REQUEST_ID]
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "filestore"
    for name, value in request.get(FIELDS, {}).items():
        headers.setdefault(name, value)
    if request.method != "OPTIONS" and is_tus(request):
        headers["Tus-Resumable"] = TUS_RESUMABLE
    if request.method == "HEAD" and override.OVERRIDDEN in request:
        headers["Content-Length"] = "0"  # its client sent POST, and waits for a body else


def is_tus(request: web.Request) -> bool:
    """Whether answers speak tus, also the router's 404 and 405 for addresses of uploads."""
    if spoken(request.headers) is not None:
        return False
    route = request.get(ROUTE)
    return (route is not None and route.tus) or bool(UPLOAD_PATH.match(request.rel_url.raw_path))


def _accept_id(given: str) -> str:
    return given if _REQUEST_ID.fullmatch(given) else new_id("req")


async def _answer(request: web.Request, handler: _Handler, cors: Cors) -> web.StreamResponse:
    try:
        _check_headers(request)
        if cors.answers(request):
            return no_content()
        return await handler(request)
    except FilestoreError as err:
        error = err
        if err.spec.status >= 500:
            _log.warning("request.failed", code=err.code, members=err.members, exc_info=err)
    except web.HTTPException as err:
        if err.status < 400:
            raise
        error = from_aiohttp(err, request)
    except ConnectionError:
        return client_gone()
    except Exception:
        _log.exception("request.crashed", method=request.method, route=_template(request))
        error = Internal()
    return _refuse(request, error)


def _refuse(request: web.Request, error: FilestoreError) -> web.StreamResponse:
    """The problem document; or, when an answer was begun already, a cut connection.

    :raises ConnectionResetError: a begun answer cannot become another one: the client must
        see that it is incomplete.
    """
    if request.writer.output_size > 0:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the answer was begun and cannot be finished")
    request_id = request[REQUEST_ID]
    if isinstance(error, Internal):
        error = Internal(request_id=request_id)
    return problem_response(
        error,
        request_id=request_id,
        accepted=",".join(request.headers.getall("Accept-Language", [])),
        method=request.method,
    )


def _check_headers(request: web.Request) -> None:
    """Refuses headers that two readers could read in two ways, and coded bodies.

    :raises BadHeader: one that must be single is not, Expect asks for something unknown, or a
        method is to stand for another one that cannot.
    :raises CodedBody: the bytes that count would not be the bytes that arrive.
    """
    seen: set[str] = set()
    for raw, _ in request.raw_headers:  # a mapping names each header once
        name = raw.decode("latin-1")
        lowered = name.lower()
        if lowered in seen and (lowered in _SINGLE or lowered.startswith(_SINGLE_PREFIXES)):
            raise BadHeader(header=name, reason="it is given more than once")
        seen.add(lowered)
    if override.HEADER in request.headers and override.OVERRIDDEN not in request:
        meant = " or ".join(override.METHODS)
        reason = f"only a POST to the address of an upload can stand for {meant}"
        raise BadHeader(header=override.HEADER, reason=reason)
    expected = request.headers.get("Expect", "100-continue").strip().lower()
    if expected != "100-continue":
        raise BadHeader(header="Expect", reason="only 100-continue can be expected")
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise CodedBody(got=coding)


def _template(request: web.Request) -> str:
    """The route's path with its parameters' names: a bounded set, and nothing private."""
    route = request.get(ROUTE)
    return "none" if route is None else route.path


def _record(
    services: Services, request: web.Request, response: web.StreamResponse, seconds: float
) -> None:
    method = request.method if request.method in _METHODS else "other"
    route = _template(request)
    services.metrics.requests.labels(method, route, str(response.status)).inc()
    services.metrics.request_seconds.labels(method, route).observe(seconds)
    _log.info(
        "request", method=method, route=route, status=response.status, ms=round(seconds * 1000, 1)
    )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
