"""Beginning uploads together: who waits for the same group goes in with the next transaction.

While one transaction of a group commits, the next ones gather; so a group in which many begin at
once costs a commit for all that wait, and nobody waits when nobody else is there. One task a group
does it, for as long as anybody waits.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final

from filestore.acts.beginning import Outcome, Wish, begin_all
from filestore.acts.uploads import Limits
from filestore.errors import DatabaseUnavailable
from filestore.meta.database import Database, LateRefusal
from filestore.meta.uploads import Upload
from filestore.model import ChunkerParams

MAX_BATCH: Final = 64
"""Uploads in one transaction: it holds the group's row for some 20 ms then."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    wish: Wish
    answer: "asyncio.Future[Upload]"


class Admitting:
    """Begins uploads of this process. Nothing of it outlives :meth:`close`."""

    def __init__(self, db: Database, params: ChunkerParams, limits: Limits) -> None:
        self._db = db
        self._params = params
        self._limits = limits
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<Admitting with {waiting} waiting in {len(self._waiting)} groups>"

    async def begin(self, wish: Wish) -> Upload:
        """The new upload. When this is cancelled it may have begun all the same, as when an answer
        is lost.

        :raises FilestoreError: as :func:`~filestore.acts.beginning.begin_all` says.
        """
        answer: asyncio.Future[Upload] = asyncio.get_running_loop().create_future()
        group_id = wish.request.group_id
        queue = self._waiting.get(group_id)
        if queue is None:
            queue = self._waiting[group_id] = deque()
            task = asyncio.create_task(self._serve(group_id, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        queue.append(_Waiting(wish, answer))
        try:
            return await answer
        except LateRefusal as refusal:
            raise await self._db.read(refusal.explain) from None

    async def close(self) -> None:
        """Ends what is under way; who still waits is cancelled."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._waiting.values():
            for one in queue:
                one.answer.cancel()
        self._waiting.clear()

    async def _serve(self, group_id: str, queue: deque[_Waiting]) -> None:
        some: list[_Waiting] = []
        try:
            while queue:
                some = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH))]
                await self._begin([one for one in some if not one.answer.done()])
        finally:
            if self._waiting.get(group_id) is queue:
                del self._waiting[group_id]
            for one in (*some, *queue):  # without effect on those that have their answers
                one.answer.cancel()

    async def _begin(self, some: list[_Waiting]) -> None:
        """Answers all of ``some``. What one of them breaks is not the others' fault: after an error
        each is tried by itself. Not when the database did not answer: then all may have begun,
        and each would wait as long again."""
        if not some:
            return
        wishes = [one.wish for one in some]
        act = partial(begin_all, wishes=wishes, params=self._params, limits=self._limits)
        try:
            outcomes = await self._db.transact(act, at_once=True)
        except DatabaseUnavailable as err:
            for one in some:
                _settle(one, err)
            return
        except Exception as err:  # it is raised where it belongs: at whoever asked
            if len(some) == 1:
                _settle(some[0], err)
                return
            for one in some:
                await self._begin([one])
            return
        for one, outcome in zip(some, outcomes, strict=True):
            _settle(one, outcome)


def _settle(one: _Waiting, outcome: Outcome | Exception) -> None:
    if one.answer.done():  # nobody waits any more
        return
    if isinstance(outcome, Upload):
        one.answer.set_result(outcome)
    else:
        one.answer.set_exception(outcome)
