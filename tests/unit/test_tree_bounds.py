"""Large and deep trees: what one act does to them is bounded, and nothing gets out of reach."""

import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from filestore.acts import tree
from filestore.acts.places import numbered
from filestore.errors import Conflict, NotFound, QuotaExceeded
from filestore.meta import contents
from filestore.meta.database import Tx
from filestore.meta.tables import audit_log, entries, events, versions
from filestore.names import MAX_DEPTH, parse_name, parse_path
from tests.services.hot_path import ACTOR, GROUP, Process, Site, set_limit, used_by

on_sqlite = pytest.mark.parametrize("any_database", ["sqlite"], indirect=True)
"""For what no database decides: once is enough."""


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


async def _file(at: Process, path: str, size: int = 3) -> None:
    folder, _, name = path.rpartition("/")
    await at.upload(b"x" * size, name, folder=parse_path(folder))


async def _do(at: Process, act: str, *paths: str) -> object:
    return await at.transact(getattr(tree, act), ACTOR, GROUP, *map(parse_path, paths))


async def _entries(at: Process) -> int:
    """How many files and folders there are, the trash too, without the root."""
    return int(await at.one(sa.select(sa.func.count()).where(entries.c.kind != "root")))


async def _trashed(at: Process) -> str:
    query = sa.select(entries.c.id).where(entries.c.deleted_at.is_not(None))
    return str(await at.one(query.order_by(entries.c.id).limit(1)))


