"""The life cycle explored: every scenario as designed, and without the rule it is about."""

import os
from dataclasses import fields, replace

import pytest

from tests.model.explore import explore
from tests.model.rules import Rules
from tests.model.scenarios import Scenario, scenarios

DEPTH = int(os.environ.get("FILESTORE_MODEL_DEPTH", "1"))
ALL = tuple(scenarios())
each = pytest.mark.parametrize("scenario", ALL, ids=[scenario.rule for scenario in ALL])


@each
def test_nothing_is_lost_and_nothing_is_stuck_as_designed(scenario: Scenario) -> None:
    report = explore(scenario.make(Rules(), DEPTH))
    print(report)
    assert report.broken is None, str(report)


@each
def test_without_the_rule_a_promise_is_broken(scenario: Scenario) -> None:
    report = explore(scenario.make(replace(Rules(), **{scenario.rule: False}), 1))
    print(report)
    assert report.broken is not None, str(report)
    assert report.broken.kind == scenario.breaks, str(report)
    assert report.trace


def test_every_rule_has_a_scenario() -> None:
    assert [scenario.rule for scenario in ALL] == [rule.name for rule in fields(Rules)]
