"""One tree of errors and one table: both complete, in both languages, and used as declared."""

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from filestore import errors
from filestore.errors import CATALOG, FilestoreError, Language, OffsetMismatch

ROOT = Path(__file__).parents[2]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def _classes(root: type[FilestoreError] = FilestoreError) -> Iterator[type[FilestoreError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


CLASSES = {cls.__name__: cls for cls in _classes() if cls.__module__ == errors.__name__}


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_class_is_in_the_table(name: str) -> None:
    assert CLASSES[name].code in CATALOG


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_every_code_of_the_table_has_a_class(code: str) -> None:
    assert code in {cls.code for cls in CLASSES.values()}


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_both_languages_say_the_same_members(code: str) -> None:
    spec = CATALOG[code]
    assert _fields(spec.detail["en"]) == _fields(spec.detail["zh"])
    for language in LANGUAGES:
        assert spec.title[language].strip()
        assert not _fields(spec.title[language])
        assert spec.detail[language].endswith("." if language == "en" else "。")
    assert spec.title["zh"] != spec.title["en"]


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_a_code_is_a_stable_word_with_a_status_and_an_exit_code(code: str) -> None:
    spec = CATALOG[code]
    assert code == code.lower() and code.replace("-", "").isalnum()
    assert 400 <= spec.status <= 599
    assert spec.exit_code in (1, 2, 3, 4)
    if spec.status == 503:
        assert spec.retryable, "503 asks to come back"
    if spec.status in (401, 403, 404):
        assert not spec.retryable, "asking again cannot help"


def test_a_full_quota_is_never_answered_so_that_clients_retry_for_ever() -> None:
    assert CATALOG["quota-exceeded"].status == 413
    assert not any(spec.status == 507 for spec in CATALOG.values())


def test_an_error_says_its_sentence_in_both_languages() -> None:
    error = OffsetMismatch(expected=7, got=3)
    assert str(error) == "The upload is at byte 7, the request says 3."
    assert "7" in error.sentence("zh")
    assert error.members == {"expected": 7, "got": 3}


def test_a_missing_member_shows_as_a_question_mark_instead_of_failing() -> None:
    assert str(OffsetMismatch(expected=7)) == "The upload is at byte 7, the request says ?."


def test_braces_in_a_member_are_shown_and_not_filled() -> None:
    assert "{got}" in str(OffsetMismatch(expected="{got}", got=1))


def _constructions() -> Iterator[tuple[str, int, str, ast.Call]]:
    for folder in ("filestore", "chunker", "gc"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in CLASSES:
                    yield str(path.relative_to(ROOT)), node.lineno, name, node


def test_whoever_raises_an_error_gives_all_members_that_its_sentence_names() -> None:
    wrong = []
    for path, line, name, call in _constructions():
        given = {keyword.arg for keyword in call.keywords}
        needed = _fields(CATALOG[CLASSES[name].code].detail["en"]) - {"request_id"}  # http adds it
        if None not in given and not needed <= given:
            wrong.append(f"{path}:{line}: {name} lacks {sorted(needed - given)}")
    assert not wrong, "\n".join(wrong)
