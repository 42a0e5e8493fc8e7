"""The life cycle explored: every world as designed, and without the rule that it is about.

`FILESTORE_MODEL_DEPTH=2` puts more processes into each world: minutes, and some GB of memory.
"""

import os
from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from tests.model.explore import explore
from tests.model.life import Life
from tests.model.rules import Rules
from tests.model.scenarios import Scenario, scenarios
from tests.model.scenarios_of_parts import scenarios_of_parts

DEPTH = int(os.environ.get("FILESTORE_MODEL_DEPTH", "1"))
ALL = (*scenarios(), *scenarios_of_parts())
WORLDS = {scenario.make.__name__.strip("_"): scenario.make for scenario in ALL}


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS.keys())
def test_nothing_is_lost_and_nothing_is_stuck_as_designed(
    make: Callable[[Rules, int], Life],
) -> None:
    report = explore(make(Rules(), DEPTH))
    print(report)
    assert report.broken is None, str(report)


@pytest.mark.parametrize("scenario", ALL, ids=[scenario.rule for scenario in ALL])
def test_without_the_rule_a_promise_is_broken(scenario: Scenario) -> None:
    rules = Rules()
    for rule in filter(None, (scenario.rule, scenario.and_without)):
        rules = replace(rules, **{rule: False})
    report = explore(scenario.make(rules, 1))
    print(report)
    assert report.broken is not None, str(report)
    assert report.broken.kind == scenario.breaks, str(report)
    assert report.trace


@pytest.mark.parametrize("rule", ["task_locked", "queue_touches_tasks", "queue_holds_block"])
def test_a_rule_that_another_one_backs_may_be_missing(rule: str) -> None:
    report = explore(WORLDS["release_against_collector"](replace(Rules(), **{rule: False}), 1))
    print(report)
    assert report.broken is None, str(report)


@pytest.mark.parametrize("rule", ["sources_held", "copied_blocks_pinned"])
def test_either_the_sources_or_the_blocks_keep_the_collector_away(rule: str) -> None:
    report = explore(WORLDS["parts_end_in_a_batch"](replace(Rules(), **{rule: False}), 1))
    print(report)
    assert report.broken is None, str(report)


def test_every_rule_has_a_scenario() -> None:
    assert {scenario.rule for scenario in ALL} == {rule.name for rule in fields(Rules)}


def test_the_same_search_gives_the_same_trace_twice() -> None:
    broken = replace(Rules(), second_statement_on_release=False)
    first, second = (explore(WORLDS["last_two_versions"](broken, 1)) for _ in range(2))
    assert first == second
