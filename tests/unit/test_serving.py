"""What a server process asks of the system before it opens anything."""

import resource
import socket

import pytest

from filestore.cli.crew import LONGEST_PAUSE_S, STEADY_S, Pauses
from filestore.cli.serving import allow_open_files, refuse_if_taken
from filestore.errors import CannotStart
from filestore.settings import Server


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
