"""Whatever is done to a journal behind the service's back is found, with group and row."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from filestore.errors import NotFound, StoreUnavailable
from filestore.meta.tables import audit_log, groups, journal_seals, quota_journal
from filestore.quota import verifying
from filestore.quota.accepting import accept_heads
from filestore.quota.findings import MAX_FINDINGS, Finding, Kind
from filestore.quota.sealing import KIND, Mark, marks_of, seal_next
from filestore.quota.verifying import find_journal, verify_journal
from filestore_gc.sealer import Sealer
from tests.contract.faulty import Fault
from tests.contract.faulty import Kind as Fails
from tests.services.hot_path import ACTOR, GROUP, Process, Site, add_group
from tests.services.journals import tamper, write_rows

ROWS = 25


async def sealed(site: Site, rows: int = ROWS) -> Process:
    """A process with a journal, sealed in ranges of ten."""
    process = await site.start()
    await write_rows(process, rows)
    await seal(process, site)
    return process


async def seal(process: Process, site: Site) -> None:
    section = site.settings.journal.model_copy(update={"seal_rows": 10})
    settings = site.settings.model_copy(update={"journal": section})
    await Sealer(process.db, process.store, process.id, settings).run_once()


async def findings(process: Process) -> list[Finding]:
    return (await verify_journal(process.db, process.store)).findings


def kinds(found: list[Finding]) -> set[tuple[Kind, int]]:
    return {(finding.kind, finding.seq) for finding in found}


def row(seq: int) -> Any:
    return sa.and_(quota_journal.c.group_id == GROUP, quota_journal.c.seq == seq)


async def test_an_intact_journal_is_good_with_and_without_seals(any_site: Site) -> None:
    process = await any_site.start()
    assert (await verify_journal(process.db, process.store)).is_good, "an empty one"
    await write_rows(process, 5)
    await process.transact(add_group, "grp_other")
    report = await verify_journal(process.db, process.store)
    assert (report.is_good, report.groups, report.rows, report.sealed_rows) == (True, 2, 5, 0)
    await seal(process, any_site)
    await write_rows(process, 3)
    report = await verify_journal(process.db, process.store)
    assert (report.is_good, report.rows, report.sealed_rows, report.marks) == (True, 8, 5, 1)
    document = report.to_json()
    assert (document["result"], document["findings"]) == ("intact", [])


async def test_what_the_service_itself_writes_is_good(any_site: Site) -> None:
    process = await any_site.start()
    for number in range(5):
        await process.upload(b"x" * number, f"f{number}")
    await seal(process, any_site)
    report = await verify_journal(process.db, process.store)
    assert report.is_good and report.sealed_rows == report.rows > 0, report


@pytest.mark.parametrize(
    ("column", "value"),
    [("path", "/other"), ("at", 5), ("actor_id", None), ("cause", "purge"), ("ref", "x"),
     ("member_id", "usr_x"), ("entry_id", "ent_x"), ("mime", "x/y")],
)  # fmt: skip
async def test_a_changed_row_is_found_in_its_range(
    any_site: Site, column: str, value: object
) -> None:
    process = await sealed(any_site)
    await tamper(process, quota_journal.update().where(row(7)).values({column: value}))
    (found,) = await findings(process)
    assert (found.kind, found.group_id, found.seq) == (Kind.HEAD, GROUP, 10)
    assert found.detail == "rows 1 to 10 are not those that were sealed"
    assert found.expected != found.got


async def test_changed_figures_are_found_at_their_row(any_site: Site) -> None:
    process = await sealed(any_site)
    used = await process.one(sa.select(quota_journal.c.used_after).where(row(12)))
    change = quota_journal.update().where(row(12))
    await tamper(process, change.values(used_after=used + 5))
    found = await findings(process)
    assert kinds(found) == {(Kind.HEAD, 20), (Kind.BALANCE, 12), (Kind.BALANCE, 13)}
    wrong = next(one for one in found if one.seq == 12)
    assert (wrong.expected, wrong.got) == (used, used + 5)


async def test_a_change_of_unsealed_rows_shows_in_the_balances(any_site: Site) -> None:
    process = await any_site.start()
    await write_rows(process, 5)
    change = quota_journal.update().where(row(5))
    await tamper(process, change.values(used_after=quota_journal.c.used_after + 1))
    assert kinds(await findings(process)) == {(Kind.BALANCE, 5), (Kind.COUNTER, 5)}


async def test_removed_rows_are_named(any_site: Site) -> None:
    process = await sealed(any_site)
    await tamper(process, quota_journal.delete().where(row(13)))
    found = await findings(process)
    assert kinds(found) == {(Kind.ROWS_MISSING, 13), (Kind.HEAD, 20)}
    assert "rows 13 to 13 are missing" in {one.detail for one in found}


async def test_the_last_rows_cut_off_are_found_by_seals_by_the_group_and_by_the_store(
    any_site: Site,
) -> None:
    process = await sealed(any_site)
    last = quota_journal.c.seq > 22
    await tamper(process, quota_journal.delete().where(last))
    assert kinds(await findings(process)) == {(Kind.ROWS_MISSING, 23), (Kind.HEAD, 25)}

    await tamper(process, journal_seals.delete().where(journal_seals.c.last_seq > 20))
    assert kinds(await findings(process)) == {
        (Kind.ROWS_MISSING, 23),
        (Kind.MARK_UNKNOWN, 25),
    }

    names = ("used", "reserved", "files", "reserved_files")
    rest = (await process.all(sa.select(quota_journal).where(row(22))))[0]._mapping
    values = {name: rest[f"{name}_after"] for name in names} | {"journal_seq": 22}
    await tamper(process, groups.update().where(groups.c.id == GROUP).values(values))
    found = await findings(process)
    assert kinds(found) == {(Kind.MARK_UNKNOWN, 25)}
    assert "the database has no seal there" in found[0].detail


async def test_heads_that_a_restored_database_does_not_have_go_when_somebody_accepts_that(
    any_site: Site,
) -> None:
    process = await sealed(any_site)
    names = ("used", "reserved", "files", "reserved_files")
    rest = (await process.all(sa.select(quota_journal).where(row(22))))[0]._mapping
    values = {name: rest[f"{name}_after"] for name in names} | {"journal_seq": 22}
    await tamper(
        process,
        quota_journal.delete().where(quota_journal.c.seq > 22),
        journal_seals.delete().where(journal_seals.c.last_seq > 20),
        groups.update().where(groups.c.id == GROUP).values(values),
    )
    report = await verify_journal(process.db, process.store)
    assert kinds(report.findings) == {(Kind.MARK_UNKNOWN, 25)}

    assert await accept_heads(process.db, process.store, ACTOR, report) == 1

    assert (await verify_journal(process.db, process.store)).is_good
    (logged,) = await process.all(sa.select(audit_log).where(audit_log.c.act == "journal.accept"))
    assert (logged.group_id, logged.actor_id) == (GROUP, ACTOR.user_id)
    assert json.loads(logged.before)["heads"][0]["seq"] == 25
    assert await accept_heads(process.db, process.store, ACTOR, report) == 0


async def test_a_journal_that_was_rewritten_with_its_seals_is_found_by_the_head_outside(
    any_site: Site,
) -> None:
    process = await sealed(any_site)
    await tamper(
        process,
        quota_journal.update().where(row(7)).values(path="/another"),
        journal_seals.delete(),
    )
    while await seal_next(process.db, GROUP, limit=10):
        continue
    (found,) = await findings(process)
    assert (found.kind, found.seq) == (Kind.MARK_UNKNOWN, 25)
    assert "another head" in found.detail and found.got is not None
    await seal(process, any_site)
    assert (Kind.MARK_UNKNOWN, 25) in kinds(await findings(process)), "sealing on hides nothing"


async def test_seals_that_do_not_follow_are_found(any_site: Site) -> None:
    process = await sealed(any_site)
    await tamper(process, journal_seals.delete().where(journal_seals.c.last_seq == 20))
    (found,) = await findings(process)
    assert (found.kind, found.seq, found.expected, found.got) == (Kind.SEAL_GAP, 25, 11, 21)

    change = journal_seals.update().where(journal_seals.c.last_seq == 10)
    await tamper(process, change.values(head=bytes(32)))
    assert {(Kind.HEAD, 10), (Kind.SEAL_GAP, 25)} <= kinds(await findings(process))


async def test_a_counter_that_was_changed_by_hand_is_told_and_stops_nothing(
    any_site: Site,
) -> None:
    process = await sealed(any_site)
    await process.change(groups.update().values(used=groups.c.used + 9))
    (found,) = await findings(process)
    assert (found.kind, found.seq) == (Kind.COUNTER, 25)
    assert isinstance(found.expected, int) and found.got == found.expected + 9
    await write_rows(process, 3)
    assert kinds(await findings(process)) == {(Kind.BALANCE, 26)}


async def test_what_sqlite_lets_into_a_column_is_found_and_no_crash(memory_site: Site) -> None:
    process = await sealed(memory_site)
    await tamper(process, sa.text("UPDATE quota_journal SET used_after = 'x' WHERE seq = 7"))
    await tamper(process, sa.text("UPDATE quota_journal SET delta_files = 'y' WHERE seq = 9"))
    found = kinds(await findings(process))
    assert found >= {(Kind.ROW_UNREADABLE, 7), (Kind.ROW_UNREADABLE, 9), (Kind.HEAD, 10)}


async def test_heads_that_vanished_outside_and_of_unknown_groups_are_found(any_site: Site) -> None:
    process = await sealed(any_site)
    (mark,) = await marks_of(process.store, GROUP)
    await process.store.remove_marks(KIND, [mark.name])
    strange = Mark("grp_gone", 5, mark.day, mark.head)
    await process.store.write_mark(KIND, strange.name)
    await process.store.write_mark(KIND, "grp_x/no-mark")
    found = await findings(process)
    assert kinds(found) == {(Kind.MARK_MISSING, 25), (Kind.GROUP_UNKNOWN, 5)}
    alone = await verify_journal(process.db, process.store, GROUP)
    assert kinds(alone.findings) == {(Kind.MARK_MISSING, 25)}


async def test_pages_and_ranges_need_not_end_together(
    memory_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await sealed(memory_site, 61)
    for page in (1, 3, 7, 10, 25, 61):
        monkeypatch.setattr(verifying, "_PAGE", page)
        report = await verify_journal(process.db, process.store)
        assert (report.is_good, report.rows, report.sealed_rows) == (True, 61, 61), page
    await tamper(process, quota_journal.update().where(row(37)).values(ref="x"))
    monkeypatch.setattr(verifying, "_PAGE", 3)
    assert kinds(await findings(process)) == {(Kind.HEAD, 40)}


async def test_findings_are_bounded(memory_site: Site) -> None:
    process = await memory_site.start()
    await write_rows(process, MAX_FINDINGS * 2 + 100)
    await tamper(process, quota_journal.delete().where(quota_journal.c.seq % 2 == 0))
    report = await verify_journal(process.db, process.store)
    assert (len(report.findings), report.omitted > 0) == (MAX_FINDINGS, True)


async def test_a_store_that_does_not_answer_is_no_finding(memory_site: Site) -> None:
    process = await sealed(memory_site)
    process.store.plan = [Fault("walk_marks", 0, Fails.BEFORE)]
    with pytest.raises(StoreUnavailable):
        await verify_journal(process.db, process.store)


async def test_a_journal_is_found_by_name_or_id_also_when_its_group_is_deleted(
    memory_site: Site,
) -> None:
    process = await memory_site.start()
    await process.transact(add_group, "grp_other")
    await process.change(groups.update().where(groups.c.id == "grp_other").values(deleted_at=1))
    assert await process.db.read(lambda tx: find_journal(tx, "grp_other")) == "grp_other"
    with pytest.raises(NotFound):
        await process.db.read(lambda tx: find_journal(tx, "nothing"))
