"""How long the transactions of one user of a database wait, and hold what others wait for."""

import bisect
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from filestore.meta.database import Database, Tx

T = TypeVar("T")

AIM_S: Final = 0.05
"""What an upload may wait for a collector."""


@dataclass
class Figures:
    """When transactions of one kind were asked for, began and ended, in seconds."""

    spans: list[tuple[float, float, float]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """In milliseconds: until it could begin, and from then to its end."""
        whole = sorted(end - asked for asked, _, end in self.spans)
        if not whole:
            return {"count": 0}
        waited = sorted(began - asked for asked, began, _ in self.spans)
        return {
            "count": len(whole),
            "median_ms": _ms(whole[len(whole) // 2]),
            "p99_ms": _ms(whole[len(whole) * 99 // 100]),
            "max_ms": _ms(whole[-1]),
            "p99_wait_ms": _ms(waited[len(waited) * 99 // 100]),
            "max_wait_ms": _ms(waited[-1]),
            "max_held_ms": _ms(max(end - began for _, began, end in self.spans)),
        }

    def behind(self, others: "Figures") -> dict[str, Any]:
        """In milliseconds: what of the time until these began was taken by ``others``, of which
        one at a time can go."""
        ends = [end for _, _, end in others.spans]
        parts: list[float] = []
        for asked, began, _ in self.spans:
            meanwhile = itertools.takewhile(
                lambda span, until=began: span[1] < until,  # type: ignore[misc]
                itertools.islice(others.spans, bisect.bisect_right(ends, asked), None),
            )
            parts.append(sum(min(end, began) - max(start, asked) for _, start, end in meanwhile))
        parts.sort()
        return {
            "p99_behind_ms": _ms(parts[len(parts) * 99 // 100]),
            "max_behind_ms": _ms(parts[-1]),
            "behind_over_50_ms": sum(part > AIM_S for part in parts),
        }


class TimedDatabase(Database):
    """Another view of an open database, which times the transactions that go through it."""

    def __init__(self, database: Database) -> None:
        vars(self).update(vars(database))
        self.figures = Figures()

    async def transact(self, act: Callable[[Tx], Awaitable[T]], *, at_once: bool = False) -> T:
        asked = time.perf_counter()
        began: list[float] = []

        async def timed(tx: Tx) -> T:
            began.append(time.perf_counter())
            return await act(tx)

        result = await super().transact(timed, at_once=at_once)
        self.figures.spans.append((asked, began[0], time.perf_counter()))
        return result


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
