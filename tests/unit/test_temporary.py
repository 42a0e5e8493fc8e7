"""Files beyond a group's soft limit: on the pool's account, for a time, then permanent or gone."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import temporary, tree
from filestore.acts import versions as version_acts
from filestore.errors import NotFound, QuotaExceeded
from filestore.meta.accounts import POOL_ID
from filestore.meta.tables import events, groups, quota_journal, versions
from filestore.model import Cause
from filestore.names import parse_path
from filestore_gc.reaping import Reaper
from tests.services.hot_path import ACTOR, DOMAIN, GROUP, Process, Site, set_limit

KEEP_S = 7 * 86_400


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    """A group of 1,000 bytes with a soft limit of 100, and a pool of 500."""
    process = await any_site.start()
    await set_limit(process, 1000)
    await _change(process, soft_limit=100, overflows=True)
    await _pool(process, 500)
    yield process


async def _change(at: Process, **values: Any) -> None:
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(**values))


async def _pool(at: Process, limit: int) -> None:
    await at.db.transact(
        lambda tx: temporary.change_pool(tx, ACTOR, domain_id=DOMAIN, limit=limit, keep_s=KEEP_S)
    )


async def _pool_holds(at: Process) -> tuple[int, int]:
    """(used, reserved) of the pool, after holding them against the files and its journal."""
    pool = (await at.all(sa.select(groups).where(groups.c.id == POOL_ID)))[0]
    sums = sa.select(sa.func.coalesce(sa.func.sum(versions.c.size), 0))
    assert pool.used == int(await at.one(sums.where(versions.c.pool_id == POOL_ID)))
    rows = await at.all(
        sa.select(quota_journal)
        .where(quota_journal.c.group_id == POOL_ID)
        .order_by(quota_journal.c.seq)
    )
    last = rows[-1] if rows else None
    assert last is None or (last.used_after, last.reserved_after) == (pool.used, pool.reserved)
    assert sum(row.delta_used for row in rows) == pool.used
    return pool.used, pool.reserved


async def _temporary(at: Process) -> list[Any]:
    query = sa.select(versions).where(versions.c.pool_id.is_not(None))
    return list(await at.all(query.order_by(versions.c.created_at)))


async def _told(at: Process, kind: str) -> int:
    return int(await at.one(sa.select(sa.func.count()).where(events.c.kind == kind)))


async def _pass_all_time(at: Process) -> None:
    past = sa.update(versions).where(versions.c.expires_at.is_not(None)).values(expires_at=1)
    await at.change(past)


async def test_what_goes_beyond_the_soft_limit_is_charged_to_the_pool(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    running = await at.begin(20, "more")
    assert running.pool_id == POOL_ID
    assert await _pool_holds(at) == (0, 20)

    assert (await at.append(running, 0, b"y" * 20)).state == "done"

    books = await at.check_books()
    assert (books.used, books.reserved, books.files) == (90, 0, 2)
    assert await _pool_holds(at) == (20, 0)
    (row,) = await _temporary(at)
    assert row.expires_at - row.created_at == KEEP_S * 1_000_000
    assert (await at.begin(10, "fits")).pool_id is None


async def test_without_a_pool_or_the_setting_the_limit_is_what_counts(at: Process) -> None:
    await _change(at, overflows=False)
    assert (await at.begin(200, "a")).pool_id is None
    await _change(at, overflows=True)
    await _pool(at, 0)
    with pytest.raises(QuotaExceeded) as refused:
        await at.begin(1, "b")
    assert refused.value.members["temporary_free"] == 0
    assert await _pool_holds(at) == (0, 0)


async def test_the_pool_is_never_overshot_and_gives_back(at: Process) -> None:
    tries = [await at.begin(200, f"f{number}") for number in range(2)]
    with pytest.raises(QuotaExceeded) as refused:
        await at.begin(101, "third")
    assert refused.value.members["temporary_free"] == 100
    assert refused.value.members["soft_limit"] == 100
    await at.hot.transfers.terminate(ACTOR, tries[0].id)
    assert await _pool_holds(at) == (0, 200)
    assert (await at.begin(300, "third")).pool_id == POOL_ID
    await at.check_books()


async def test_an_unknown_length_moves_to_the_pool_when_it_grows_too_long(at: Process) -> None:
    upload = await at.append(await at.begin(None, "a"), 0, b"x" * 50)
    before = await at.look(upload)
    upload = await at.append(upload, 50, b"x" * 100)
    upload = await at.append(upload, 150, b"", length=150)
    assert upload.state == "done"
    assert (before.reserved > 0, await _pool_holds(at)) == (True, (150, 0))
    books = await at.check_books()
    assert (books.used, books.reserved, books.files) == (0, 0, 1)


async def test_it_becomes_permanent_by_itself_when_there_is_room_below_the_soft_limit(
    at: Process,
) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 60, "later")
    reaper = Reaper(at.db, at.id)
    assert await reaper.keep_temporary() == 0

    await at.transact(tree.remove, ACTOR, GROUP, parse_path("/kept"))
    assert await reaper.keep_temporary() == 1

    assert await _temporary(at) == []
    assert (await at.check_books()).used == 60
    assert await _pool_holds(at) == (0, 0)
    assert await _told(at, "file.promoted") == 1
    causes = await at.all(sa.select(quota_journal.c.path).where(quota_journal.c.cause == "promote"))
    assert {row.path for row in causes} == {"/later"}


async def test_it_becomes_permanent_when_asked_for_below_the_limit(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 60, "later")
    (row,) = await _temporary(at)
    await set_limit(at, 149)
    with pytest.raises(QuotaExceeded):
        await at.transact(temporary.keep, ACTOR, GROUP, row.id)
    assert await _pool_holds(at) == (60, 0)
    await set_limit(at, 150)
    await at.transact(temporary.keep, ACTOR, GROUP, row.id)
    assert (await at.check_books()).used == 150
    with pytest.raises(NotFound):
        await at.transact(temporary.keep, ACTOR, GROUP, row.id)


async def test_when_its_time_has_run_out_a_new_file_goes_with_its_version(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 60, "later")
    reaper = Reaper(at.db, at.id)
    assert await reaper.expire_temporary() == 0
    await _pass_all_time(at)

    assert await reaper.expire_temporary() == 1

    with pytest.raises(NotFound):
        await at.transact(tree.find_file, GROUP, parse_path("/later"))
    assert (await at.check_books()).files == 1
    assert await _pool_holds(at) == (0, 0)
    assert await _told(at, "file.expired") == 1


async def test_when_its_time_has_run_out_the_version_before_it_is_current_again(
    at: Process,
) -> None:
    await at.upload(b"x" * 90, "a")
    await at.upload(b"y" * 60, "a")
    await _pass_all_time(at)
    assert await Reaper(at.db, at.id).expire_temporary() == 1
    _, version = await at.transact(tree.find_file, GROUP, parse_path("/a"))
    assert (version.number, version.size, version.expires_at) == (1, 90, None)
    assert [row.superseded_at for row in await at.all(sa.select(versions))] == [None]
    await at.upload(b"z" * 5, "a")
    assert (await at.check_books()).used == 95


async def test_purging_and_removing_versions_gives_back_to_whom_was_charged(at: Process) -> None:
    await at.upload(b"x" * 90, "a")
    await at.upload(b"y" * 60, "a")
    await at.upload(b"y" * 5, "a")
    await at.transact(version_acts.remove_version, ACTOR, GROUP, parse_path("/a"), 2)
    assert await _pool_holds(at) == (0, 0)
    await at.upload(b"y" * 70, "b")
    await at.transact(tree.remove, ACTOR, GROUP, parse_path("/b"))
    assert await _pool_holds(at) == (0, 0)
    books = await at.check_books()
    assert (books.used, books.files) == (95, 1)


async def test_in_the_trash_it_stays_on_the_pools_account_until_its_time(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 60, "later")
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/later"))
    assert await _pool_holds(at) == (60, 0)
    await _pass_all_time(at)
    assert await Reaper(at.db, at.id).expire_temporary() == 1
    assert await _pool_holds(at) == (0, 0)
    assert (await at.check_books()).files == 1


async def test_a_copy_of_a_temporary_file_is_charged_to_the_group(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 60, "later")
    await at.transact(tree.copy, ACTOR, GROUP, parse_path("/later"), parse_path("/copy"))
    assert (await at.check_books()).used == 150
    await _pass_all_time(at)
    assert await Reaper(at.db, at.id).expire_temporary() == 1
    _, version = await at.transact(tree.find_file, GROUP, parse_path("/copy"))
    assert version.size == 60


def test_each_way_of_moving_bytes_has_its_word() -> None:
    assert {Cause.PROMOTE, Cause.EXPIRE, Cause.RESTORE} < set(Cause)
