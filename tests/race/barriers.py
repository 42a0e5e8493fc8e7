"""Putting two transactions of PostgreSQL into an exact order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from filestore.meta.database import Tx
from tests.services.hot_path import Process

T = TypeVar("T")

_WAITING: Final = sa.text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_DEADLOCKS: Final = sa.text(
    "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
)


class Paused:
    """An act that has done everything but commit. ``go_on`` lets it, and gives its answer.

    Who enters it finds all its locks taken.
    """

    def __init__(self, at: Process, act: Callable[[Tx], Awaitable[Any]]) -> None:
        self._is_done = asyncio.Event()
        self._may_commit = asyncio.Event()
        self._act = act
        self._task = asyncio.create_task(at.db.transact(self._run))

    async def __aenter__(self) -> "Paused":
        done = asyncio.create_task(self._is_done.wait())
        await asyncio.wait((done, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            done.cancel()
            await self._task
        return self

    async def __aexit__(self, *error: object) -> None:
        self._may_commit.set()
        await asyncio.wait((self._task,))

    async def go_on(self) -> Any:
        self._may_commit.set()
        return await self._task

    async def _run(self, tx: Tx) -> Any:
        found = await self._act(tx)
        self._is_done.set()
        await self._may_commit.wait()
        return found


async def until_waiting(at: Process, task: asyncio.Task[Any]) -> None:
    """Returns as soon as somebody waits for a lock; fails if ``task`` ends before."""
    while not await at.one(_WAITING):
        assert not task.done(), f"it did not wait: {task}"


async def until_done_or_waiting(at: Process, task: asyncio.Task[Any], *, least: int = 1) -> None:
    """Returns when ``task`` has ended, or when so many wait for locks."""
    while not task.done() and await at.one(_WAITING) < least:
        pass


async def deadlocks(at: Process) -> int:
    """How many deadlocks the database has found so far."""
    return int(await at.one(_DEADLOCKS))


async def after(at: Process, act: Callable[[Tx], Awaitable[T]], first: Paused) -> tuple[Any, T]:
    """Both answers, when ``act`` begins while ``first`` is paused and has to wait for it."""
    second = asyncio.create_task(at.db.transact(act))
    await until_waiting(at, second)
    return await first.go_on(), await second
