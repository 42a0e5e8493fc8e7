"""One collection at a time, and one scrub, over all processes on one database.

Safety does not rest on it: two that overlap take each other's tasks by locks, and a DELETE
may be repeated. It keeps work from being done twice, and lets a run wait for another.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from filestore.errors import Json
from filestore.meta import leases
from filestore.meta.database import Database, Tx
from filestore.meta.processes import note_alive

NAME: Final = "gc"
POLL_S: Final = 0.5
"""How often a run that waits for another one asks whether that has ended."""
CHECK_S: Final = 5.0
"""How often a holder asks whether it still is its turn: well within the silence after which
another process takes over."""


class TakenOver(Exception):
    """Another process took this one for dead, and goes on in its place."""


@dataclass(slots=True)
class Turn:
    """A turn at the work, while the lease's block runs. ``keep`` is cheap and called often."""

    name: str
    number: int
    db: Database
    process_id: str
    result: str = "stopped"
    report: Json = None
    _checked_at: float = field(default_factory=time.monotonic)

    async def keep(self) -> None:
        """Goes on while it is my turn; also says that this process is alive.

        :raises TakenOver: it is not.
        """
        now = time.monotonic()
        if now - self._checked_at < CHECK_S:
            return
        if not await self.db.transact(self._hold):
            raise TakenOver
        self._checked_at = now

    async def _hold(self, tx: Tx) -> bool:
        await note_alive(tx, self.process_id)
        return await leases.hold(tx, self.name, self.number)


class Lease:
    """The right to do the work called ``name``, as this process sees it."""

    def __init__(
        self,
        db: Database,
        process_id: str,
        *,
        name: str = NAME,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._process_id = process_id
        self._name = name
        self._sleep = sleep
        self._mine = asyncio.Lock()

    def __repr__(self) -> str:
        state = "held" if self._mine.locked() else "free"
        return f"<Lease {self._name} of {self._process_id}, {state}>"

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[Turn]:
        """A turn, as soon as whoever is at work now has ended. The caller bounds the wait."""
        async with self._mine:
            while (number := await self._take()) is None:
                await self._sleep(POLL_S)
            async with self._turn(number) as turn:
                yield turn

    @contextlib.asynccontextmanager
    async def if_due(self, rest_s: float) -> AsyncIterator[Turn | None]:
        """A turn if nobody is at work and nobody was for ``rest_s`` seconds; otherwise None."""
        if self._mine.locked():
            yield None
            return
        async with self._mine:
            number = await self._take(int(rest_s * 1_000_000))
            if number is None:
                yield None
                return
            async with self._turn(number) as turn:
                yield turn

    @contextlib.asynccontextmanager
    async def at_once(self) -> AsyncIterator[Turn]:
        """A turn now. Whoever is at work finds at its next ``keep`` that it is over."""
        number = await self._take(force=True)
        assert number is not None, "nothing keeps from a lease that is taken by force"
        async with self._turn(number) as turn:
            yield turn

    async def _take(self, rest_us: int | None = None, *, force: bool = False) -> int | None:
        act = partial(
            leases.take,
            name=self._name,
            process_id=self._process_id,
            alone=force or self._db.is_sqlite,
            rest_us=rest_us,
        )
        return await self._db.transact(act)

    @contextlib.asynccontextmanager
    async def _turn(self, number: int) -> AsyncIterator[Turn]:
        """Ends the turn with what the block left in it. If even that fails, the next of this
        process or, when this one is dead, of any other takes it."""
        turn = Turn(self._name, number, self._db, self._process_id)
        try:
            yield turn
        finally:
            act = partial(
                leases.release,
                name=self._name,
                turn=number,
                result=turn.result,
                report=turn.report,
            )
            await self._db.transact(act)
