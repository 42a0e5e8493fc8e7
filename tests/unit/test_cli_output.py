"""What people and programs read: tables, progress, errors, exit codes."""

import io
import json
from pathlib import Path

import pytest

from filestore import __version__
from filestore.cli.connect import credentials
from filestore.cli.failure import language_of, report
from filestore.cli.main import execute
from filestore.cli.meter import Meter, format_duration
from filestore.cli.output import NameColumn, SizeColumn, TimeColumn, table
from filestore.cli.progress import JsonLines, Lines, Terminal, watcher_for
from filestore.client import Nobody
from filestore.client.transport import Document
from filestore.errors import (
    BadName,
    BadSetting,
    FilesExceeded,
    FilestoreError,
    LocalFile,
    NotFound,
    OverCommitted,
    QuotaExceeded,
    ShareExceeded,
    StoreUnavailable,
    Unauthenticated,
    Unreachable,
)

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FILESTORE_URL", "FILESTORE_TOKEN", "FILESTORE_TOKEN_FILE", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)


def test_a_table_is_aligned_also_where_characters_are_wide() -> None:
    columns = (SizeColumn("SIZE", "size"), TimeColumn("AT", "at"), NameColumn("NAME", "name"))
    items: list[Document] = [
        {"size": 1536, "at": "2026-01-02T03:04:05.678Z", "name": "计划", "kind": "file"},
        {"size": None, "at": None, "name": "a\x1b[2J", "kind": "folder"},
        {"size": 1, "at": "\x1b[2J", "name": "b"},
    ]

    assert table(items, columns) == [
        "   SIZE  AT                 NAME",
        "1.5 KiB  2026-01-02 03:04Z  计划",
        "      -  -                  a\\x1b[2J/",
        "    1 B  \\x1b[2J Z          b",
    ]
    assert table([{"name": "计划", "size": 1}], (columns[2], columns[0])) == [
        "NAME  SIZE",
        "计划   1 B",
    ]


def test_a_meter_says_speed_and_time_left() -> None:
    meter = Meter(0, 100 * MIB, 0.0)
    meter.moved(20 * MIB, 10.0)

    assert meter.line == "20 %, 20 MiB of 100 MiB, 2 MiB/s, 0:00:40 left"


def test_a_meter_forgets_how_fast_it_was_long_ago() -> None:
    meter = Meter(0, 100 * MIB, 0.0)
    for second in range(1, 11):
        meter.moved(5 * second * MIB, float(second))
    for second in range(11, 40):
        meter.moved((50 + second - 10) * MIB, float(second))

    assert round(meter.bytes_per_s / MIB, 1) == 1.0


def test_a_meter_without_movement_promises_nothing() -> None:
    meter = Meter(0, 0, 0.0)

    assert meter.line == "100 %, 0 B of 0 B"
    assert meter.seconds_left is None
    assert format_duration(3725.4) == "1:02:05"
    assert format_duration(10**9) == "over 99 h"


def test_plain_lines_come_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, "en", clock)
    lines.began("team:/a", 0, 10 * MIB)
    for clock.now in (1.0, 4.0, 5.0, 6.0):
        lines.moved(int(clock.now) * MIB)
    lines.waits(StoreUnavailable(reason="it is asleep"), 3.0)
    lines.ended()
    lines.begins_anew("team:/b", "upl_1")

    assert "filestore uploads cancel upl_1" in stream.getvalue().splitlines()[-1]
    assert stream.getvalue().splitlines()[:-1] == [
        "team:/a: begins: 0 %, 0 B of 10 MiB",
        "team:/a: 50 %, 5 MiB of 10 MiB, 1 MiB/s, 0:00:05 left",
        "team:/a: The store does not answer now: it is asleep. Try again. (3 s)",
    ]


def test_json_lines_are_objects_with_numbers() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = JsonLines(stream, clock)
    lines.began("team:/a", 2, 10)
    clock.now = 2.0
    lines.moved(6)
    lines.waits(StoreUnavailable(reason="x"), 3.0)
    lines.ended()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [event["event"] for event in events] == ["began", "progress", "waiting", "ended"]
    assert events[1] | {"name": ""} == {
        "event": "progress",
        "name": "",
        "done": 6,
        "total": 10,
        "bytes_per_s": 2,
        "seconds_left": 2.0,
    }
    assert events[2]["code"] == "store-unavailable"


