"""Uploads that begin together when something breaks, and locks on the pool and on contents."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import temporary, tree
from filestore.acts.beginning import Wish
from filestore.acts.uploads import Guard, Request
from filestore.errors import DatabaseUnavailable
from filestore.meta.accounts import POOL_ID, hold
from filestore.meta.database import Tx
from filestore.meta.tables import contents, groups, uploads
from filestore.model import Protocol
from filestore.names import parse_name, parse_path
from filestore.transfer.admitting import Admitting
from tests.race.barriers import Paused, until_waiting
from tests.services.hot_path import ACTOR, DOMAIN, GROUP, TINY, USER, Process, Site


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


def _wish(name: str, guard: Guard | None = None) -> Wish:
    request = Request(GROUP, DOMAIN, USER, Protocol.TUS, 5, name=parse_name(name), guard=guard)
    return Wish(ACTOR, request)


class _Door:
    """An upload that holds the others up, until they have gathered."""

    def __init__(self, at: Process) -> None:
        self.admitting = Admitting(at.db, TINY, at.hot.engine.limits)
        self._is_open = asyncio.Event()
        self._is_there = asyncio.Event()

    async def gather(self, *guards: Guard | None) -> list[asyncio.Task[object]]:
        """Begins uploads with these guards, all in one transaction behind another one."""
        first = asyncio.create_task(self.admitting.begin(_wish("first", self._wait)))
        await self._is_there.wait()
        tasks = [
            asyncio.create_task(self.admitting.begin(_wish(f"f{number}", guard)))
            for number, guard in enumerate(guards)
        ]
        await asyncio.wait(tasks, timeout=0)  # a turn of the loop, in which each takes its place
        assert f"with {len(tasks)} waiting" in repr(self.admitting)
        self._is_open.set()
        return [first, *tasks]

    async def _wait(self, _tx: Tx) -> None:
        self._is_there.set()
        await self._is_open.wait()


async def test_nobody_waits_for_ever_when_the_service_ends_while_each_is_tried_by_itself(
    at: Process,
) -> None:
    door, is_second, never = _Door(at), asyncio.Event(), asyncio.Event()
    tries = 0

    async def breaks(_tx: Tx) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("broken")
        is_second.set()
        await never.wait()

    tasks = await door.gather(breaks, None)
    await is_second.wait()
    closing = asyncio.create_task(door.admitting.close())
    await asyncio.wait([closing], timeout=0)
    never.set()
    await closing
    done, waiting = await asyncio.wait(tasks, timeout=10)
    assert (len(done), waiting) == (3, set())


@pytest.mark.needs("postgres")
async def test_when_the_database_goes_away_all_are_told_and_none_is_tried_again(
    postgres_site: Site,
) -> None:
    at = await postgres_site.start()
    tries = 0

    async def cut(tx: Tx) -> None:
        nonlocal tries
        tries += 1
        await tx.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    tasks = await _Door(at).gather(cut, None, None)
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in answers[1:]] == [DatabaseUnavailable] * 3
    assert tries == 1
    assert await at.one(sa.select(sa.func.count()).select_from(uploads)) == 1
    await at.check_books()


@pytest.mark.needs("postgres")
async def test_who_waits_for_the_pool_holds_no_content(postgres_site: Site) -> None:
    at = await postgres_site.start()
    await at.transact(temporary.change_pool, ACTOR, domain_id=DOMAIN, limit=500, keep_s=3600)
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(soft_limit=0))
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(overflows=True))
    await at.upload(b"temporary", "a")
    free = sa.select(contents.c.id).with_for_update(nowait=True)
    async with Paused(at, lambda tx: hold(tx, POOL_ID)) as pool:
        purge = asyncio.create_task(at.transact(tree.remove, ACTOR, GROUP, parse_path("/a")))
        await until_waiting(at, purge)
        assert len(await at.all(free)) == 1
        await pool.go_on()
    await purge
    await at.check_books()


@pytest.mark.needs("postgres")
async def test_below_their_soft_limits_groups_do_not_wait_for_the_pool(postgres_site: Site) -> None:
    at = await postgres_site.start()
    await at.transact(temporary.change_pool, ACTOR, domain_id=DOMAIN, limit=500, keep_s=3600)
    below = sa.update(groups).where(groups.c.id == GROUP).values(soft_limit=100, overflows=True)
    await at.change(below)
    async with Paused(at, lambda tx: hold(tx, POOL_ID)):
        async with asyncio.timeout(30):
            assert (await at.upload(b"x" * 100, "a")).state == "done"
        beyond = asyncio.create_task(at.begin(1, "b"))
        await until_waiting(at, beyond)
    assert (await beyond).pool_id == POOL_ID
