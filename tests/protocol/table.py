"""The table of tus 1.0.0: every check by its letter.

C core, G grammar, H HEAD, P PATCH, N creation, D deferred length, W creation with upload,
E expiration, K and R checksum, T termination, X concatenation, I creations that are repeated,
O other origins. What needs two connections at once, time that passes, a broken connection or
another setting is a test of its own, which is named here.
"""

from collections.abc import Mapping
from typing import Final

from tests.protocol.rows import Row
from tests.protocol.table_again import AGAIN, OVERRIDE
from tests.protocol.table_concat import CONCATENATION
from tests.protocol.table_core import CORE, GRAMMAR, HEAD
from tests.protocol.table_cors import CORS
from tests.protocol.table_creation import CREATION
from tests.protocol.table_extensions import CHECKSUM, EXPIRATION, TERMINATION
from tests.protocol.table_lengths import DEFER, WITH_UPLOAD
from tests.protocol.table_patch import PATCH

TABLE: list[Row] = [
    *(*GRAMMAR, *CORE, *OVERRIDE, *HEAD, *PATCH),
    *(*CREATION, *DEFER, *WITH_UPLOAD, *AGAIN),
    *(*EXPIRATION, *CHECKSUM, *TERMINATION, *CONCATENATION, *CORS),
]

ELSEWHERE: Final[Mapping[str, str]] = {
    "H8": "protocol/test_tus_together.py::"
    "test_h8_head_during_a_patch_names_an_offset_that_the_next_patch_may_use",
    "H9": "protocol/test_tus_outages.py::"
    "test_h9_without_its_database_the_service_says_later_and_never_gone",
    "P6": "protocol/test_tus_breaks.py::test_p6_what_a_client_sent_before_it_left_is_kept",
    "P12": "protocol/test_tus_breaks.py::"
    "test_p12_a_lost_last_answer_does_not_lose_or_repeat_the_file",
    "P14": "protocol/test_tus_together.py::"
    "test_p14_of_two_patches_the_newcomer_goes_on_where_the_first_was",
    "P16": "protocol/test_tus_refusals.py::"
    "test_p16_an_early_refusal_is_read_by_a_client_that_is_still_sending",
    "N8": "http/test_origin.py::test_a_trusted_proxy_is_believed",
    "E3": "protocol/test_tus_time.py::test_e3_an_expired_upload_is_gone_before_any_sweeper_has_run",
    "E4": "protocol/test_tus_time.py::test_e4_progress_moves_the_end_and_the_cap_does_not_move",
    "E5": "protocol/test_tus_time.py::test_e5_a_finished_upload_does_not_expire",
    "E6": "protocol/test_tus_time.py::test_e6_the_sweeper_ends_what_is_due_and_nothing_else",
    "K9": "protocol/test_tus_breaks.py::test_k9_a_break_under_a_checksum_keeps_nothing",
    "T5": "protocol/test_tus_together.py::"
    "test_t5_a_delete_interrupts_a_running_patch_and_frees_its_reservation",
    "X12": "protocol/test_tus_parts.py::test_x12_parts_make_no_file_and_the_final_one_makes_one",
    "X14": "protocol/test_tus_parts.py::test_x14_a_final_upload_that_is_being_built_has_no_offset",
    "X17": "unit/test_transfer_concat.py::"
    "test_a_final_upload_of_many_blocks_is_built_in_short_transactions",
}
"""Checks that are no rows: they need a second connection, a break, time, or another service."""

NOT_OURS: Final[Mapping[str, str]] = {
    "K11": "the checksum extension cannot be turned off",
    "R4": "trailers cannot be read, so what announces one is refused before it comes (R2)",
}
"""Checks of what the service does not have."""

CHECKS: Final = (
    {
        *("G1", "G2", "G3", "G4"),
        *(f"C{number}" for number in range(1, 11)),
        *(f"H{number}" for number in range(1, 10)),
        *(f"P{number}" for number in range(1, 17)),
        *(f"N{number}" for number in range(1, 11)),
        *("N6a", "N6b", "N6c", "N6d"),
        *(f"D{number}" for number in range(1, 13)),
        *(f"W{number}" for number in range(1, 8)),
        *(f"E{number}" for number in range(1, 8)),
        *(f"K{number}" for number in range(1, 12)),
        *(f"R{number}" for number in range(1, 5)),
        *(f"T{number}" for number in range(1, 8)),
        *(f"X{number}" for number in range(1, 18)),
        *(f"O{number}" for number in range(1, 5)),
        *(f"I{number}" for number in range(1, 10)),
    }
    - NOT_OURS.keys()
    - {"N6"}
)
"""All checks. N6 is N6a to N6d."""
