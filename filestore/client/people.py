"""Users and their access tokens."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from filestore.client.paging import pages
from filestore.client.transport import Document, Transport, segments
from filestore.model import Scope


class Users:
    """``/api/v1/users``; for site admins."""

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

    def list(self, user: str | None = None) -> AsyncIterator[Document]:
        """The caller's tokens, or those of ``user``, for site admins."""
        return pages(self._transport, "tokens", None if user is None else {"user": user})

    async def revoke(self, token_id: str) -> None:
        """The token stops working at once. ``token_id`` is its id, not the token."""
        await self._transport.call("DELETE", f"tokens/{segments(token_id)}")
