"""Kinds of setting values, and how one setting is declared: meaning, range, default, reason."""

import ipaddress
import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from filestore.model import format_size, parse_size

_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):([0-9]{1,5})", re.ASCII)


def setting(
    default: Any,
    what: str,
    *,
    why: str,
    allowed: str = "",
    example: str = "",
    secret: bool = False,
    **limits: Any,
) -> Any:
    """One setting. ``allowed`` may be left out where ``ge`` and ``le`` say it.

    ``example`` stands, commented out, in the generated file where the default is "not set".
    A ``secret`` never shows in a message, a repr or the generated file.
    """
    extra: JsonDict = {"why": why, "allowed": allowed, "example": example, "secret": secret}
    return Field(default, description=what, json_schema_extra=extra, repr=not secret, **limits)


def note(field: FieldInfo, word: str) -> str:
    """What the declaration says of a field under ``word``: why, allowed, example or secret."""
    extra = field.json_schema_extra
    value = extra.get(word) if isinstance(extra, dict) else None
    return str(value) if value else ""


def is_size(field: FieldInfo) -> bool:
    """Whether the field takes a size such as ``10GiB``."""
    return any(item is _SIZE_VALIDATOR for item in field.metadata)


def allowed_text(field: FieldInfo) -> str:
    """What a field takes, in words: the end of every message about a wrong value."""
    if said := note(field, "allowed"):
        return said
    bounds = {
        bound: getattr(item, bound)
        for item in field.metadata
        for bound in ("ge", "le")
        if hasattr(item, bound)
    }
    if is_size(field):
        low, high = format_size(int(bounds["ge"])), format_size(int(bounds["le"]))
        return f"a size from {low} to {high}, such as 64KiB, 10GiB or a number of bytes"
    kind = "whole number" if field.annotation is int else "number"
    unit = " of seconds" if "seconds" in (field.description or "") else ""
    return f"a {kind}{unit} from {bounds['ge']} to {bounds['le']}"


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 address stands in brackets.

    :raises ValueError: anything else.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError("it is not HOST:PORT with a port up to 65535")
    return match[1] or match[2], int(match[3])


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _listen(value: object) -> object:
    if isinstance(value, str):
        split_listen(value)
    return value


def _http_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it does not begin with http:// or https:// and a host")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("it has more than scheme, host, port and path")
    return value.rstrip("/")


def _database_url(value: object) -> object:
    known = ("sqlite+aiosqlite:///", "postgresql+asyncpg://")
    if isinstance(value, str) and not value.startswith(known):
        raise ValueError("it begins with neither of the two known schemes")
    return value


def _blocks_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    scheme, _, rest = value.partition(":")
    if scheme == "file" and rest:
        return value
    parts = urlsplit(value)
    bucket = parts.path.strip("/")
    if scheme != "s3" or not parts.hostname or not bucket or "/" in bucket:
        raise ValueError("it is neither file: and a folder nor s3:// with a host and a bucket")
    if parts.username or parts.password:
        raise ValueError("keys do not belong into the URL; set s3.access_key and s3.secret_key")
    return value


def _networks(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    return tuple(_network(str(part).strip()) for part in parts)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        reason = f"{text!r} is no address and no network, or has bits behind its prefix"
        raise ValueError(reason) from None


def _origins(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    return tuple(_checked_origin(str(part).strip()) for part in parts)


def _checked_origin(text: str) -> str:
    parts = urlsplit(text)
    is_bare = text == f"{parts.scheme}://{parts.netloc}" and not parts.username
    if text != "*" and not (parts.scheme in ("http", "https") and parts.hostname and is_bare):
        raise ValueError(f"{text!r} is neither * nor http:// or https:// with a host alone")
    return text


_SIZE_VALIDATOR: Final = BeforeValidator(_size)

Size = Annotated[int, _SIZE_VALIDATOR]
Listen = Annotated[str, BeforeValidator(_listen)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
DatabaseUrl = Annotated[str, BeforeValidator(_database_url)]
BlocksUrl = Annotated[str, BeforeValidator(_blocks_url)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_networks)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_origins)]
