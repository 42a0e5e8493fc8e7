"""Acts on a group's tree, on both databases: folders, move, copy, trash, restore, purge."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.errors import Conflict, Exists, FilestoreError, NotFound, QuotaExceeded
from filestore.meta.tables import audit_log, contents, entries, events
from filestore.names import parse_path
from tests.services.hot_path import ACTOR, GROUP, Process, Site, content_state, set_limit, used_by


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    yield await any_site.start()


async def _file(at: Process, path: str, size: int = 3) -> int:
    """A file at ``path``, whose bytes are its name's; the number of its content."""
    folder, _, name = path.rpartition("/")
    data = (path * size).encode()[:size]
    upload = await at.upload(data, name, folder=parse_path(folder))
    assert upload.content_id is not None
    return upload.content_id


async def _tree(at: Process) -> dict[str, int | None]:
    """Every living path that can be reached, with the number of its current version."""
    found: dict[str, int | None] = {}

    async def walk(entry_id: str, path: str) -> None:
        query = sa.select(entries).where(
            entries.c.parent_id == entry_id, entries.c.deleted_at.is_(None)
        )
        for row in await at.all(query.order_by(entries.c.name)):
            found[f"{path}/{row.name}"] = row.current_number
            await walk(row.id, f"{path}/{row.name}")

    await walk(
        await at.one(
            sa.select(entries.c.id).where(entries.c.group_id == GROUP, entries.c.kind == "root")
        ),
        "",
    )
    return found


async def _do(at: Process, act: str, *paths: str) -> object:
    parsed = [parse_path(path) for path in paths]
    return await at.transact(getattr(tree, act), ACTOR, GROUP, *parsed)


async def _trashed(at: Process, path: str) -> str:
    query = sa.select(entries.c.id).where(entries.c.deleted_path == path)
    return str(await at.one(query.order_by(entries.c.id).limit(1)))


async def test_an_upload_makes_the_folders_on_its_way(at: Process) -> None:
    await _file(at, "/a/b/c.txt")
    assert await _tree(at) == {"/a": None, "/a/b": None, "/a/b/c.txt": 1}


async def test_a_second_upload_to_a_path_is_a_second_version(at: Process) -> None:
    first = await _file(at, "/a.txt", 3)
    second = await _file(at, "/a.txt", 5)
    assert first != second
    assert await _tree(at) == {"/a.txt": 2}
    assert await used_by(at) == (8, 0)


async def test_an_upload_whose_place_is_taken_by_the_other_kind_gets_a_number(at: Process) -> None:
    upload = await at.begin(3, "x.txt")
    deeper = await at.begin(3, "f", folder=parse_path("/y"))
    await _do(at, "make_folder", "/x.txt")
    await _file(at, "/y")
    await at.append(upload, 0, b"abc")
    await at.append(deeper, 0, b"abc")
    assert await _tree(at) == {
        "/x (2).txt": 1,
        "/x.txt": None,
        "/y": 1,
        "/y (2)": None,
        "/y (2)/f": 1,
    }


async def test_a_place_that_is_taken_is_refused_at_creation(at: Process) -> None:
    await _do(at, "make_folder", "/folder")
    await _file(at, "/file")
    for folder, name in (("/", "folder"), ("/file", "x"), ("/file/deeper", "x")):
        with pytest.raises(Conflict):
            await at.begin(3, name, folder=parse_path(folder))
    assert await used_by(at) == (3, 0)


async def test_making_a_folder_again_is_no_error_and_no_news(at: Process) -> None:
    assert (await _do(at, "make_folder", "/a/b"))[1] is True  # type: ignore[index]
    before = len(await at.all(sa.select(events.c.id)))
    assert (await _do(at, "make_folder", "/a/b"))[1] is False  # type: ignore[index]
    assert len(await at.all(sa.select(events.c.id))) == before


async def test_moving_keeps_versions_and_frees_the_old_name(at: Process) -> None:
    await _file(at, "/a.txt")
    await _file(at, "/a.txt", 4)
    await _do(at, "move", "/a.txt", "/new/b.txt")
    assert await _tree(at) == {"/new": None, "/new/b.txt": 2}
    assert await used_by(at) == (7, 0)


