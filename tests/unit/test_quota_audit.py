"""The audit of quotas: every way in which books can be wrong is found, explained and corrected."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.acts import tree
from filestore.meta.tables import (
    audit_log,
    content_blocks,
    entries,
    events,
    groups,
    member_accounts,
    quota_journal,
    uploads,
    versions,
)
from filestore.model import AccountKind
from filestore.names import parse_path
from filestore.quota.audit import Kind
from filestore.quota.auditing import Audited, audit_account, read_books
from tests.services.hot_path import ACTOR, GROUP, USER, Process, Site, random_bytes

SIZE = 5000


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    """A process whose group has two files, one with two versions, one in the trash, and an upload
    that runs."""
    process = await any_site.start(uploads__reserve_step_bytes=2**20)
    for seed, name in enumerate(("a", "b", "a")):
        await process.upload(random_bytes(SIZE, seed), name)
    await process.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/b"))
    await process.begin(700, "c")
    yield process


async def audited(at: Process, *, repair: bool = False) -> Audited:
    found = await audit_account(at.db, GROUP, repair=repair, actor=ACTOR)
    assert found is not None
    return found


async def repaired(at: Process) -> Audited:
    """A repair, behind which nothing differs; the independent oracle says so, too."""
    found = await audited(at, repair=True)
    assert (found.is_corrected, found.left, found.is_good) == (True, (), True)
    after = await audited(at)
    assert (after.differences, after.is_good) == ((), True)
    assert (await at.counters()).agree
    return found


def kinds(found: Audited) -> list[tuple[str, str, int]]:
    return [(each.kind, each.figure, each.found - each.expected) for each in found.differences]


async def change(
    at: Process, table: sa.Table, where: sa.ColumnElement[bool], **values: Any
) -> None:
    await at.change(sa.update(table).where(where).values(values))


async def journal_rows(at: Process) -> int:
    query = sa.select(sa.func.count()).select_from(quota_journal)
    return int(await at.one(query.where(quota_journal.c.group_id == GROUP)))


async def test_books_that_agree_show_no_difference(at: Process) -> None:
    rows = await journal_rows(at)

    found = await audited(at, repair=True)

    assert (found.differences, found.notes, found.is_good, found.is_corrected) == (
        (), (), True, False,
    )  # fmt: skip
    assert found.journal_rows == rows == await journal_rows(at)
    assert found.account.truth == (3 * SIZE, 700, 2, 1)


@pytest.mark.parametrize("counter", ["used", "reserved", "files", "reserved_files"])
async def test_a_counter_that_was_changed_without_the_journal_is_named(
    at: Process, counter: str
) -> None:
    await change(at, groups, groups.c.id == GROUP, **{counter: groups.c[counter] + 3})

    found = await repaired(at)

    assert kinds(found) == [(Kind.COUNTER, counter, 3)]
    assert "without the journal" in found.differences[0].cause
    assert getattr(found.drift, counter) == 3
    whys = [(row.why, getattr(row.moves, counter)) for row in found.correction.rows]
    assert [move for _, move in whys] == [3, -3]
    await at.check_books()


async def test_bytes_of_a_file_that_went_behind_the_back_are_found_by_its_path(
    at: Process,
) -> None:
    entry_id = await at.one(
        sa.select(entries.c.id).where(entries.c.name == "a", entries.c.group_id == GROUP)
    )
    old = sa.and_(versions.c.entry_id == entry_id, versions.c.number == 1)
    await at.change(sa.delete(versions).where(old))

    found = await repaired(at)

    by_kind = {each.kind: each for each in found.differences}
    assert set(by_kind) == {Kind.SUM, Kind.ENTRY, Kind.MEMBER}
    entry = by_kind[Kind.ENTRY]
    assert (entry.entry, entry.path, entry.member) == (entry_id, "/a", "tester")
    assert (entry.expected, entry.found) == (SIZE, 2 * SIZE)
    assert entry.last is not None and entry.last.cause == "charge"
    assert found.drift == (SIZE, 0, 0, 0)
    await at.check_books()


async def test_an_ended_upload_that_still_reserves_in_the_books_is_named(at: Process) -> None:
    await change(
        at, uploads, uploads.c.state == "open", state="expired", reserved=0, reserved_files=0
    )

    found = await repaired(at)

    (reserved, files) = [each for each in found.differences if each.kind is Kind.RESERVATION]
    assert (reserved.figure, files.figure) == ("reserved", "reserved_files")
    assert "expired" in reserved.cause and "never released" in reserved.cause
    assert (reserved.path, reserved.member, reserved.found) == ("/c", "tester", 700)
    await at.check_books()


async def test_the_account_of_a_member_that_drifted_is_put_right(at: Process) -> None:
    await change(at, member_accounts, member_accounts.c.user_id == USER, used=1)
    rows = await journal_rows(at)

    found = await repaired(at)

    assert kinds(found) == [(Kind.MEMBER, "used", 1 - 3 * SIZE)]
    assert await journal_rows(at) == rows  # the journal was right
    await at.check_books()


async def test_a_member_without_an_account_gets_one(at: Process) -> None:
    await at.change(sa.delete(member_accounts))

    found = await repaired(at)

    assert {each.kind for each in found.differences} == {Kind.MEMBER}
    await at.check_books()


async def test_a_file_that_nobody_counted_is_found(at: Process) -> None:
    (row,) = await at.all(sa.select(entries).where(entries.c.name == "a"))
    values = {**row._mapping, "id": "ent_stray", "name": "s", "name_key": "s", "name_fold": "s"}
    await at.change(sa.insert(entries).values(values))

    found = await repaired(at)

    assert kinds(found) == [(Kind.SUM, "files", -1), (Kind.ENTRY, "files", -1)]
    assert (found.differences[1].path, found.differences[1].last) == ("/s", None)
    await at.check_books()


async def test_errors_that_undo_one_another_are_found_all_the_same(at: Process) -> None:
    """Two uploads of which one took what the other lost: every sum is right."""
    await at.begin(700, "d")
    await change(at, uploads, uploads.c.name == "c", reserved=600)
    await change(at, uploads, uploads.c.name == "d", reserved=800)

    found = await repaired(at)

    assert sorted(kinds(found)) == [(Kind.UPLOAD, "reserved", -100), (Kind.UPLOAD, "reserved", 100)]
    assert found.drift == (0, 200, 0, 0)
    await at.check_books()


async def test_a_correction_writes_rows_and_changes_none(at: Process) -> None:
    before = await at.all(sa.select(quota_journal).order_by(quota_journal.c.seq))
    await change(at, groups, groups.c.id == GROUP, used=groups.c.used + 9)

    planned = await audited(at)
    assert (planned.is_corrected, planned.is_good, len(planned.correction.rows)) == (
        False,
        False,
        2,
    )
    assert await journal_rows(at) == len(before)

    await repaired(at)

    after = await at.all(sa.select(quota_journal).order_by(quota_journal.c.seq))
    assert after[: len(before)] == before
    assert {row.cause for row in after[len(before) :]} == {"correct"}
    assert {row.actor_id for row in after[len(before) :]} == {USER}
    (log,) = await at.all(sa.select(audit_log).where(audit_log.c.act == "quota.correct"))
    assert (log.actor_id, log.group_id) == (USER, GROUP)
    told = await at.all(sa.select(events.c.payload).where(events.c.kind == "quota.drift"))
    assert len(told) == 2 and '"used_bytes":9' in told[0].payload


async def test_what_moved_after_an_unseen_change_is_corrected_and_noted(at: Process) -> None:
    """The balance jumped once: no row that is added can put that right, and it says so."""
    await change(at, groups, groups.c.id == GROUP, used=groups.c.used + 50)
    await at.upload(random_bytes(10, "late"), "late")

    found = await audited(at, repair=True)

    assert kinds(found) == [(Kind.SUM, "used", 50)]
    after = await audited(at)
    assert (after.differences, len(after.notes)) == ((), 1)
    assert "does not follow" in after.notes[0]
    assert (await at.counters()).agree


async def test_a_version_of_another_size_than_its_blocks_is_reported_and_left(at: Process) -> None:
    await change(at, content_blocks, content_blocks.c.content_id == 1, size=17)

    found = await audited(at, repair=True)

    (wrong,) = found.differences
    assert (wrong.kind, wrong.path, wrong.found) == (Kind.CONTENT, "/a", SIZE)
    assert (found.is_corrected, found.is_good) == (False, False)


async def test_what_a_pool_is_charged_with_is_not_charged_to_the_group(at: Process) -> None:
    (row,) = await at.all(sa.select(groups).where(groups.c.id == GROUP))
    pool = {"id": "pool_all", "name": "pool", "name_key": "pool", "kind": AccountKind.POOL}
    fresh = {"used": 0, "reserved": 0, "files": 0, "reserved_files": 0, "journal_seq": 0}
    await at.change(sa.insert(groups).values({**row._mapping, **pool, **fresh}))
    await change(at, versions, versions.c.number == 2, pool_id="pool_all", expires_at=2**50)

    found = await audit_account(at.db, "pool_all", repair=True)
    assert found is not None
    assert kinds(found) == [(Kind.SUM, "used", -SIZE), (Kind.ENTRY, "used", -SIZE)]
    await repaired(at)

    both = [await audit_account(at.db, account) for account in ("pool_all", GROUP)]
    assert [each is not None and each.account.truth.used for each in both] == [SIZE, 2 * SIZE]
    assert [each is not None and each.differences for each in both] == [(), ()]


async def test_more_than_can_be_named_is_corrected_as_a_whole(at: Process) -> None:
    await change(at, uploads, uploads.c.state == "open", reserved=1)
    await change(at, versions, versions.c.number == 2, size=1)

    books = await at.db.read(lambda tx: read_books(tx, GROUP, kept=0))

    assert books is not None and not books.is_whole


async def test_an_account_that_is_not_there_is_none(at: Process) -> None:
    assert await audit_account(at.db, "grp_nobody") is None
