"""Durations and exit codes of the commands that check and repair."""

import pytest
import typer

from filestore.cli.upkeep import duration_value, exit_code_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), (" 12h ", 43_200), ("30 d", 2_592_000)],
)
def test_durations_are_seconds_or_have_a_unit(text: str, seconds: int) -> None:
    assert duration_value(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1", "1.5h", "1y", "1h30m", "٣d", "1" * 11])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration_value(text)


def test_damage_and_refusal_have_their_exit_codes() -> None:
    assert exit_code_of({"is_good": True, "result": "clean"}) == 0
    assert exit_code_of({"is_good": False, "result": "damage"}) == 1
    assert exit_code_of({"is_good": False, "result": "failed"}) == 1
    assert exit_code_of({"is_good": False, "result": "refused"}) == 3
    assert exit_code_of({}) == 1
