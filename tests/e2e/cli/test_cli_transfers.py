"""Uploads and downloads over the command line: whole, interrupted, killed, refused."""

import json
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.cli.conftest import Cli, Relay

MIB = 1 << 20
DATA = random.Random(3).randbytes(24 * MIB + 5)


@pytest.fixture
def big(admin: Cli) -> Path:
    path = admin.folder / "big.bin"
    path.write_bytes(DATA)
    return path


async def kill_midway(admin: Cli, relay: Relay, *arguments: str | Path) -> None:
    """Runs a command and kills it when it stands still after 14 MiB."""
    await stop_midway(admin, relay, signal.SIGKILL, *arguments)


async def stop_midway(
    admin: Cli, relay: Relay, how: signal.Signals, *arguments: str | Path
) -> tuple[str, str]:
    """What a command says that gets a signal when it stands still after 14 MiB."""
    relay.limit = 14 * MIB
    process = await admin.start(*arguments)
    await relay.reached.wait()
    process.send_signal(how)
    out, err = await process.communicate()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    relay.limit = None
    return out.decode(), err.decode()


async def test_a_file_goes_up_and_comes_down_equal(admin: Cli, team: str, big: Path) -> None:
    up = await admin.run_process("upload", big, team)
    down = await admin.run_process("download", f"{team}:/big.bin", "-o", "copy.bin")

    assert (up.code, up.out) == (0, f"uploaded {team}:/big.bin (24 MiB)\n")
    assert f"{team}:/big.bin: begins" in up.err
    assert down.code == 0, down.err
    assert (admin.folder / "copy.bin").read_bytes() == DATA
    assert not (admin.folder / "copy.bin.part").exists()


async def test_both_are_safe_to_repeat(admin: Cli, team: str, big: Path) -> None:
    first = await admin.json("upload", big, f"{team}:/in/")
    again = await admin.json("upload", big, f"{team}:/in/")
    await admin.json("download", f"{team}:/in/big.bin", "-o", "copy.bin")
    down_again = await admin.json("download", f"{team}:/in/big.bin", "-o", "copy.bin")

    assert [item["items"][0]["status"] for item in (first, again)] == ["uploaded", "already-there"]
    assert again["items"][0]["sent_bytes"] == 0
    assert down_again["status"] == "already-there"
    assert len((await admin.json("versions", "ls", f"{team}:/in/big.bin"))["items"]) == 1


