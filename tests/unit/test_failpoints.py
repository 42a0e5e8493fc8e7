"""The points at which tests of crashes let a process die: named, in one table, quiet else."""

import ast
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from filestore.errors import BadSetting
from filestore.failpoints import POINTS, arm, reached

ROOT = Path(__file__).parents[2]


def _named() -> Iterator[str]:
    """The name at each point of the code."""
    for folder in ("filestore", "gc", "chunker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _called(node) == "reached":
                    (name,) = node.args
                    assert isinstance(name, ast.Constant) and isinstance(name.value, str), path
                    yield name.value


def _called(call: ast.Call) -> str:
    """The last part of what is called: ``reached`` also of ``failpoints.reached``."""
    return getattr(call.func, "id", "") or getattr(call.func, "attr", "")


def test_every_point_of_the_code_is_in_the_table_and_stands_at_one_place() -> None:
    assert Counter(_named()) == dict.fromkeys(POINTS, 1)


def _run(text: str, *names: str) -> "subprocess.CompletedProcess[str]":
    """A process with ``text`` armed that reaches these points and says when it is through."""
    code = (
        "import sys; from filestore.failpoints import arm, reached\n"
        "arm(sys.argv[1])\n"
        "for name in sys.argv[2:]: reached(name)\n"
        "print('through')"
    )
    command = [sys.executable, "-c", code, text, *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_the_process_dies_at_the_nth_time_without_another_instruction() -> None:
    for text in ("place.rows:2", "*:3"):
        ended = _run(text, "place.rows", "record.committed", "place.rows", "place.rows")
        assert ended.returncode == -signal.SIGKILL
        assert "failpoint.armed" in ended.stdout and "through" not in ended.stdout
        assert ended.stdout.count("failpoint.reached") == 3


def test_what_is_armed_for_another_moment_only_says_what_it_reaches() -> None:
    for text in ("*:0", "place.rows:2", "place.object:1"):
        ended = _run(text, "place.rows", "record.committed")
        assert ended.returncode == 0 and "through" in ended.stdout
        assert ended.stdout.count("failpoint.reached") == 2


@pytest.mark.parametrize("text", ["place.rows", "place.rows:", "nowhere:1", ":1", "*:-1", "*"])
def test_what_names_no_moment_is_refused_and_arms_nothing(text: str) -> None:
    with pytest.raises(BadSetting, match="FILESTORE_FAILPOINT"):
        arm(text)
    for name in POINTS:
        reached(name)


def test_nothing_armed_is_nothing_done() -> None:
    arm("")
    reached("place.rows")
