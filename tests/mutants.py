"""Mutants that must be caught: a rule of the design is taken out, and the suite has to fail.

    make mutants                       # all of them
    make mutants ARGS='key-share'      # some

Each is applied to a copy of the tree as an exact replacement of text that must be found once,
so it cannot rot in silence; then the few tests run that are there for the rule. Before, these
tests must pass on the copy as it is: what fails anyway catches nothing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_PARTS: Final = ("filestore", "chunker", "gc", "config", "tests", "pyproject.toml")
_LIMIT_S: Final = 300
_FAILED: Final = 1
"""Pytest's exit code when tests ran and some failed. Source: pytest's reference, exit codes."""


@dataclass(frozen=True, slots=True)
class Change:
    """``old``, which is in the file exactly once, becomes ``new``."""

    path: str
    old: str
    new: str

    def applied(self, root: Path) -> str:
        """The file's text with the change.

        :raises LookupError: the text is not there exactly once: the mutant has to be written anew.
        """
        text = (root / self.path).read_text(encoding="utf-8")
        count = text.count(self.old)
        if count != 1:
            raise LookupError(f"{self.path} has {count} times:\n{self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is left out, how, and which tests must see it."""

    name: str
    left_out: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


_PIN: Final = "    .order_by(blocks.c.id)\n    .with_for_update(read=True)\n)"
_RACES: Final = "tests/race/test_gc_races.py::"
_FACTS: Final = "tests/race/test_postgres_facts.py::"
_PARTS_RACES: Final = "tests/race/test_concat_races.py::"

