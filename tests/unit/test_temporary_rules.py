"""Temporary files beside the other rules: what versions are kept, soft limits, parts, secrecy."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import temporary, tree
from filestore.acts import versions as version_acts
from filestore.acts.uploads import Request
from filestore.errors import QuotaExceeded
from filestore.meta.accounts import POOL_ID
from filestore.meta.freeable import find_freeable
from filestore.meta.tables import groups, versions
from filestore.meta.uploads import Upload
from filestore.model import Protocol, UploadPart
from filestore.names import parse_name, parse_path
from filestore_gc.reaping import Reaper
from tests.services.hot_path import ACTOR, DOMAIN, GROUP, USER, Process, Site, set_limit


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
    await at.transact(temporary.change_pool, ACTOR, domain_id=DOMAIN, limit=limit, keep_s=3600)


async def _pool_room(at: Process) -> tuple[int, int]:
    (row,) = await at.all(sa.select(groups.c.used, groups.c.reserved).where(groups.c.id == POOL_ID))
    return row.used, row.reserved


async def _numbers(at: Process) -> list[int]:
    rows = await at.all(sa.select(versions.c.number).order_by(versions.c.number))
    return [row.number for row in rows]


async def _expire_all(at: Process) -> int:
    past = sa.update(versions).where(versions.c.expires_at.is_not(None)).values(expires_at=1)
    await at.change(past)
    return await Reaper(at.db, at.id).expire_temporary()


async def test_versions_that_expired_do_not_count_among_those_that_are_kept(at: Process) -> None:
    for number in range(3):
        await at.upload(bytes([number]) * 30, "a")
    for number in range(2):
        await at.upload(bytes([number]) * 50, "a")
    assert await _expire_all(at) == 2
    await _change(at, versions_keep=3)

    assert await Reaper(at.db, at.id).prune_versions() == (0, 0)

    assert await _numbers(at) == [1, 2, 3]
    await at.upload(b"", "a")
    assert await Reaper(at.db, at.id).prune_versions() == (1, 30)
    assert await _numbers(at) == [2, 3, 6]
    await at.check_books()


async def test_versions_that_were_removed_do_not_count_either(at: Process) -> None:
    for number in range(5):
        await at.upload(bytes([number]), "a")
    await at.transact(version_acts.remove_version, ACTOR, GROUP, parse_path("/a"), 4)
    await _change(at, versions_keep=3)
    await Reaper(at.db, at.id).prune_versions()
    assert await _numbers(at) == [2, 3, 5]


async def test_by_themselves_files_become_permanent_only_up_to_the_soft_limit(at: Process) -> None:
    await at.upload(b"x" * 100, "kept")
    for name in ("a", "b", "c"):
        await at.upload(name.encode() * 40, name)
    await _change(at, soft_limit=190)

    assert await Reaper(at.db, at.id).keep_temporary() == 2

    assert (await at.check_books()).used == 180
    assert await _pool_room(at) == (40, 0)


async def test_a_refusal_of_the_pool_says_nothing_of_what_it_holds(at: Process) -> None:
    await at.upload(b"x" * 90, "kept")
    await at.upload(b"y" * 450, "others")
    upload = await at.append(await at.begin(None, "a"), 0, b"z" * 10)
    with pytest.raises(QuotaExceeded) as refused:
        await at.append(upload, 10, b"", length=200)
    said = refused.value.members
    assert (said["limit"], said["used"], said["soft_limit"]) == (1000, 90, 100)
    assert (said["needed"], said["temporary_free"]) == (200, 50)


async def _part(at: Process, data: bytes) -> Upload:
    upload = await at.begin(len(data), part=UploadPart.PARTIAL, raw_concat="partial")
    return await at.append(upload, 0, data)


async def _final(at: Process, *parts: Upload) -> Upload:
    ids = [part.id for part in parts]
    raw = "final;" + " ".join(ids)
    said: dict[str, Any] = {"part": UploadPart.FINAL, "raw_concat": raw, "parts": tuple(ids)}
    wish = Request(GROUP, DOMAIN, USER, Protocol.TUS, None, name=parse_name("f"), **said)
    return await at.hot.transfers.concatenate(ACTOR, wish)


@pytest.mark.parametrize("limit", [500, 100])
async def test_parts_on_the_pools_account_become_a_file_however_full_it_is(
    at: Process, limit: int
) -> None:
    await at.upload(b"x" * 90, "kept")
    parts = [await _part(at, b"y" * 200), await _part(at, b"z" * 200)]
    assert await _pool_room(at) == (0, 400)
    await _pool(at, limit)

    assert (await _final(at, *parts)).state == "done"

    assert await _pool_room(at) == (400, 0)
    assert (await at.check_books()).used == 90


async def test_parts_of_two_accounts_become_one_file_only_where_the_pool_has_all_its_room(
    at: Process,
) -> None:
    first = await _part(at, b"x" * 90)
    second = await _part(at, b"y" * 420)
    assert await _pool_room(at) == (0, 420)
    with pytest.raises(QuotaExceeded) as refused:
        await _final(at, first, second)
    assert refused.value.members["temporary_free"] == 80
    await _pool(at, 510)
    assert (await _final(at, first, second)).state == "done"
    assert await _pool_room(at) == (510, 0)
    assert (await at.check_books()).used == 0


async def test_removing_a_temporary_file_would_free_nothing_of_the_groups_quota(
    at: Process,
) -> None:
    await at.upload(b"x" * 90, "a")
    await at.upload(b"y" * 60, "a")
    entry, _ = await at.transact(tree.find_file, GROUP, parse_path("/a"))
    found = await at.db.read(lambda tx: find_freeable(tx, GROUP, entry.id))
    assert (found.quota, found.versions) == (90, 2)
    assert await at.transact(tree.remove, ACTOR, GROUP, parse_path("/a")) == 90
