"""The mutants that must be caught still fit the code; ``make mutants`` shows that they are."""

import ast
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Change, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_to_the_code_exactly_once_and_is_python(mutant: Mutant) -> None:
    for change in mutant.changes:
        ast.parse(change.applied(ROOT), change.path)
        assert change.old != change.new


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_must_catch_a_mutant_exist(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert text.count(f"def {name}(") == 1, test


@pytest.mark.parametrize("text", ["", "a a"])
def test_a_mutant_that_no_longer_fits_is_refused_aloud(tmp_path: Path, text: str) -> None:
    (tmp_path / "code.py").write_text(text)
    with pytest.raises(LookupError):
        Change("code.py", "a", "b").applied(tmp_path)
