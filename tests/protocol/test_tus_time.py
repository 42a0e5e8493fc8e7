"""Expiration: sliding with an absolute cap, and true before any sweeper has run."""

import datetime as dt
from email.utils import parsedate_to_datetime

import pytest
import sqlalchemy as sa

from filestore.meta.tables import uploads
from tests.protocol.conftest import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = dt.timedelta(days=1)


def _expires(headers: dict[str, str]) -> dt.datetime:
    return parsedate_to_datetime(headers["upload-expires"])


async def test_e3_an_expired_upload_is_gone_before_any_sweeper_has_run(site: Site) -> None:
    for method in ("HEAD", "PATCH", "DELETE"):
        _, reserved = await site.quota()
        upload = await site.create(1000)
        await site.set_row(upload, expires_at=0)
        piece = site.piece(0) if method == "PATCH" else ()
        answer = await site.tus(method, upload, piece, b"x" if method == "PATCH" else None)
        assert answer.status == 410, method
        assert "upload-offset" not in answer.headers
        assert upload not in await site.running()
        assert (await site.quota())[1] == reserved
        assert (await site.tus("HEAD", upload)).status == 410


async def test_e4_progress_moves_the_end_and_the_cap_does_not_move(site: Site) -> None:
    now = dt.datetime.now(dt.UTC)
    upload = await site.create(1000)
    soon = int((now.timestamp() + 60) * 1_000_000)
    await site.set_row(upload, expires_at=soon)
    slid = await site.patch(upload, 0, b"x")
    assert abs(_expires(slid.headers) - now - DAY) < dt.timedelta(minutes=5)
    await site.set_row(upload, expires_cap_at=soon + 60_000_000)
    capped = await site.patch(upload, 1, b"x")
    assert abs(_expires(capped.headers) - now) < dt.timedelta(minutes=3)
    head = await site.tus("HEAD", upload)
    assert head.headers["upload-expires"] == capped.headers["upload-expires"]


async def test_e5_a_finished_upload_does_not_expire(site: Site) -> None:
    upload = await site.create(1)
    assert (await site.patch(upload, 0, b"x")).status == 204
    await site.set_row(upload, expires_at=0, expires_cap_at=0)
    await site.reaper.expire_uploads()
    assert (await site.tus("HEAD", upload)).status == 200


async def test_e6_the_sweeper_ends_what_is_due_and_nothing_else(site: Site) -> None:
    due, fresh = await site.create(10), await site.create(10)
    await site.set_row(due, expires_at=0)
    await site.reaper.expire_uploads()
    running = await site.running()
    assert due not in running
    assert fresh in running
    state = await site.service.services.db.read(
        lambda tx: tx.scalar(
            sa.select(uploads.c.state).where(uploads.c.id == due.rpartition("/")[2])
        )
    )
    assert state == "expired"
