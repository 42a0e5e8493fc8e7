"""Whatever happens in whatever order, the counters are the sums and the journal explains them."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filestore.meta.tables import groups
from tests.race.histories import LARGEST, History, add_actors
from tests.services.hot_path import GROUP, Process, Site, add_group, set_limit, sqlite_site
from tests.services.limits import check_audit, guard_limits

ACTORS = 32
SECONDS = 4.0
PAUSES = 2
OTHER = "grp_other"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def at(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all examples; each has a group of its own."""
    folder: Path = tmp_path_factory.mktemp("histories")
    site = sqlite_site(folder, uploads__reserve_step_bytes=2**20)
    process = runner.run(site.start())
    runner.run(process.transact(add_actors))
    runner.run(process.transact(guard_limits))
    yield process
    runner.run(site.__aexit__())


numbers = itertools.count(1)


@given(st.lists(st.integers(0, 2**16), min_size=60, max_size=200))
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_counters_are_sums_after_every_act(
    runner: asyncio.Runner, at: Process, draws: list[int]
) -> None:
    async def check_both(*both: str) -> None:
        for one in both:
            await at.check_books(one)
        await check_audit(at, both)

    async def play() -> None:
        group, other = f"grp_{next(numbers)}", f"grp_{next(numbers)}"
        for one in (group, other):
            await at.transact(add_group, one, quota=5 * LARGEST)
        left = iter(draws)
        history = History(at, group, lambda below: next(left) % below, [], other)
        while True:
            try:
                await history.step()
            except (StopIteration, RuntimeError):
                break  # all that was drawn is used up
            await check_both(group, other)
        await check_both(group, other)

    runner.run(play())


@pytest.mark.parametrize("seed", range(2))
async def test_counters_are_sums_after_many_acted_at_once(postgres_site: Site, seed: int) -> None:
    """And while they act an audit never shows a difference that is none."""
    at = await postgres_site.start(uploads__reserve_step_bytes=2**20)
    await at.transact(add_group, OTHER)
    await at.transact(add_actors)
    await at.transact(guard_limits)
    shared: list[str] = []
    outcomes: Counter[str] = Counter()
    audits = 0

    async def play(number: int, ends_at: float) -> None:
        rng = random.Random(f"{seed}-{ends_at}-{number}")
        history = History(at, GROUP, rng.randrange, shared, OTHER)
        while time.monotonic() < ends_at:
            await history.step()
        outcomes.update(history.outcomes)

    async def audit(ends_at: float) -> None:
        nonlocal audits
        while time.monotonic() < ends_at:
            await check_audit(at, (GROUP, OTHER))
            audits += 1

    for _ in range(PAUSES):
        ends_at = time.monotonic() + SECONDS / PAUSES
        await asyncio.gather(*(play(number, ends_at) for number in range(ACTORS)), audit(ends_at))
        for group in (GROUP, OTHER):
            await at.check_books(group)
        await check_audit(at, (GROUP, OTHER))

    assert audits >= PAUSES
    assert sum(outcomes.values()) > ACTORS, outcomes
    assert outcomes["begin"] and outcomes["finish"] and outcomes["terminate"], outcomes
    await at.check_references()
    await at.check_rest()


async def test_the_guard_of_the_limits_has_teeth(any_site: Site) -> None:
    at = await any_site.start()
    await at.transact(guard_limits)
    await set_limit(at, 10)
    for values in ({"used": 11}, {"files": 1, "files_limit": 0}):
        with pytest.raises(sa.exc.DBAPIError, match="overshoot"):
            await at.change(sa.update(groups).where(groups.c.id == GROUP).values(values))
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(used=10))
    await set_limit(at, 5)
    await at.change(sa.update(groups).where(groups.c.id == GROUP).values(used=7))
