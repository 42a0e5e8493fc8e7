"""Quotas on both databases: what is reserved, charged, released, refused, and written down."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.errors import NotFound, QuotaExceeded, TooLarge, TooMany, UploadGone
from filestore.meta.tables import groups, quota_journal, uploads
from filestore.meta.uploads import Upload
from filestore.model import MAX_INT, MIB, Cause
from filestore.names import parse_path
from filestore.quota import ledger
from filestore_gc.reaping import Reaper
from tests.services.hot_path import (
    ACTOR,
    GROUP,
    Process,
    Site,
    add_group,
    random_bytes,
    set_limit,
    used_by,
)


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


async def _causes(at: Process) -> list[tuple[str, int, int]]:
    query = sa.select(quota_journal).where(quota_journal.c.group_id == GROUP)
    rows = await at.all(query.order_by(quota_journal.c.seq))
    return [(row.cause, row.delta_used, row.delta_reserved) for row in rows]


async def test_of_sixty_creations_at_once_exactly_those_that_fit_are_accepted(
    at: Process,
) -> None:
    await set_limit(at, 10 * MIB)
    tries = (at.begin(MIB, f"file{number}") for number in range(60))
    answers = await asyncio.gather(*tries, return_exceptions=True)

    accepted = [answer for answer in answers if isinstance(answer, Upload)]
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert (len(accepted), len(refused)) == (10, 50)
    for refusal in refused:
        assert refusal.members["needed"] == MIB
        assert refusal.members["free"] == 0
        assert refusal.members["limit"] == refusal.members["reserved"] == 10 * MIB
        assert refusal.members["reserved_by"] == [
            {"user": "tester", "bytes": 10 * MIB, "uploads": 10}
        ]
    assert (await at.check_books()).reserved == 10 * MIB

    for number, upload in enumerate(accepted):
        if number < 5:
            await at.append(upload, 0, random_bytes(MIB, number))
        else:
            await at.hot.transfers.terminate(ACTOR, upload.id)

    assert await used_by(at) == (5 * MIB, 0)
    await at.check_books()
    await at.check_rest()


async def test_the_journal_says_what_each_step_moved(at: Process) -> None:
    await at.upload(b"x" * 7)
    gone = await at.begin(5, "gone")
    await at.hot.transfers.terminate(ACTOR, gone.id)
    assert await _causes(at) == [
        ("reserve", 0, 7),
        ("charge", 7, -7),
        ("reserve", 0, 5),
        ("release", 0, -5),
    ]


async def test_an_empty_file_moves_no_bytes_and_fits_always(at: Process) -> None:
    await set_limit(at, 0)
    assert (await at.begin(0)).state == "done"
    assert await _causes(at) == [("reserve", 0, 0), ("charge", 0, 0)]
    assert (await at.check_books()).files == 1


async def test_a_limit_below_what_is_used_stops_new_uploads_and_nothing_else(
    at: Process,
) -> None:
    await at.upload(b"x" * 100, "kept")
    running = await at.begin(50, "running")
    await set_limit(at, 10)

    with pytest.raises(QuotaExceeded) as refused:
        await at.begin(1, "new")
    assert (refused.value.members["free"], refused.value.members["used"]) == (0, 100)
    done = await at.append(running, 0, b"y" * 50)

    assert done.state == "done"
    assert await used_by(at) == (150, 0)
    await at.check_books()


async def test_what_the_trash_holds_is_named_as_freeable(at: Process) -> None:
    await at.upload(b"x" * 60, "old", folder=parse_path("/f"))
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/f"))
    await set_limit(at, 100)
    with pytest.raises(QuotaExceeded) as refused:
        await at.begin(41)
    assert refused.value.members["freeable"] == 60
    assert (await at.begin(40)).reserved == 40


async def test_what_old_versions_hold_is_named_as_freeable_too(at: Process) -> None:
    for size in (10, 20, 30):
        await at.upload(b"x" * size, "kept")
        await at.upload(b"x" * size, "thrown")
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/thrown"))
    await set_limit(at, 100)
    with pytest.raises(QuotaExceeded) as refused:
        await at.begin(1)
    assert (refused.value.members["freeable"], refused.value.members["freeable_versions"]) == (
        60,
        30,
    )


async def test_the_last_byte_fits_and_one_more_does_not(at: Process) -> None:
    await set_limit(at, 10)
    first = await at.begin(9)
    with pytest.raises(QuotaExceeded):
        await at.begin(2, "second")
    assert (await at.begin(1, "second")).reserved == 1
    with pytest.raises(QuotaExceeded):
        await at.begin(1, "third")
    assert await used_by(at) == (0, 10)
    assert (await at.look(first)).reserved == 9


async def test_sizes_near_the_largest_number_are_refused_and_do_not_wrap(at: Process) -> None:
    await set_limit(at, MAX_INT)
    await at.upload(b"x")
    line = ledger.Line(cause=Cause.RESERVE, reserved=MAX_INT, ref="ref")
    with pytest.raises(QuotaExceeded):
        await at.db.transact(lambda tx: ledger.post(tx, ACTOR, GROUP, [line], within_limit=True))
    with pytest.raises(TooLarge):
        await at.begin(MAX_INT)
    assert await used_by(at) == (1, 0)


async def test_too_many_running_uploads_are_refused_and_reserve_nothing(any_site: Site) -> None:
    at = await any_site.start(uploads__running_per_user=5)
    limits = at.hot.engine.limits
    await at.transact(add_group, "grp_other")
    open_ones = [await at.begin(1, f"f{number}") for number in range(limits.per_user)]
    with pytest.raises(TooMany):
        await at.begin(1, "one-more")
    with pytest.raises(TooMany):
        await at.begin(1, "elsewhere", group="grp_other")
    with pytest.raises(TooMany):
        await at.begin(None, "unknown-length")
    assert await used_by(at) == (0, limits.per_user)
    await at.hot.transfers.terminate(ACTOR, open_ones[0].id)
    assert (await at.begin(1, "one-more")).is_open


async def test_limits_of_running_uploads_hold_for_creations_at_once(any_site: Site) -> None:
    limit = 5
    at = await any_site.start(uploads__running_per_user=limit)
    for length in (1, None):
        tries = (at.begin(length, f"f{number}") for number in range(limit + 20))
        answers = await asyncio.gather(*tries, return_exceptions=True)
        accepted = [answer for answer in answers if isinstance(answer, Upload)]
        assert len(accepted) == limit
        for upload in accepted:
            await at.hot.transfers.terminate(ACTOR, upload.id)
    assert await used_by(at) == (0, 0)


async def test_a_deleted_group_takes_no_uploads_of_any_length(at: Process) -> None:
    await at.transact(add_group, "grp_gone")
    await at.change(sa.update(groups).where(groups.c.id == "grp_gone").values(deleted_at=1))
    for length in (5, None, 0):
        with pytest.raises(NotFound):
            await at.begin(length, group="grp_gone")
    found = await at.all(sa.select(uploads.c.id).where(uploads.c.group_id == "grp_gone"))
    assert found == []


async def test_unknown_lengths_reserve_in_steps_and_give_back_the_rest(at: Process) -> None:
    step = at.hot.engine.limits.reserve_step
    upload = await at.begin(None)
    assert await used_by(at) == (0, 0)
    upload = await at.append(upload, 0, random_bytes(MIB))
    assert upload.reserved > step
    assert await used_by(at) == (0, upload.reserved)
    done = await at.append(upload, MIB, b"", length=MIB)
    assert done.state == "done"
    assert await used_by(at) == (MIB, 0)
    await at.check_books()


async def test_an_unknown_length_takes_exactly_what_is_left_and_then_is_refused(
    at: Process,
) -> None:
    await set_limit(at, MIB + 10)
    upload = await at.begin(None)
    upload = await at.append(upload, 0, random_bytes(MIB))
    assert upload.offset == MIB
    with pytest.raises(QuotaExceeded):
        await at.append(upload, MIB, b"x" * 11)
    assert (await at.look(upload)).offset == MIB
    done = await at.append(upload, MIB, b"x" * 10, length=MIB + 10)
    assert done.state == "done"
    assert await used_by(at) == (MIB + 10, 0)
    await at.check_books()
    await at.check_rest()


async def test_a_declared_length_below_what_was_reserved_gives_back_also_over_the_limit(
    at: Process,
) -> None:
    upload = await at.append(await at.begin(None), 0, b"x" * 10)
    assert upload.reserved > 100
    await set_limit(at, 5)
    upload = await at.append(upload, 10, b"y" * 10, length=100)
    assert (upload.offset, upload.length, upload.reserved) == (20, 100, 100)
    assert await used_by(at) == (0, 100)
    assert (await _causes(at))[-1][0] == Cause.RELEASE
    await at.check_books()


async def test_a_length_that_has_no_room_stays_undeclared(at: Process) -> None:
    await set_limit(at, 100)
    upload = await at.append(await at.begin(None), 0, b"x" * 10)
    with pytest.raises(QuotaExceeded):
        await at.append(upload, 10, b"y", length=101)
    found = await at.look(upload)
    assert (found.offset, found.length, found.is_open) == (10, None, True)
    done = await at.append(upload, 10, b"y" * 90, length=100)
    assert (done.state, done.length) == ("done", 100)
    await at.check_books()


async def test_an_upload_that_expired_reserves_nothing(at: Process) -> None:
    upload = await at.begin(50)
    await at.change(sa.update(uploads).values(expires_at=1))
    assert await Reaper(at.db, at.id).expire_uploads() == 1
    with pytest.raises(UploadGone) as gone:
        await at.hot.transfers.status(upload.id)
    assert gone.value.members["state"] == "expired"
    assert await used_by(at) == (0, 0)
    assert await Reaper(at.db, at.id).expire_uploads() == 0
    await at.check_books()
