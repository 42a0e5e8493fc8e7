"""Groups, their members, and their quotas."""

from collections.abc import AsyncIterator

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.model import Role


class Groups:
    """``/api/v1/groups``. ``group`` is a group's name or id everywhere."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, quota_bytes: int | None = None) -> Document:
        """The new group; without a quota it gets the server's usual one.

        :raises Exists: there is one with this name.
        """
        body: Document = {"name": name}
        if quota_bytes is not None:
            body["quota_bytes"] = quota_bytes
        return (await self._transport.call("POST", "groups", body=body)).document

    def list(self) -> AsyncIterator[Document]:
        """The groups that the caller sees, page by page."""
        return pages(self._transport, "groups")

    async def show(self, group: str) -> Document:
        return (await self._transport.call("GET", _path(group))).document

    async def delete(self, group: str) -> None:
        await self._transport.call("DELETE", _path(group))

    async def quota(self, group: str) -> Document:
        """``limit_bytes``, ``used_bytes``, ``reserved_bytes``, ``free_bytes`` and more."""
        return (await self._transport.call("GET", f"{_path(group)}/quota")).document

    async def set_quota(
        self, group: str, quota_bytes: int | None, limits: Document | None = None
    ) -> Document:
        """The group with its new limit (None: as before); one below what is used is allowed.

        ``limits`` may have ``soft_limit``, ``files_limit`` (None: none) and ``overflows``.
        """
        quota: Document = {} if quota_bytes is None else {"quota_bytes": quota_bytes}
        return await self._change(group, {**quota, **(limits or {})})

    async def rename(self, group: str, name: str) -> Document:
        """The group with its new name.

        :raises Exists: there is one with this name.
        """
        return await self._change(group, {"name": name})

    async def set_trash_retention(self, group: str, seconds: int) -> Document:
        """The group; what lies in its trash for longer than this is deleted for good."""
        return await self._change(group, {"trash_retention_s": seconds})

    def members(self, group: str) -> AsyncIterator[Document]:
        return pages(self._transport, f"{_path(group)}/members")

    async def add_member(self, group: str, user: str, role: Role) -> Document:
        """Makes ``user`` a member, or changes the role. Safe to repeat."""
        path = f"{_path(group)}/members/{segments(user)}"
        answer = await self._transport.call("PUT", path, body={"role": role.value})
        return {"group": group, "user": user, "role": role.value} | (
            answer.body if isinstance(answer.body, dict) else {}
        )

    async def set_share(self, group: str, user: str, share_bytes: int | None) -> Document:
        """The member with what it may take of the group; None: all that the group has."""
        path = f"{_path(group)}/members/{segments(user)}/share"
        body: Document = {"share_bytes": share_bytes}
        return (await self._transport.call("PUT", path, body=body)).document

    async def remove_member(self, group: str, user: str) -> None:
        await self._transport.call("DELETE", f"{_path(group)}/members/{segments(user)}")

    async def _change(self, group: str, body: Document) -> Document:
        return (await self._transport.call("PATCH", _path(group), body=body)).document


def _path(group: str) -> str:
    return f"groups/{segments(group)}"
