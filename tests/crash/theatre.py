"""Plays the scenario to a server that dies at named points, and goes on where it died."""

import json
import signal
from collections.abc import Awaitable, Callable

from tests.crash.acting import BROKEN, Acting
from tests.crash.offline import let_silence_pass, offline
from tests.crash.promises import Promises
from tests.crash.scenario import Scenario, acting_in
from tests.e2e.stage import Stage

SETTINGS = {
    "gc.interval_s": 1,
    "gc.grace_s": 0,
    "fsck.orphan_age_s": 0,
    "journal.seal_interval_s": 1,
}
"""Collector and sealer run by themselves as often as they can; nothing waits, nor does a repair."""

UNSEALED = {"journal.seal_interval_s": 86_400}
"""A head that the restored database does not know would be damage, and rightly so."""

Arm = Callable[[], str]
"""Says where the next start of the server is to end; empty: nowhere."""


class Theatre:
    """Stories one after the other on one store. ``died``: the points, in order."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._server = stage.server(settings=SETTINGS)
        self._last: Scenario | None = None
        self.stories = 0
        self.died: list[str] = []

    def __repr__(self) -> str:
        return f"<Theatre: {self.stories} stories, {len(self.died)} deaths, {self._server!r}>"

    async def play(self, arm: Arm) -> None:
        """One story to its end, however often the server dies meanwhile.

        After each death every promise is checked; at the end the store is clean.
        """
        self.stories += 1
        promises = Promises(self._stage.folder / f"promises-{self.stories}.jsonl")
        story = Scenario(f"story-{self.stories}", promises, self._last)
        try:
            if self._last is not None:
                await self._look_back(story)
            await self._tell(story, arm)
        finally:
            promises.close()
        self._stop()
        async with offline(self._stage) as store:
            await store.converge()
            await store.check()
        self._last = story

    async def _look_back(self, story: Scenario) -> None:
        """The database is restored from a backup, and more is damaged; nobody dies meanwhile."""
        async with offline(self._stage) as store:
            await story.prepare(store)
        with self._stage.backend.backup():
            server = self._stage.server(settings=SETTINGS | UNSEALED)
            server.start()
            await story.go_on(acting_in(story, self._stage.admin(server)))
            assert server.stop() == 0, server.tail()
        async with offline(self._stage) as store:
            await story.damage(store)

    async def _tell(self, story: Scenario, arm: Arm) -> None:
        acting: Acting | None = None
        for step in story.steps:
            acting = await self._take(story, step, acting, arm)

    async def _take(
        self,
        story: Scenario,
        step: Callable[[Acting], Awaitable[None]],
        acting: Acting | None,
        arm: Arm,
    ) -> Acting:
        """Takes one step, again after each death; the client as it is then."""
        while True:
            try:
                if acting is None:
                    acting = await self._start(story, arm)
                await step(acting)
                return acting
            except BROKEN as err:
                self._note_death(err)
                await let_silence_pass(self._stage)
                acting = None

    async def _start(self, story: Scenario, arm: Arm) -> Acting:
        """A client of the server, which runs again and has kept every promise.

        :raises ConnectionError: it died at once.
        """
        self._server.failpoint = arm()
        try:
            self._server.start()
        except RuntimeError as err:
            raise ConnectionError from err
        acting = acting_in(story, self._stage.admin(self._server))
        await story.check(acting)
        return acting

    def _note_death(self, err: BaseException) -> None:
        """Notes where the server died; it must have died where it was to."""
        code = self._server.wait()
        last = self._server.log.splitlines()[-1]
        if code != -signal.SIGKILL or "failpoint.dying" not in last:
            raise AssertionError(f"the server ended with {code}:\n{self._server.tail()}") from err
        self.died.append(json.loads(last)["point"])

    def _stop(self) -> None:
        code = self._server.stop()
        if code == -signal.SIGKILL:
            self._note_death(AssertionError("it died while it stopped"))
        else:
            assert code == 0, self._server.tail()
