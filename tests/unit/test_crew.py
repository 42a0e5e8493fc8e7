"""Workers that hang, cannot be started, or end: what their parent does, with real processes."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest

from filestore.cli.crew import FIRST_ATTEMPTS, Crew, Gone, Worker
from filestore.errors import CannotStart

URL = "http://127.0.0.1:1"
HANGS_S = 0.2
PATIENT_S = 600.0


class Starts:
    """Starts processes that do nothing, in the order of ``words``: what each of them says at once
    (a URL: it is ready), None for one that hangs. Behind the last of them there is no process
    left, which ends the test by its signal."""

    def __init__(self, *words: str | None) -> None:
        self.words = list(words)
        self.workers: list[Worker] = []
        self._kept: list[Connection] = []  # an end of the pipe is no silence
        self.told, self._tell = os.pipe()

    def __call__(self) -> Worker:
        if not self.words:
            os.write(self._tell, b"x")
            raise BlockingIOError(errno.EAGAIN, "no process left")
        context = multiprocessing.get_context("spawn")
        said, say = context.Pipe(duplex=False)
        process = context.Process(target=signal.pause, daemon=True)
        process.start()
        if (word := self.words.pop(0)) is not None:
            say.send(word)
        self._kept.append(say)
        self.workers.append(Worker(process, said))
        return self.workers[-1]

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
        for say in self._kept:
            say.close()
        os.close(self.told)
        os.close(self._tell)


@pytest.fixture
def starting() -> Iterator[Callable[..., Starts]]:
    made: list[Starts] = []

    def make(*words: str | None) -> Starts:
        made.append(Starts(*words))
        return made[-1]

    yield make
    for starts in made:
        starts.close()


def _codes(starts: Starts) -> list[int | None]:
    return [worker.process.exitcode for worker in starts.workers]


def test_a_replacement_that_hangs_is_killed_and_replaced_again(
    starting: Callable[..., Starts], capsys: pytest.CaptureFixture[str]
) -> None:
    starts = starting(URL, None)
    crew = Crew(1, starts, start_s=HANGS_S)
    assert crew.begin(starts.told) == URL
    starts.workers[0].process.kill()
    crew.keep(starts.told)
    assert _codes(starts) == [-signal.SIGKILL, -signal.SIGKILL]
    logged = capsys.readouterr().out
    assert "worker.hangs" in logged
    assert "not ready within 0.2 s" in logged and "server.start_s" in logged
    crew.stop(0.0)


def test_a_first_worker_that_hangs_is_killed_and_replaced_while_the_others_serve(
    starting: Callable[..., Starts],
) -> None:
    starts = starting(URL, None, URL)
    crew = Crew(2, starts, start_s=HANGS_S)
    assert crew.begin(starts.told) == URL
    assert _codes(starts) == [None, -signal.SIGKILL, None]
    crew.stop(5.0)
    assert _codes(starts) == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM]


def test_first_workers_that_hang_again_and_again_are_an_error_of_the_set_up(
    starting: Callable[..., Starts],
) -> None:
    starts = starting(*[None] * FIRST_ATTEMPTS)
    crew = Crew(1, starts, start_s=HANGS_S)
    with pytest.raises(CannotStart, match=r"3 workers were not ready within 0\.2 s each"):
        crew.begin(starts.told)
    crew.stop(0.0)
    assert _codes(starts) == [-signal.SIGKILL] * FIRST_ATTEMPTS


@pytest.mark.parametrize("word", [None, "!the database is away."])
def test_a_first_worker_that_ends_or_says_why_it_cannot_start_ends_all(
    starting: Callable[..., Starts], word: str | None
) -> None:
    starts = starting(URL, word)
    crew = Crew(2, starts, start_s=PATIENT_S)
    crew._step(starts.told)
    if word is None:
        starts.workers[1].process.kill()
    reason = "see the log" if word is None else "the database is away"
    with pytest.raises(CannotStart, match=reason):
        crew.begin(starts.told)
    crew.stop(5.0)
    assert None not in _codes(starts)


def test_a_signal_ends_the_wait_for_workers_that_hang_and_they_with_it(
    starting: Callable[..., Starts],
) -> None:
    starts = starting(None, None)
    crew = Crew(2, starts, start_s=PATIENT_S)
    crew._step(starts.told)
    assert crew.begin(_readable(starts)) is None
    crew.stop(5.0)
    assert _codes(starts) == [-signal.SIGTERM] * 2


def test_a_worker_that_does_not_end_when_told_is_killed(
    starting: Callable[..., Starts], capsys: pytest.CaptureFixture[str]
) -> None:
    starts = starting(None)
    crew = Crew(1, starts, start_s=PATIENT_S)
    crew._step(starts.told)
    assert crew.begin(_readable(starts)) is None
    pid = starts.workers[0].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    crew.stop(0.1)
    assert _codes(starts) == [-signal.SIGKILL]
    assert "worker.killed" in capsys.readouterr().out


def test_a_worker_that_cannot_be_started_again_now_is_tried_later_and_ends_nobody(
    starting: Callable[..., Starts],
) -> None:
    starts = starting(URL)
    crew = Crew(1, starts, start_s=PATIENT_S)
    assert crew.begin(starts.told) == URL
    starts.workers[0].process.kill()
    crew.keep(starts.told)
    (place,) = crew._places
    assert isinstance(place.holder, Gone)


def test_no_process_for_a_first_worker_is_said(starting: Callable[..., Starts]) -> None:
    starts = starting()
    with pytest.raises(CannotStart, match="no process for a worker: .*no process left"):
        Crew(1, starts, start_s=PATIENT_S).begin(starts.told)


def _readable(starts: Starts) -> int:
    """A signal that has come."""
    os.write(starts._tell, b"x")
    return starts.told
