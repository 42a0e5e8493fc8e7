"""Under which URL clients see this service: what ``Location`` headers begin with.

Source: RFC 7239 (Forwarded), and the X-Forwarded headers that came before it. Anybody can send
these, so only what comes from a network in ``server.trusted_proxies`` counts, and of several
values only the last, which is the one that the trusted proxy itself wrote.
"""

import ipaddress
import re
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

from filestore.errors import BadHeader
from filestore.settings import Server

_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII
)
_MAX_PORT: Final = 65_535
_TRACES: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")
"""What proxies leave in a request."""

_PAIR: Final = re.compile(r'\s*([A-Za-z-]+)\s*=\s*(?:"([^"\\]*)"|([^\s";,]+))\s*(?:;|$)', re.ASCII)


def public_origin(request: web.Request, server: Server) -> str:
    """Scheme and authority, no slash behind: the setting, what a trusted proxy says, or Host.

    :raises BadHeader: the host is not a host name with an optional port.
    """
    if server.base_url is not None:
        return server.base_url
    scheme, host = request.scheme, request.headers.get("Host", "")
    if _is_trusted(request.remote, server.trusted_proxies):
        said = _forwarded(request)
        host = said.get("host") or host
        if said.get("proto") in ("http", "https"):
            scheme = said["proto"]
    found = _HOST.fullmatch(host)
    if found is None or int(found[1] or 0) > _MAX_PORT:
        raise BadHeader(header="Host", reason="it is not a host name with an optional port")
    return f"{scheme}://{host}"


def known_origin(request: web.Request, server: Server) -> str:
    """:func:`public_origin`, or nothing where it may be wrong; a URL that begins with nothing is
    relative, and each client makes its own of it.

    A wrong one would send the client's token to another host, or in clear text where a proxy
    ends TLS. So a proxy that is not trusted must have left no trace; HTTP/1.0 is what some speak
    that leave none.
    """
    if server.base_url is None and not _is_trusted(request.remote, server.trusted_proxies):
        if request.version < HttpVersion11 or any(name in request.headers for name in _TRACES):
            return ""
    try:
        return public_origin(request, server)
    except BadHeader:
        return ""


def _is_trusted(remote: str | None, networks: tuple[str, ...]) -> bool:
    if not networks or not remote:
        return False
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in networks)


def _forwarded(request: web.Request) -> dict[str, str]:
    """``host`` and ``proto`` as the nearest proxy gives them, the standard header first."""
    headers = request.headers
    if given := headers.getall("Forwarded", []):
        last = ",".join(given).rpartition(",")[2]
        return {pair[1].lower(): (pair[2] or pair[3]).lower() for pair in _PAIR.finditer(last)}
    found = {}
    for key in ("host", "proto"):
        values = headers.getall(f"X-Forwarded-{key.title()}", [])
        if values:
            found[key] = ",".join(values).rpartition(",")[2].strip().lower()
    return found
