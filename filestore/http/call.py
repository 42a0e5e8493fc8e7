"""One request as a handler sees it: who asks, for which group, and strict ways to read it."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeVar

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from filestore.errors import (
    BadMediaType,
    BadRequest,
    Internal,
    RequestTimeout,
    TooLarge,
)
from filestore.http.origin import known_origin
from filestore.http.routing import Route
from filestore.http.wrong_fields import wrong_fields
from filestore.meta.database import Database
from filestore.model import Actor, Principal

if TYPE_CHECKING:
    from filestore.acts.access import GroupAccess
    from filestore.hooks.worker import Hooks
    from filestore.settings import Settings
    from filestore.telemetry import Metrics
    from filestore.transfer.downloaded import Downloaded
    from filestore.transfer.egress import Egress
    from filestore.transfer.service import Transfers
    from filestore_gc import Collector
    from filestore_gc.jobs import Jobs

MAX_JSON_BYTES: Final = 64 * 1024
"""The largest body of a JSON request. The largest honest one is a page of ids."""

JSON_TIMEOUT_S: Final = 30
"""How long a client may take to send a JSON body: 64 KiB at 2 KiB/s."""

ROUTE: Final = web.RequestKey("route", Route)
REQUEST_ID: Final = web.RequestKey("request_id", str)
FIELDS: Final = web.RequestKey("fields", dict[str, str])
"""Headers for whatever answers the request, be it a refusal, where they are not there yet."""

M = TypeVar("M", bound=BaseModel)


class StoreCheck(Protocol):
    """What the edge itself needs of the block store: whether it can be used now."""

    async def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with. Made once, by the composition root."""

    settings: "Settings"
    db: Database
    metrics: "Metrics"
    store: StoreCheck
    transfers: "Transfers"
    egress: "Egress"
    collector: "Collector"
    jobs: "Jobs"
    hooks: "Hooks"
    downloaded: "Downloaded"


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and ``"1"`` is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Query(BaseModel):
    """The parameters behind ``?``: unknown and repeated ones are refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Answer(BaseModel):
    """A JSON answer."""

    model_config = ConfigDict(frozen=True)


def _digits(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII):
        raise ValueError("it must be a whole number in decimal digits")
    return value


Digits = Annotated[int, BeforeValidator(_digits)]
"""A number in a query: ASCII digits only, where ``int()`` would also take ``+5`` and ``1_000``."""


class Call:
    """A request whose access is decided, with what belongs to it."""

    def __init__(self, request: web.Request, services: Services, route: Route) -> None:
        self.request = request
        self.services = services
        self.route = route
        self._principal: Principal | None = None
        self._group: GroupAccess | None = None
        self._continued = False

    def __repr__(self) -> str:
        return f"<Call {self.route.method} {self.route.path} {self.request_id}>"

    def admit(self, principal: Principal, group: "GroupAccess | None") -> None:
        """Records who asks and for which group; only ``http.auth`` calls this."""
        self._principal, self._group = principal, group

    @property
    def request_id(self) -> str:
        return self.request[REQUEST_ID]

    @property
    def principal(self) -> Principal:
        """Who asks. A programming error on a public route."""
        if self._principal is None:
            raise Internal(request_id=self.request_id)
        return self._principal

    @property
    def actor(self) -> Actor:
        """Who goes into the audit log."""
        who = self.principal
        return Actor(who.user_id, who.token_id, self.request_id)

    @property
    def group(self) -> "GroupAccess":
        """The group ``{g}``. A programming error on a route without one."""
        if self._group is None:
            raise Internal(request_id=self.request_id)
        return self._group

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters of the path, decoded; not for ``{path}``, see :meth:`raw_tail`."""
        return self.request.match_info

    def raw_tail(self) -> str:
        """What stands for ``{path}``, percent-encoded as it was sent, for ``names.split_path``.

        Segments are counted in the raw path, where an encoded slash is no slash.
        """
        tail = self.request.rel_url.raw_path.split("/", self.route.fixed_segments + 1)[-1]
        return tail.removesuffix(self.route.suffix)

    def locate(self, path: str) -> str:
        """``path`` as a value of ``Location``: absolute, which some clients need, where it is
        known how clients see this service; else as it is."""
        return known_origin(self.request, self.services.settings.server) + path

    async def body(self) -> StreamReader:
        """The body's bytes, unread; tells a client that waits for it to go on.

        Call it when everything that can be refused without the body has been refused.
        """
        request = self.request
        expects = request.headers.get("Expect", "").lower() == "100-continue"
        if expects and request.version == HttpVersion11 and not self._continued:
            self._continued = True
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # else aiohttp takes the answer for begun
        return request.content

    async def json(self, model: type[M], *, limit: int = MAX_JSON_BYTES) -> M:
        """The body as ``model``.

        :raises BadMediaType: it says that it is something else than JSON.
        :raises TooLarge: more than ``limit`` bytes.
        :raises RequestTimeout: it did not come within 30 s.
        :raises BadRequest: not JSON, or a field is missing, unknown or wrong; names the field.
        """
        given = self.request.headers.get("Content-Type")
        if given is not None and given.partition(";")[0].strip().lower() != "application/json":
            raise BadMediaType(expected="application/json", got=given)
        return checked(model, await self._read(limit))

    def query(self, model: type[M]) -> M:
        """What stands behind ``?`` as ``model``.

        :raises BadRequest: a parameter is unknown, repeated or wrong; names it.
        """
        values = self.request.query
        for name in values:
            if len(values.getall(name)) > 1:
                raise BadRequest(field=name, reason="it is given more than once")
        return checked(model, dict(values))

    async def _read(self, limit: int) -> bytes:
        announced = self.request.content_length
        if announced is not None and announced > limit:
            raise TooLarge(what="the body", got=announced, limit=limit)
        stream = await self.body()
        received = bytearray()
        try:
            async with asyncio.timeout(JSON_TIMEOUT_S):
                while chunk := await stream.readany():
                    received += chunk
                    if len(received) > limit:
                        raise TooLarge(what="the body", got=len(received), limit=limit)
        except TimeoutError as err:
            raise RequestTimeout(seconds=JSON_TIMEOUT_S) from err
        except web.RequestPayloadError as err:
            raise BadRequest(field="body", reason="its framing is broken") from err
        return bytes(received)


def checked(model: type[M], value: bytes | Mapping[str, object]) -> M:
    """``value`` as ``model``.

    :raises BadRequest: names the first wrong field, and all of them in ``errors``.
    """
    try:
        if isinstance(value, bytes):
            return model.model_validate_json(value)
        return model.model_validate(value)
    except ValidationError as err:
        wrong = wrong_fields(err)
        first = wrong[0]
        assert isinstance(first, dict)
        raise BadRequest(field=first["field"], reason=first["reason"], errors=wrong) from err


def reply(answer: BaseModel, *, status: int = 200, location: str | None = None) -> web.Response:
    """A JSON answer; ``location`` names what was created. Answers are never cached."""
    headers = {"Cache-Control": "no-store"}
    if location is not None:
        headers["Location"] = location
    return web.Response(
        status=status,
        body=answer.model_dump_json().encode(),
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def no_content() -> web.Response:
    """204: it is done, and there is nothing to say."""
    return web.Response(status=204)
