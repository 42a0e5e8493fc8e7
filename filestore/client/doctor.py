"""Looks for what stands between a client and its server: proxies, clocks, TLS, the store.

It behaves as a client does: it begins uploads of unknown length, sends slowly, breaks off, and
asks what came. What it begins it ends, and it completes nothing, so no file ever appears.
"""

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from yarl import URL

from filestore.client.advice import ADVICE, Advice
from filestore.model import GIB, KIB, MIB

OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"
SKIPPED: Final = "skipped"

CLOCK_S: Final = 60.0
"""A clock that is further off makes tokens, links and expiry wrong by as much as people notice."""

SLOW_PIECES: Final = 6
PIECE: Final = 64 * KIB
"""Sent one by one over some seconds: more than a proxy holds that passes everything on."""

SIZES: Final = (2 * MIB, GIB, 1024 * GIB)
"""Announced and not sent: a proxy with a limit refuses at once, at the latest at its limit."""

LONG_HEADER: Final = 9 * KIB
"""A third longer when it is sent: beyond the 8 KiB that proxies take by default, and that many
partial uploads in Upload-Concat exceed; below what the service takes as Upload-Metadata."""

_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 2.0
"""Who has not refused an announced body by then waits for it."""

_SHOWN: Final = 80
"""Characters that are shown of an answer that makes no sense."""

_LOOKS: Final = 25
_LOOK_S: Final = 0.2
_API: Final = "/api/"
_TYPE: Final = "application/offset+octet-stream"
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_KEY: Final = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``change``: for each program, what to change."""

    check: str
    level: str
    says: str
    change: Advice = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body does not matter, but for whether the service itself gave it."""

    status: int
    headers: Mapping[str, str]
    is_ours: bool


class _Stop(Exception):
    """Nothing more can be found out."""


