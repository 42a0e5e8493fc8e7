"""Lists come in pages: ``{"items", "next"}``, asked for with ``limit`` and ``after``."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from filestore.client.transport import Document, Transport
from filestore.errors import ForeignAnswer

_PAGE: Final = 500


async def pages(
    transport: Transport, path: str, params: Mapping[str, str] | None = None
) -> AsyncIterator[Document]:
    """All items of a list, one request per page; what changes meanwhile may be seen or not."""
    query = {"limit": str(_PAGE), **(params or {})}
    while True:
        answer = await transport.call("GET", path, params=query)
        items, after = answer.document.get("items"), answer.document.get("next")
        if not isinstance(items, list):
            raise ForeignAnswer(status=answer.status, reason="a list was expected")
        for item in items:
            if isinstance(item, dict):
                yield item
        if not isinstance(after, str) or not after:
            return
        query["after"] = after
