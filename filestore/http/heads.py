"""How much of requests' headers a process holds before anybody has looked at them.

The parser bounds one header, and how many there are; both together would be megabytes for each
connection, from clients that no token is known of.
"""

from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

from filestore.model import KIB, MIB

BESIDE: Final = 64 * KIB
"""Bytes of all other headers beside one of the largest size."""

TOTAL: Final = 64 * MIB
"""Bytes of all unfinished headers of a process. Honest ones have 1 KiB and arrive at once. The
parser keeps 1.9 times as much (aiohttp 3.14.5), and a connection the end of its own, to name a
header in a refusal: some 190 MiB at the worst. What came in one piece with the end of the request
before is not counted; a piece is what the socket's window holds, 16 KiB between requests, and at
the end of a large body up to 256."""


HEARD_OUT: Final = 128
"""Connections too many whose header is waited for, so that pages of other origins can read the
refusal. Each takes a file, of which few are set aside; others are refused at once."""


class HeadTooLong(HttpProcessingError):
    """All headers of a request together have more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(code=400, message="the headers are too long")
        self.limit = limit


class HeadsTooLong(HttpProcessingError):
    """All unfinished headers of the process together have more than :data:`TOTAL` bytes."""

    def __init__(self) -> None:
        super().__init__(code=400, message="there is no room for headers")


class Room:
    """Bytes that unfinished headers of all connections share, and how many are heard out."""

    def __init__(self, total: int = TOTAL) -> None:
        self._left = total
        self._heard_out = 0

    def __repr__(self) -> str:
        return f"<Room for {self._left} bytes>"

    def take(self, size: int) -> bool:
        """Whether there was room for so many more; then it is taken."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        self._left += size

    def hear_out(self) -> bool:
        """Whether one more connection may be; then it is, until :meth:`heard`."""
        if self._heard_out >= HEARD_OUT:
            return False
        self._heard_out += 1
        return True

    def heard(self) -> None:
        self._heard_out -= 1


class Weight:
    """What one connection's unfinished header holds of the room, ``limit`` bytes at most."""

    def __init__(self, room: Room, limit: int) -> None:
        self._room = room
        self._limit = limit
        self._held = 0

    def grow(self, size: int) -> HttpProcessingError | None:
        """Counts so many bytes more; why there may be none, if so."""
        if not self._room.take(size):
            return HeadsTooLong()
        self._held += size
        return HeadTooLong(self._limit) if self._held > self._limit else None

    def drop(self) -> None:
        """The header is whole or gone."""
        self._room.give(self._held)
        self._held = 0
