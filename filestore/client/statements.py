"""What a group's quota was, and what moved it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from filestore.client.transport import Document, Transport, segments

_PIECE = 64 * 1024


class Statements:
    """``/api/v1/groups/{group}/quota/statement`` and ``/balance``.

    Moments are days (``2026-01-31``: their beginning in ``tz``) or times of RFC 3339.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def balance(self, group: str, at: str | None = None, *, tz: str = "UTC") -> Document:
        """The group's counters as they were at a moment; None: now."""
        params = {"tz": tz} | ({} if at is None else {"at": at})
        where = f"groups/{segments(group)}/quota/balance"
        return (await self._transport.call("GET", where, params=params)).document

    @asynccontextmanager
    async def of(
        self,
        group: str,
        *,
        begin: str | None = None,
        end: str | None = None,
        tz: str = "UTC",
        form: Literal["json", "csv"] = "json",
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of a statement, from ``begin`` up to, and not including, ``end``.

            async with client.statements.of("lab", begin="2026-01-01", form="csv") as pieces:
                async for piece in pieces: ...

        Memory is that of a piece. It is not asked for twice: who passed pieces on cannot take
        them back. :raises Unreachable: it broke off; what came is not whole.
        """
        params: Mapping[str, str] = {
            name: value
            for name, value in (("from", begin), ("to", end), ("tz", tz), ("format", form))
            if value is not None
        }
        where = f"groups/{segments(group)}/quota/statement"
        async with self._transport.send("GET", where, params=params) as response:
            yield response.content.iter_chunked(_PIECE)