MUTANTS: Final = (
    Mutant(
        "pin-unlocked",
        "a writer that pins takes no lock",
        (Change("filestore/meta/blocks.py", _PIN, "    .order_by(blocks.c.id)\n)"),),
        (
            _FACTS + "test_d_pinning_waits_for_a_collector_and_then_pins_nothing",
            _RACES + "test_a_writer_waits_for_the_collector_and_then_does_without_the_block",
        ),
    ),
    Mutant(
        "key-share",
        "pins take FOR KEY SHARE, not FOR SHARE",
        (
            Change(
                "filestore/meta/blocks.py",
                _PIN,
                _PIN.replace("read=True", "read=True, key_share=True"),
            ),
        ),
        (_RACES + "test_a_writer_waits_for_a_block_that_is_just_being_found_lost",),
    ),
    Mutant(
        "one-statement",
        "condemning is one UPDATE … WHERE NOT EXISTS, without a look under locks",
        (
            Change(
                "filestore/meta/gc.py",
                "    return await pick(tx, list(held))",
                "    return await pick(tx, ids)",
            ),
            Change(
                "filestore/meta/gc.py",
                "    mine = sa.select(blocks.c.id).where(among(blocks.c.id, list(locked)))\n"
                "    held = await tx.scalars("
                "mine.order_by(blocks.c.id).with_for_update(skip_locked=True))\n",
                "",
            ),
            Change(
                "filestore/meta/gc.py",
                "            .where(_named(some), blocks.c.state == old)",
                "            .where(\n"
                "                _named(some),\n"
                "                blocks.c.state == old,\n"
                "                ~sa.exists().where(content_blocks.c.block_id == blocks.c.id),\n"
                "            )",
            ),
        ),
        (
            _RACES + "test_a_pin_that_commits_while_the_collector_changes_the_state_is_seen",
            _RACES + "test_a_pin_between_look_and_change_is_impossible",
        ),
    ),
    Mutant(
        "block-without-task",
        "the collector locks the block and not its task",
        (
            Change(
                "filestore/meta/gc.py",
                "tasks.order_by(gc_queue.c.block_id).with_for_update(skip_locked=True)",
                "tasks.order_by(gc_queue.c.block_id)",
            ),
        ),
        (_RACES + "test_the_task_that_a_reaper_is_just_touching_is_not_taken_away",),
    ),
    Mutant(
        "key-reused",
        "the same bytes get the same key again",
        (
            Change(
                "filestore/transfer/placing.py",
                "_Flight(new_generation(), ",
                "_Flight(key.hex()[:16], ",
            ),
        ),
        (_RACES + "test_a_delete_that_arrives_late_cannot_hit_what_was_stored_again",),
    ),
    Mutant(
        "object-first",
        "the object goes before `deleting` is committed",
        (
            Change(
                "gc/filestore_gc/sweeping.py",
                "            for some in self._strides(ids):\n",
                "            doomed = [one for one in tasks"
                " if verdicts[one.block_id] is Verdict.DOOM]\n"
                "            await self._store.remove([key_of(one) for one in doomed])\n"
                "            for some in self._strides(ids):\n",
            ),
        ),
        ("tests/unit/test_gc_faults.py::test_no_object_goes_before_its_row_says_so_to_everybody",),
    ),
    Mutant(
        "do-nothing",
        "an event for a block that is queued already is skipped",
        (
            Change(
                "filestore/meta/blocks.py",
                "        statement.on_conflict_do_update(\n"
                "            index_elements=[gc_queue.c.block_id],\n"
                "            set_={\n"
                '                "not_before": later,\n'
                '                "reason": statement.excluded.reason,\n'
                '                "group_id": sa.func.coalesce('
                "statement.excluded.group_id, gc_queue.c.group_id),\n"
                "            },\n"
                "        )",
                "        statement.on_conflict_do_nothing(index_elements=[gc_queue.c.block_id])",
            ),
        ),
        (
            _RACES + "test_the_task_that_a_reaper_is_just_touching_is_not_taken_away",
            _FACTS + "test_a_collector_never_deletes_a_task_that_is_being_touched",
        ),
    ),
    Mutant(
        "expiry-by-clock",
        "the collector takes an upload for expired by the clock",
        (
            Change(
                "filestore/meta/gc.py",
                "    reference = sa.select(content_blocks.c.block_id)"
                ".where(content_blocks.c.block_id == blocks.c.id)\n",
                "    from filestore.meta.tables import uploads\n\n"
                "    late = sa.exists().where(\n"
                "        uploads.c.content_id == content_blocks.c.content_id,\n"
                '        uploads.c.state == "open",\n'
                "        uploads.c.expires_at <= now_us(),\n"
                "    )\n"
                "    reference = sa.select(content_blocks.c.block_id).where(\n"
                "        content_blocks.c.block_id == blocks.c.id, ~late\n"
                "    )\n",
            ),
        ),
        (_RACES + "test_an_upload_whose_time_is_over_keeps_its_blocks_until_that_is_recorded",),
    ),
    Mutant(
        "fence-outside",
        "the fence is read before the recording transaction, not under its lock",
        (
            Change(
                "filestore/transfer/recording.py",
                "        upload = await uploads.fence(tx, claim.id, claim.epoch)\n",
                "        look = partial(uploads.fence, upload_id=claim.id, epoch=claim.epoch)\n"
                "        upload = await self._db.read(look)\n",
            ),
        ),
        (
            "tests/race/test_takeover.py::"
            "test_nobody_takes_an_upload_over_between_the_fence_and_the_commit",
        ),
    ),
    Mutant(
        "content-unlocked",
        "a version is added to a content without its lock",
        (
            Change(
                "filestore/meta/contents.py",
                "        .with_for_update(read=True)\n    )\n    return row.one_or_none()",
                "    )\n    return row.one_or_none()",
            ),
        ),
        (
            "tests/race/test_tree_races.py::"
            "test_a_release_waits_for_who_shares_the_content_and_sees_its_version",
            "tests/race/test_tree_races.py::"
            "test_a_copy_that_waits_for_the_purge_of_its_source_finds_nothing",
        ),
    ),
    Mutant(
        "parts-unlocked",
        "who begins a final upload looks at its parts without their locks",
        (
            Change(
                "filestore/acts/concatenating.py",
                "await uploads.lock_all(tx, set(request.parts))",
                "await uploads.find_all(tx, set(request.parts))",
            ),
        ),
        (_PARTS_RACES + "test_two_finals_that_begin_at_once_take_what_a_part_reserves_only_once",),
    ),
    Mutant(
        "given-back-unlocked",
        "a final upload that ends gives back to its parts without their locks",
        (
            Change(
                "filestore/meta/uploads.py",
                "_SELECT.where(*taken).order_by(uploads.c.id).with_for_update(of=uploads)",
                "_SELECT.where(*taken).order_by(uploads.c.id)",
            ),
        ),
        (_PARTS_RACES + "test_a_final_that_ends_gives_nothing_back_to_a_part_that_is_just_ending",),
    ),
    Mutant(
        "sources-unheld",
        "references are copied from parts that may be released meanwhile",
        (
            Change(
                "filestore/meta/concatenating.py",
                "        .order_by(contents.c.id)\n        .with_for_update(read=True)\n",
                "        .order_by(contents.c.id)\n",
            ),
        ),
        (
            _PARTS_RACES
            + "test_a_part_that_is_terminated_and_reaped_while_it_is_copied_is_copied_as_a_whole",
        ),
    ),
    Mutant(
        "twins-unpinned",
        "the live twin of a lost block is referred to without being pinned",
        (
            Change(
                "filestore/meta/concatenating.py",
                "pinned = await pins.pin_live(tx, twins.values())",
                "pinned = set(twins.values())",
            ),
        ),
        (
            _PARTS_RACES
            + "test_the_twin_of_a_lost_block_that_is_collected_at_that_moment_is_not_taken",
        ),
    ),
    Mutant(
        "restored-believed",
        "uploads rely on what a restored database calls live",
        (
            Change(
                "gc/filestore_gc/doubt.py",
                " for hash, id in known.items() if await self._is_well(id)}",
                " for hash, id in known.items()}",
            ),
        ),
        (
            "tests/unit/test_gc_doubt.py::"
            "test_no_upload_relies_on_a_block_that_a_restored_database_only_believes_in",
        ),
    ),
    Mutant(
        "epoch-before-only",
        "the epoch is not raised behind a run that doomed blocks",
        (
            Change(
                "gc/filestore_gc/sweeping.py",
                "        if self._may_doom:  #",
                "        if not self._may_doom:  #",
            ),
        ),
        (
            "tests/unit/test_gc_guards.py::"
            "test_a_database_from_a_backup_made_during_a_collection_is_refused",
        ),
    ),
)


