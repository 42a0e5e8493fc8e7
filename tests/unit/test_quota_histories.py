"""Whatever happens in whatever order, the counters are the sums and the journal explains them."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.race.histories import LARGEST, History
from tests.services.hot_path import Process, Site, add_group, sqlite_site

ACTORS = 32
SECONDS = 4.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def at(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all examples; each has a group of its own."""
    folder: Path = tmp_path_factory.mktemp("histories")
    site = sqlite_site(folder, uploads__reserve_step_bytes=2**20)
    yield runner.run(site.start())
    runner.run(site.__aexit__())


numbers = itertools.count(1)


@given(st.lists(st.integers(0, 2**16), min_size=60, max_size=200))
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_counters_are_sums_after_every_act(
    runner: asyncio.Runner, at: Process, draws: list[int]
) -> None:
    async def play() -> None:
        group = f"grp_{next(numbers)}"
        await at.transact(add_group, group, quota=5 * LARGEST)
        left = iter(draws)
        history = History(at, group, lambda below: next(left) % below, [])
        while True:
            try:
                await history.step()
            except (StopIteration, RuntimeError):
                break  # all that was drawn is used up
            await at.check_books(group)
        await at.check_books(group)

    runner.run(play())


@pytest.mark.parametrize("seed", range(2))
async def test_counters_are_sums_after_many_acted_at_once(postgres_site: Site, seed: int) -> None:
    at = await postgres_site.start(uploads__reserve_step_bytes=2**20)
    shared: list[str] = []
    ends_at = time.monotonic() + SECONDS
    outcomes: Counter[str] = Counter()

    async def play(number: int) -> None:
        rng = random.Random(f"{seed}-{number}")
        history = History(at, "grp_test", rng.randrange, shared)
        while time.monotonic() < ends_at:
            await history.step()
        outcomes.update(history.outcomes)

    await asyncio.gather(*(play(number) for number in range(ACTORS)))

    assert sum(outcomes.values()) > ACTORS, outcomes
    assert outcomes["begin"] and outcomes["finish"] and outcomes["terminate"], outcomes
    await at.check_books()
    await at.check_references()
    await at.check_rest()