async def test_renaming_may_change_only_the_case_or_nothing(at: Process) -> None:
    await _file(at, "/a.txt")
    await _do(at, "move", "/a.txt", "/A.txt")
    await _do(at, "move", "/A.txt", "/A.txt")
    assert await _tree(at) == {"/A.txt": 1}


IMPOSSIBLE: list[tuple[str, str, type[FilestoreError]]] = [
    ("/missing", "/x", NotFound),
    ("/f", "/taken", Exists),
    ("/f", "/f/deeper/g", Conflict),
    ("/f", "/f/g", Conflict),
    ("/", "/f/root", Conflict),
    ("/f", "/", Conflict),
    ("/f", "/taken/below", Conflict),
]


@pytest.mark.parametrize("act", ["move", "copy"])
async def test_what_cannot_be_moved_or_copied_stays_and_leaves_nothing(
    at: Process, act: str
) -> None:
    await _file(at, "/f/one")
    await _file(at, "/taken")
    before, books = await _tree(at), await at.check_books()
    for source, target, error in IMPOSSIBLE:
        with pytest.raises(error):
            await _do(at, act, source, target)
        assert await _tree(at) == before
        assert await at.check_books() == books


async def test_a_copy_of_a_folder_has_the_living_files_with_their_newest_version(
    at: Process,
) -> None:
    await _file(at, "/f/a", 3)
    newest = await _file(at, "/f/a", 5)
    await _file(at, "/f/gone", 7)
    await _file(at, "/f/g/b", 11)
    await _do(at, "put_in_trash", "/f/gone")
    await _do(at, "copy", "/f", "/copies/f2")
    assert await _tree(at) == {
        "/copies": None,
        "/copies/f2": None,
        "/copies/f2/a": 1,
        "/copies/f2/g": None,
        "/copies/f2/g/b": 1,
        "/f": None,
        "/f/a": 2,
        "/f/g": None,
        "/f/g/b": 1,
    }
    assert await used_by(at) == (3 + 5 + 7 + 11 + 5 + 11, 0)
    await at.check_books()
    assert await content_state(at, newest) == "complete"


async def test_a_copy_that_has_no_room_leaves_nothing(at: Process) -> None:
    await _file(at, "/f/a", 6)
    await set_limit(at, 10)
    with pytest.raises(QuotaExceeded) as refused:
        await _do(at, "copy", "/f", "/g")
    assert refused.value.members["needed"] == 6
    assert refused.value.members["free"] == 4
    assert await _tree(at) == {"/f": None, "/f/a": 1}
    assert (await at.check_books()).used == 6


async def test_the_trash_still_counts_and_a_purge_frees(at: Process) -> None:
    content = await _file(at, "/a", 6)
    await _do(at, "put_in_trash", "/a")
    assert await _tree(at) == {}
    assert await used_by(at) == (6, 0)
    freed = await at.transact(tree.purge, ACTOR, GROUP, await _trashed(at, "/a"))
    assert freed == 6
    assert (await at.check_books()).used == 0
    assert await content_state(at, content) == "deleting"


async def test_a_deep_tree_is_purged_with_all_its_versions(at: Process) -> None:
    for number in range(12):
        await _file(at, "/t/" + "/".join("abc"[: 1 + number % 3]) + f"/file{number}", number)
    await _file(at, "/t/a/file0", 9)
    await _do(at, "put_in_trash", "/t")
    freed = await at.transact(tree.purge, ACTOR, GROUP, await _trashed(at, "/t"))
    assert freed == sum(range(12)) + 9
    assert (await at.check_books()).used == 0
    assert await at.one(sa.select(sa.func.count()).select_from(entries)) == 1
    assert await at.one(sa.select(sa.func.count()).where(contents.c.state == "complete")) == 0


async def test_what_was_trashed_by_itself_outlives_the_purge_of_its_folder(at: Process) -> None:
    await _file(at, "/t/a/kept", 5)
    await _file(at, "/t/a/gone", 7)
    await _do(at, "put_in_trash", "/t/a/kept")
    await _do(at, "put_in_trash", "/t")
    assert await at.transact(tree.purge, ACTOR, GROUP, await _trashed(at, "/t")) == 7
    assert (await at.check_books()).used == 5
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/t/a/kept"))
    assert tree.shown_path(path) == "/t/a/kept"


