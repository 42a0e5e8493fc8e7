"""In how many days a group is full, from how its books closed on the days before.

The slope is Theil and Sen's: the median of the slopes between all pairs of days. One large
upload or one emptied trash in a month moves it little, where least squares would take either
for the trend. What it cannot say, it does not say.

Source: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from statistics import median
from typing import Final

USUAL_DAYS: Final = 30
MOST_DAYS: Final = 366
"""66,795 pairs: some 20 ms of work."""
FEWEST_DAYS: Final = 7
"""Less than a week does not hold each day of the week once."""
FARTHEST_DAYS: Final = 3650
"""Beyond ten years it is no forecast: such growth is called none."""


class Outlook(StrEnum):
    """What can be said of the time until a group is full."""

    FULL = "full"
    GROWING = "growing"
    NOT_GROWING = "not-growing"
    TOO_SHORT = "not-enough-history"


@dataclass(frozen=True, slots=True)
class Closing:
    """What was used at the end of a day; ``day`` counts days from any beginning."""

    day: int
    used: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """``days_to_full`` only when growing; ``bytes_per_day`` whenever there is a trend at all."""

    outlook: Outlook
    days_to_full: int | None = None
    bytes_per_day: int | None = None


def foresee(closings: Sequence[Closing], *, limit: int, held: int) -> Forecast:
    """The outlook of a group that holds ``held`` bytes now, of ``limit``.

    ``closings`` are in the order of their days, at most one for each. Cost: quadratic in them.
    """
    rate = _slope(closings) if len(closings) >= FEWEST_DAYS else None
    shown = None if rate is None else round(rate)
    if held >= limit:
        return Forecast(Outlook.FULL, bytes_per_day=shown)
    if rate is None:
        return Forecast(Outlook.TOO_SHORT)
    if rate <= 0 or (limit - held) / rate > FARTHEST_DAYS:
        return Forecast(Outlook.NOT_GROWING, bytes_per_day=shown)
    return Forecast(Outlook.GROWING, int((limit - held) / rate), shown)


def _slope(closings: Sequence[Closing]) -> float:
    return median(
        (second.used - first.used) / (second.day - first.day)
        for first, second in combinations(closings, 2)
    )