async def test_a_killed_upload_goes_on_when_it_is_repeated(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    await kill_midway(admin, relay, "upload", big, team)
    done = (await admin.json("upload", big, team))["items"][0]
    await admin.json("download", f"{team}:/big.bin", "-o", "copy.bin")

    assert done["resumed_at"] > 4 * MIB
    assert done["resumed_at"] + done["sent_bytes"] == len(DATA)
    assert (admin.folder / "copy.bin").read_bytes() == DATA
    assert (await admin.json("quota", "show", team))["reserved_bytes"] == 0


async def test_a_killed_download_goes_on_when_it_is_repeated(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    await admin.json("upload", big, team)
    relay.upwards, relay.passed = False, 0
    await kill_midway(admin, relay, "download", f"{team}:/big.bin", "-o", "copy.bin")
    done = await admin.json("download", f"{team}:/big.bin", "-o", "copy.bin")

    assert done["resumed_at"] > 4 * MIB
    assert (admin.folder / "copy.bin").read_bytes() == DATA


async def test_an_interrupted_upload_says_so_and_goes_on_when_it_is_repeated(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    out, err = await stop_midway(admin, relay, signal.SIGINT, "upload", "-q", big, team)
    done = (await admin.json("upload", big, team))["items"][0]

    assert (out, err) == ("", "filestore: interrupted; the same command goes on\n")
    assert done["resumed_at"] > 4 * MIB


async def test_a_file_that_changed_since_the_kill_begins_anew(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    await kill_midway(admin, relay, "upload", big, team)
    (admin.folder / "big.bin").write_bytes(DATA[::-1])
    os.utime(big, (1, 1))
    done = (await admin.json("upload", big, team))["items"][0]
    assert (await admin.json("quota", "show", team))["reserved_bytes"] == 0
    await admin.json("download", f"{team}:/big.bin", "-o", "copy.bin")

    assert done["resumed_at"] == 0
    assert (admin.folder / "copy.bin").read_bytes() == DATA[::-1]


async def test_an_upload_under_way_is_listed_and_can_be_cancelled(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    await kill_midway(admin, relay, "upload", big, team)
    (item,) = (await admin.json("uploads", "list", team))["items"]
    assert (await admin.json("quota", "show", team))["reserved_bytes"] == len(DATA)
    await admin.json("uploads", "cancel", item["id"])

    assert (await admin.json("quota", "show", team))["reserved_bytes"] == 0
    assert (await admin.json("uploads", "list", team))["items"] == []


async def test_a_folder_goes_up_with_its_shape(admin: Cli, team: str) -> None:
    (admin.folder / "top" / "inner").mkdir(parents=True)
    (admin.folder / "top" / "none").mkdir()
    (admin.folder / "top" / "a.txt").write_text("a")
    (admin.folder / "top" / "inner" / "空.txt").write_text("")
    done = await admin.json("upload", "-r", "top", f"{team}:/in/")

    assert [item["path"] for item in done["items"]] == [
        *("/in/top/a.txt", "/in/top/inner/空.txt", "/in/top/none")
    ]
    down = await admin.json("download", f"{team}:/in/top/inner/空.txt")
    assert (down["size"], (admin.folder / "空.txt").read_bytes()) == (0, b"")
    assert (await admin.run("upload", "top", team)).code == 2

    one = await admin.run("download", f"{team}:/in/top")
    assert (one.code, "is a folder; give --recursive" in one.err) == (2, True)
    assert (await admin.run("download", "-r", f"{team}:/in/top", "-o", "nosuch/top")).code == 1
    all_of_it = await admin.json("download", "-r", f"{team}:/in/top", "-o", "copy")
    again = await admin.json("download", "-r", f"{team}:/in/top", "-o", "copy")
    assert sorted(str(p.relative_to(admin.folder)) for p in admin.folder.rglob("copy/**/*")) == [
        *("copy/a.txt", "copy/inner", "copy/inner/空.txt", "copy/none")
    ]
    assert [item["status"] for item in all_of_it["items"]] == ["made"] * 3 + ["downloaded"] * 2
    assert [item["status"] for item in again["items"]] == ["made"] * 3 + ["already-there"] * 2
    shown = await admin.run("download", f"{team}:/in/top/a.txt", "-o", "-", "-q")
    assert (shown.code, shown.out, shown.err) == (0, "a", "")


async def test_what_cannot_go_up_is_named_and_the_rest_goes(admin: Cli, team: str) -> None:
    top = admin.folder / "top"
    top.mkdir()
    for name in ("a", os.fsdecode(b"\xff\xfe"), "back\\slash", "two\nlines", "end ", "z"):
        (top / name).write_text("x")
    (top / "gone").symlink_to("nowhere")
    os.mkfifo(top / "pipe")
    outcome = await admin.run("upload", "-r", "top", team, "--json")
    plain = await admin.run("upload", "-rq", "top", team)

    found = outcome.document
    assert outcome.code == plain.code == 1
    assert [item["path"] for item in found["items"]] == ["/top/a", "/top/z"]
    assert [item["file"].rpartition("/")[2] for item in found["skipped"]] == ["pipe"]
    kinds = [item["problem"]["type"].rpartition(":")[2] for item in found["failed"]]
    assert kinds == ["local-file", *["bad-name"] * 4]
    assert outcome.problem["detail"].startswith("5 of 7 failed; the same command")
    assert plain.err.count("failed ") == 5 and "may not begin or end with a space" in plain.err
    assert 'top/\\xff\\xfe" is not allowed: its bytes are no valid UTF-8' in plain.err
    assert plain.err.splitlines()[-1].startswith("filestore: 5 of 7 failed;")


async def test_a_batch_that_only_the_quota_stops_is_a_refusal_and_twins_go_nowhere(
    admin: Cli, team: str
) -> None:
    for folder in ("p", "q"):
        (admin.folder / folder).mkdir()
        (admin.folder / folder / "same").write_text(folder * 2000)
    twins = await admin.run("upload", "p/same", "q/same", f"{team}:/rr/")
    assert (twins.code, "would both become" in twins.err) == (2, True)
    assert (await admin.run("ls", f"{team}:/rr")).code == 4
    await admin.json("quota", "set", team, "1kB")
    refused = await admin.run("upload", "-r", "p", "q", team)

    assert refused.code == 3
    assert f"Group {team} has no room for /p/same: 2 KiB are needed" in refused.err


async def test_an_upload_begun_on_another_device_goes_on_here(
    admin: Cli, team: str, big: Path, relay: Relay
) -> None:
    await kill_midway(admin, relay, "upload", "--verify", big, team)
    other = replace(admin, state=admin.state.with_name("other"))
    done = (await other.json("upload", big, team))["items"][0]

    assert done["resumed_at"] > 4 * MIB
    assert (await admin.json("quota", "show", team))["reserved_bytes"] == 0
    (item,) = (await admin.json("ls", f"{team}:/big.bin"))["items"]
    assert (item["path"], item["size"]) == ("/big.bin", len(DATA))


async def test_without_a_slash_the_target_is_the_files_name_unless_it_is_a_folder(
    admin: Cli, team: str, big: Path
) -> None:
    await admin.json("mkdir", f"{team}:/docs")
    named = await admin.json("upload", big, f"{team}:/docs/other.bin")
    placed = await admin.json("upload", big, f"{team}:/docs")
    several = await admin.run("upload", big, big, f"{team}:/nosuch")

    assert named["items"][0]["path"] == "/docs/other.bin"
    assert placed["items"][0]["path"] == "/docs/big.bin"
    assert several.code == 2


async def test_a_full_quota_is_refused_before_any_byte_goes(
    admin: Cli, team: str, big: Path
) -> None:
    await admin.json("quota", "set", team, "1MiB")
    outcome = await admin.run("upload", big, team, "--json")

    assert outcome.code == 3
    assert outcome.problem["type"] == "urn:filestore:problem:quota-exceeded"
    assert outcome.problem["needed"] == len(DATA)
    assert (await admin.json("quota", "show", team))["reserved_bytes"] == 0


async def test_verify_sends_the_digest_along(admin: Cli, team: str, big: Path) -> None:
    done = await admin.json("upload", big, team, "--verify")

    assert done["items"][0]["status"] == "uploaded"


async def test_a_different_file_is_not_replaced_without_force(
    admin: Cli, team: str, big: Path
) -> None:
    await admin.json("upload", big, team)
    mine = admin.folder / "mine"
    mine.write_text("mine")
    refused = await admin.run("download", f"{team}:/big.bin", "-o", "mine")

    assert (refused.code, mine.read_text()) == (1, "mine")
    await admin.json("download", f"{team}:/big.bin", "-o", "mine", "--force")
    assert mine.read_bytes() == DATA


async def test_what_is_not_there_is_said_by_the_exit_code(admin: Cli, team: str) -> None:
    assert (await admin.run("download", f"{team}:/nosuch")).code == 4
    assert (await admin.run("upload", "nosuch.bin", team)).code == 1
    (admin.folder / "a").write_text("a")
    assert (await admin.run("upload", "a", "nosuch")).code == 4
    assert list(admin.folder.glob("*.part")) == []


async def test_with_json_progress_is_json_lines(admin: Cli, team: str, big: Path) -> None:
    outcome = await admin.run("upload", big, team, "--json")
    events = [json.loads(line) for line in outcome.err.splitlines()]

    assert events[0]["event"] == "began" and events[-1]["event"] == "ended"
    assert events[-1]["done"] == events[-1]["total"] == len(DATA)
    quiet = await admin.run("download", f"{team}:/big.bin", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
