"""Moving and copying from one group to another: owners change, bytes and history stay."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import browse, tree
from filestore.errors import Conflict, Exists, NotFound, QuotaExceeded
from filestore.meta.tables import audit_log, domains, entries, events, quota_journal, versions
from filestore.names import parse_path
from tests.services.hot_path import ACTOR, GROUP, USER, Process, Site, add_group, set_limit

OTHER = "grp_zother"
FIRST = "grp_afirst"


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    """The usual group with a folder, and two more whose ids lie before and behind it."""
    process = await any_site.start()
    for group in (OTHER, FIRST):
        await process.transact(add_group, group)
    for data in (b"1", b"22", b"333"):
        await process.upload(data, "a", folder=parse_path("/f/g"))
    await process.upload(b"4444", "b", folder=parse_path("/f"))
    yield process
    for group in (GROUP, OTHER, FIRST):
        await process.check_books(group)
    await process.check_references()


async def _do(at: Process, act: str, source: str, target: str, into: str = OTHER) -> None:
    paths = parse_path(source), parse_path(target)
    await at.transact(getattr(tree, act), ACTOR, GROUP, *paths, into)


@pytest.mark.parametrize("into", [OTHER, FIRST])
async def test_a_folder_moves_with_all_versions_and_its_charge(at: Process, into: str) -> None:
    before = await at.all(sa.select(versions.c.id).order_by(versions.c.id))
    await _do(at, "move", "/f", "/x/y", into)

    assert await at.all(sa.select(versions.c.id).order_by(versions.c.id)) == before
    _, version = await at.transact(tree.find_file, into, parse_path("/x/y/g/a"))
    assert (version.number, version.size) == (3, 3)
    with pytest.raises(NotFound):
        await at.transact(tree.resolve, GROUP, parse_path("/f"))
    source, target = await at.check_books(GROUP), await at.check_books(into)
    assert (source.used, source.files) == (0, 0)
    assert (target.used, target.files) == (10, 2)
    assert target.members == {USER: (10, 0)}
    rows = await at.all(
        sa.select(quota_journal.c.cause, quota_journal.c.path)
        .where(quota_journal.c.cause.in_(["move-in", "move-out"]))
        .distinct()
        .order_by(quota_journal.c.path)
    )
    assert [(row.cause, row.path) for row in rows] == [
        ("move-out", "/f/b"),
        ("move-out", "/f/g/a"),
        ("move-in", "/x/y/b"),
        ("move-in", "/x/y/g/a"),
    ]
    logged = await at.all(sa.select(audit_log.c.group_id).where(audit_log.c.act == "entry.move"))
    assert {row.group_id for row in logged} == {GROUP, into}


@pytest.mark.parametrize("act", ["move", "copy"])
async def test_neither_group_is_told_where_something_lies_in_the_other(
    at: Process, act: str
) -> None:
    await _do(at, act, "/f", "/secret")
    told = await at.all(
        sa.select(events.c.group_id, events.c.payload.label("said")).where(
            events.c.kind.in_(["entry.moved", "entry.copied"])
        )
    )
    logged = await at.all(
        sa.select(audit_log.c.group_id, (audit_log.c.before + audit_log.c.after).label("said"))
        .where(audit_log.c.act == f"entry.{act}")
        .order_by(audit_log.c.id)
    )
    assert [row.group_id for row in logged] == [GROUP, OTHER]
    assert {row.group_id for row in told} == ({GROUP, OTHER} if act == "move" else {OTHER})
    for row in (*told, *logged):
        hidden, shown = ("/secret", '"/f"') if row.group_id == GROUP else ('"/f"', "/secret")
        assert hidden not in row.said
        assert shown in row.said


async def test_a_copy_is_charged_to_who_gets_it(at: Process) -> None:
    await _do(at, "copy", "/f", "/copy")
    assert (await at.check_books(GROUP)).used == 10
    target = await at.check_books(OTHER)
    assert (target.used, target.files) == (7, 2)


async def test_what_is_in_the_trash_by_itself_stays_behind(at: Process) -> None:
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/f/g"))
    await _do(at, "move", "/f", "/f")
    assert (await at.check_books(OTHER)).used == 4
    assert (await at.check_books(GROUP)).used == 6
    (top,) = await at.db.read(lambda tx: browse.list_trash(tx, group_id=GROUP, after=None, limit=5))
    await at.transact(tree.restore, ACTOR, GROUP, top.entry.id)
    _, version = await at.transact(tree.find_file, GROUP, parse_path("/f/g/a"))
    assert version.size == 3


@pytest.mark.parametrize("act", ["move", "copy"])
async def test_without_room_there_nothing_changes(at: Process, act: str) -> None:
    await set_limit(at, 6, OTHER)
    with pytest.raises(QuotaExceeded):
        await _do(at, act, "/f", "/f")
    assert (await at.check_books(OTHER)).used == 0
    assert (await at.check_books(GROUP)).used == 10
    at_home = await at.all(sa.select(entries.c.id).where(entries.c.group_id == OTHER))
    assert len(at_home) == 1


@pytest.mark.parametrize("act", ["move", "copy"])
async def test_a_name_that_is_taken_there_is_refused(at: Process, act: str) -> None:
    await at.upload(b"x", "f", group=OTHER)
    with pytest.raises(Exists):
        await _do(at, act, "/f", "/f")


@pytest.mark.parametrize("act", ["move", "copy"])
async def test_groups_that_store_their_blocks_apart_share_nothing(at: Process, act: str) -> None:
    await at.change(domains.insert().values(id="apart"))
    await at.db.transact(lambda tx: add_group(tx, "grp_apart", domain="apart"))
    with pytest.raises(Conflict, match="apart"):
        await _do(at, act, "/f", "/f", "grp_apart")


async def test_two_groups_that_move_to_each_other_do_not_block(at: Process) -> None:
    for number in range(4):
        await at.upload(b"x", f"o{number}", group=OTHER)
        await at.upload(b"x", f"m{number}")

    async def there(number: int) -> None:
        await _do(at, "move", f"/m{number}", f"/m{number}")

    async def back(number: int) -> None:
        path = parse_path(f"/o{number}")
        await at.transact(tree.move, ACTOR, OTHER, path, path, GROUP)

    await asyncio.gather(*(way(number) for number in range(4) for way in (there, back)))
    assert (await at.check_books(GROUP)).files == 6
    assert (await at.check_books(OTHER)).files == 4
