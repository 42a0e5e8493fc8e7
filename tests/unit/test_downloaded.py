"""What is downloaded is noted about once a day, and no download waits for it or fails of it."""

import asyncio

import pytest
import sqlalchemy as sa

from filestore.errors import DatabaseUnavailable
from filestore.meta.database import Tx
from filestore.meta.downloads import FRESH_US, note_downloads
from filestore.meta.tables import now_us, versions
from filestore.transfer.downloaded import MOST, Downloaded
from tests.services.hot_path import Process, Site, random_bytes

NOW_S = 1_000_000.0


def test_what_was_read_within_a_day_is_not_noted_again() -> None:
    nothing: object = None
    downloaded = Downloaded(nothing, lambda: NOW_S)  # type: ignore[arg-type]
    downloaded.note("a", int(NOW_S * 1e6) - FRESH_US + 1)
    assert repr(downloaded) == "<Downloaded: 0 to be written>"
    for version_id, last_at in (("a", None), ("a", None), ("b", int(NOW_S * 1e6) - FRESH_US - 1)):
        downloaded.note(version_id, last_at)
    assert repr(downloaded) == "<Downloaded: 2 to be written>"


def test_no_crowd_of_downloads_takes_more_memory_than_allowed() -> None:
    nothing: object = None
    downloaded = Downloaded(nothing, lambda: NOW_S)  # type: ignore[arg-type]
    for number in range(MOST + 10):
        downloaded.note(f"{number}", None)
    assert f"{MOST} to be written" in repr(downloaded)


async def _noted(at: Process) -> list[int | None]:
    query = sa.select(versions.c.downloaded_at).order_by(versions.c.size)
    return [row.downloaded_at for row in await at.all(query)]


async def test_notes_are_written_together_once_and_again_after_a_day(any_site: Site) -> None:
    at = await any_site.start()
    for size in (1, 2, 3):
        await at.upload(random_bytes(size), f"{size}")
    ids = [row.id for row in await at.all(sa.select(versions.c.id).order_by(versions.c.size))]
    downloaded = Downloaded(at.db)
    for version_id in [*ids[:2], "ver_of_nothing"]:
        downloaded.note(version_id, None)
    assert await downloaded.flush() == 2
    first, second, third = await _noted(at)
    assert first and second and third is None
    downloaded.note(ids[0], None)
    assert await downloaded.flush() == 0, "the row said so already"
    assert (await _noted(at))[0] == first
    stale = now_us() - sa.literal(2 * FRESH_US, sa.BigInteger)
    await at.change(sa.update(versions).where(versions.c.id == ids[0]).values(downloaded_at=stale))
    downloaded.note(ids[0], None)
    assert await downloaded.flush() == 1
    assert ((await _noted(at))[0] or 0) >= first


async def test_a_version_that_somebody_holds_is_left_out_and_not_waited_for(
    postgres_site: Site,
) -> None:
    at = await postgres_site.start()
    await at.upload(random_bytes(1), "a")
    version_id = await at.one(sa.select(versions.c.id))
    held, go = asyncio.Event(), asyncio.Event()

    async def hold(tx: Tx) -> None:
        await tx.execute(sa.select(versions).with_for_update())
        held.set()
        await go.wait()

    holder = asyncio.create_task(at.db.transact(hold))
    await held.wait()
    assert await at.transact(note_downloads, [version_id]) == 0
    go.set()
    await holder
    assert await at.transact(note_downloads, [version_id]) == 1


async def test_what_could_not_be_written_stays_for_the_next_time(memory_site: Site) -> None:
    at = await memory_site.start()
    await at.upload(random_bytes(1), "a")
    downloaded = Downloaded(at.db)
    downloaded.note(await at.one(sa.select(versions.c.id)), None)
    await at.change(sa.text("ALTER TABLE versions RENAME TO hidden"))
    with pytest.raises(DatabaseUnavailable):
        await downloaded.flush()
    assert repr(downloaded) == "<Downloaded: 1 to be written>"
    await at.change(sa.text("ALTER TABLE hidden RENAME TO versions"))
    assert await downloaded.flush() == 1
    assert repr(downloaded) == "<Downloaded: 0 to be written>"
