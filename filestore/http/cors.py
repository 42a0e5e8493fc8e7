"""Pages of other origins: which may use the service from a browser, and what they may see.

Nobody may unless ``server.cors_origins`` says so. A token is sent by the page itself and never by
the browser alone, so no origin is allowed credentials, and ``*`` gives nobody a right that it
would not have with curl. A preflight carries no token and is answered without one.

Source: the Fetch standard, sections 3.3 (CORS protocol) and 3.3.3 (its headers); tus 1.0.0.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from aiohttp import web

from filestore.http.override import HEADER, UPLOAD_PATH
from filestore.http.routing import Route

MAX_AGE_S: Final = 86_400
"""How long a browser may remember a preflight: a day; browsers have smaller bounds of their own."""

_ALWAYS_READ: Final = (
    *("Authorization", "Origin", "X-Requested-With", "X-Request-ID", HEADER, "Content-Type"),
    *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata"),
    *("Upload-Defer-Length", "Upload-Concat", "Upload-Checksum", "Upload-Complete"),
    *("Upload-Incomplete", "Upload-Draft-Interop-Version"),
)
"""Headers of requests besides those that routes name. Source: tusd and @tus/server, merged."""

_ALWAYS_SHOWN: Final = (
    *("Location", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Defer-Length"),
    *("Upload-Concat", "Upload-Expires", "Tus-Version", "Tus-Resumable", "Tus-Max-Size"),
    *("Tus-Extension", "Tus-Checksum-Algorithm", "Upload-Complete"),
    *("Upload-Draft-Interop-Version", "Upload-Limit", "Retry-After", "X-Request-ID"),
    *("Content-Range", "Allow"),
)
"""Headers of answers besides those that routes name, those of errors included."""


class Cors:
    """What this service allows pages of other origins; made from the setting and the routes."""

    def __init__(self, origins: Sequence[str], routes: Sequence[Route]) -> None:
        self._origins = frozenset(origins)
        read = {name for route in routes for name in (*route.headers, *route.required_headers)}
        shown = {name for route in routes for name in route.answer_headers}
        methods = {route.method for route in routes} | {"OPTIONS"}
        self._preflight = {
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": _listed(_ALWAYS_READ, read),
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        self._shown = {"Access-Control-Expose-Headers": _listed(_ALWAYS_SHOWN, shown)}

    def __repr__(self) -> str:
        return f"<Cors for {len(self._origins)} origins>"

    @property
    def is_on(self) -> bool:
        """Whether any page of another origin is told anything."""
        return bool(self._origins)

    def is_preflight(self, method: str, headers: Mapping[str, str]) -> bool:
        """Whether a browser asks for an allowed page what it may send."""
        asks = "Access-Control-Request-Method" in headers
        return method == "OPTIONS" and asks and self._allowed(headers.get("Origin")) is not None

    def answers(self, request: web.Request) -> bool:
        """Whether it is a preflight for an address that has no answer to OPTIONS itself."""
        is_preflight = self.is_preflight(request.method, request.headers)
        return is_preflight and not UPLOAD_PATH.match(request.rel_url.raw_path)

    async def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Puts on an answer, just before it is sent, what browsers need to show it to a page."""
        self.put(request.method, request.headers, response.headers)

    def put(
        self, method: str, asked: Mapping[str, str], answered: MutableMapping[str, str]
    ) -> None:
        """Adds to an answer's headers what belongs to a request with these; again is harmless."""
        added = self.headers(asked.get("Origin"))
        vary = answered.get("Vary", "Origin")
        if "Vary" in added:
            added["Vary"] = vary if "Origin" in vary else f"{vary}, Origin"
        answered.update(added)
        if self.is_preflight(method, asked):
            answered.update(self._preflight)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What an answer to a page of this origin carries; None: to nobody's page."""
        headers = {} if not self._origins or "*" in self._origins else {"Vary": "Origin"}
        allowed = self._allowed(origin)
        if allowed is not None:
            headers |= {"Access-Control-Allow-Origin": allowed, **self._shown}
        return headers

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if "*" in self._origins:
            return "*"
        return origin if origin in self._origins else None


def _listed(first: Sequence[str], more: set[str]) -> str:
    known: Mapping[str, None] = dict.fromkeys((*first, *sorted(more)))
    return ", ".join(known)
