"""Starting and stopping: one line, one site admin, one process per SQLite file."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy.engine import make_url

from filestore.app import ADMIN_TOKEN, listening, make_service
from filestore.errors import CannotStart
from filestore.meta.database import Database, open_database
from filestore.meta.processes import end_process, insert_process, living_processes, note_alive
from filestore.settings import Settings, load
from tests.http.api import Api

ROOT = Path(__file__).parents[2]
START_S = 60


@asynccontextmanager
async def _running(*flags: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "chunker", "gc"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "filestore", "serve", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **environ},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), START_S)).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_prints_its_address_alone_and_stops_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    flags = ("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    async with _running(*flags) as process:
        line = await _first_line(process)
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ").strip()
        token = (tmp_path / "data" / ADMIN_TOKEN).read_text().strip()
        async with aiohttp.ClientSession() as session:
            assert (await Api(session, url, token).get("/api/v1/users/admin")).status == 200
            process.send_signal(number)
            rest, logs = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert rest == b""
    assert b"service.stopped" in logs
    assert token.encode() not in logs


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


async def test_a_second_process_on_the_sqlite_file_is_refused_in_clear_words(
    tmp_path: Path,
) -> None:
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0")
    async with _running(*flags) as first:
        await _first_line(first)
        async with _running(*flags) as second:
            out, err = await asyncio.wait_for(second.communicate(), START_S)
            assert second.returncode == 1
            assert out == b""
            assert f"in use by process {first.pid}".encode() in err
            assert b"Traceback" not in err


async def test_an_address_in_use_is_refused_in_clear_words(tmp_path: Path) -> None:
    async with _running("--data", str(tmp_path / "a"), "--listen", "127.0.0.1:0") as first:
        address = (await _first_line(first)).removeprefix("listening on http://").strip()
        async with _running("--data", str(tmp_path / "b"), "--listen", address) as second:
            _, err = await asyncio.wait_for(second.communicate(), START_S)
            assert second.returncode == 1
            assert f"{address} cannot be listened on".encode() in err
            assert not (tmp_path / "b").exists()


async def test_what_the_service_makes_is_for_its_own_account_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        flags = ("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
        async with _running(*flags) as process:
            await _first_line(process)
            made = {path: path.stat() for path in [tmp_path / "data", *_below(tmp_path / "data")]}
            process.send_signal(signal.SIGTERM)
            _, logs = await asyncio.wait_for(process.communicate(), 10)
    finally:
        os.umask(before)
    assert {path.name for path in made} >= {"filestore.sqlite3", "filestore.sqlite3-wal", "blocks"}
    assert [path for path, found in made.items() if found.st_mode & 0o077] == []
    assert b"data.open_to_others" not in logs


async def test_a_data_folder_that_others_can_read_is_named_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chmod(tmp_path, 0o755)
    async with make_service(load(flags={"data": tmp_path})):
        logged = capsys.readouterr().out
    assert "data.open_to_others" in logged
    assert str(tmp_path) in logged and "0755" in logged
    assert stat.S_IMODE(os.stat(tmp_path).st_mode) == 0o755


async def test_a_file_in_the_place_of_the_data_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    for place in ("data", "data/below"):
        with pytest.raises(CannotStart, match=rf"{tmp_path}/data.* is a file; .*--data"):
            async with make_service(load(flags={"data": tmp_path / place})):
                pass
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize(
    ("url", "place", "cause"),
    [
        ("postgresql+asyncpg://u:hush@127.0.0.1:1/x", "127.0.0.1:1/x", "connection refused"),
        ("postgresql+asyncpg://u:hush@/x?host={}", "x at {}", "no such file or directory"),
    ],
    ids=["host", "socket"],
)
async def test_a_database_that_is_away_is_named_with_the_cause_and_without_its_password(
    tmp_path: Path, url: str, place: str, cause: str
) -> None:
    settings = load(flags={"data": tmp_path, "database": url.format(tmp_path)})
    with pytest.raises(CannotStart) as refused:
        async with make_service(settings):
            pass
    expected = f"the database {place.format(tmp_path)} cannot be used: {cause}"
    assert refused.value.members == {"reason": expected}


async def test_a_wrong_password_is_the_cause_that_is_named(
    tmp_path: Path, postgres_url: str
) -> None:
    url = make_url(postgres_url).set(username="nobody", password="hush")
    database = url.render_as_string(hide_password=False)
    with pytest.raises(CannotStart, match="nobody") as refused:
        async with make_service(load(flags={"data": tmp_path, "database": database})):
            pass
    assert "hush" not in str(refused.value)


async def test_a_store_that_is_away_is_named_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"FILESTORE_S3_ACCESS_KEY": "known", "FILESTORE_S3_SECRET_KEY": "hush"}
    flags = {"data": tmp_path, "blocks": "s3://127.0.0.1:1/bucket?secure=false"}
    async with make_service(load(environ=environ, flags=flags)):
        logged = capsys.readouterr().out
    assert "127.0.0.1:1/bucket/blocks" in logged
    assert "Store of" not in logged and "hush" not in logged


async def test_the_first_start_alone_writes_the_admins_token_readable_by_its_owner(
    settings: Settings,
) -> None:
    path = settings.server.data / ADMIN_TOKEN
    async with make_service(settings):
        token = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [found.name for found in path.parent.glob(".admin*")] == []
    path.unlink()
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(make_service(settings))
        assert not path.exists()
        url = await stack.enter_async_context(listening(service))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        answer = await Api(session, url, token.strip()).get("/api/v1/users/admin")
        assert answer.json["is_admin"] is True


async def test_of_processes_that_start_at_once_one_makes_the_site_admin(
    postgres_url: str, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abc"]
    async with AsyncExitStack() as stack:

        async def start(folder: Path) -> None:
            flags = {"data": folder, "database": postgres_url, "blocks": f"file:{tmp_path}/blocks"}
            await stack.enter_async_context(make_service(load(flags=flags)))

        await asyncio.gather(*(start(folder) for folder in folders))
    assert [(folder / ADMIN_TOKEN).exists() for folder in folders].count(True) == 1


async def test_workers_serve_one_address_and_die_with_their_parent(
    tmp_path: Path, postgres_url: str
) -> None:
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--database", postgres_url)
    async with _running(*flags, "--workers", "2") as parent:
        url = (await _first_line(parent)).removeprefix("listening on ").strip()
        token = (tmp_path / ADMIN_TOKEN).read_text().strip()
        async with aiohttp.ClientSession() as session:
            assert (await Api(session, url, token).get("/api/v1/users")).status == 200
        db = await open_database(postgres_url)
        try:
            alive = await db.read(lambda tx: living_processes(tx, silent_s=60))
        finally:
            await db.close()
        assert len(alive) == 2
        parent.kill()
        # The workers share standard output, so it ends when the last of them has ended.
        rest, logs = await asyncio.wait_for(parent.communicate(), 30)
    assert rest == b""
    assert logs.count(b"service.stopped") == 2


async def test_a_worker_that_dies_is_replaced_and_a_signal_stops_all(
    tmp_path: Path, postgres_url: str
) -> None:
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--database", postgres_url)
    async with _running(*flags, "--workers", "2") as parent:
        await _first_line(parent)
        pids = {await _next_listening(parent) for _ in range(2)}
        os.kill(pids.pop(), signal.SIGKILL)
        assert await _next_listening(parent) not in pids
        parent.send_signal(signal.SIGTERM)
        _, logs = await asyncio.wait_for(parent.communicate(), 30)
    assert parent.returncode == 0
    assert logs.count(b"service.stopped") == 2


async def test_a_worker_that_is_told_to_stop_ends_in_order_and_is_replaced(
    tmp_path: Path, postgres_url: str
) -> None:
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--database", postgres_url)
    async with _running(*flags, "--workers", "2") as parent:
        url = (await _first_line(parent)).removeprefix("listening on ").strip()
        pids = {await _next_listening(parent) for _ in range(2)}
        for pid in list(pids):
            os.kill(pid, signal.SIGTERM)
            pids.add(await _next_listening(parent))
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{url}/healthz") as answer:
                    assert answer.status == 200
        assert len(pids) == 4
        parent.send_signal(signal.SIGTERM)
        _, logs = await asyncio.wait_for(parent.communicate(), 30)
    assert parent.returncode == 0
    assert b"worker.died" not in logs


@pytest.mark.e2e
async def test_a_replacement_that_hangs_while_it_starts_is_killed_and_replaced(
    tmp_path: Path, postgres_url: str
) -> None:
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--database", postgres_url)
    async with _running(*flags, "--workers", "2", FILESTORE_SERVER__START_S="40") as parent:
        await _first_line(parent)
        pids = {await _next_listening(parent) for _ in range(2)}
        os.kill(min(pids), signal.SIGKILL)
        hung = await _newcomer(parent, pids)
        os.kill(hung, signal.SIGSTOP)
        assert (await _next_event(parent, "worker.hangs"))["pid"] == hung
        assert await _next_listening(parent) not in {*pids, hung}
        parent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(parent.communicate(), 30)
    assert parent.returncode == 0


async def _newcomer(parent: asyncio.subprocess.Process, known: set[int]) -> int:
    """A worker that is just being started."""
    async with asyncio.timeout(START_S):
        while not (found := _workers(parent.pid) - known):  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0)
    return found.pop()


def _workers(parent: int) -> set[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {
        int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


async def _next_event(process: asyncio.subprocess.Process, event: str) -> dict[str, object]:
    """Reads the log up to the next entry of this kind."""
    assert process.stderr is not None
    while True:
        line = await asyncio.wait_for(process.stderr.readline(), START_S)
        assert line, "the log ended"
        entry: dict[str, object] = json.loads(line)
        if entry["event"] == event:
            return entry


async def _next_listening(process: asyncio.subprocess.Process) -> int:
    """Reads the log up to the next worker that takes requests; its pid."""
    pid = (await _next_event(process, "service.listening"))["pid"]
    assert isinstance(pid, int)
    return pid


async def test_workers_that_cannot_start_say_why(tmp_path: Path) -> None:
    away = f"postgresql+asyncpg://postgres@/nothing?host={tmp_path}"
    flags = ("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--database", away)
    async with _running(*flags, "--workers", "2") as parent:
        out, err = await asyncio.wait_for(parent.communicate(), START_S)
    assert parent.returncode == 1
    assert out == b""
    assert f"nothing at {tmp_path} cannot be used: no such file".encode() in err
    assert b"Traceback" not in err


async def test_a_store_of_another_database_is_refused(tmp_path: Path) -> None:
    blocks = f"file:{tmp_path}/blocks"
    async with make_service(load(flags={"data": tmp_path / "a", "blocks": blocks})):
        pass
    with pytest.raises(CannotStart, match=r"block store /.*/blocks belongs to another database"):
        async with make_service(load(flags={"data": tmp_path / "b", "blocks": blocks})):
            pass
    async with make_service(load(flags={"data": tmp_path / "a", "blocks": blocks})):
        pass


async def test_a_process_that_was_taken_for_dead_learns_it(database_url: str) -> None:
    db: Database = await open_database(database_url)
    try:
        process = await db.transact(lambda tx: insert_process(tx, host="here", pid=1))
        assert await db.read(lambda tx: living_processes(tx, silent_s=60)) == {process}
        assert await db.transact(lambda tx: note_alive(tx, process)) is True
        await db.transact(lambda tx: end_process(tx, process))
        assert await db.transact(lambda tx: note_alive(tx, process)) is False
        assert await db.read(lambda tx: living_processes(tx, silent_s=60)) == set()
    finally:
        await db.close()


async def test_a_stopped_service_leaves_no_living_process(settings: Settings) -> None:
    async with make_service(settings) as service:
        alive = await service.services.db.read(lambda tx: living_processes(tx, silent_s=60))
        assert alive == {service.process_id}
    db = await open_database(settings.database_url)
    assert await db.read(lambda tx: living_processes(tx, silent_s=60)) == set()
    await db.close()
