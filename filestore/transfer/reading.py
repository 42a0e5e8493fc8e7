"""The first stage: drains the socket into buffers as fast as memory allows.

Buffers begin at 64 KiB and grow while the stream fills them quickly, so that an idle upload
costs little and a fast one makes few hops; the smallest are handed on when they are full, so
that one that trickles makes few, too. Pieces are copied as they come, while the
processor's cache still has them, and a fast stream uses its buffers again (:mod:`.buffers`).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from filestore.errors import FilestoreError, Overloaded, RequestTimeout
from filestore.model import KIB, MIB
from filestore.transfer.budget import Grant, MemoryBudget
from filestore.transfer.buffers import Buffers
from filestore.transfer.source import Broken, ByteSource, End

_FAST_S: Final = 0.25
"""A buffer that fills in this time is followed by a larger one; at 8 MiB that is 32 MiB/s."""
_SLOW_S: Final = 2.0
"""A large buffer that is not full after this time is handed on, and a smaller one follows."""
_GROWTH: Final = 4
_LARGE: Final = MIB
"""From this size on buffers are used again; smaller ones grow with what comes."""
_LITTLE: Final = 16 * KIB
"""So much is gathered also while memory is short: a hop for each piece would cost more."""


@dataclass(slots=True)
class Filled:
    """A buffer that was read. ``end`` is set on the last one, which may be empty."""

    memory: bytearray | memoryview
    size: int = 0
    grant: Grant | None = None
    beside: int = 0  # bytes that the grant has room for besides: the tail is read back for it
    most: int | None = None  # bytes that fit before the tail has to be read back
    end: End | None = None

    @property
    def data(self) -> memoryview:
        return memoryview(self.memory)[: self.size]

    def add(self, piece: bytes) -> bytes:
        """Takes as much of ``piece`` as there is room for; the rest of it."""
        most = len(piece)
        if isinstance(self.memory, memoryview):
            most = len(self.memory) - self.size
        elif self.most is not None:
            most = self.most - self.size
        taken = min(len(piece), most)
        whole = taken == len(piece)
        if isinstance(self.memory, bytearray):
            self.memory += piece if whole else piece[:taken]
        else:
            self.memory[self.size : self.size + taken] = piece if whole else piece[:taken]
        self.size += taken
        return b"" if whole else piece[taken:]

    def release(self) -> None:
        """Nobody needs it any more; views of its data may live on."""
        self.memory = bytearray()
        if self.grant is not None:
            self.grant.release()


class Reader:
    """Reads one body into a queue of one buffer. ``limit`` is how many bytes are welcome.

    ``room`` tells, for the bytes handed on so far, how many may follow before the upload's tail
    has to be read back (None: it is in memory), and ``beside`` how much that takes.
    """

    def __init__(
        self,
        source: ByteSource,
        budget: MemoryBudget,
        *,
        limit: int,
        smallest: int = 64 * KIB,
        largest: int = 8 * MIB,
        buffers: Buffers | None = None,
        room: Callable[[int], int | None] = lambda handed: None,
        beside: Callable[[], int] = lambda: 0,
    ) -> None:
        self._source = source
        self._budget = budget
        self._left = limit
        self._smallest = smallest
        self._largest = largest
        self._target = smallest
        self._filling = Filled(bytearray())
        self._rest = b""  # of a piece that did not fit
        self._buffers = buffers
        self._room = room
        self._beside = beside
        self._handed = 0
        self.error: FilestoreError | None = None
        self._asked = asyncio.Event()
        self._is_waiting = False  # for memory
        self._is_handing_on = False
        self.queue: asyncio.Queue[Filled] = asyncio.Queue(1)

    def ask(self) -> None:
        """Asks to stop reading and to hand on what is there. Again is harmless."""
        self._asked.set()

    @property
    def held_size(self) -> int:
        """Bytes of the budget that the buffer under way has of its own."""
        return 0 if self._filling.grant is None else self._filling.grant.size

    def nudge(self) -> None:
        """Hands on what is there, be it nothing, also while the client is silent.

        What waits for its memory stays and keeps its place in the line: it is not charged yet.
        """
        if not self.queue.empty() or self._is_handing_on:
            return
        if self._is_waiting:
            self.queue.put_nowait(Filled(bytearray()))
        else:
            self.queue.put_nowait(self._next())

    async def run(self) -> None:
        """Reads to the end of the body, or until asked to stop; the last buffer says why.

        Cancelled by anyone but :meth:`ask`, it drops what it has.
        """
        end = End.ASKED
        try:
            if not self._asked.is_set():
                end = await self._read_until_asked()
            if self._rest:
                await self._hand_on()
                self._filling.add(self._rest)
            self._filling.end = end
            await self._hand_on()
        except BaseException:
            self._filling.release()
            raise

    async def _read_until_asked(self) -> End:
        reading = asyncio.create_task(self._read())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait((reading, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            reading.cancel()  # without effect when it has ended
            await asyncio.wait((reading,))
        return End.ASKED if reading.cancelled() else reading.result()

    async def _read(self) -> End:
        while True:
            end = await self._fill()
            if end is not None:
                return end
            await self._hand_on()

    async def _hand_on(self) -> None:
        self._is_handing_on = True
        try:
            await self.queue.put(self._filling)
            self._next()
        finally:
            self._is_handing_on = False

    def _next(self) -> Filled:
        """The buffer under way, which another one follows."""
        filled, self._filling = self._filling, Filled(bytearray())
        self._handed += filled.size
        return filled

    async def _fill(self) -> End | None:
        """Fills one buffer; why reading ended, or None if it did not."""
        began = time.monotonic()
        if self._buffers is not None and self._target >= _LARGE and self._room_left() is None:
            self._filling.memory = self._buffers.take(self._target) or bytearray()
        while self._filling.size < self._target:
            piece, self._rest = self._rest, b""
            if not piece:
                try:
                    piece = await self._source.read(self._target)
                except (Broken, RequestTimeout) as err:
                    self.error = err
                    return End.BROKEN
                if not piece:
                    return End.BODY
                if len(piece) > self._left:
                    return End.TOO_LONG
                self._left -= len(piece)
            self._rest = self._begun().add(piece)
            try:
                has_room = await self._charge()
            except Overloaded as err:
                self.error = err
                return End.BROKEN
            if self._filling.beside or self._filling.size == self._filling.most:
                return None
            if not has_room or self._is_slow(began):
                self._target = max(self._target // _GROWTH, self._smallest)
                return None
        if time.monotonic() - began < _FAST_S:
            self._target = min(self._target * _GROWTH, self._largest)
        return None

    def _begun(self) -> Filled:
        """The buffer under way, which ends where the tail has to be read back."""
        filling = self._filling
        if not filling.size and isinstance(filling.memory, bytearray):
            room = self._room_left()
            filling.most = room if room is not None and room > 0 else None
        return filling

    def _room_left(self) -> int | None:
        return self._room(self._handed)

    def _is_slow(self, began: float) -> bool:
        return self._target > self._smallest and time.monotonic() - began > _SLOW_S

    async def _charge(self) -> bool:
        """Charges the budget for the buffer, twice its size: it moves as it grows.

        Waits only before it holds more than one piece, so that who waits holds next to
        nothing. False: there is no room for it to grow on.

        :raises Overloaded: the wait was too long.
        """
        filling = self._filling
        if isinstance(filling.memory, memoryview):
            return True  # its buffer is charged
        if filling.grant is None:
            await self._take(filling)
            return True
        needed = 2 * (filling.size + filling.beside)
        if needed <= filling.grant.size:
            return True
        if self._budget.grow(filling.grant, max(needed, 2 * filling.grant.size)):
            return True
        filling.grant.set(needed)
        return filling.size < _LITTLE

    async def _take(self, filling: Filled) -> None:
        """Waits for the grant of the buffer under way: in the order of asking, behind nobody
        who came later.

        When the tail has to be read back for it, there is room for that, too: what is read, and
        what it becomes a part of. A flush meanwhile makes the tail a little longer.
        """
        room = self._room_left()
        beside = self._beside() if room is not None and room <= 0 else 0
        self._is_waiting = True
        try:
            filling.grant = await self._budget.take(2 * (filling.size + beside))
        finally:
            self._is_waiting = False
        if beside:
            filling.beside = self._beside()
            filling.grant.set(2 * (filling.size + filling.beside))
