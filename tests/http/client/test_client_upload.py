"""Uploads against a server that breaks, and files that change: what goes on, what is given up."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from aiohttp import web

from filestore.client import Client, Nobody, Target
from filestore.errors import (
    BadName,
    BusyLocally,
    FilestoreError,
    ForeignAnswer,
    LocalFile,
    NotFound,
    QuotaExceeded,
    SourceChanged,
    Unreachable,
)
from tests.http.client.breaking_server import (
    DATA,
    MIB,
    OTHER_TOKEN,
    TARGET,
    TOKEN,
    Fake,
    broken,
    problem,
    records,
    unavailable,
    written,
)
from tests.http.client.conftest import Devices


async def test_an_upload_goes_on_after_breaks_from_where_the_server_is(
    client: Client, fake: Fake, source: Path
) -> None:
    async def cut_in_the_middle(request: web.Request) -> None:
        path = request.path.removeprefix("/api/v1/")
        while len(fake.uploads[path]) < MIB:
            fake.uploads[path] += await request.content.readany()
        await broken(request)

    fake.fail("PATCH", cut_in_the_middle, unavailable(3), broken)
    done = await client.upload(source, TARGET)

    assert fake.files[TARGET.path] == DATA
    assert (done.size, done.sent, done.was_there) == (len(DATA), len(DATA), False)
    assert sum(fake.bodies) < len(DATA) - MIB + 1


async def test_the_same_upload_again_sends_nothing(
    client: Client, fake: Fake, source: Path
) -> None:
    fake.digests = False
    await client.upload(source, TARGET)
    again = await client.upload(source, TARGET)

    assert again.was_there
    assert (fake.count("POST"), fake.count("PATCH")) == (1, 1)


async def test_without_a_record_the_digest_says_that_it_is_there(
    client: Client, fake: Fake, source: Path
) -> None:
    fake.files[TARGET.path] = DATA

    assert (await client.upload(source, TARGET)).was_there
    fake.files[TARGET.path] = bytes(len(DATA))
    fake.etag = 2
    assert not (await client.upload(source, TARGET)).was_there
    assert fake.files[TARGET.path] == DATA


async def test_a_file_that_is_there_and_damaged_is_sent_again_and_heals(
    client: Client, fake: Fake, source: Path
) -> None:
    await client.upload(source, TARGET)
    fake.damaged = {"another", TARGET.path}

    assert not (await client.upload(source, TARGET)).was_there
    assert fake.count("POST") == 2


async def test_a_file_that_was_deleted_there_is_sent_again(
    client: Client, fake: Fake, source: Path
) -> None:
    await client.upload(source, TARGET)
    del fake.files[TARGET.path]

    assert not (await client.upload(source, TARGET)).was_there
    assert fake.files[TARGET.path] == DATA


async def test_an_upload_given_up_goes_on_in_the_next_process(
    client: Client, fake: Fake, source: Path, tmp_path: Path
) -> None:
    async def a_bit(request: web.Request) -> None:
        fake.uploads["uploads/upl_0"] += await request.content.readexactly(1000)
        await broken(request)

    fake.fail("PATCH", a_bit, *[broken] * 6)
    with pytest.raises(Unreachable):
        await client.upload(source, TARGET)
    (record,) = records(tmp_path)
    assert record.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in record.read_text()
    done = await client.upload(source, TARGET)

    assert (done.resumed_at, done.sent) == (1000, len(DATA) - 1000)
    assert fake.files[TARGET.path] == DATA
    assert fake.count("POST") == 1


async def test_an_upload_that_the_server_forgot_begins_anew(
    client: Client, fake: Fake, source: Path
) -> None:
    fake.fail("PATCH", *[broken] * 6)
    with pytest.raises(Unreachable):
        await client.upload(source, TARGET)
    fake.uploads.clear()
    done = await client.upload(source, TARGET)

    assert done.resumed_at == 0
    assert fake.files[TARGET.path] == DATA


async def test_a_broken_record_is_no_more_than_a_lost_one(
    client: Client, fake: Fake, source: Path, tmp_path: Path
) -> None:
    fake.fail("PATCH", *[broken] * 6)
    with pytest.raises(Unreachable):
        await client.upload(source, TARGET)
    (record,) = records(tmp_path)
    record.write_text("{")
    await client.upload(source, TARGET)

    assert fake.files[TARGET.path] == DATA


async def test_a_file_that_changes_meanwhile_ends_the_upload(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    source = await asyncio.to_thread(written, tmp_path / "larger.bin", DATA * 4)

    async def somebody_writes(request: web.Request) -> None:
        with source.open("ab") as file:
            file.write(b"more")
        os.utime(source, ns=(1, 1))

    fake.fail("PATCH", somebody_writes)

    with pytest.raises(SourceChanged, match=r"larger\.bin changed"):
        await client.upload(source, TARGET)
    assert fake.files == {} and fake.uploads == {}
    assert records(tmp_path) == []


async def test_a_refusal_is_final_and_leaves_no_record(
    client: Client, fake: Fake, source: Path, tmp_path: Path
) -> None:
    async def full(request: web.Request) -> web.StreamResponse:
        return problem(413, "quota-exceeded", needed=9, free=1, limit=5, reserved=0, freeable=0)

    fake.fail("POST", full)

    with pytest.raises(QuotaExceeded) as caught:
        await client.upload(source, TARGET)
    assert caught.value.spec.exit_code == 3
    assert records(tmp_path) == []


async def test_an_empty_file_is_done_with_its_creation(
    client: Client, fake: Fake, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    done = await client.upload(tmp_path / "empty", TARGET)

    assert (done.size, done.sent) == (0, 0)
    assert fake.files[TARGET.path] == b""
    assert fake.count("PATCH") == 0


async def test_two_processes_do_not_upload_the_same_file_at_once(
    client: Client, fake: Fake, source: Path
) -> None:
    second: list[FilestoreError] = []

    async def meanwhile(request: web.Request) -> None:
        with pytest.raises(BusyLocally) as caught:
            await client.upload(source, TARGET)
        second.append(caught.value)

    fake.fail("POST", meanwhile)
    await client.upload(source, TARGET)

    assert [error.code for error in second] == ["busy-locally"]
    assert fake.count("POST") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing", "No such file"), (".", "it is a folder"), ("pipe", "pipe"), ("socket", "socket")],
)
async def test_what_is_no_file_is_said_in_one_sentence_without_waiting(
    client: Client, fake: Fake, tmp_path: Path, name: str, says: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix, contextlib.chdir(tmp_path):
        unix.bind("socket")

    with pytest.raises(LocalFile, match=says):
        await asyncio.wait_for(client.upload(tmp_path / name, TARGET), 10)
    assert fake.requests == []


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff\xfe"), "back\\slash", "two\nlines", "end "])
async def test_a_name_that_no_file_may_have_is_refused_with_its_reason(
    client: Client, fake: Fake, tmp_path: Path, name: str
) -> None:
    async def refused(request: web.Request) -> web.StreamResponse:
        return problem(400, "bad-name", name=name.strip(), reason="so it is")

    source = written(tmp_path / name, b"x")
    with pytest.raises(BadName):
        await client.upload(source, Target("team", "docs", name))
    assert fake.requests == []
    fake.fail("HEAD", refused)
    fake.fail("GET", refused)
    with pytest.raises(BadName, match="so it is"):  # the answer to HEAD alone says no reason
        await client.download("team", name, tmp_path / "x")


async def given_up(client: Client, fake: Fake, source: Path, *, verify: bool = False) -> None:
    """Uploads 1,000 bytes, and then finds no server any more."""

    async def a_bit(request: web.Request) -> None:
        path = request.path.removeprefix("/api/v1/")
        fake.uploads[path] += await request.content.readexactly(1000)
        await broken(request)

    fake.fail("PATCH", a_bit, *[broken] * 6)
    with pytest.raises(Unreachable):
        await client.upload(source, TARGET, verify=verify)
    fake.faults.clear()


async def test_what_one_user_began_is_not_gone_on_with_by_another(
    client: Client, fake: Fake, source: Path, devices: Devices
) -> None:
    await given_up(client, fake, source)
    async with devices(OTHER_TOKEN) as other:
        done = await other.upload(source, TARGET)

    assert (done.resumed_at, done.sent) == (0, len(DATA))
    assert list(fake.owners.values()) == ["anna", "bert"]
    assert len(fake.uploads["uploads/upl_0"]) == 1000
    assert (await client.upload(source, TARGET)).resumed_at == 1000


class Listener(Nobody):
    """Remembers which upload was left alone."""

    left: str | None = None

    def begins_anew(self, name: str, upload_id: str) -> None:
        self.left = upload_id


@pytest.mark.parametrize(
    ("verify", "is_equal", "resumed_at", "left"),
    [(True, True, 1000, None), (True, False, 0, None), (False, True, 0, "upl_0")],
)
async def test_another_device_goes_on_where_the_digest_shows_that_the_file_is_the_same(
    client: Client, fake: Fake, tmp_path: Path, devices: Devices,
    verify: bool, is_equal: bool, resumed_at: int, left: str | None,
) -> None:  # fmt: skip
    await given_up(client, fake, written(tmp_path / "here", DATA), verify=verify)
    data = DATA if is_equal else DATA[::-1]
    source, listener = written(tmp_path / "there", data), Listener()
    async with devices(state="of the other device") as device:
        done = await device.upload(source, TARGET, watcher=listener)

    assert (done.resumed_at, listener.left) == (resumed_at, left)
    assert fake.files[TARGET.path] == data


async def test_what_was_begun_for_a_file_that_changed_since_is_ended_first(
    client: Client, fake: Fake, source: Path
) -> None:
    async def checked(request: web.Request) -> None:
        assert "uploads/upl_0" not in fake.uploads

    await given_up(client, fake, source)
    written(source, DATA[::-1])
    os.utime(source, ns=(1, 1))
    fake.fail("POST", checked)
    await client.upload(source, TARGET)

    assert list(fake.uploads) == ["uploads/upl_1"]
    assert fake.files[TARGET.path] == DATA[::-1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.PDF", "application/pdf"), ("a.tar.gz", "application/gzip"), ("a", None)],
)
async def test_the_media_type_is_guessed_from_the_name(
    client: Client, fake: Fake, source: Path, name: str, kind: str | None
) -> None:
    with contextlib.suppress(NotFound):  # the stand-in has one place for all that arrives
        await client.upload(source, Target("team", "docs", name))

    assert fake.text("uploads/upl_0", "filetype") == kind


async def test_a_location_elsewhere_gets_no_token(client: Client, fake: Fake, source: Path) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, headers={"Location": "http://other.example/x"})

    fake.fail("POST", elsewhere)

    with pytest.raises(ForeignAnswer, match="Location names no upload"):
        await client.upload(source, TARGET)
