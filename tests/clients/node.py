"""tus-js-client through Node: installed once, outside of the checkout, and run by jobs.

The versions stand in ``package.json``. Each set of versions has a folder of its own in the
user's cache, and a folder appears there only whole.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

from tests.services.needs import find_program, require

PACKAGES: Final = Path(__file__).with_name("package.json")
_TIMEOUT_S: Final = 300


def modules_folder() -> Path:
    """Where the packages of ``package.json`` are, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:16]
    return cache / "filestore-ci" / f"node-{versions}"


def install() -> Path | None:
    """The folder ``node_modules``, installed if it is not there; None if that cannot be done."""
    place = modules_folder()
    npm = find_program("npm")
    if npm is None or find_program("node") is None:
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers of this run install nothing twice
        if not place.exists():
            _install_at(npm, place)
    return place / "node_modules" if place.exists() else None


def _install_at(npm: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
        shutil.copy(PACKAGES, fresh)
        command = [str(npm), "install", "--no-package-lock", "--ignore-scripts", "--no-audit"]
        done = subprocess.run(
            [*command, "--no-fund", "--silent"],
            cwd=fresh,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            Path(fresh).rename(place)
            Path(fresh).mkdir()  # what ends the block removes


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages; the test is skipped, or fails where node must run, when they are missing."""
    found = install()
    require("node", found is not None)
    assert found is not None
    return found


if __name__ == "__main__":
    raise SystemExit(0 if install() is not None else 1)
