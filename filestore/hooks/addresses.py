"""Where webhooks may go: who registers a URL must not reach what only this service can reach.

A URL is looked at when it is registered, which gives a clear answer early. What counts is the
second look: at each address that is connected to, when it is. So a name that resolves to another
address by then gains nothing, and neither does a redirect, which is not followed.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL: Final = 2000
"""Characters of a URL, as the schema has it; what common servers take in a request line."""

_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's host: public by number, internal by use
        "192.0.0.0/24",  # protocol assignments, RFC 6890; clouds answer there
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "2002::/16",  # 6to4 carries any IPv4 address, RFC 3056
        "2001::/32",  # Teredo, too, RFC 4380
        "64:ff9b::/96",  # NAT64, RFC 6052: the gateway may be in the internal network
        "64:ff9b:1::/48",  # the same, for local use, RFC 8215
        "fec0::/10",  # site-local, deprecated by RFC 3879 and still routed somewhere
        "::/96",  # IPv4-compatible, deprecated by RFC 4291
    )
)


class AddressPolicy:
    """Which addresses may be connected to: public ones, and those of ``allowed`` networks."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in allowed)

    def __repr__(self) -> str:
        return f"<AddressPolicy, {len(self._allowed)} networks besides public ones>"

    def permits(self, host: str, *, encrypted: bool) -> bool:
        """Whether ``host``, an address in digits, may be connected to.

        Without encryption only in networks that the settings name.
        """
        try:
            address = _plain(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            return False
        if any(address in network for network in self._allowed):
            return True
        return encrypted and _is_public(address)

    def complaint(self, url: str) -> str | None:
        """Why ``url`` cannot be a webhook's; None: nothing speaks against it yet."""
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            return f"it must be at most {MAX_URL} printable ASCII characters without spaces"
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return "it is no URL"
        if parts.scheme not in ("https", "http") or not host:
            return "it must begin with https:// and a host"
        if "@" in parts.netloc or "\\" in url:
            return "it must not hold a user name or a password; messages are signed instead"
        if parts.fragment:
            return "it must not have a fragment"
        if parts.scheme == "http" and not self._allowed:
            return "it must begin with https://"
        if _is_number(host) and not self.permits(host, encrypted=parts.scheme == "https"):
            return f"{host} is no public address, and webhooks.allowed_networks does not name it"
        return None


def _plain(address: Address) -> Address:
    """An IPv4 address that is dressed as one of IPv6, without the dress."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NEVER):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
