"""``Upload-Concat``, read strictly. Source: tus 1.0.0, Concatenation.

The addresses in it are URLs that this service gave or a client made of them: absolute, with
whatever host a proxy shows, or relative to the address of the request. Only the path tells
which upload is meant; whether the caller may use it is decided where it is looked up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from filestore.acts.concatenating import HEADER, MAX_PARTS
from filestore.errors import BadHeader
from filestore.ids import is_id
from filestore.model import UploadPart

_FINAL: Final = "final;"
_ADDRESS: Final = re.compile(r"(?:/.*)?/api/v1/uploads/([^/]+)/?", re.ASCII)
_SHOWN: Final = 80
"""Characters of a wrong address that a refusal repeats."""


@dataclass(frozen=True, slots=True)
class Concat:
    """What the header says: ``raw`` as it was sent, ``parts`` the ids of a final one's parts."""

    part: UploadPart
    raw: str
    parts: tuple[str, ...] = ()


def parse_concat(headers: Mapping[str, str], asked: URL) -> Concat | None:
    """What a creation is to become; None: an ordinary upload. ``asked`` is the request's address.

    :raises BadHeader: neither ``partial`` nor ``final;`` with 1 to 1,000 addresses of uploads.
    """
    raw = headers.get(HEADER)
    if raw is None:
        return None
    if not raw.isascii():  # what is no UTF-8 could neither be kept nor given back
        raise BadHeader(header=HEADER, reason="it has characters that no address has")
    if raw == UploadPart.PARTIAL:
        return Concat(UploadPart.PARTIAL, raw)
    if not raw.startswith(_FINAL):
        raise BadHeader(header=HEADER, reason="it is neither partial nor final;")
    addresses = [address for address in raw.removeprefix(_FINAL).split(" ") if address]
    if not addresses:
        raise BadHeader(header=HEADER, reason="it names no partial upload")
    if len(addresses) > MAX_PARTS:
        raise BadHeader(header=HEADER, reason=f"it names more than {MAX_PARTS} partial uploads")
    return Concat(UploadPart.FINAL, raw, tuple(_upload_id(one, asked) for one in addresses))


def _upload_id(address: str, asked: URL) -> str:
    try:
        url = asked.join(URL(address))
    except ValueError as err:
        raise _no_address(address) from err
    found = _ADDRESS.fullmatch(url.raw_path)
    is_web = url.scheme in ("", "http", "https")
    if found is None or not is_web or not is_id("upl", found[1]) or url.query_string:
        raise _no_address(address)
    if found[1] not in address:  # what is kept of the header is searched for the ids in it
        raise _no_address(address)
    return found[1]


def _no_address(address: str) -> BadHeader:
    shown = address[:_SHOWN]
    return BadHeader(header=HEADER, reason=f"{shown} is no address of an upload")
