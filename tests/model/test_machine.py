"""Random histories of the whole service below HTTP, held against plain dictionaries of bytes.

``FILESTORE_MACHINE_EXAMPLES`` and ``FILESTORE_MACHINE_STEPS`` say how much (``make machine``:
some minutes); ``FILESTORE_MACHINE_SEED`` repeats a run.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from filestore.blocks.memory import MemoryStore
from filestore.transfer import concatenating
from tests.model.machine_parts import Concatenating
from tests.services.hot_path import Site, site_on
from tests.services.postgres import PostgresService

EXAMPLES: Final = int(os.environ.get("FILESTORE_MACHINE_EXAMPLES", "6"))
STEPS: Final = int(os.environ.get("FILESTORE_MACHINE_STEPS", "80"))
IS_LONG: Final = "FILESTORE_MACHINE_EXAMPLES" in os.environ
PHASES: Final = tuple(Phase) if IS_LONG else (Phase.reuse, Phase.generate)
"""Making a failed history shorter takes minutes: a short run shows it as it was."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small final uploads are copied in several."""
    monkeypatch.setattr(concatenating, "BATCH", 4)
    monkeypatch.setattr(concatenating, "PARTS", 2)


def _run(make_site: Callable[[], Site]) -> None:
    """Plays histories, each on a site of its own."""

    class Machine(Concatenating):
        site = staticmethod(make_site)

    number = int(os.environ.get("FILESTORE_MACHINE_SEED", secrets.randbits(32)))
    print(f"FILESTORE_MACHINE_SEED={number}")
    bounds = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=PHASES)
    run_state_machine_as_test(seed(number)(Machine), settings=bounds)


def test_histories_on_sqlite(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def make() -> Site:
        folder = tmp_path_factory.mktemp("machine")
        shutil.copyfile(migrated_file, folder / "filestore.sqlite3")
        url = f"sqlite+aiosqlite:///{folder}/filestore.sqlite3"
        return site_on(folder, url, store=MemoryStore())

    _run(make)


def test_histories_on_postgres(
    postgres_service: PostgresService, migrated_database: str, tmp_path: Path
) -> None:
    def make() -> Site:
        url = postgres_service.make_database(template=migrated_database)
        return site_on(tmp_path, url, store=MemoryStore())

    _run(make)
