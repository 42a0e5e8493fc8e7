"""Rows of uploads that ended are kept for a while, and then forgotten."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.errors import NotFound
from filestore.meta import uploads as queries
from filestore.meta.tables import now_us, uploads
from filestore.names import parse_path
from tests.services.hot_path import ACTOR, GROUP, Process, Site


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


async def test_ended_uploads_are_forgotten_and_running_ones_and_files_stay(at: Process) -> None:
    done = await at.upload(b"abc", "done")
    gone = await at.begin(5, "gone")
    await at.hot.transfers.terminate(ACTOR, gone.id)
    running = await at.begin(5, "running")
    await at.change(sa.update(uploads).values(changed_at=1))
    fresh = await at.upload(b"abc", "fresh")

    week = now_us() - 7 * 86_400 * 1_000_000
    forgotten = [await at.transact(queries.forget_ended, week, 1) for _ in range(3)]

    assert forgotten == [1, 1, 0]
    left = {row.id for row in await at.all(sa.select(uploads.c.id))}
    assert left == {running.id, fresh.id}
    with pytest.raises(NotFound):
        await at.look(done)
    await at.transact(tree.find_file, GROUP, parse_path("/done"))
    assert (await at.append(running, 0, b"12345")).state == "done"
    await at.check_books()
