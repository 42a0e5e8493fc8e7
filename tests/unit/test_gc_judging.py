"""The collector's decisions, exhaustively: every state, referenced or not, ready or not."""

import itertools
from dataclasses import replace

import pytest

from filestore.meta.gc import Task
from filestore.meta.instance import Instance
from filestore.model import BlockState
from filestore_gc.guards import judge_identity, judge_share
from filestore_gc.judging import (
    DAY_US,
    HOUR_US,
    SECOND_US,
    Terms,
    Verdict,
    age_word,
    backoff_us,
    frees_now,
    is_removable,
    is_young,
    judge,
    ready_at,
)

NOW = 100 * DAY_US
TASK = Task(
    block_id=1,
    domain="default",
    hash=bytes(32),
    generation="0" * 16,
    state=BlockState.LIVE,
    size=10,
    created_at=NOW - 10 * DAY_US,
    state_at=NOW - HOUR_US,
    not_before=NOW,
    attempts=0,
    reason="released",
    group_id=None,
    queued_at=NOW - HOUR_US,
    removed_at=None,
    is_referenced=False,
    now=NOW,
)
USUAL = Terms(DAY_US)


@pytest.mark.parametrize("state", list(BlockState))
@pytest.mark.parametrize("is_referenced", [False, True])
def test_what_is_in_use_is_never_condemned_doomed_or_removed(
    state: BlockState, is_referenced: bool
) -> None:
    for terms in (USUAL, Terms(0), Terms(0, is_override=True), Terms(DAY_US, is_override=True)):
        for removed_at, attempts in itertools.product((None, NOW), (0, 3)):
            task = replace(
                TASK,
                state=state,
                is_referenced=is_referenced,
                removed_at=removed_at,
                attempts=attempts,
            )
            verdict = judge(task, terms)
            if is_referenced:
                assert verdict in (Verdict.DROP, Verdict.ALARM, Verdict.WAIT)
                assert not frees_now(task, terms) and not is_removable(task, terms)
            if state is BlockState.UPLOADING:
                assert verdict is Verdict.DROP, "its writer's, or the reaper's"


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (BlockState.LIVE, Verdict.CONDEMN),
        (BlockState.LOST, Verdict.CONDEMN),
        (BlockState.CONDEMNED, Verdict.DOOM),
        (BlockState.DELETING, Verdict.REMOVE),
    ],
)
def test_each_verdict_is_one_step_and_never_two(state: BlockState, verdict: Verdict) -> None:
    assert judge(replace(TASK, state=state), USUAL) is verdict


def test_in_use_means_that_a_live_task_goes_and_a_condemned_one_is_an_alarm() -> None:
    used = replace(TASK, is_referenced=True)
    assert judge(used, USUAL) is Verdict.DROP
    assert judge(replace(used, state=BlockState.LOST), USUAL) is Verdict.DROP
    assert judge(replace(used, state=BlockState.CONDEMNED), USUAL) is Verdict.ALARM
    assert judge(replace(used, state=BlockState.DELETING), USUAL) is Verdict.ALARM


def test_what_the_queue_says_is_waited_for_unless_a_grace_was_given() -> None:
    for state in BlockState:
        later = replace(TASK, state=state, not_before=NOW + 1)
        assert judge(later, USUAL) is Verdict.WAIT
        assert judge(later, Terms(0, is_override=True)) is not Verdict.WAIT


def test_a_given_grace_counts_from_when_the_block_was_condemned() -> None:
    condemned = replace(TASK, state=BlockState.CONDEMNED, not_before=NOW - 1)
    assert judge(condemned, Terms(HOUR_US, is_override=True)) is Verdict.DOOM
    assert judge(condemned, Terms(HOUR_US + 1, is_override=True)) is Verdict.WAIT
    assert ready_at(condemned, Terms(DAY_US, is_override=True)) == condemned.state_at + DAY_US


def test_a_row_whose_object_is_gone_waits_for_its_first_day_whatever_the_grace() -> None:
    for terms in (USUAL, Terms(0, is_override=True)):
        gone = replace(TASK, state=BlockState.DELETING, removed_at=NOW, created_at=NOW - DAY_US + 1)
        assert is_young(gone)
        assert judge(gone, terms) is Verdict.WAIT
        old = replace(gone, created_at=NOW - DAY_US)
        assert not is_young(old)
        assert judge(old, terms) is Verdict.REMOVE
        assert not frees_now(old, terms), "its bytes went with the first removal"


def test_a_fresh_release_is_freed_by_this_run_only_without_a_grace() -> None:
    assert frees_now(TASK, Terms(0))
    assert not frees_now(TASK, Terms(1))
    assert frees_now(replace(TASK, state=BlockState.CONDEMNED), Terms(DAY_US))


def test_waits_between_tries_double_up_to_an_hour() -> None:
    waits = [backoff_us(attempts) for attempts in range(20)]
    assert waits[:3] == [10 * SECOND_US, 20 * SECOND_US, 40 * SECOND_US]
    assert waits == sorted(waits)
    assert waits[-1] == HOUR_US


def test_ages_are_said_in_words_that_sum_up() -> None:
    ages = [0, HOUR_US - 1, HOUR_US, DAY_US, 7 * DAY_US]
    assert [age_word(age) for age in ages] == [
        "under an hour",
        "under an hour",
        "under a day",
        "under a week",
        "over a week",
    ]


MINE = Instance("sto_mine", 7)


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        (("sto_mine", 7), None),
        (("sto_mine", 6), None),  # a crash between database and store, made good later
        (("sto_mine", 5), "store-older"),
        (("sto_mine", 8), "database-older"),
        (("sto_other", 7), "store-foreign"),
        (None, "store-unmarked"),
    ],
)
def test_a_store_of_another_age_or_owner_is_refused(
    mark: tuple[str, int] | None, code: str | None
) -> None:
    wrong = judge_identity(MINE, mark)
    assert (wrong and wrong.code) == code


def test_a_database_that_never_began_is_refused() -> None:
    wrong = judge_identity(None, ("sto_mine", 7))
    assert wrong is not None and wrong.code == "no-instance"


@pytest.mark.parametrize(
    ("guessed", "live", "is_refused"),
    [(1000, 1000, False), (1001, 1001, True), (1001, 20_000, False), (2001, 20_000, True)],
)
def test_unexplained_garbage_is_refused_above_a_tenth_of_the_store_and_a_thousand(
    guessed: int, live: int, is_refused: bool
) -> None:
    assert (judge_share(guessed, live) is not None) is is_refused
