"""One HTTP connection pool to one server: authorization, deadlines, errors, retries.

Foreign exceptions end here: what leaves is a :class:`FilestoreError`. The token goes only to
the server's own origin, and into no message.
"""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from filestore import __version__
from filestore.client.problems import error_of
from filestore.client.retry import RetryPolicy
from filestore.errors import (
    BadSetting,
    FilestoreError,
    ForeignAnswer,
    Json,
    Language,
    NotFound,
    Unreachable,
)

Document = dict[str, Json]
Headers = Mapping[str, str]
ResponseHeaders = CIMultiDictProxy[str]

API: Final = "/api/v1/"
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_CONNECT_S: Final = 10
_ANSWER_S: Final = 90  # the server answers within 30 s or says 503; three times that is silence
_READ_BUFFER: Final = 1 << 20  # downloads: fewer wake-ups than the 64 KiB of the default
_MAX_ERROR_BODY: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, headers, and the body's JSON (None if there was no body)."""

    status: int
    headers: ResponseHeaders
    body: Json

    @property
    def document(self) -> Document:
        """The body, which must be a JSON object.

        :raises ForeignAnswer: it is something else.
        """
        if not isinstance(self.body, dict):
            raise ForeignAnswer(status=self.status, reason="a JSON object was expected")
        return self.body


def segments(*names: str) -> str:
    """A URL path of ``names``, each percent-encoded whole, so a slash inside stays inside."""
    return "/".join(quote(name, safe="", errors="surrogateescape") for name in names)


def tree_path(path: str) -> str:
    """A file's path percent-encoded name by name; slashes at its ends are dropped."""
    return quote(path.strip("/"), safe="/", errors="surrogateescape")


@dataclass(slots=True)
class _Sendings:
    """How often one request went out. aiohttp itself repeats an idempotent request, once and
    without a word, when a kept connection breaks under it."""

    count: int = 0

    @classmethod
    def tracing(cls) -> aiohttp.TraceConfig:
        """Makes a session count into the ``trace_request_ctx`` of each request."""

        async def count(
            session: aiohttp.ClientSession,
            context: SimpleNamespace,
            sent: aiohttp.TraceRequestHeadersSentParams,
        ) -> None:
            if isinstance(context.trace_request_ctx, cls):
                context.trace_request_ctx.count += 1

        config = aiohttp.TraceConfig()
        config.on_request_headers_sent.append(count)
        return config


