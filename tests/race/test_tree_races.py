"""Two acts on one tree at once: whoever is second sees what the first has committed."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.errors import Conflict, Exists, NotFound, QuotaExceeded
from filestore.meta import contents as queries
from filestore.meta.database import Tx
from filestore.meta.tables import contents, entries, versions
from filestore.model import Cause
from filestore.names import parse_path
from filestore.quota import ledger
from tests.race.barriers import Paused, after, deadlocks, until_waiting
from tests.race.histories import REFUSALS, History, add_actors
from tests.services.hot_path import (
    ACTOR,
    GROUP,
    USER,
    Process,
    Site,
    add_group,
    content_state,
    set_limit,
    used_by,
)

pytestmark = pytest.mark.usefixtures("no_lost_errors")

Act = Callable[[Tx], Awaitable[Any]]


@pytest.fixture
async def at(postgres_site: Site) -> AsyncIterator[Process]:
    at = await postgres_site.start()
    yield at
    await at.check_books()
    assert await deadlocks(at) == 0
    assert await _loops(at) == 0


def _act(name: str, *args: str) -> Act:
    """An act of the tree; arguments that begin with a slash are paths."""
    parsed = [parse_path(arg) if arg.startswith("/") else arg for arg in args]
    return lambda tx: getattr(tree, name)(tx, ACTOR, GROUP, *parsed)


async def _file(at: Process, path: str, data: bytes = b"abc") -> int:
    folder, _, name = path.rpartition("/")
    upload = await at.upload(data, name, folder=parse_path(folder))
    assert upload.content_id is not None
    return upload.content_id


async def _trashed(at: Process, path: str) -> str:
    await at.db.transact(_act("put_in_trash", path))
    return str(await at.one(sa.select(entries.c.id).where(entries.c.deleted_path == path)))


async def _loops(at: Process) -> int:
    """How many entries no root can reach."""
    top = sa.select(entries.c.id).where(entries.c.kind == "root").cte("top", recursive=True)
    below = top.union_all(sa.select(entries.c.id).join(top, entries.c.parent_id == top.c.id))
    lost = sa.select(sa.func.count()).select_from(entries)
    return int(await at.one(lost.where(entries.c.id.not_in(sa.select(below.c.id)))))


async def _finish_after(at: Process, act: Act, path: str) -> Any:
    """The answer to the last bytes of an upload to ``path`` that come while ``act`` commits."""
    folder, _, name = path.rpartition("/")
    upload = await at.begin(3, name, folder=parse_path(folder))
    async with Paused(at, act) as first:
        last = asyncio.create_task(at.append(upload, 0, b"xyz"))
        await until_waiting(at, last)
        await first.go_on()
        return await last


async def test_a_file_that_is_finished_while_its_folder_goes_to_the_trash_is_in_sight(
    at: Process,
) -> None:
    await _file(at, "/f/old")
    done = await _finish_after(at, _act("put_in_trash", "/f"), "/f/new")
    assert done.state == "done"
    entry, version = await at.transact(tree.find_file, GROUP, parse_path("/f/new"))
    assert (version.id, entry.deleted_at) == (done.version_id, None)
    with pytest.raises(NotFound):
        await at.transact(tree.find_file, GROUP, parse_path("/f/old"))


async def test_a_version_that_is_finished_while_its_file_goes_to_the_trash_is_in_sight(
    at: Process,
) -> None:
    await _file(at, "/a")
    done = await _finish_after(at, _act("put_in_trash", "/a"), "/a")
    entry, version = await at.transact(tree.find_file, GROUP, parse_path("/a"))
    assert (version.id, version.number, entry.deleted_at) == (done.version_id, 1, None)


async def test_a_file_that_is_finished_while_its_folder_moves_lies_at_its_path(
    at: Process,
) -> None:
    await _file(at, "/f/old")
    await _finish_after(at, _act("move", "/f", "/g"), "/f/new")
    for path in ("/f/new", "/g/old"):
        await at.transact(tree.find_file, GROUP, parse_path(path))


async def test_a_file_that_is_finished_while_its_folder_is_purged_is_in_sight(
    at: Process,
) -> None:
    old = await _file(at, "/f/old")
    done = await _finish_after(at, _act("remove", "/f"), "/f/new")
    await at.transact(tree.find_file, GROUP, parse_path("/f/new"))
    assert await content_state(at, old) == "deleting"
    assert await content_state(at, done.content_id) == "complete"
    assert await used_by(at) == (3, 0)


async def test_two_files_finished_at_once_at_one_path_are_versions_one_and_two(
    at: Process,
) -> None:
    for number in range(20):
        done = await asyncio.gather(*(at.upload(data, f"f{number}") for data in (b"x", b"yy")))
        rows = await at.all(
            sa.select(versions.c.id, versions.c.number)
            .join(entries, entries.c.id == versions.c.entry_id)
            .where(entries.c.name == f"f{number}")
            .order_by(versions.c.number)
        )
        assert [row.number for row in rows] == [1, 2]
        assert {row.id for row in rows} == {upload.version_id for upload in done}
        entry, version = await at.transact(tree.find_file, GROUP, parse_path(f"/f{number}"))
        assert (entry.last_number, version.number) == (2, 2)


async def test_two_folders_that_move_into_each_other_make_no_loop(at: Process) -> None:
    await _file(at, "/a/one")
    await _file(at, "/b/two")
    async with Paused(at, _act("move", "/a", "/b/a")) as first:
        await after(at, _act("move", "/b", "/a/b"), first)
    await at.transact(tree.find_file, GROUP, parse_path("/a/b/a/one"))
    await at.transact(tree.find_file, GROUP, parse_path("/a/b/two"))
    assert await _loops(at) == 0


async def test_two_moves_to_one_name_give_it_to_the_first(at: Process) -> None:
    await _file(at, "/a", b"first")
    await _file(at, "/b", b"other")
    async with Paused(at, _act("move", "/a", "/c")) as first:
        second = asyncio.create_task(at.db.transact(_act("move", "/b", "/c")))
        await until_waiting(at, second)
        await first.go_on()
        with pytest.raises(Exists):
            await second
    for path in ("/b", "/c"):
        await at.transact(tree.find_file, GROUP, parse_path(path))


async def test_two_that_make_one_folder_get_the_same(at: Process) -> None:
    made = await asyncio.gather(*(at.db.transact(_act("make_folder", "/x/y/z")) for _ in range(8)))
    assert len({folder.id for folder, _ in made}) == 1
    assert Counter(is_new for _, is_new in made)[True] >= 1
    assert await at.one(sa.select(sa.func.count()).where(entries.c.kind == "folder")) == 3


async def test_the_last_two_versions_purged_at_once_release_their_content(at: Process) -> None:
    """The locks of the tree keep them apart in one group, those of the content anywhere."""
    for is_apart in (False, True):
        content = await _file(at, "/a", b"shared")
        other = GROUP
        if is_apart:
            other = "grp_other"
            await at.transact(add_group, other)
            await _share(at, content, other)
        else:
            await at.db.transact(_act("copy", "/a", "/b"))
        path = parse_path("/a" if is_apart else "/b")

        async def second(tx: Tx, group: str = other, path: tree.Path = path) -> None:
            await tree.remove(tx, ACTOR, group, path)

        async with Paused(at, _act("remove", "/a")) as first:
            await after(at, second, first)
        assert await content_state(at, content) == "deleting"
        await at.check_books(other)


async def _share(at: Process, content_id: int, group: str) -> None:
    """A version of another group at ``/a``, as a copy within the domain makes it."""

    async def act(tx: Tx) -> None:
        placed = await tree.place_version(
            tx,
            group,
            parse_path("/a"),
            content_id=content_id,
            size=6,
            mime="text/plain",
            author_id=None,
        )
        line = ledger.Line(cause=Cause.COPY, used=6, files=1, entry_id=placed.entry_id)
        await ledger.post(tx, ACTOR, group, [line])

    await at.db.transact(act)


async def test_a_copy_that_waits_for_the_purge_of_its_source_finds_nothing(at: Process) -> None:
    content = await _file(at, "/a")
    async with Paused(at, _act("remove", "/a")) as first:
        second = asyncio.create_task(at.db.transact(_act("copy", "/a", "/b")))
        await until_waiting(at, second)
        await first.go_on()
        with pytest.raises((NotFound, Conflict)):
            await second
    assert await content_state(at, content) == "deleting"
    assert await at.all(sa.select(versions.c.id)) == []


async def test_a_purge_that_waits_for_a_copy_leaves_the_content(at: Process) -> None:
    content = await _file(at, "/a")
    async with Paused(at, _act("copy", "/a", "/b")) as first:
        await after(at, _act("remove", "/a"), first)
    assert await content_state(at, content) == "complete"
    await at.transact(tree.find_file, GROUP, parse_path("/b"))


async def test_a_release_waits_for_who_shares_the_content_and_sees_its_version(
    at: Process,
) -> None:
    """The foreign key alone would not make it wait: it takes FOR KEY SHARE."""
    content = await _file(at, "/a")
    file, _ = await at.transact(tree.find_file, GROUP, parse_path("/a"))
    await at.change(sa.delete(versions))

    async def share(tx: Tx) -> bool:
        held = await queries.share(tx, content)
        await tx.execute(
            versions.insert().values(
                id="ver_new", entry_id=file.id, number=2, content_id=content, size=3, mime="a/b"
            )
        )
        return held

    async with Paused(at, share) as sharing:
        assert await after(at, lambda tx: queries.release(tx, [content]), sharing) == (True, [])
    assert await content_state(at, content) == "complete"

    await at.change(sa.delete(versions))
    async with Paused(at, lambda tx: queries.release(tx, [content])) as releasing:
        second = asyncio.create_task(at.transact(queries.share, content))
        await until_waiting(at, second)
        assert await releasing.go_on() == [content]
        assert not await second
    assert await content_state(at, content) == "deleting"
    line = ledger.Line(cause=Cause.PURGE, used=-3, member_id=USER, entry_id=file.id)
    await at.db.transact(lambda tx: ledger.post(tx, ACTOR, GROUP, [line]))


async def test_a_restore_and_a_purge_of_one_entry_do_not_both_happen(at: Process) -> None:
    for winner, loser in (("restore", "purge"), ("purge", "restore")):
        await _file(at, "/a")
        entry_id = await _trashed(at, "/a")
        async with Paused(at, _act(winner, entry_id)) as first:
            second = asyncio.create_task(at.db.transact(_act(loser, entry_id)))
            await until_waiting(at, second)
            await first.go_on()
            with pytest.raises(NotFound):
                await second
        if winner == "restore":
            await at.db.transact(_act("remove", "/a"))
    assert await used_by(at) == (0, 0)


async def test_copies_at_once_stay_within_the_limit(at: Process) -> None:
    await _file(at, "/a", b"x" * 10)
    await set_limit(at, 45)
    answers = await asyncio.gather(
        *(at.db.transact(_act("copy", "/a", f"/copy{number}")) for number in range(8)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 5
    assert await used_by(at) == (40, 0)


async def test_mixed_acts_by_many_on_two_processes_meet_no_deadlock(
    postgres_site: Site, at: Process
) -> None:
    seed, actors, steps = 23, 16, 16
    pair = [at, await postgres_site.start(uploads__reserve_step_bytes=2**20)]
    await at.transact(add_group, "grp_other")
    await at.transact(add_actors)
    shared: dict[str, list[str]] = {GROUP: [], "grp_other": []}
    outcomes: Counter[str] = Counter()

    async def play(number: int) -> None:
        group, other = (list(shared)[(number + turn) % 2] for turn in (0, 1))
        rng = random.Random(f"{seed}-{number}")
        history = History(pair[number // 2 % 2], group, rng.randrange, shared[group], other)
        for _ in range(steps):
            await history.step()
        outcomes.update(history.outcomes)

    await asyncio.gather(*(play(number) for number in range(actors)))
    assert sum(outcomes.values()) == actors * steps, (seed, REFUSALS)
    for group in shared:
        await at.check_books(group)
    for process in pair:
        await process.check_rest()
    await at.check_references()
    building = sa.select(sa.func.count()).where(contents.c.state == "building")
    assert await at.one(building) == await at.one(
        sa.text("SELECT count(*) FROM uploads WHERE state = 'open'")
    )
