"""What people read of a collection, and the exit code that programs see."""

import io

import pytest

from filestore.cli.gc import exit_code_of, report_lines
from filestore.cli.jobs import Watch
from filestore.errors import Json
from filestore_gc.report import Alarm, Line, Problem, Reaped, Report, Result, Wait

HOUR_US = 3600 * 10**6


def _report(result: Result, **more: object) -> dict[str, Json]:
    return Report(result, 0, HOUR_US, 2 * HOUR_US, **more).to_json()  # type: ignore[arg-type]


def test_a_run_says_what_was_freed_what_ended_and_what_waits() -> None:
    report = _report(
        Result.DONE,
        freed=(
            Line("grp_1", "lab", "released", "under a day", 3, 3 << 20),
            Line(None, None, "unfinished", "under an hour", 1, 1024),
        ),
        reaped=Reaped(uploads=2, entries=1, bytes=2048),
        waiting=(Wait("grace", 1, 512, HOUR_US, HOUR_US), Wait("retry", 2, 9, 0, HOUR_US)),
    )
    assert list(report_lines(report)) == [
        "freed 4 blocks, 3 MiB",
        "BYTES  BLOCKS  GROUP  REASON      SINCE",
        "3 MiB  3       lab    released    under a day",
        "1 KiB  1       -      unfinished  under an hour",
        "ended: 2 uploads that ran out of time",
        "ended: 1 item past its time in the trash",
        "quota given back: 2 KiB",
        "waiting: 1 block, 512 B: in their grace, until 1970-01-01 01:00Z",
        "waiting: 2 blocks, 9 B: the store has not acknowledged their removal, tried again,"
        " until 1970-01-01 00:00Z to 1970-01-01 01:00Z",
    ]


def test_that_there_is_nothing_to_do_is_said_plainly() -> None:
    assert list(report_lines(_report(Result.NOTHING))) == ["there was nothing to do"]
    assert list(report_lines(_report(Result.PLANNED))) == ["there is nothing to do"]


def test_alarms_and_what_the_store_did_not_remove_are_said() -> None:
    alarm = Alarm("ab.cd", "condemned", 1)
    lines = list(report_lines(_report(Result.FAILED, alarms=(alarm,), failed=7)))
    assert lines[1:] == [
        "ALARM: block ab.cd is condemned and in use",
        "not removed yet, tried again later: 7 blocks",
    ]


@pytest.mark.parametrize("result", list(Result))
def test_every_result_has_its_exit_code(result: Result) -> None:
    problem = None if result.is_good else Problem("some", "reason")
    expected = 0 if result.is_good else 3 if result is Result.REFUSED else 1
    assert exit_code_of(_report(result, problem=problem)) == expected


def test_progress_is_said_when_the_stage_changes_and_every_few_seconds() -> None:
    now = [0.0]
    stream = io.StringIO()
    watch = Watch(stream, as_json=False, quiet=False, clock=lambda: now[0])
    watch.see({"id": "job_1", "state": "queued", "progress": None})
    watch.see({"id": "job_1", "state": "queued", "progress": None})
    far: Json = {"stage": "collecting", "blocks": 2, "bytes": 2048}
    for at in (1.0, 2.0, 6.5):
        now[0] = at
        watch.see({"id": "job_1", "state": "running", "progress": far})
    assert stream.getvalue().splitlines() == [
        "job_1: queued",
        "job_1: collecting, 2 blocks, 2 KiB",
        "job_1: collecting, 2 blocks, 2 KiB",
    ]
