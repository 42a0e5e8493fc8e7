"""The hot path on each pair of real services: what comes in goes out, stored once."""

import hashlib

import pytest
import sqlalchemy as sa
from blake3 import blake3

from filestore.errors import ChecksumMismatch
from filestore.meta.tables import contents
from filestore.model import MIB
from filestore.transfer.checksums import Checksum
from filestore.transfer.source import Broken
from tests.services.hot_path import Body, Process, Site, add_group, cut, random_bytes

pytestmark = pytest.mark.usefixtures("no_lost_errors")

DATA = random_bytes(9 * MIB + 12_345, "services")


async def test_a_broken_upload_is_resumed_and_the_same_file_is_stored_once(
    hot_path: Process,
) -> None:
    at = hot_path
    upload = await at.begin(len(DATA))
    with pytest.raises(Broken):
        await at.append(upload, 0, Body(DATA[: 3 * MIB + 7], error=Broken(seconds=0)))
    found = await at.hot.transfers.status(upload.id)
    assert found.offset == 3 * MIB + 7
    piece = DATA[found.offset : 5 * MIB]
    with pytest.raises(ChecksumMismatch):
        await at.append(upload, found.offset, piece, checksum=Checksum("sha1", bytes(20)))
    right = Checksum("sha1", hashlib.sha1(piece).digest())
    await at.append(upload, found.offset, piece, checksum=right)
    at.hot.engine.tails.drop(upload.id)
    upload = await at.append(upload, 5 * MIB, DATA[5 * MIB :])

    assert upload.state == "done" and upload.content_id is not None
    assert await at.rows(upload.content_id) == cut(DATA)
    assert await at.read(upload.content_id, 0, len(DATA)) == DATA
    assert await at.read(upload.content_id, MIB - 1, 4 * MIB + 3) == DATA[MIB - 1 : 4 * MIB + 3]
    digest = sa.select(contents.c.blake3).where(contents.c.id == upload.content_id)
    assert await at.one(digest) == blake3(DATA).digest()

    puts, states = at.store.calls["put"], await at.block_states()
    await at.transact(add_group, "grp_other")
    again = await at.upload(DATA, "again", group="grp_other")
    assert again.state == "done" and again.content_id != upload.content_id
    assert (at.store.calls["put"], await at.block_states()) == (puts, states)
    for group in ("grp_test", "grp_other"):
        assert (await at.check_books(group)).used == len(DATA)
    await at.check_references()
    await at.check_rest()


async def test_a_file_that_is_begun_before_a_restart_ends_equal_behind_it(site: Site) -> None:
    first = await site.start()
    upload = await first.append(await first.begin(len(DATA)), 0, DATA[: 4 * MIB])
    await site.stop(first)
    second = await site.start()
    upload = await second.append(upload, 4 * MIB, DATA[4 * MIB :])
    assert upload.state == "done" and upload.content_id is not None
    assert await second.rows(upload.content_id) == cut(DATA)
    assert await second.read(upload.content_id, 0, len(DATA)) == DATA
    await second.check_books()
    await second.check_references()
    await second.check_rest()
