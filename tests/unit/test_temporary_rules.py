"""Temporary files beside the other rules: what versions are kept, soft limits, parts, secrecy."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import temporary
from filestore.acts import versions as version_acts
from filestore.meta.accounts import POOL_ID
from filestore.meta.tables import groups, versions
from filestore.names import parse_path
from filestore_gc.reaping import Reaper
from tests.services.hot_path import ACTOR, DOMAIN, GROUP, Process, Site, set_limit


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
