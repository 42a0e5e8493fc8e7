"""Users and their access tokens."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.errors import ForeignAnswer
from filestore.model import Scope


class Users:
    """``/api/v1/users``; for site admins, but for :meth:`show` of oneself."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, *, is_admin: bool = False) -> Document:
        """The new user, who can log in once there is a token.

        :raises Exists: there is one with this name.
        """
        body: Document = {"name": name}
        if is_admin:
            body["is_admin"] = True
        return (await self._transport.call("POST", "users", body=body)).document

    def list(self) -> AsyncIterator[Document]:
        return pages(self._transport, "users")

    async def show(self, user: str) -> Document:
        """Oneself, or anybody for a site admin; ``user`` is a name or id."""
        return (await self._transport.call("GET", _path(user))).document

    async def change(
        self, user: str, *, name: str | None = None, disabled: bool | None = None
    ) -> Document:
        """The user, changed in what is given. No token of a disabled user opens anything.

        :raises Conflict: it would leave no site admin.
        """
        wish: Document = {"name": name, "disabled": disabled}
        body: Document = {key: value for key, value in wish.items() if value is not None}
        return (await self._transport.call("PATCH", _path(user), body=body)).document

    async def delete(self, user: str) -> None:
        """Disables the user and ends all tokens for good; the name stays on what was written."""
        await self._transport.call("DELETE", _path(user))


@dataclass(frozen=True, slots=True)
class TokenWish:
    """What a new token shall be for. None leaves the choice to the server.

    ``user`` is a name or id (None: the caller); ``groups`` are names or ids.
    """

    user: str | None = None
    name: str | None = None
    scopes: Sequence[Scope] | None = None
    groups: Sequence[str] | None = None
    expires_in_s: int | None = None

    def document(self) -> Document:
        wish: Document = {"user": self.user, "name": self.name, "expires_in_s": self.expires_in_s}
        wish["scopes"] = None if self.scopes is None else [scope.value for scope in self.scopes]
        wish["groups"] = None if self.groups is None else list(self.groups)
        return {key: value for key, value in wish.items() if value is not None}


class Tokens:
    """``/api/v1/tokens``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, wish: TokenWish) -> Document:
        """The new token; its member ``token`` is shown this once and never again."""
        return (await self._transport.call("POST", "tokens", body=wish.document())).document

    async def owner(self) -> str:
        """The name of the user whose token this client has."""
        answer = await self._transport.call("GET", "tokens", params={"limit": "1"})
        items = answer.document.get("items")
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and isinstance(item.get("user"), str):
                return str(item["user"])
        raise ForeignAnswer(status=answer.status, reason="the list of tokens names no user")

    def list(self, user: str | None = None) -> AsyncIterator[Document]:
        """The caller's tokens, or those of ``user``, for site admins."""
        return pages(self._transport, "tokens", None if user is None else {"user": user})

    async def revoke(self, token_id: str) -> None:
        """The token stops working at once. ``token_id`` is its id, not the token."""
        await self._transport.call("DELETE", f"tokens/{segments(token_id)}")


def _path(user: str) -> str:
    return f"users/{segments(user)}"
