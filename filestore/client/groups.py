"""Groups, their members, and their quotas."""

from collections.abc import AsyncIterator

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.model import Role


class Groups:
    """``/api/v1/groups``. ``group`` is a group's name or id everywhere."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, quota_bytes: int) -> Document:
        """The new group.

        :raises Exists: there is one with this name.
        """
        body: Document = {"name": name, "quota_bytes": quota_bytes}
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

    async def set_quota(self, group: str, quota_bytes: int) -> Document:
        """The group with its new limit; a limit below what is used is allowed."""
        body: Document = {"quota_bytes": quota_bytes}
        return (await self._transport.call("PATCH", _path(group), body=body)).document

    def members(self, group: str) -> AsyncIterator[Document]:
        return pages(self._transport, f"{_path(group)}/members")

    async def add_member(self, group: str, user: str, role: Role) -> Document:
        """Makes ``user`` a member, or changes the role. Safe to repeat."""
        path = f"{_path(group)}/members/{segments(user)}"
        answer = await self._transport.call("PUT", path, body={"role": role.value})
        return {"group": group, "user": user, "role": role.value} | (
            answer.body if isinstance(answer.body, dict) else {}
        )

    async def remove_member(self, group: str, user: str) -> None:
        await self._transport.call("DELETE", f"{_path(group)}/members/{segments(user)}")


def _path(group: str) -> str:
    return f"groups/{segments(group)}"
