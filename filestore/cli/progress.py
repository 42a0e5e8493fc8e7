"""What shows while a transfer runs: a bar on a terminal, plain lines or JSON lines elsewhere.

All of it goes to standard error, so that standard output has only the result.
"""

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from filestore.cli.meter import Meter
from filestore.cli.output import json_line, printable
from filestore.client import Nobody, Watcher
from filestore.errors import FilestoreError, Json, Language
from filestore.model import format_size

Clock = Callable[[], float]

LINE_EVERY_S: Final = 5.0
JSON_EVERY_S: Final = 1.0


def watcher_for(stream: TextIO, *, as_json: bool, quiet: bool, language: Language) -> Watcher:
    """The watcher that fits: ``--json`` is for programs, a terminal for people."""
    if quiet:
        return Nobody()
    if as_json:
        return JsonLines(stream)
    if stream.isatty():
        return Terminal(stream, language)
    return Lines(stream, language)


def _left_alone(name: str, upload_id: str) -> str:
    return (
        f"{name}: another upload of yours to this place ({upload_id}) cannot be shown to be of"
        " the same file (--verify makes that possible), so this one begins anew; filestore"
        f" uploads cancel {upload_id} frees what that one reserves"
    )


class Lines:
    """A line when a transfer begins, and then every few seconds; for logs."""

    def __init__(self, stream: TextIO, language: Language, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._language = language
        self._clock = clock
        self._name = ""
        self._meter = Meter(0, 0, 0)
        self._said_at = 0.0

    def began(self, name: str, done: int, total: int) -> None:
        self._name, self._said_at = name, self._clock()
        self._meter = Meter(done, total, self._said_at)
        self._say(f"goes on at {self._meter.line}" if done else f"begins: {self._meter.line}")

    def begins_anew(self, name: str, upload_id: str) -> None:
        print(printable(_left_alone(name, upload_id)), file=self._stream, flush=True)

    def moved(self, done: int) -> None:
        now = self._clock()
        self._meter.moved(done, now)
        if now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            self._say(self._meter.line)

    def waits(self, error: FilestoreError, delay_s: float) -> None:
        self._say(f"{error.sentence(self._language)} ({delay_s:.0f} s)")

    def ended(self) -> None: ...

    def _say(self, what: str) -> None:
        print(printable(f"{self._name}: {what}"), file=self._stream, flush=True)


class JsonLines:
    """One JSON object a line, at most one a second: ``{"event": "progress", …}``."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._name = ""
        self._meter = Meter(0, 0, 0)
        self._said_at = 0.0

    def began(self, name: str, done: int, total: int) -> None:
        self._name, self._said_at = name, self._clock()
        self._meter = Meter(done, total, self._said_at)
        self._say("began")

    def begins_anew(self, name: str, upload_id: str) -> None:
        line: dict[str, Json] = {"event": "begins-anew", "name": name, "left_alone": upload_id}
        print(json_line(line), file=self._stream, flush=True)

    def moved(self, done: int) -> None:
        now = self._clock()
        self._meter.moved(done, now)
        if now - self._said_at >= JSON_EVERY_S:
            self._said_at = now
            self._say("progress")

    def waits(self, error: FilestoreError, delay_s: float) -> None:
        self._say(
            "waiting", code=error.code, detail=error.sentence("en"), delay_s=round(delay_s, 1)
        )

    def ended(self) -> None:
        self._say("ended")

    def _say(self, event: str, **more: Json) -> None:
        left = self._meter.seconds_left
        line: dict[str, Json] = {
            "event": event,
            "name": self._name,
            "done": self._meter.done,
            "total": self._meter.total,
            "bytes_per_s": round(self._meter.bytes_per_s),
            "seconds_left": None if left is None else round(left, 1),
            **more,
        }
        print(json_line(line), file=self._stream, flush=True)


class _Speed(ProgressColumn):
    """Bytes per second, in the units of the rest of the line."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{format_size(int(speed))}/s" if speed else "", style="progress.data.speed")


class Terminal:
    """A bar with speed and time left."""

    def __init__(self, stream: TextIO, language: Language) -> None:
        self._console = Console(file=stream)
        self._language = language
        self._bars: Progress | None = None
        self._task = TaskID(0)

    def began(self, name: str, done: int, total: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            _Speed(),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._bars.start()
        self._task = self._bars.add_task(printable(name), total=total, completed=done)

    def begins_anew(self, name: str, upload_id: str) -> None:
        self._console.print(Text(printable(_left_alone(name, upload_id)), style="yellow"))

    def moved(self, done: int) -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done)

    def waits(self, error: FilestoreError, delay_s: float) -> None:
        sentence = printable(f"{error.sentence(self._language)} ({delay_s:.0f} s)")
        self._console.print(Text(sentence, style="yellow"))

    def ended(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def standard_error(*, as_json: bool, quiet: bool, language: Language) -> Watcher:
    """The watcher that fits this process's standard error."""
    return watcher_for(sys.stderr, as_json=as_json, quiet=quiet, language=language)
