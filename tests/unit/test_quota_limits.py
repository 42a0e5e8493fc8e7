"""Limits besides the bytes of the group: files, members' shares, warnings; and many at one door."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from filestore.acts import tree
from filestore.errors import FilesExceeded, NotFound, QuotaExceeded, ShareExceeded
from filestore.meta.tables import events, groups, member_accounts
from filestore.meta.uploads import Upload
from filestore.names import parse_path
from filestore.quota.admission import Admission, Room, Share, Verdict
from filestore.quota.thresholds import SLACK, THRESHOLDS, level_of
from tests.services.hot_path import ACTOR, GROUP, USER, Process, Site, set_limit


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


async def _change(at: Process, **values: Any) -> None:
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(**values))


async def _warned(at: Process) -> list[int]:
    rows = await at.all(
        sa.select(events.c.payload).where(events.c.kind == "quota.threshold").order_by(events.c.id)
    )
    return [json.loads(row.payload)["percent"] for row in rows]


async def test_files_are_counted_with_the_trash_and_refused_beyond_the_limit(at: Process) -> None:
    await _change(at, files_limit=2)
    await at.upload(b"x", "a")
    running = await at.begin(1, "b")

    with pytest.raises(FilesExceeded) as refused:
        await at.begin(1, "c")

    assert refused.value.members == {
        "needed": 1, "free": 0, "limit": 2, "files": 1, "reserved": 1,
    }  # fmt: skip
    await at.hot.transfers.terminate(ACTOR, running.id)
    await at.upload(b"x", "c")
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/a"))
    with pytest.raises(FilesExceeded):
        await at.begin(0, "d")
    assert (await at.check_books()).files == 2


async def test_a_new_version_of_a_file_needs_no_room_for_files(at: Process) -> None:
    await at.upload(b"x", "a")
    await _change(at, files_limit=1)
    await at.upload(b"y", "a")
    assert (await at.check_books()).files == 1


async def test_a_file_that_went_while_its_new_version_came_needs_room_again(at: Process) -> None:
    await at.upload(b"x", "a")
    running = await at.begin(1, "a")
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/a"))
    await _change(at, files_limit=1)

    with pytest.raises(FilesExceeded):
        await at.append(running, 0, b"y")

    assert (await at.look(running)).is_open
    await at.check_books()
    await _change(at, files_limit=2)
    assert (await at.append(running, 0, b"y")).state == "done"
    assert (await at.check_books()).files == 2


async def test_a_copy_counts_its_files_before_it_makes_any(at: Process) -> None:
    for name in ("/f/a", "/f/b"):
        folder, _, leaf = name.rpartition("/")
        await at.upload(b"x", leaf, folder=parse_path(folder))
    await _change(at, files_limit=3)
    with pytest.raises(FilesExceeded):
        await at.transact(tree.copy, ACTOR, GROUP, parse_path("/f"), parse_path("/g"))
    await _change(at, files_limit=4)
    await at.transact(tree.copy, ACTOR, GROUP, parse_path("/f"), parse_path("/g"))
    assert (await at.check_books()).files == 4


async def test_a_members_share_holds_for_files_and_running_uploads_together(at: Process) -> None:
    await at.upload(b"x" * 40, "a")
    share = sa.update(member_accounts).where(member_accounts.c.user_id == USER)
    await at.change(share.values(share_limit=100))
    running = await at.begin(50, "b")

    with pytest.raises(ShareExceeded) as refused:
        await at.begin(11, "c")

    assert refused.value.members == {"needed": 11, "free": 10, "share": 100, "taken": 90}
    assert (await at.begin(10, "c")).reserved == 10
    await at.change(share.values(share_limit=0))
    done = await at.append(running, 0, b"y" * 50)
    assert done.state == "done", "a share that is lowered stops new uploads and nothing else"
    await at.check_books()


async def test_a_share_also_holds_for_unknown_lengths_and_copies(at: Process) -> None:
    await at.upload(b"x" * 40, "a")
    share = sa.update(member_accounts).where(member_accounts.c.user_id == USER)
    await at.change(share.values(share_limit=70))
    with pytest.raises(ShareExceeded):
        await at.transact(tree.copy, ACTOR, GROUP, parse_path("/a"), parse_path("/b"))
    running = await at.append(await at.begin(None, "c"), 0, b"y" * 30)
    with pytest.raises(ShareExceeded):
        await at.append(running, 30, b"y")
    assert (await at.look(running)).offset == 30
    await at.check_books()


async def test_each_threshold_is_told_of_once_and_armed_again_below(at: Process) -> None:
    await set_limit(at, 1000)
    first = await at.begin(740, "a")
    assert await _warned(at) == []
    second = await at.begin(20, "b")
    assert await _warned(at) == [75]
    await at.hot.transfers.terminate(ACTOR, second.id)
    await at.begin(20, "b")
    assert await _warned(at) == [75], "740 is within the slack"
    await at.begin(190, "c")
    assert await _warned(at) == [75, 95], "what was jumped over is not told of"
    await at.hot.transfers.terminate(ACTOR, first.id)
    await at.begin(740, "d")
    assert await _warned(at) == [75, 95, 95]


async def test_of_a_soft_limit_everything_is_told_and_nothing_refused(at: Process) -> None:
    await _change(at, soft_limit=100, quota_limit=1000)
    await at.begin(150, "a")
    assert await _warned(at) == [100]
    assert (await at.begin(800, "b")).is_open


@given(
    held=st.integers(0, 300),
    full=st.integers(0, 200),
    warned=st.sampled_from([0, *THRESHOLDS]),
)
def test_a_level_is_crossed_or_was_and_is_not_yet_armed_again(
    held: int, full: int, warned: int
) -> None:
    level = level_of(held, full, warned)
    assert level in (0, *THRESHOLDS)
    assert level == level_of(held, full, level), "looking twice tells nothing new"
    for threshold in THRESHOLDS:
        if held > 0 and held * 100 >= full * threshold:
            assert level >= threshold
        elif held * 100 <= full * (threshold - SLACK):
            assert level < threshold


ROOMS = st.builds(
    Room,
    id=st.just("grp"),
    limit=st.integers(0, 100),
    used=st.integers(0, 60),
    reserved=st.integers(0, 60),
    files=st.integers(0, 5),
    reserved_files=st.integers(0, 5),
    files_limit=st.none() | st.integers(0, 12),
    soft_limit=st.none() | st.integers(0, 100),
    overflows=st.booleans(),
)
POOLS = st.none() | st.builds(
    Room, id=st.just("pool"), limit=st.integers(0, 50), used=st.just(0), reserved=st.integers(0, 50)
)
WISHES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(0, 1)), max_size=20
)


@given(group=ROOMS, pool=POOLS, share=st.none() | st.integers(0, 60), wishes=WISHES)
def test_whatever_is_let_in_stays_within_all_limits(
    group: Room, pool: Room | None, share: int | None, wishes: list[tuple[str, int, int]]
) -> None:
    began = (group.used + group.reserved, group.files + group.reserved_files)
    door = Admission(group, pool, {"a": Share(share)})
    for user, size, files in wishes:
        before = (group.used + group.reserved, 0 if pool is None else pool.reserved)
        verdict = door.admit(user, size, files)
        after = (group.used + group.reserved, 0 if pool is None else pool.reserved)
        grown = (after[0] - before[0], after[1] - before[1])
        assert grown == {Verdict.GROUP: (size, 0), Verdict.POOL: (0, size)}.get(verdict, (0, 0))
    assert group.used + group.reserved <= max(group.limit, began[0])
    counted = group.files + group.reserved_files
    assert group.files_limit is None or counted <= max(group.files_limit, began[1])
    assert pool is None or pool.reserved <= max(pool.limit, 50)
    assert share is None or door.share_of("a").taken <= share


async def test_many_at_one_door_go_in_together_and_each_hears_of_its_own(at: Process) -> None:
    await set_limit(at, 30)
    commits = 0
    real = at.db.transact

    async def counting(act: Any, *, at_once: bool = False) -> Any:
        nonlocal commits
        commits += 1
        return await real(act, at_once=at_once)

    at.db.transact = counting  # type: ignore[method-assign]
    tries = [at.begin(1, f"f{number}") for number in range(40)]
    tries.append(at.begin(1, "elsewhere", group="grp_unknown"))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    at.db.transact = real  # type: ignore[method-assign]

    accepted = [answer for answer in answers if isinstance(answer, Upload)]
    assert [upload.name for upload in accepted] == [f"f{number}" for number in range(30)]
    assert [type(answer) for answer in answers[30:]] == [QuotaExceeded] * 10 + [NotFound]
    assert commits <= 4
    await at.check_books()


async def test_who_goes_away_while_waiting_at_the_door_keeps_nobody_out(at: Process) -> None:
    tries = [asyncio.create_task(at.begin(1, f"f{number}")) for number in range(10)]
    await asyncio.sleep(0)
    for task in tries[::2]:
        task.cancel()
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(answer, Upload) for answer in answers[1::2]] == [True] * 5
    await at.check_books()
