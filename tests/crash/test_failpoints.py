"""The server dies at every point at which a crash leaves something behind; nothing is broken.

Each story begins with a restored database and a damaged store, which are scrubbed and repaired.
After each death: the server starts, offsets have not gone back, every file has the versions
and the bytes that were promised, and the work goes on to its end. Then a collection frees what
the deaths left, fsck finds nothing, the store holds exactly what is referred to, and the quota
counters are the sums of the files and of the journal.
"""

import itertools
import os
import sys
from functools import partial

import pytest

from filestore.failpoints import POINTS
from tests.crash.theatre import Theatre
from tests.e2e import backends
from tests.e2e.stage import Stage

MOST_STORIES = 10
"""Points come in the order of a story, so each story passes many; healing needs a second one, and
what ends a repair comes once in a story."""

_ENDS = ("repair.joined", "repair.marked", "repair.done")

SHARED = pytest.param(
    backends.SEAWEEDFS, marks=[pytest.mark.needs("postgres", "seaweedfs"), pytest.mark.e2e]
)


def _points_of(stage: Stage) -> list[str]:
    """All points that the backend has, in order; a reaper finds what is unfinished only right
    after the death of a writer. No webhook is in the story: they have tests of their own."""
    others = ("reap.unfinished", "hook.sent", *_ENDS)
    names = [name for name in POINTS if name not in others]
    names.insert(names.index("place.rows") + 1, "reap.unfinished")
    foreign = "s3." if stage.backend.name == backends.DISK else "disk."
    return [name for name in (*names, *_ENDS) if not name.startswith(foreign)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", [backends.DISK, SHARED], indirect=True)
async def test_nothing_is_broken_by_a_death_at_each_named_point(stage: Stage) -> None:
    theatre, points = Theatre(stage), _points_of(stage)

    def missing() -> list[str]:
        return [name for name in points if name not in theatre.died]

    while missing() and theatre.stories < MOST_STORIES:
        await theatre.play(lambda: "".join(f"{name}:1" for name in missing()[:1]))

    assert not missing(), f"{theatre!r} never reached them"
    sys.stderr.write(f"{theatre!r}\n")


@pytest.mark.e2e
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("backend", [backends.DISK, SHARED], indirect=True)
async def test_nothing_is_broken_by_a_death_at_the_nth_point_for_all_n(stage: Stage) -> None:
    theatre, first = Theatre(stage), int(os.environ.get("FILESTORE_CRASH_FROM", 1))
    for nth in itertools.count(first):
        sys.stderr.write(f"FILESTORE_CRASH_FROM={nth}\n")
        deaths = len(theatre.died)
        arms = iter([f"*:{nth}"])
        await theatre.play(partial(next, arms, ""))
        if len(theatre.died) == deaths:
            break

    some = len(_points_of(stage)) // 2  # where a collection by itself falls varies
    assert first > 1 or len(set(theatre.died)) > some, f"the story passes few points: {theatre!r}"
    sys.stderr.write(f"{theatre!r}\n")
