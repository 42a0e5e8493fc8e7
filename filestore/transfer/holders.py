"""Who holds an upload in this process: the newcomer wins.

A newcomer asks the holder to save what it has and let go, and waits for that within a bound.
If the holder does not make it, the newcomer goes on all the same: the upload's epoch fences
the old holder, so the two can never interleave. What happens when is decided in
:mod:`.holding`; here it is carried out.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from filestore.transfer.holding import Ask, Effect, Line


class Turn:
    """One request's turn with an upload; turns of one upload form a line."""

    def __init__(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.is_asked = False
        self.begun: asyncio.Future[None] = loop.create_future()
        self.epoch: int | None = None
        """What it holds the upload under, as soon as it does."""
        self._leave: Callable[[], None] | None = None
        self._clock = loop.time
        self._until = loop.time() + wait_s

    @property
    def left_s(self) -> float:
        """How long it may still wait for others, in this process or elsewhere."""
        return max(0.0, self._until - self._clock())

    def on_ask(self, leave: Callable[[], None]) -> None:
        """Says how to stop early; called at once if somebody asked already."""
        self._leave = leave
        if self.is_asked:
            leave()

    def ask(self) -> None:
        self.is_asked = True
        if self._leave is not None:
            self._leave()


class Holders:
    """The lines of all uploads of this process."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._lines: dict[str, Line] = {}
        self._turns: dict[int, Turn] = {}
        self._keys = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Holders of {len(self._lines)} uploads>"

    @property
    def is_idle(self) -> bool:
        return not self._lines

    @contextlib.asynccontextmanager
    async def turn(self, upload_id: str) -> AsyncIterator[Turn]:
        """This request's turn, after those before it let go or had their time to do so.

        Cancelled while it waits, it holds nothing, and who comes next waits for those before.
        """
        key = next(self._keys)
        mine = self._turns[key] = Turn(self._wait_s)
        try:
            self._go_on(upload_id, *self._line(upload_id).came(key))
            if not mine.begun.done():
                await asyncio.wait((mine.begun,), timeout=mine.left_s)
            self._go_on(upload_id, *self._line(upload_id).late(key))
            yield mine
        finally:
            self._go_on(upload_id, *self._line(upload_id).left(key))
            del self._turns[key]

    def ask(self, upload_id: str, epoch: int) -> None:
        """Asks who holds the upload under this epoch, if somebody does here, to let go."""
        for place in self._line(upload_id).places:
            if self._turns[place.key].epoch == epoch:
                self._turns[place.key].ask()

    def ask_all(self) -> None:
        """Asks every holder to save what it has and let go."""
        for turn in list(self._turns.values()):
            turn.ask()

    def _line(self, upload_id: str) -> Line:
        return self._lines.get(upload_id, Line())

    def _go_on(self, upload_id: str, line: Line, effects: tuple[Effect, ...]) -> None:
        """Keeps the line as it is now and does what that means."""
        if line.places:
            self._lines[upload_id] = line
        else:
            self._lines.pop(upload_id, None)
        for effect in effects:
            turn = self._turns[effect.key]
            if isinstance(effect, Ask):
                turn.ask()
            elif not turn.begun.done():
                turn.begun.set_result(None)
