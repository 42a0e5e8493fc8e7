"""When to try again, and how long to wait first: exponential backoff with jitter.

The pause is a port, so that tests do not sleep.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from filestore.errors import FilestoreError

Pause = Callable[[float], Awaitable[None]]
OnWait = Callable[[FilestoreError, float], None]
"""Told the error and the seconds before each pause."""

MAX_RETRY_AFTER_S: Final = 300
"""A server that asks for more is asked again after this: five minutes are noticed by people."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try. Defaults: 4 tries within about 3 s.

    Full jitter keeps many clients that lost one server from coming back in step. Source: M.
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; here the lower half
    of the interval is left out, so a retry is never immediate.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 30.0
    pause: Pause = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)

    def delay_s(self, failures: int, error: FilestoreError) -> float:
        """Seconds to wait after so many failures in a row; at least what the server asked for."""
        backoff = min(self.cap_s, self.base_s * 2.0 ** (failures - 1)) * self.rng.uniform(0.5, 1)
        asked = min(error.retry_after_s or 0, MAX_RETRY_AFTER_S)
        return max(backoff, asked + self.rng.uniform(0, self.base_s) if asked else 0)

    def begin(self, on_wait: OnWait | None = None) -> "Attempts":
        return Attempts(self, on_wait)


TRANSFERS: Final = RetryPolicy(attempts=16)
"""For uploads and downloads: about six minutes without a byte, longer than a restart takes."""


class Attempts:
    """One series of attempts at the same thing; progress begins it anew."""

    def __init__(self, policy: RetryPolicy, on_wait: OnWait | None = None) -> None:
        self._policy = policy
        self._on_wait = on_wait
        self.failures = 0

    def progressed(self) -> None:
        self.failures = 0

    async def wait(self, error: FilestoreError) -> None:
        """Returns when it is time to try again.

        :raises FilestoreError: ``error`` itself, when it was the last attempt.
        """
        self.failures += 1
        if self.failures >= self._policy.attempts:
            raise error
        delay = self._policy.delay_s(self.failures, error)
        if self._on_wait is not None:
            self._on_wait(error, delay)
        await self._policy.pause(delay)