async def test_removing_past_the_trash_frees_at_once(at: Process) -> None:
    await _file(at, "/f/g/a", 6)
    await _file(at, "/f/b", 7)
    assert await _do(at, "remove", "/f") == 13
    assert await _tree(at) == {}
    assert (await at.check_books()).used == 0
    with pytest.raises(NotFound):
        await _do(at, "remove", "/f")
    with pytest.raises(Conflict):
        await _do(at, "remove", "/")


async def test_a_content_stays_while_one_version_refers_to_it(at: Process) -> None:
    content = await _file(at, "/a", 6)
    await _do(at, "copy", "/a", "/b")
    await _do(at, "remove", "/a")
    assert await content_state(at, content) == "complete"
    assert (await at.check_books()).used == 6
    await _do(at, "remove", "/b")
    assert await content_state(at, content) == "deleting"
    assert (await at.check_books()).used == 0


async def test_what_was_trashed_comes_back_where_it_was(at: Process) -> None:
    await _file(at, "/f/a")
    await _do(at, "put_in_trash", "/f/a")
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/f/a"))
    assert tree.shown_path(path) == "/f/a"
    assert await _tree(at) == {"/f": None, "/f/a": 1}


async def test_it_follows_its_folder_that_was_moved(at: Process) -> None:
    await _file(at, "/f/a")
    await _do(at, "put_in_trash", "/f/a")
    await _do(at, "move", "/f", "/x/g")
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/f/a"))
    assert tree.shown_path(path) == "/x/g/a"


async def test_it_gets_a_number_where_its_name_is_taken(at: Process) -> None:
    await _file(at, "/a.tar")
    await _do(at, "put_in_trash", "/a.tar")
    await _file(at, "/a.tar")
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/a.tar"))
    assert tree.shown_path(path) == "/a (2).tar"
    assert await _tree(at) == {"/a (2).tar": 1, "/a.tar": 1}


async def test_it_gets_a_new_folder_where_its_own_lies_in_the_trash(at: Process) -> None:
    await _file(at, "/f/g/a")
    await _do(at, "put_in_trash", "/f/g/a")
    await _do(at, "put_in_trash", "/f")
    path = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/f/g/a"))
    assert tree.shown_path(path) == "/f/g/a"
    assert await _tree(at) == {"/f": None, "/f/g": None, "/f/g/a": 1}
    again = await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/f"))
    assert tree.shown_path(again) == "/f (2)"
    await at.check_books()


async def test_names_that_differ_only_in_normalization_are_one(at: Process) -> None:
    await _file(at, "/u\u0308ber")
    await _file(at, "/\u00fcber")
    assert await _tree(at) == {"/u\u0308ber": 2}


async def test_a_long_name_with_a_number_stays_legal(at: Process) -> None:
    name = "ü" * 125 + ".txt"
    upload = await at.begin(3, name)
    await _do(at, "make_folder", f"/{name}")
    await at.append(upload, 0, b"abc")
    names = [path[1:] for path in await _tree(at)]
    assert len(names) == 2
    assert all(len(found.encode()) <= 255 for found in names)
    assert any(found.endswith(" (2).txt") for found in names)


async def test_each_act_writes_its_audit_row_and_event_or_neither(at: Process) -> None:
    await _file(at, "/a")
    await _do(at, "copy", "/a", "/b")
    await _do(at, "move", "/b", "/c")
    await _do(at, "put_in_trash", "/c")
    await at.transact(tree.restore, ACTOR, GROUP, await _trashed(at, "/c"))
    await _do(at, "remove", "/c")
    with pytest.raises(NotFound):
        await _do(at, "remove", "/c")
    acts = [row.act for row in await at.all(sa.select(audit_log).order_by(audit_log.c.id))]
    kinds = [row.kind for row in await at.all(sa.select(events).order_by(events.c.id))]
    assert acts == [
        "file.write",
        "entry.copy",
        "entry.move",
        "entry.trash",
        "entry.restore",
        "entry.purge",
    ]
    assert kinds == [
        "file.written",
        "entry.copied",
        "entry.moved",
        "entry.trashed",
        "entry.restored",
        "entry.purged",
    ]