@contextmanager
def _counted() -> Iterator[list[str]]:
    """The statements that are sent to any database meanwhile."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        seen.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(Engine, "before_cursor_execute", note)


async def test_a_copy_of_many_files_takes_a_few_statements(at: Process) -> None:
    for name in ("one", "two", "f/three"):
        await _file(at, f"/a/{name}")
    for number in range(8):
        await _do(at, "copy", "/a", f"/b/{number}")
    before = await _entries(at)
    with _counted() as statements:
        await _do(at, "copy", "/b", "/c")
    assert len(statements) < 35
    assert await _entries(at) == before + 1 + 8 * 5
    assert await used_by(at) == (9 + 2 * 8 * 9, 0)
    await at.check_books()
    await at.transact(tree.find_file, GROUP, parse_path("/c/7/f/three"))


@on_sqlite
async def test_a_copy_of_too_many_entries_is_refused_and_leaves_nothing(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        await _file(at, f"/a/{name}")
    monkeypatch.setattr("filestore.acts.copying.MAX_COPY", 3)
    with pytest.raises(Conflict, match="more than 3"):
        await _do(at, "copy", "/a", "/b/c")
    assert await _entries(at) == 4
    assert (await at.check_books()).used == 9
    monkeypatch.setattr("filestore.acts.copying.MAX_COPY", 4)
    await _do(at, "copy", "/a", "/b/c")
    assert (await at.check_books()).used == 18


@on_sqlite
async def test_a_copy_without_room_is_refused_before_anything_is_made(at: Process) -> None:
    for name in ("one", "two"):
        await _file(at, f"/a/{name}", 5)
    await set_limit(at, 19)
    with _counted() as statements, pytest.raises(QuotaExceeded) as refused:
        await _do(at, "copy", "/a", "/b")
    assert (refused.value.members["needed"], refused.value.members["free"]) == (10, 9)
    assert not [text for text in statements if text.startswith("INSERT")]
    assert await _entries(at) == 3


DEEP = "/".join(["d"] * 40)
LONG = "/".join(["n" * 255] * 8)


@pytest.mark.parametrize(("inside", "outside"), [(DEEP, "x/" * 30 + "y"), (LONG, f"{LONG}/z/z")])
async def test_nothing_is_moved_or_copied_or_restored_out_of_reach(
    at: Process, inside: str, outside: str
) -> None:
    await _do(at, "make_folder", f"/a/{inside}")
    await _do(at, "make_folder", "/b")
    before = await _entries(at)
    for act in ("move", "copy"):
        with pytest.raises(Conflict, match="at most"):
            await _do(at, act, "/a", f"/b/{outside}")
        assert await _entries(at) == before
    await _do(at, "move", "/a", "/b/a")
    await _do(at, "put_in_trash", "/b/a")
    await _do(at, "move", "/b", f"/{outside}")
    with pytest.raises(Conflict, match="at most"):
        await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at))
    await _do(at, "move", f"/{outside}", "/c")
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at))
    assert tree.shown_path(path) == "/c/a"
    await at.transact(tree.resolve, GROUP, parse_path(f"/c/a/{inside}"))


@on_sqlite
async def test_what_fits_exactly_is_moved(at: Process) -> None:
    await _do(at, "make_folder", f"/a/{DEEP}")
    target = "x/" * (MAX_DEPTH - 41) + "y"
    await _do(at, "move", "/a", f"/{target}")
    await at.transact(tree.resolve, GROUP, parse_path(f"/{target}/{DEEP}"))


@pytest.mark.parametrize(
    "name", ["\u0958" * 42, "\u0958" * 40 + ".t", "a" * 255, "ü" * 120 + "." + "\u0958" * 2, "x."]
)
def test_a_number_leaves_every_name_legal(name: str) -> None:
    for number in (2, 10**6):
        made = numbered(parse_name(name), number)
        assert len(unicodedata.normalize("NFC", made.given).encode()) <= 255
        assert f" ({number})" in made.given


@on_sqlite
async def test_an_upload_finishes_where_only_a_cut_name_has_room(at: Process) -> None:
    name = "\u0958" * 42
    upload = await at.begin(3, name)
    await _do(at, "make_folder", f"/{name}")
    assert (await at.append(upload, 0, b"abc")).state == "done"
    assert await _entries(at) == 2


@pytest.mark.parametrize("way", ["trash", "past it"])
async def test_a_large_folder_is_removed_in_short_transactions(
    at: Process, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("filestore.acts.purging.BATCH", 3)
    for number in range(5):
        await _file(at, f"/t/{number}/a")
        await _file(at, f"/t/{number}/b")
    await _file(at, "/kept")
    if way == "trash":
        await _do(at, "put_in_trash", "/t")
        freed = await tree.purge_all(at.db, ACTOR, GROUP, await _trashed(at))
    else:
        freed = await tree.remove_all(at.db, ACTOR, GROUP, parse_path("/t"))
    assert freed == 30
    assert await _entries(at) == 1
    assert (await at.check_books()).used == 3
    assert await at.one(sa.select(sa.func.count()).select_from(versions)) == 1
    acts = sa.select(sa.func.count()).where(audit_log.c.act == "entry.purge")
    assert await at.one(acts) == 6
    assert await at.one(sa.select(sa.func.count()).where(events.c.kind == "entry.purged")) == 1


@on_sqlite
async def test_a_small_folder_is_removed_at_once_and_a_guard_is_asked(at: Process) -> None:
    await _file(at, "/t/a")

    async def refuse(tx: Tx) -> None:
        raise NotFound(what="guard")

    with pytest.raises(NotFound):
        await tree.remove_all(at.db, ACTOR, GROUP, parse_path("/t"), refuse)
    assert await _entries(at) == 2
    assert await tree.remove_all(at.db, ACTOR, GROUP, parse_path("/t")) == 3
    assert await _entries(at) == 0
    with pytest.raises(NotFound):
        await tree.purge_all(at.db, ACTOR, GROUP, "ent_missing")


@on_sqlite
async def test_what_is_restored_while_it_is_purged_keeps_the_rest(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filestore.acts.purging.BATCH", 2)
    for number in range(6):
        await _file(at, f"/t/{number}")
    await _do(at, "put_in_trash", "/t")
    top = await _trashed(at)
    transact, done = at.db.transact, 0

    async def interrupted(act: Callable[[Tx], Awaitable[object]]) -> object:
        nonlocal done
        done += 1
        if done == 2:
            await transact(partial(tree.restore, actor=ACTOR, group_id=GROUP, entry_id=top))
        return await transact(act)

    monkeypatch.setattr(at.db, "transact", interrupted)
    with pytest.raises(NotFound):
        await tree.purge_all(at.db, ACTOR, GROUP, top)
    monkeypatch.undo()
    assert await _entries(at) == 5
    assert (await at.check_books()).used == 12


async def test_more_contents_are_released_at_once_than_one_statement_can_name(
    at: Process,
) -> None:
    await _file(at, "/a")
    assert await at.transact(contents.release, range(1, 40_000)) == []
    await at.transact(tree.find_file, GROUP, parse_path("/a"))
