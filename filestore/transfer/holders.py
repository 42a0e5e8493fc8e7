"""Who holds an upload in this process: the newcomer wins.

A newcomer asks the holder to save what it has and let go, and waits for that within a bound.
If the holder does not make it, the newcomer goes on all the same: the upload's epoch fences
the old holder, so the two can never interleave.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class Turn:
    """One request's turn with an upload; turns of one upload form a line."""

    def __init__(self) -> None:
        self.is_asked = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leave: Callable[[], None] | None = None

    def on_ask(self, leave: Callable[[], None]) -> None:
        """Says how to stop early; called at once if somebody asked already."""
        self._leave = leave
        if self.is_asked:
            leave()

    def ask(self) -> None:
        self.is_asked = True
        if self._leave is not None:
            self._leave()

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Holders:
    """The lines of all uploads of this process."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._last: dict[str, Turn] = {}

    def __repr__(self) -> str:
        return f"<Holders of {len(self._last)} uploads>"

    @contextlib.asynccontextmanager
    async def turn(self, upload_id: str) -> AsyncIterator[Turn]:
        """This request's turn, after the one before it let go or had its time to do so.

        Cancelled while it waits, it holds nothing, and who comes next waits for the one before.
        """
        before = self._last.get(upload_id)
        mine = self._last[upload_id] = Turn()
        try:
            if before is not None:
                before.ask()
                await asyncio.wait((before.over,), timeout=self._wait_s)
            before = None
            yield mine
        finally:
            if before is None or before.over.done():
                mine.end()
            else:
                before.over.add_done_callback(lambda _: mine.end())
            if self._last.get(upload_id) is mine:
                if mine.over.done():
                    del self._last[upload_id]
                else:
                    mine.over.add_done_callback(lambda _: self._drop(upload_id, mine))

    def ask_all(self) -> None:
        """Asks every holder to save what it has and let go."""
        for turn in list(self._last.values()):
            turn.ask()

    def _drop(self, upload_id: str, turn: Turn) -> None:
        if self._last.get(upload_id) is turn:
            del self._last[upload_id]
