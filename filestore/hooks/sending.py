"""Sends one message and tells what came back, in words that hold no secret and no URL."""

import contextlib
import email.utils
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from filestore import __version__
from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.signing import make_body, sign
from filestore.meta.deliveries import Claim

READ_BUFFER: Final = 4096
"""Bytes of an answer that may lie in memory; its body is not asked for, nor shown to anybody:
else a webhook would read what lies behind a URL."""
CONNECTIONS: Final = 100
"""More than there are ever deliveries under way: a bound of last resort."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, or an ``error`` in words; how long it took."""

    status: int | None
    error: str | None
    ms: int
    retry_after_s: float | None = None


class Sender:
    """Sends messages. Made by :func:`sending`."""

    def __init__(
        self,
        encrypted: aiohttp.ClientSession,
        plain: aiohttp.ClientSession,
        *,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._encrypted = encrypted
        self._plain = plain
        self._timeout_s = timeout_s
        self._clock = clock

    async def send(self, claim: Claim) -> Answer:
        """One attempt; ends within the timeout, whatever the receiver does."""
        body = make_body(claim.kind, claim.at, claim.group_id, claim.payload)
        headers = {
            "Content-Type": "application/json",
            **sign(claim.secrets, claim.event, int(self._clock()), body),
        }
        began = time.monotonic()
        status: int | None = None
        error: str | None = None
        wish: float | None = None
        try:
            url = URL(claim.url)
            session = self._encrypted if url.scheme == "https" else self._plain
            answer = await session.post(url, data=body, headers=headers, allow_redirects=False)
            answer.close()  # and with it the connection: the body stays unread
            status, wish = answer.status, self._retry_after_s(answer)
        except (aiohttp.ClientError, OSError, ValueError) as err:
            error = self._told(err)
        return Answer(status, error, round((time.monotonic() - began) * 1000), wish)

    def _told(self, err: Exception) -> str:
        """An error for people. Messages of libraries may hold the URL, so none is passed on."""
        if isinstance(err, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(err, aiohttp.ClientConnectorDNSError):
            return "its name does not resolve"
        if isinstance(err, aiohttp.ClientConnectorCertificateError):
            return f"its certificate is not accepted: {_reason(err.certificate_error)}"
        if isinstance(err, aiohttp.ClientConnectorError):
            if err.os_error.errno == errno.EPERM:
                return "its address is not one that webhooks may go to"
            return f"no connection: {_reason(err.os_error)}"
        if isinstance(err, aiohttp.ServerDisconnectedError | ConnectionError):
            return "the connection broke before an answer came"
        if isinstance(err, aiohttp.ClientResponseError):
            return "its answer is no HTTP"
        return "the message could not be sent"

    def _retry_after_s(self, answer: aiohttp.ClientResponse) -> float | None:
        """Source: RFC 9110, 10.2.3: seconds, or a date."""
        text = answer.headers.get("Retry-After", "").strip()[:64]
        if text.isascii() and text.isdigit():
            return float(text)
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - self._clock())
        return None


@contextlib.asynccontextmanager
async def sending(
    policy: AddressPolicy, *, timeout_s: float, clock: Callable[[], float] = time.time
) -> AsyncIterator[Sender]:
    """A sender while the block runs. ``clock``: seconds since the epoch, for signatures."""
    async with (
        _session(policy, timeout_s, encrypted=True) as encrypted,
        _session(policy, timeout_s, encrypted=False) as plain,
    ):
        yield Sender(encrypted, plain, timeout_s=timeout_s, clock=clock)


def _session(policy: AddressPolicy, timeout_s: float, *, encrypted: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS,
        force_close=True,
        use_dns_cache=False,
        socket_factory=partial(_open_socket, policy, encrypted),
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"User-Agent": f"filestore/{__version__}", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        trust_env=False,
    )


def _open_socket(policy: AddressPolicy, encrypted: bool, info: AddrInfoType) -> socket.socket:
    """A socket for one address, which is the last moment to refuse it.

    :raises PermissionError: webhooks may not go there.
    """
    family, kind, protocol, _, address = info
    if not policy.permits(str(address[0]), encrypted=encrypted):
        raise PermissionError(errno.EPERM, "webhooks may not go there")
    return socket.socket(family=family, type=kind, proto=protocol)


def _reason(err: BaseException) -> str:
    if isinstance(err, ssl.SSLCertVerificationError):
        return err.verify_message
    if isinstance(err, OSError) and err.errno is not None and err.errno in errno.errorcode:
        return errno.errorcode[err.errno]
    return type(err).__name__