class Transport:
    """Sends requests below ``<url>/api/v1/``. An async context manager."""

    def __init__(
        self, url: str, token: str, *, language: Language = "en", retry: RetryPolicy | None = None
    ) -> None:
        self._base = _base_url(url)
        self._headers = {
            "Authorization": f"Bearer {_checked_token(token)}",
            "Accept-Language": "zh, en;q=0.5" if language == "zh" else "en",
            "User-Agent": f"filestore/{__version__}",
        }
        self._retry = retry or RetryPolicy()
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Transport to {self.server}>"

    @property
    def server(self) -> str:
        """The server's address; it has no credentials, so it is fit for messages and for keys."""
        return str(self._base)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_ANSWER_S),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_Sendings.tracing()],
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Headers | None = None,
        headers: Headers | None = None,
        data: Any = None,
        sendings: _Sendings | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, no retries: the answer with its body unread, when it is a success.

        :raises FilestoreError: what the server answered; :class:`Unreachable` when there was
            no answer, or it broke off while the caller read it.
        """
        assert self._session is not None, "enter the transport before sending"
        url = URL(f"{self._base}{API}{path}", encoded=True)
        sent_headers = CIMultiDict(headers or {})
        sent_headers.setdefault("Accept-Encoding", "identity")
        try:
            async with self._session.request(
                method,
                url.extend_query(params) if params else url,
                headers=sent_headers,
                data=data,
                allow_redirects=False,
                trace_request_ctx=sendings,
            ) as response:
                if response.status >= 300:
                    raise error_of(response.status, response.headers, await _beginning(response))
                yield response
        except aiohttp.ClientSSLError as err:
            raise _setting("FILESTORE_URL", _tls_reason(self.server, err)) from err
        except aiohttp.ClientConnectorError as err:
            raise Unreachable(url=self.server, reason=_why(err), was_sent=False) from err
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as err:
            raise Unreachable(url=self.server, reason=_reason(err)) from err

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        params: Headers | None = None,
        headers: Headers | None = None,
    ) -> Answer:
        """One request with a JSON answer, tried again where that is safe.

        GET, HEAD, PUT and DELETE are repeated after any passing failure. A DELETE that was
        repeated because its answer was lost, and then finds nothing, has succeeded. POST is
        repeated only when it certainly did nothing.
        """
        attempts = self._retry.begin()
        may_be_done = False
        sent_headers = dict(headers or {})
        data = None
        if body is not None:
            sent_headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        while True:
            sendings = _Sendings()
            try:
                async with self.send(
                    method, path, params=params, headers=sent_headers, data=data, sendings=sendings
                ) as response:
                    return await _whole(method, response)
            except NotFound:
                if method == "DELETE" and (may_be_done or sendings.count > 1):
                    return Answer(204, CIMultiDictProxy(CIMultiDict()), None)
                raise
            except FilestoreError as err:
                if not _may_repeat(method, err):
                    raise
                may_be_done = may_be_done or isinstance(err, Unreachable)
                await attempts.wait(err)


async def _whole(method: str, response: aiohttp.ClientResponse) -> Answer:
    content = await response.read()
    if method == "HEAD" or not content:
        return Answer(response.status, response.headers, None)
    try:
        return Answer(response.status, response.headers, cast(Json, json.loads(content)))
    except ValueError as err:
        reason = "the body is not JSON; is FILESTORE_URL right?"
        raise ForeignAnswer(status=response.status, reason=reason) from err


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_MAX_ERROR_BODY):
        body += piece
        if len(body) >= _MAX_ERROR_BODY:
            break
    return bytes(body)


def _may_repeat(method: str, error: FilestoreError) -> bool:
    if isinstance(error, Unreachable):
        return method in _IDEMPOTENT or not error.was_sent
    if isinstance(error, ForeignAnswer):  # a proxy: it may have passed the request on
        return error.spec.retryable and method in _IDEMPOTENT
    return error.spec.retryable


def _base_url(text: str) -> URL:
    try:
        url = URL(text.rstrip("/"))
    except ValueError:
        url = URL()
    is_plain = not (url.query_string or url.fragment or url.user or url.password)
    if url.scheme not in ("http", "https") or not url.host or not is_plain:
        reason = "an address such as https://files.example.org is needed"
        raise _setting("FILESTORE_URL", reason)
    if f"{url.path}/".endswith(API):
        raise _setting("FILESTORE_URL", f"leave out {API.rstrip('/')} at its end")
    return url


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        reason = "it is empty, or contains what no token has"
        raise _setting("FILESTORE_TOKEN", reason)
    return token


def _setting(name: str, reason: str) -> BadSetting:
    return BadSetting(setting=name, source="environment", reason=reason)


def _tls_reason(server: str, err: aiohttp.ClientSSLError) -> str:
    if isinstance(err, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {server} is not trusted: {err.certificate_error}".rstrip(".")
    return f"{server} speaks no TLS; write http://, or another port"


def _why(err: aiohttp.ClientConnectorError) -> str:
    cause = err.os_error
    if cause.errno is not None and cause.errno > 0:  # else it is a resolver's own number
        return os.strerror(cause.errno)
    return cause.strerror or str(cause)


def _reason(err: Exception) -> str:
    if isinstance(err, TimeoutError):
        return "no answer in time"
    if isinstance(err, aiohttp.ClientResponseError):  # what came was no HTTP
        return "it does not speak HTTP; is FILESTORE_URL right?"
    return str(err).rstrip(".") or type(err).__name__
