"""The contract has teeth: a store that breaks one of its sentences is caught by that check."""

from typing import Final

import pytest

from filestore.blocks.memory import MemoryStore
from tests.contract import block_store as suite
from tests.contract import broken
from tests.contract.block_store import CHECKS, Check

TEETH: Final[dict[type[MemoryStore], Check]] = {
    broken.CutsAtFourMib: suite.the_largest_object_comes_back,
    broken.TakesOnlyTheFirstParts: suite.many_parts_are_joined_in_order,
    broken.GivesWrongBytes: suite.an_object_comes_back_as_it_was_put,
    broken.GivesNothingForMissing: suite.a_missing_object_is_missing,
    broken.CallsMissingUnavailable: suite.a_missing_object_is_missing,
    broken.FetchesWithoutFinishing: suite.fetch_gives_what_finish_makes_of_the_object,
    broken.SwallowsWhatFinishRaises: suite.what_finish_raises_comes_through,
    broken.RefusesASecondPut: suite.a_repeated_put_is_harmless,
    broken.AppendsOnASecondPut: suite.puts_of_one_key_at_once_are_harmless,
    broken.SharesOneScratchBuffer: suite.many_puts_at_once_do_not_mix,
    broken.KeepsTheCallersBuffer: suite.a_buffer_may_change_after_its_put_returned,
    broken.IgnoresGenerations: suite.one_hash_may_lie_under_many_generations_and_domains,
    broken.RemovesAllGenerations: suite.removed_objects_are_gone_and_others_stay,
    broken.RemovesNothing: suite.removed_objects_are_gone_and_others_stay,
    broken.RefusesToRemoveMissing: suite.removing_what_is_not_there_counts_as_removed,
    broken.WalksUnsorted: suite.walk_shows_paths_and_sizes_in_ascending_order,
    broken.WalksWithPlainSizes: suite.walk_shows_paths_and_sizes_in_ascending_order,
    broken.WalksFromTheBeginning: suite.walk_goes_on_behind_any_path,
    broken.WalksIncludingAfter: suite.walk_goes_on_behind_any_path,
    broken.WalksOnePage: suite.walk_sees_more_than_a_page_once_each,
    broken.WalksOtherDomains: suite.walk_stays_within_its_domain,
    broken.ShowsItsMarks: suite.walk_stays_within_its_domain,
    broken.DoesNotKnowTheTime: suite.objects_say_when_they_were_put,
    broken.SetsAsideByRemoving: suite.objects_set_aside_leave_their_domain_and_are_kept,
    broken.SetsAsideByCopying: suite.objects_set_aside_leave_their_domain_and_are_kept,
    broken.WalksAsideFromTheBeginning: (
        suite.a_walk_aside_goes_on_behind_any_path_and_removed_ones_are_gone
    ),
    broken.RemovesAnythingAside: suite.the_quarantine_cannot_lead_out_of_itself,
    broken.TakesMarksForDomains: suite.domains_are_those_that_hold_objects,
    broken.LeavesItsTemporaryFiles: suite.finished_puts_leave_nothing_over,
    broken.ForgetsHighEpochs: suite.the_identity_with_the_highest_epoch_stays,
    broken.ComparesEpochsAsText: suite.the_identity_with_the_highest_epoch_stays,
    broken.WalksMarksUnsorted: suite.marks_come_back_in_order_and_behind_any_name,
    broken.WalksMarksFromTheBeginning: suite.marks_come_back_in_order_and_behind_any_name,
    broken.MixesKindsOfMarks: suite.marks_come_back_in_order_and_behind_any_name,
    broken.KeepsRemovedMarks: suite.removed_marks_are_gone_and_others_stay,
    broken.RemovesMarksOfTheFolder: suite.removed_marks_are_gone_and_others_stay,
    broken.StoresMarksAsObjects: suite.marks_are_neither_objects_nor_the_identity,
    broken.TakesMarksForItsIdentity: suite.marks_are_neither_objects_nor_the_identity,
    broken.JoinsAnyMark: suite.marks_cannot_lead_out_of_their_kind,
    broken.IgnoresDeadlines: suite.a_put_past_its_deadline_is_refused_and_stores_nothing,
    broken.LeavesHalfWhenCancelled: suite.a_cancelled_put_leaves_nothing_or_the_whole_object,
    broken.BreaksWhenCancelled: suite.many_puts_cancelled_at_once_leave_the_store_usable,
    broken.ForgetsWhenOpened: suite.opening_again_is_harmless,
    broken.LitterWhenChecked: suite.check_and_sweep_change_nothing,
    broken.JoinsAnyDomain: suite.a_domain_cannot_lead_out_of_the_store,
}


@pytest.mark.parametrize("kind", TEETH, ids=lambda kind: kind.__name__)
async def test_a_broken_store_is_caught(kind: type[MemoryStore]) -> None:
    store = kind()
    with pytest.raises(Exception) as caught:
        await TEETH[kind](store)
    assert not isinstance(caught.value, TypeError | NameError | AttributeError)


def test_every_break_is_tried() -> None:
    kinds = {kind for kind in vars(broken).values() if isinstance(kind, type)}
    made = {kind for kind in kinds if issubclass(kind, MemoryStore) and kind is not MemoryStore}
    assert made == set(TEETH)


def test_every_check_is_listed_once() -> None:
    written = {
        name
        for name, found in vars(suite).items()
        if callable(found) and getattr(found, "__annotations__", {}).get("store") is not None
    }
    helpers = {"objects", "paths"}
    listed = [check.__name__ for check in CHECKS]
    public = {name for name in written if not name.startswith("_")} - helpers
    assert public == set(listed) and len(listed) == len(set(listed))
