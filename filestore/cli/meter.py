"""How fast a transfer is, and how long it will take; pure, the time is given."""

from collections import deque
from typing import Final

from filestore.model import format_size

_WINDOW_S: Final = 15.0
"""Speed is that of the last 15 s: steady enough to read, quick enough to show a break."""


class Meter:
    """One transfer's progress over time."""

    def __init__(self, done: int, total: int, now: float) -> None:
        self.done = done
        self.total = total
        self._marks: deque[tuple[float, int]] = deque([(now, done)])

    def moved(self, done: int, now: float) -> None:
        self.done = done
        self._marks.append((now, done))
        while len(self._marks) > 2 and self._marks[1][0] < now - _WINDOW_S:
            self._marks.popleft()

    @property
    def bytes_per_s(self) -> float:
        """0 while nothing can be said."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return max(last - first, 0) / (now - began) if now > began else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None while nothing can be said."""
        speed = self.bytes_per_s
        return (self.total - self.done) / speed if speed > 0 else None

    @property
    def line(self) -> str:
        """``34 %, 1.2 GiB of 3.5 GiB, 88 MiB/s, 0:00:27 left``."""
        percent = 100 * self.done // self.total if self.total else 100
        parts = [f"{percent} %", f"{format_size(self.done)} of {format_size(self.total)}"]
        if self.bytes_per_s > 0:
            parts.append(f"{format_size(int(self.bytes_per_s))}/s")
        if self.seconds_left is not None:
            parts.append(f"{format_duration(self.seconds_left)} left")
        return ", ".join(parts)


def format_duration(seconds: float) -> str:
    """``0:00:27``; more than 99 hours are not worth telling apart."""
    whole = round(seconds)
    if whole >= 100 * 3600:
        return "over 99 h"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
