"""How a command fails: one line on standard error and an exit code, from the table of errors."""

import json
import sys
from collections.abc import Mapping

from filestore.client import document_of
from filestore.errors import EXIT_USAGE, TYPE_PREFIX, FilestoreError, Json, Language


def language_of(environment: Mapping[str, str]) -> Language:
    """Chinese when the locale says so, else English; as POSIX orders the variables."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if locale := environment.get(name, ""):
            return "zh" if locale.lower().startswith("zh") else "en"
    return "en"


def report(error: FilestoreError, *, as_json: bool, language: Language) -> int:
    """Says what went wrong; gives the exit code."""
    if as_json:
        _write_json(document_of(error))
    else:
        _write(error.sentence(language))
    return error.spec.exit_code


def report_usage(message: str, *, as_json: bool) -> int:
    """Says what is wrong with the command line; gives the exit code."""
    if as_json:
        title = "The command line cannot be understood"
        _write_json({"type": f"{TYPE_PREFIX}usage", "title": title, "detail": message})
    else:
        _write(f"{message} (--help shows what is possible)")
    return EXIT_USAGE


def _write(sentence: str) -> None:
    print(f"filestore: {' '.join(sentence.split())}", file=sys.stderr)


def _write_json(document: dict[str, Json]) -> None:
    print(json.dumps(document, ensure_ascii=False), file=sys.stderr)
