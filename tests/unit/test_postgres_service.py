"""The PostgreSQL that tests run on: fresh databases, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from tests.services.postgres import MAX_CONNECTIONS, PostgresService

ROOT = Path(__file__).parents[2]


async def _connect(service: PostgresService, url: str) -> asyncpg.Connection:
    name = service.database_name(url)
    return await asyncpg.connect(host=str(service.socket_dir), user="postgres", database=name)


async def test_each_database_is_fresh_and_a_template_is_copied(
    postgres_service: PostgresService,
) -> None:
    first = postgres_service.make_database()
    connection = await _connect(postgres_service, first)
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    await connection.close()

    copy = postgres_service.make_database(template=postgres_service.database_name(first))
    connection = await _connect(postgres_service, copy)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    await connection.close()

    empty = postgres_service.make_database()
    connection = await _connect(postgres_service, empty)
    assert await connection.fetchval("SELECT to_regclass('kept')") is None
    await connection.close()


async def test_the_server_is_18_and_takes_many_connections(
    postgres_service: PostgresService, postgres_url: str
) -> None:
    connection = await _connect(postgres_service, postgres_url)
    assert connection.get_server_version().major == 18
    assert await connection.fetchval("SHOW max_connections") == str(MAX_CONNECTIONS)
    await connection.close()


_KILLED = """
import os, signal

def test_it(postgres_service):
    print("FOLDER", postgres_service.socket_dir, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_pytest_leaves_no_server_and_no_folder(
    tmp_path: Path, postgres_service: PostgresService
) -> None:
    test = tmp_path / "test_killed.py"
    test.write_text(_KILLED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "tests.services.postgres", "--noconftest"]
        + ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT), str(test)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stdout + done.stderr
    folder = Path(done.stdout.partition("FOLDER ")[2].split()[0])
    assert folder != postgres_service.socket_dir
    # The guard shares the killed pytest's standard error, so run() returned when it was done.
    assert not folder.exists()
