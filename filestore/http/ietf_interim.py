"""``104 Upload Resumption Supported``: where an upload is while its request is under way.

Interim answers are a kindness: proxies drop them, and a client that never reads must not slow
the upload down. So they are written only while the connection takes them at once, and what
they say is true without them, too.

Source: draft-ietf-httpbis-resumable-upload-11, section 5 (104); RFC 9110, section 15.2.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

from filestore.http.ietf_fields import VERSION_FIELD, Interop

_EVERY_S: Final = 1.0
"""Between two that say how far the upload is."""


class Interim:
    """The interim answers to one request. ``offset``: the last that was said."""

    def __init__(self, request: web.Request, interop: Interop) -> None:
        self._request = request
        self._interop = interop
        self._is_possible = request.version == HttpVersion11
        self._due_at = 0.0
        self.offset = 0

    def __repr__(self) -> str:
        return f"<Interim answers in version {self._interop}, at {self.offset}>"

    def announce(self, location: str, limit: str) -> None:
        """Says that the upload exists: the client can go on there if this request breaks."""
        self._write({"Location": location, "Upload-Limit": limit})

    def progress(self, offset: int) -> None:
        """Says that all before ``offset`` is safe, unless something was said just now."""
        now = asyncio.get_running_loop().time()
        if offset > self.offset and now >= self._due_at:
            self.offset, self._due_at = offset, now + _EVERY_S
            self._write({"Upload-Offset": str(offset)})

    def _write(self, fields: Mapping[str, str]) -> None:
        """Past aiohttp's writer, which would take the final answer for begun."""
        transport = self._request.transport
        if not self._is_possible or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            return
        lines = ["HTTP/1.1 104 Upload Resumption Supported"]
        lines += [f"{VERSION_FIELD}: {int(self._interop)}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))
