"""A group's folders and files: listing, moving, deleting, versions, trash, running uploads."""

from collections.abc import AsyncIterator

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments, tree_path
from filestore.errors import QuotaExceeded


class Tree:
    """Everything below ``/api/v1/groups/{group}`` that names a path or an entry.

    Paths are plain text with slashes, ``docs/plan.txt``; a slash in front or behind is allowed.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def show(self, group: str, path: str) -> Document:
        """The file or folder at ``path``.

        :raises NotFound: there is none.
        """
        return (await self._transport.call("GET", _path(group, "tree", path))).document

    def list(self, group: str, path: str = "") -> AsyncIterator[Document]:
        """What lies in the folder at ``path``, or the one file there."""
        return pages(self._transport, _path(group, "tree", path))

    async def make_folder(self, group: str, path: str) -> Document:
        """The folder at ``path``, made with those above it where they were missing."""
        return (await self._transport.call("PUT", _path(group, "folders", path))).document

    async def move(
        self, group: str, source: str, target: str, to_group: str | None = None
    ) -> Document:
        """The file or folder where it is now, with all its versions; in ``to_group`` if given."""
        return await self._relocate(group, "move", source, target, to_group)

    async def copy(
        self, group: str, source: str, target: str, to_group: str | None = None
    ) -> Document:
        """Adds no bytes to the store, but counts in the quota of the group that gets the copy."""
        return await self._relocate(group, "copy", source, target, to_group)

    async def remove(self, group: str, path: str, *, permanent: bool = False) -> None:
        """Moves a file or folder to the trash, or, ``permanent``, past it: then it is gone."""
        params = {"permanent": "true"} if permanent else None
        await self._transport.call("DELETE", _path(group, "files", path), params=params)

    def versions(self, group: str, path: str) -> AsyncIterator[Document]:
        return pages(self._transport, _path(group, "versions", path))

    async def remove_versions(
        self, group: str, path: str, *, version: int | None = None, before: int | None = None
    ) -> None:
        """Deletes the older version ``version`` for good, or all with numbers below ``before``."""
        given = {"version": version, "before": before}
        params = {name: str(number) for name, number in given.items() if number is not None}
        await self._transport.call("DELETE", _path(group, "versions", path), params=params)

    async def restore_version(self, group: str, path: str, version: int) -> Document:
        """The file, whose current version has the bytes of version ``version`` again."""
        where = _path(group, "versions", path) + "/restore"
        return (await self._transport.call("POST", where, body={"version": version})).document

    def uploads(self, group: str) -> AsyncIterator[Document]:
        """The uploads that are under way in the group."""
        return pages(self._transport, f"groups/{segments(group)}/uploads")

    async def _relocate(
        self, group: str, how: str, source: str, target: str, to_group: str | None
    ) -> Document:
        body: Document = {"from": source.strip("/"), "to": target.strip("/")}
        if to_group is not None:
            body["to_group"] = to_group
        path = f"groups/{segments(group)}/{how}"
        try:
            return (await self._transport.call("POST", path, body=body)).document
        except QuotaExceeded as err:
            err.members.update(group=to_group or group, path=f"/{target.strip('/')}")
            raise


class Trash:
    """``/api/v1/groups/{group}/trash``. Items are named by id: paths may repeat here."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, group: str) -> AsyncIterator[Document]:
        return pages(self._transport, f"groups/{segments(group)}/trash")

    async def restore(self, group: str, item: str) -> Document:
        """The entry, back at its place."""
        path = f"groups/{segments(group)}/trash/{segments(item)}/restore"
        answer = await self._transport.call("POST", path)
        return answer.body if isinstance(answer.body, dict) else {"id": item}

    async def purge(self, group: str, item: str) -> None:
        """Deletes for good: the quota is freed at once, the store's room by the collector."""
        await self._transport.call("DELETE", f"groups/{segments(group)}/trash/{segments(item)}")


def _path(group: str, kind: str, path: str) -> str:
    return f"groups/{segments(group)}/{kind}/{tree_path(path)}".rstrip("/")