def test_the_watcher_fits_who_looks_on() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    log, screen = io.StringIO(), Screen()
    kinds = [
        watcher_for(log, as_json=False, quiet=False, language="en"),
        watcher_for(log, as_json=True, quiet=False, language="en"),
        watcher_for(screen, as_json=False, quiet=False, language="en"),
        watcher_for(screen, as_json=False, quiet=True, language="en"),
    ]

    assert [type(kind) for kind in kinds] == [Lines, JsonLines, Terminal, Nobody]


def test_a_terminal_shows_a_bar_and_takes_names_as_they_are() -> None:
    stream = io.StringIO()
    bar = Terminal(stream, "zh")
    bar.began("team:/[red]a", 0, 10)
    bar.moved(10)
    bar.waits(StoreUnavailable(reason="x"), 1.0)
    bar.ended()

    assert "[red]a" in stream.getvalue()
    assert "存储目前没有响应" in stream.getvalue()


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "zh_TW"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_locale(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_the_token_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("fst_x\n")

    assert credentials({"FILESTORE_URL": "http://h", "FILESTORE_TOKEN_FILE": str(file)}) == (
        "http://h",
        "fst_x",
    )
    with pytest.raises(BadSetting, match="No such file"):
        credentials({"FILESTORE_URL": "http://h", "FILESTORE_TOKEN_FILE": f"{file}x"})


def test_a_missing_setting_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ls", "team"]) == 2
    out, err = capsys.readouterr()

    assert out == ""
    assert err == (
        "filestore: Setting FILESTORE_URL (environment): it is not set; for example"
        " http://127.0.0.1:8080.\n"
    )


def test_an_error_is_said_in_chinese_where_that_is_spoken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")

    assert execute(["ls", "team"]) == 2
    assert "设置 FILESTORE_URL" in capsys.readouterr().err


def test_with_json_an_error_is_a_problem_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ls", "team", "--json"]) == 2
    out, err = capsys.readouterr()
    problem = json.loads(err)

    assert out == ""
    assert problem["type"] == "urn:filestore:problem:bad-setting"
    assert problem["setting"] == "FILESTORE_URL"


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["ls"], ["ls", "team", "--nosuch"], ["group", "create", "g", "--quota", "much"]],
)
def test_a_wrong_command_line_is_a_usage_error_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert execute([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["type"] == "urn:filestore:problem:usage"


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version"}
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"filestore {__version__}\n"


def test_an_upload_without_a_group_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["upload", "a.bin"]) == 2
    assert "GROUP[:/FOLDER/] is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unauthenticated(), "FILESTORE_TOKEN"),
        (NotFound(what="address"), "FILESTORE_URL"),
        (
            QuotaExceeded(
                group="lab", path="/big", needed=3 << 20, free=1, limit=1 << 30, freeable=0
            ),
            "Group lab has no room for /big: 3 MiB are needed, 1 B of 1 GiB are free.",
        ),
        (
            ShareExceeded(group="lab", path="/big", needed=3 << 20, free=1, share=1 << 30, taken=0),
            "Your share of group lab has no room for /big: 3 MiB are needed, 1 B of 1 GiB",
        ),
        (
            FilesExceeded(group="lab", path="/big", needed=1, free=0, limit=4, files=3, reserved=1),
            "1 new files are wanted, 0 are free of 4;",
        ),
        (
            OverCommitted(after=3 << 20, allowed=2 << 20, pool=1 << 20, overcommit_percent=200),
            "would be 3 MiB together; at most 2 MiB are allowed, 200 % of the pool of 1 MiB.",
        ),
        (BadName(name="end ", reason="so"), '"end "'),
        (Unreachable(url="http://h", reason="x"), "goes on where it stopped"),
        (LocalFile(path="a\x1b[2J\x9b\u202e", reason="x"), "a\\x1b[2J\\x9b\\u202e: x."),
    ],
)
def test_an_error_says_what_to_do_and_commands_no_terminal(
    error: FilestoreError, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report(error, as_json=False, language="en", command="upload")
    said = capsys.readouterr().err
    report(error, as_json=True, language="en")

    assert says in said
    assert said.rstrip("\n").isprintable() and said.count("\n") == 1
    line = capsys.readouterr().err.rstrip("\n")
    assert line.isprintable() and json.loads(line)["type"].endswith(error.code)


def test_a_server_that_is_not_there_is_named_without_the_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILESTORE_URL", "ftp://files.example.org")
    monkeypatch.setenv("FILESTORE_TOKEN", "fst_secret")

    assert execute(["ls", "team"]) == 2
    err = capsys.readouterr().err
    assert "FILESTORE_URL" in err
    assert "fst_secret" not in err
