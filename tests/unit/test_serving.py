"""What a server process asks of the system before it opens anything."""

import asyncio
import resource
import signal
import socket

import pytest

from filestore.cli.crew import LONGEST_PAUSE_S, STEADY_S, Pauses
from filestore.cli.serving import allow_open_files, hear_signals, refuse_if_taken
from filestore.cli.workers import _end_s
from filestore.errors import CannotStart
from filestore.settings import Server, Settings


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limit of open files, kept in a list so that the tests' own stays as it is."""
    kept = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: kept[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: kept.append(limits))
    return kept


def test_the_limit_of_open_files_is_raised_to_what_is_wanted(files: list[tuple[int, int]]) -> None:
    allow_open_files(1512)
    assert files[1:] == [(1512, 4096)]
    allow_open_files(1000)
    assert files[1:] == [(1512, 4096)]


def test_fewer_files_than_wanted_are_said(
    files: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    allow_open_files(5000)
    assert files[-1] == (4096, 4096)
    assert "server.max_connections" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_that_is_free_is_not_refused_and_stays_free(host: str) -> None:
    server = Server(listen=f"{host}:0")
    refuse_if_taken(server)
    refuse_if_taken(server)


def test_an_address_that_is_taken_or_not_ours_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match="in use"):
            refuse_if_taken(Server(listen=f"127.0.0.1:{port}"))
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1:80 cannot be listened on"):
        refuse_if_taken(Server(listen="192.0.2.1:80"))


def test_a_worker_that_does_not_last_is_replaced_later_each_time() -> None:
    pauses = Pauses()
    assert [pauses.after(1, was_told=False) for _ in range(4)] == [0.5, 1, 2, 4]
    assert [pauses.after(1, was_told=False) for _ in range(9)][-1] == LONGEST_PAUSE_S
    assert pauses.after(STEADY_S, was_told=False) == 0
    assert pauses.after(1, was_told=False) == 0.5
    assert pauses.after(1, was_told=True) == 0


async def test_the_time_to_end_begins_when_the_signal_comes_however_busy_the_loop_is() -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    begun: list[str] = []
    try:
        hear_signals(lambda: begun.append("at once"), heard.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert begun == ["at once"] * 2, "the loop has not come to its handlers yet"
        assert not heard.is_set()
        async with asyncio.timeout(10):
            await heard.wait()
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def test_by_default_all_has_ended_before_a_container_is_killed() -> None:
    """A service by itself, and its parent where there are workers that hang."""
    settings = Settings()
    assert settings.server.shutdown_s < _end_s(settings) < 10
