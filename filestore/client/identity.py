"""Who a client is for its server, so that what it remembers is one user's."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from filestore.client.people import Tokens, Users
from filestore.errors import Forbidden, NotFound


@dataclass(frozen=True, slots=True)
class Identity:
    """``key`` differs between users. ``user_id`` is None when the server did not tell it."""

    key: str
    user_id: str | None


Identify = Callable[[], Awaitable[Identity]]


async def identity_of(token: str, tokens: Tokens, users: Users) -> Identity:
    """The user of ``token``. Where the server does not say, the token stands for the user:
    another token of the same user then finds no records, which costs time and no data."""
    try:
        user_id = (await users.show(await tokens.owner())).get("id")
    except (Forbidden, NotFound):
        user_id = None
    if isinstance(user_id, str):
        return Identity(user_id, user_id)
    return Identity("token " + hashlib.sha256(token.encode()).hexdigest(), None)
