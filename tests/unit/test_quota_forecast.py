"""When a group is full: said where a trend is, and not where none can be seen."""

import pytest

from filestore.quota.forecast import Closing, Forecast, Outlook, foresee

GIB = 2**30


def closed(*used: int) -> list[Closing]:
    return [Closing(day, size) for day, size in enumerate(used)]


def test_steady_growth_is_extended_to_the_limit() -> None:
    found = foresee(closed(*range(0, 10 * GIB, GIB)), limit=20 * GIB, held=10 * GIB)
    assert found == Forecast(Outlook.GROWING, days_to_full=10, bytes_per_day=GIB)


def test_one_large_upload_or_one_emptied_trash_is_no_trend() -> None:
    upload = foresee(closed(*[5] * 20, *[5 * GIB] * 10), limit=6 * GIB, held=5 * GIB)
    assert upload.outlook is Outlook.NOT_GROWING
    steady = [day * GIB for day in range(30)]
    emptied = [*steady[:29], 100]
    found = foresee(closed(*emptied), limit=60 * GIB, held=30 * GIB)
    assert found.outlook is Outlook.GROWING
    assert found.days_to_full == pytest.approx(30, abs=1)


@pytest.mark.parametrize("days", range(7))
def test_less_than_a_week_is_too_short(days: int) -> None:
    found = foresee(closed(*range(days)), limit=100, held=10)
    assert found == Forecast(Outlook.TOO_SHORT)


def test_what_shrinks_or_stands_still_or_grows_in_centuries_is_not_growing() -> None:
    for used in ([9, 8, 7, 6, 5, 4, 3], [5] * 7, [0] * 7):
        found = foresee(closed(*used), limit=100, held=used[-1])
        assert (found.outlook, found.days_to_full) == (Outlook.NOT_GROWING, None)
    slow = foresee(closed(*range(10)), limit=GIB, held=10)
    assert slow == Forecast(Outlook.NOT_GROWING, bytes_per_day=1)


def test_what_is_full_is_full_whatever_the_history() -> None:
    assert foresee([], limit=10, held=10) == Forecast(Outlook.FULL)
    assert foresee([], limit=0, held=0).outlook is Outlook.FULL
    shrinking = foresee(closed(*range(20, 10, -1)), limit=10, held=11)
    assert shrinking == Forecast(Outlook.FULL, bytes_per_day=-1)


def test_days_without_a_closing_are_gaps_and_not_zeros() -> None:
    days = [Closing(day, day * 10) for day in (0, 1, 5, 9, 20, 28, 30)]
    found = foresee(days, limit=400, held=300)
    assert found == Forecast(Outlook.GROWING, days_to_full=10, bytes_per_day=10)
