"""Webhooks of a group or of the site, and the events they tell of."""

from collections.abc import AsyncIterator, Sequence

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments


class Webhooks:
    """``/api/v1/groups/{group}/webhooks``; with ``group`` None ``/api/v1/admin/webhooks``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def add(self, group: str | None, url: str, kinds: Sequence[str]) -> Document:
        """The new webhook with its ``secret``, which no later answer shows."""
        body: Document = {"url": url, "kinds": [*kinds]}
        return (await self._transport.call("POST", _path(group), body=body)).document

    def list(self, group: str | None) -> AsyncIterator[Document]:
        return pages(self._transport, _path(group))

    async def change(
        self,
        group: str | None,
        webhook: str,
        *,
        url: str | None = None,
        kinds: Sequence[str] | None = None,
        enabled: bool | None = None,
        rotate_secret: bool = False,
    ) -> Document:
        """The webhook, changed in what is given; with ``rotate_secret`` with its new secret."""
        body: Document = {} if url is None else {"url": url}
        if kinds is not None:
            body["kinds"] = [*kinds]
        if enabled is not None:
            body["enabled"] = enabled
        if rotate_secret:
            body["rotate_secret"] = True
        return (await self._transport.call("PATCH", _path(group, webhook), body=body)).document

    async def remove(self, group: str | None, webhook: str) -> None:
        await self._transport.call("DELETE", _path(group, webhook))

    async def test(self, group: str | None, webhook: str) -> Document:
        """The delivery of a message that says nothing; it is under way."""
        return (await self._transport.call("POST", _path(group, webhook, "test"))).document

    def deliveries(
        self, group: str | None, webhook: str, *, state: str | None = None
    ) -> AsyncIterator[Document]:
        """What was sent and is to be sent, the newest first."""
        params = None if state is None else {"state": state}
        return pages(self._transport, _path(group, webhook, "deliveries"), params)

    async def retry(self, group: str | None, webhook: str, event: str) -> Document:
        """The delivery of this event, which is due now."""
        path = _path(group, webhook, "deliveries", event, "retry")
        return (await self._transport.call("POST", path)).document


class Events:
    """What happened."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, group: str | None, *, kinds: Sequence[str] = (), since: str | None = None
    ) -> AsyncIterator[Document]:
        """Of a group (None: of the whole service) the newest first; behind ``since`` the oldest."""
        params = {"kinds": ",".join(kinds)} if kinds else {}
        if since is not None:
            params["since"] = since
        path = "admin/events" if group is None else segments("groups", group, "events")
        return pages(self._transport, path, params)


def _path(group: str | None, *rest: str) -> str:
    whose = ("admin",) if group is None else ("groups", group)
    return segments(*whose, "webhooks", *rest)