class Doctor:
    """Examines the server at ``url``. ``pace_s`` is the time between the pieces of a slow body."""

    def __init__(
        self, url: str, token: str | None, *, group: str | None = None, pace_s: float = 0.6
    ) -> None:
        self._url = URL(url.rstrip("/"))
        self._token = token
        self._group = group
        self._pace_s = pace_s
        self._begun: list[str] = []
        self._session: aiohttp.ClientSession | None = None
        self.findings: list[Finding] = []

    def __repr__(self) -> str:
        return f"<Doctor of {self._url}, {len(self.findings)} findings>"

    async def examine(self) -> list[Finding]:
        """All findings, in order. What was begun on the server is ended."""
        connector = aiohttp.TCPConnector(force_close=True, ssl=ssl.create_default_context())
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            try:
                with contextlib.suppress(_Stop):
                    await self._reach()
                    await self._look_at_tls()
                    await self._look_at_store()
                    await self._look_at_uploads()
            except (aiohttp.ClientError, TimeoutError, OSError) as err:
                said = str(err) or type(err).__name__
                self._note("cut", PROBLEM, f"a connection ended without an answer: {said}")
            finally:
                for upload in self._begun:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        await self._ask("DELETE", upload)
        return self.findings

    def _note(self, check: str, level: str, says: str) -> None:
        change = ADVICE.get(check, {}) if level in (PROBLEM, WARNING) else {}
        self.findings.append(Finding(check, level, says, change))

    async def _reach(self) -> None:
        """:raises _Stop: nobody answers, or somebody else."""
        try:
            answer = await self._ask("GET", "/healthz")
        except aiohttp.ClientConnectorCertificateError as err:
            self._note("tls", PROBLEM, f"the certificate is not accepted: {err.certificate_error}")
            raise _Stop from err
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            self._note("reach", PROBLEM, f"{self._url} does not answer: {err or 'in time'}")
            raise _Stop from err
        if answer.status != 200 or not answer.headers.get("X-Request-ID"):
            self._note("reach", PROBLEM, f"{self._url}/healthz is no filestore ({answer.status})")
            raise _Stop
        self._note("reach", OK, f"{self._url} answers")
        self._look_at_clock(answer)

    def _look_at_clock(self, answer: Reply) -> None:
        given = answer.headers.get("Date")
        if given is None:
            self._note("clock", SKIPPED, "the answer has no Date")
            return
        try:
            off_s = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            self._note("clock", PROBLEM, f"the answer's Date is none: {given[:_SHOWN]}")
            return
        level = OK if abs(off_s) <= CLOCK_S else PROBLEM
        ahead = "ahead of" if off_s > 0 else "behind"
        says = f"the server's clock is {abs(off_s):.0f} s {ahead} this machine's"
        self._note("clock", level, says if level is PROBLEM else "the clocks agree")

    async def _look_at_tls(self) -> None:
        host, port = self._url.host or "", self._url.port or 0
        if self._url.scheme == "http":
            is_public = await _is_public(host)
            says = "without TLS anybody on the way reads tokens and files"
            self._note("plain", PROBLEM if is_public else OK, says if is_public else "a near host")
            return
        if await asyncio.to_thread(_takes_old_tls, host, port):
            self._note("tls", PROBLEM, "TLS 1.0 or 1.1 is accepted")
        else:
            self._note("tls", OK, "TLS 1.2 or above")

    async def _look_at_store(self) -> None:
        answer = await self._ask("GET", "/readyz")
        if answer.status == 200:
            self._note("ready", OK, "database and store can be used")
        else:
            self._note("ready", PROBLEM, f"database or store cannot be used ({answer.status})")
            raise _Stop

    async def _look_at_uploads(self) -> None:
        group = await self._find_group()
        if group is None:
            return
        collection = f"/api/v1/groups/{group}/uploads"
        upload = await self._begin(collection)
        checks: tuple[Callable[[str, str], Coroutine[Any, Any, None]], ...] = (
            *(self._look_at_headers, self._look_at_whole_body, self._look_at_slow_body),
            *(self._look_at_sizes, self._look_at_long_header),
        )
        for check in checks:
            await check(collection, upload)

    async def _find_group(self) -> str | None:
        """Where uploads can be tried.

        :raises _Stop: the token is not accepted.
        """
        if self._token is None:
            self._note("uploads", SKIPPED, "no token: --token or FILESTORE_TOKEN")
            return None
        assert self._session is not None
        url, headers = self._place("/api/v1/groups"), self._headers()
        async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                self._note("token", PROBLEM, f"the token is not accepted ({answer.status})")
                raise _Stop
            items = (await answer.json())["items"]
        names = [str(item["id"]) for item in items if self._group in (None, item["name"])]
        if not names:
            said = self._group or "any"
            self._note("uploads", SKIPPED, f"the token sees no such group: {said}; --group")
            return None
        return names[0]

    async def _begin(self, collection: str) -> str:
        """A new upload's path.

        :raises _Stop: none can be begun; what is wrong is noted.
        """
        answer = await self._ask("POST", collection, self._creation("short"))
        if answer.status != 201:
            lost = answer.is_ours and answer.status in (400, 412)
            check = "request-headers" if lost else "methods"
            if answer.is_ours and not lost:
                self._note("uploads", SKIPPED, f"no upload could be begun ({answer.status})")
            else:
                self._note(check, PROBLEM, f"beginning an upload is answered {answer.status}")
            raise _Stop
        missing = [name for name in ("Location", "Tus-Resumable") if name not in answer.headers]
        if "Location" in missing:
            self._note("answer-headers", PROBLEM, f"the answer lacks {', '.join(missing)}")
            raise _Stop
        origin, path = self._lead(answer, collection)
        self._begun.append(path)
        if origin != self._url.origin():
            says = f"Location names {origin}, clients ask {self._url.origin()}"
            self._note("location", PROBLEM, says)
        else:
            self._note("location", OK, "Location leads back here")
        return path

    def _lead(self, answer: Reply, asked: str) -> tuple[URL, str]:
        """The origin that Location names, and the path there, which is asked for here alone: the
        token goes nowhere else.

        :raises _Stop: it is no address.
        """
        given = answer.headers.get("Location", "")
        try:
            location = self._place(asked).join(URL(given))
            origin = location.origin()
        except ValueError as err:
            self._note("location", PROBLEM, f"Location is no address: {given[:_SHOWN]}")
            raise _Stop from err
        return origin, location.raw_path.removeprefix(self._url.raw_path.rstrip("/"))

    async def _look_at_headers(self, collection: str, upload: str) -> None:
        head = await self._ask("HEAD", upload, _TUS)
        if head.status != 200:
            self._note("methods", PROBLEM, f"HEAD is answered {head.status}")
            raise _Stop
        wanted = ("Tus-Resumable", "Upload-Offset", "Upload-Metadata", "Upload-Expires")
        missing = [name for name in wanted if name not in head.headers]
        kept = head.headers.get("Upload-Metadata") == self._creation("short")["Upload-Metadata"]
        if missing:
            self._note("answer-headers", PROBLEM, f"the answer lacks {', '.join(missing)}")
        elif not kept:
            self._note("request-headers", PROBLEM, "Upload-Metadata did not arrive as it was sent")
        else:
            self._note("request-headers", OK, "headers arrive, both ways")
        if "Upload-Offset" in missing:
            raise _Stop

    async def _look_at_whole_body(self, collection: str, upload: str) -> None:
        """Small, and whole: it must all arrive."""
        answer = await self._patch(upload, 0, bytes(PIECE))
        if answer.status != 204 and not answer.is_ours:
            self._note("methods", PROBLEM, f"PATCH is answered {answer.status} by a proxy")
            raise _Stop
        offset = await self._offset(upload)
        if offset != PIECE:
            self._note("truncation", PROBLEM, f"of {PIECE} bytes {offset} arrived")
            raise _Stop
        self._note("truncation", OK, "a whole body arrives whole")

    async def _look_at_slow_body(self, collection: str, upload: str) -> None:
        """Broken off in the middle: what was sent must be kept."""
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(SLOW_PIECES):
                yield bytes(PIECE)
                sent += PIECE
                await asyncio.sleep(self._pace_s)
            raise ConnectionAbortedError  # as a client whose network went

        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            await self._patch(upload, PIECE, body(), 2 * SLOW_PIECES * PIECE)
        kept = 0
        for _ in range(_LOOKS):  # until the server has noticed the break, and saved
            kept = await self._offset(upload) - PIECE
            if kept >= sent:
                break
            await asyncio.sleep(_LOOK_S)
        if kept <= 0:
            says = f"a proxy buffers: of {sent} bytes before a break none arrived"
            self._note("buffering", PROBLEM, says)
        elif kept < sent // 2:
            says = f"a proxy holds bytes back: {kept} of {sent} before a break arrived"
            self._note("buffering", WARNING, says)
        else:
            self._note("buffering", OK, f"{kept} of {sent} bytes before a break were kept")

    async def _look_at_sizes(self, collection: str, upload: str) -> None:
        for size in SIZES:
            offset = await self._offset(upload)
            answer = await self._announce(upload, offset, size)
            if answer is not None and not answer.is_ours:
                says = f"a proxy refuses a body of {size} bytes ({answer.status})"
                self._note("body-size", PROBLEM, says)
                return
            if answer is not None:
                break  # the service's own limit
        self._note("body-size", OK, "large bodies are let through")

    async def _look_at_long_header(self, collection: str, upload: str) -> None:
        answer = await self._ask("POST", collection, self._creation("x" * LONG_HEADER))
        if answer.status == 201:
            self._begun.append(self._lead(answer, collection)[1])
            self._note("header-size", OK, "long headers are let through")
        else:
            says = f"a header of {LONG_HEADER * 4 // 3} bytes is answered {answer.status}"
            self._note("header-size", PROBLEM, says)

    async def _announce(self, upload: str, offset: int, size: int) -> Reply | None:
        """The answer to a body that is announced and does not come; None if there is none."""
        never = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"x"
            await never.wait()

        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self._patch(upload, offset, body(), size)
        except TimeoutError:
            return None
        except aiohttp.ClientError:
            return Reply(0, {}, is_ours=False)

    async def _offset(self, upload: str) -> int:
        """How far the upload is.

        :raises _Stop: HEAD does not say so.
        """
        head = await self._ask("HEAD", upload, _TUS)
        offset = head.headers.get("Upload-Offset", "")
        if head.status != 200 or not (offset.isascii() and offset.isdecimal()):
            self._note("answer-headers", PROBLEM, f"HEAD is answered {head.status}, no offset")
            raise _Stop
        return int(offset)

    async def _patch(
        self, upload: str, offset: int, body: bytes | AsyncIterator[bytes], size: int | None = None
    ) -> Reply:
        headers = _TUS | {"Content-Type": _TYPE, "Upload-Offset": str(offset)}
        if size is not None:
            headers["Content-Length"] = str(size)
        return await self._ask("PATCH", upload, headers, body)

    async def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> Reply:
        """:raises aiohttp.ClientError, TimeoutError: no answer."""
        assert self._session is not None
        known = self._headers() if path.startswith(_API) else {}  # it has said who it is by then
        sent = known | (_TUS if method == "DELETE" else {}) | (headers or {})
        async with self._session.request(
            method, self._place(path), headers=sent, data=body, allow_redirects=False
        ) as answer:
            is_ours = answer.headers.get("X-Request-ID", "").startswith("req_")
            return Reply(answer.status, answer.headers.copy(), is_ours)

    def _place(self, path: str) -> URL:
        return URL(str(self._url) + path, encoded=True)

    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _creation(self, note: str) -> dict[str, str]:
        encoded = base64.b64encode(note.encode()).decode()
        return _TUS | {"Upload-Defer-Length": "1", "Upload-Metadata": f"{_KEY} {encoded}"}


async def _is_public(host: str) -> bool:
    """Whether any address of ``host`` is one that the whole world can reach."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return any(ipaddress.ip_address(str(address[4][0])).is_global for address in found)


def _takes_old_tls(host: str, port: int) -> bool:
    """Whether a handshake by TLS 1.1 or below succeeds. What it shows is not verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((host, port), 5) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return True
    except (OSError, ValueError):
        return False
