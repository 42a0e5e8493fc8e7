"""What deleting would free, and what of a group cannot be read."""

from collections.abc import AsyncIterator

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments


class Space:
    """``/api/v1/groups/{group}/freeable`` and ``/damaged``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def freeable(self, group: str, path: str = "") -> Document:
        """What deleting the file or folder at ``path`` for good would free.

        :raises NotFound: there is none.
        """
        where = f"groups/{segments(group)}/freeable"
        return (await self._transport.call("GET", where, params={"path": path})).document

    async def freeable_in_trash(self, group: str, item: str) -> Document:
        """What deleting something in the trash would free, by its id."""
        where = f"groups/{segments(group)}/trash/{segments(item)}/freeable"
        return (await self._transport.call("GET", where)).document

    def damaged(self, group: str) -> AsyncIterator[Document]:
        """Versions of files that cannot be read whole, page by page."""
        return pages(self._transport, f"groups/{segments(group)}/damaged")
