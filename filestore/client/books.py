"""What groups hold and may hold, and who did what: for members, managers and site admins."""

from collections.abc import AsyncIterator, Mapping

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.errors import Json

_ADMIN = "admin"


class Books:
    """``/api/v1/groups/{group}/quota`` and ``/api/v1/admin/…``. ``group``: a name or id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def sheet(self, group: str) -> Document:
        """The balance sheet: its lines, and the figures beside them."""
        return await self._get(f"groups/{segments(group)}/quota/sheet")

    def items(self, group: str, line: str) -> AsyncIterator[Document]:
        """What is behind a line of the sheet; it sums to the line.

        :raises NotFound: there is no such line.
        """
        where = f"groups/{segments(group)}/quota/sheet/{segments(line)}"
        return pages(self._transport, where)

    async def site(self) -> Document:
        """All groups together, and what the store holds."""
        return await self._get(f"{_ADMIN}/sheet")

    async def pool(self) -> Document:
        """What the site has for all groups, and what is promised of it."""
        return await self._get(f"{_ADMIN}/pool")

    async def set_pool(self, pool_bytes: int | None, overcommit_percent: int | None) -> Document:
        """Says what the site has; None: nobody says."""
        body: Document = {"pool_bytes": pool_bytes, "overcommit_percent": overcommit_percent}
        return (await self._transport.call("PUT", f"{_ADMIN}/pool", body=body)).document

    def reports(self, sort: str, unread_days: int) -> AsyncIterator[Document]:
        """All groups in the order of ``sort``."""
        params = {"sort": sort, "unread_days": str(unread_days)}
        return pages(self._transport, f"{_ADMIN}/groups", params)

    def quotas(self) -> AsyncIterator[Document]:
        """The limits of all groups."""
        return pages(self._transport, f"{_ADMIN}/quotas")

    async def set_quotas(self, rows: list[Json], *, dry_run: bool) -> Document:
        """Sets the limits of many groups, all or none; with ``dry_run`` says what it would do.

        :raises BadRequest: rows are wrong; names them by their ``line``.
        """
        body: Document = {"rows": rows, "dry_run": dry_run}
        return (await self._transport.call("PUT", f"{_ADMIN}/quotas", body=body)).document

    def log(self, filters: Mapping[str, str]) -> AsyncIterator[Document]:
        """The audit log, newest first."""
        return pages(self._transport, f"{_ADMIN}/audit-log", filters)

    def log_of_group(self, group: str, filters: Mapping[str, str]) -> AsyncIterator[Document]:
        """The audit log of a group, for its managers."""
        return pages(self._transport, f"groups/{segments(group)}/audit-log", filters)

    async def export_log(self, form: str, filters: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The audit log as ``csv`` or ``jsonl``, in pieces as they come."""
        params = {"format": form, **filters}
        async with self._transport.send(
            "GET", f"{_ADMIN}/audit-log/export", params=params
        ) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def _get(self, path: str) -> Document:
        return (await self._transport.call("GET", path)).document
