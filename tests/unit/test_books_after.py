"""Books and journal behind a correction, and behind a purge that was broken off."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from filestore.acts import purging, tree
from filestore.meta.tables import groups, member_accounts, uploads, versions
from filestore.names import parse_path
from filestore.quota.auditing import audit_account
from filestore.quota.sealing import mark_seals, seal_next
from filestore.quota.verifying import verify_journal
from tests.services.hot_path import ACTOR, GROUP, Process, Site

DRIFTS = {
    "counters": sa.update(groups).values(used=77, files=9, reserved=3),
    "versions": sa.update(versions).values(size=versions.c.size + 5),
    "reservations": sa.update(uploads).where(uploads.c.state == "open").values(reserved=1),
    "members": sa.update(member_accounts).values(used=1),
}


@pytest.fixture
async def at(any_site: Site) -> AsyncIterator[Process]:
    """A group with five files in a folder, and an upload that runs."""
    process = await any_site.start()
    for number in range(5):
        await process.upload(bytes([number]) * 10, f"f{number}", folder=parse_path("/d"))
    await process.begin(40, "running")
    yield process


async def _findings(at: Process) -> list[str]:
    while await seal_next(at.db, GROUP, limit=3):
        pass
    await mark_seals(at.db, at.store)
    report = await verify_journal(at.db, at.store)
    return [finding.detail for finding in report.findings]


@pytest.mark.parametrize("drift", DRIFTS)
async def test_a_journal_is_whole_behind_each_kind_of_correction(at: Process, drift: str) -> None:
    assert await _findings(at) == []
    await at.change(DRIFTS[drift])

    found = await audit_account(at.db, GROUP, repair=True, actor=ACTOR)

    assert found is not None and found.is_corrected
    left = [one.kind.value for one in found.left]
    assert left == (["content"] * 5 if drift == "versions" else [])
    assert await _findings(at) == []
    await at.upload(b"more", "more")
    assert await _findings(at) == []


async def test_a_purge_that_is_broken_off_leaves_books_that_agree(
    at: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    entry = await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/d"))

    async def breaks(*_: object, **__: object) -> int:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(purging, "_purge_last", breaks)
        with pytest.raises(RuntimeError):
            await tree.purge_all(at.db, ACTOR, GROUP, entry.id)
    half = await at.check_books()
    assert 0 < half.files < 5

    await at.transact(tree.restore, ACTOR, GROUP, entry.id)
    assert (await at.check_books()).files == half.files
    await at.transact(tree.put_in_trash, ACTOR, GROUP, parse_path("/d"))
    assert await tree.purge_all(at.db, ACTOR, GROUP, entry.id) == half.used
    books = await at.check_books()
    assert (books.used, books.files, books.reserved) == (0, 0, 40)
