"""Temporary files, and the pool that holds them."""

from collections.abc import AsyncIterator

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments


class Temporary:
    """``/api/v1/groups/{g}/temporary`` and ``/api/v1/admin/temporary-pool``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, group: str) -> AsyncIterator[Document]:
        """The group's temporary versions: ``id``, ``path``, ``size``, ``expires_at`` and more."""
        return pages(self._transport, f"groups/{segments(group)}/temporary")

    async def keep(self, group: str, version_id: str) -> None:
        """Makes one permanent.

        :raises QuotaExceeded: the group has no room for it.
        """
        path = f"groups/{segments(group)}/temporary/{segments(version_id)}/keep"
        await self._transport.call("POST", path)

    async def pool(self) -> Document:
        """``limit_bytes``, ``used_bytes``, ``reserved_bytes``, ``keep_s``."""
        return (await self._transport.call("GET", "admin/temporary-pool")).document

    async def set_pool(self, limit_bytes: int, keep_s: int | None = None) -> Document:
        body: Document = {"limit_bytes": limit_bytes}
        if keep_s is not None:
            body["keep_s"] = keep_s
        return (await self._transport.call("PUT", "admin/temporary-pool", body=body)).document