def apply(mutant: Mutant, root: Path) -> None:
    """Makes the mutant of the tree at ``root``.

    :raises LookupError: the code is no longer what the mutant was written for.
    """
    for change in mutant.changes:
        (root / change.path).write_text(change.applied(root), encoding="utf-8")


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, list[str]]:
    """Pytest's exit code in the tree at ``root``, and the names of what failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60"]
    paths = (str(root / part) for part in ("", "chunker", "gc"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*command, *tests], cwd=root, env=environment, capture_output=True, text=True,
        timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode > _FAILED:
        sys.stderr.write(done.stdout + done.stderr)
    return done.returncode, re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", done.stdout, re.MULTILINE)


def _copy(folder: Path) -> Path:
    root = folder / "tree"
    for part in _PARTS:
        place = root / part
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / part, place)
    return root


def try_mutant(mutant: Mutant) -> bool:
    """Whether a test fails that is there for what the mutant leaves out."""
    with tempfile.TemporaryDirectory(prefix="filestore-mutant-") as folder:
        root = _copy(Path(folder))
        apply(mutant, root)
        began = time.monotonic()
        code, failed = run_tests(root, mutant.tests)
    is_caught = code == _FAILED
    word = "caught  " if is_caught else "SURVIVED"
    print(f"{word} {mutant.name}: {mutant.left_out} ({time.monotonic() - began:.0f} s)", flush=True)
    for name in failed:
        print(f"         by {name}", flush=True)
    return is_caught


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all are caught. 1: one survives, or the tests fail without any mutant."""
    parser = argparse.ArgumentParser(description="Takes rules out of the code; tests must fail.")
    parser.add_argument("names", nargs="*", help="which mutants; all of them without")
    wanted = parser.parse_args(arguments).names
    if unknown := set(wanted) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    with tempfile.TemporaryDirectory(prefix="filestore-mutant-") as folder:
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        code, failed = run_tests(_copy(Path(folder)), tests)
        if code != 0:
            print(f"the tests fail without any mutant (exit {code}): {failed}")
            return 1
    caught = [try_mutant(mutant) for mutant in chosen]
    print(f"{sum(caught)} of {len(caught)} caught")
    return 0 if all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
