"""Problem documents become exceptions again: the same class that the server raised.

Source: RFC 9457, section 3. The code is what follows the prefix of ``type``; everything that
is not one of the standard members is a member of the exception.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, cast

from filestore.errors import (
    CATALOG,
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    TYPE_PREFIX,
    ErrorSpec,
    FilestoreError,
    Forbidden,
    ForeignAnswer,
    Json,
    Locked,
    NotFound,
    Unauthenticated,
    UploadGone,
)

MEDIA_TYPE: Final = "application/problem+json"
_STANDARD: Final = frozenset(("type", "title", "status", "detail", "instance", "retryable"))
_RETRYABLE: Final = frozenset((408, 423, 425, 429, 502, 503, 504))
_EXIT_CODES: Final = {401: EXIT_REFUSED, 403: EXIT_REFUSED, 413: EXIT_REFUSED, 404: EXIT_NOT_FOUND}

_WITHOUT_BODY: Final[dict[int, Callable[[], FilestoreError]]] = {
    401: Unauthenticated,
    403: lambda: Forbidden(needed="a right that you or your token lacks"),
    404: lambda: NotFound(what="file or upload"),
    410: lambda: UploadGone(state="ended"),
    423: Locked,
}
"""Answers to HEAD have no body, so the status alone has to say it. Source: RFC 9110, 9.3.2."""


class ForeignProblem(ForeignAnswer):
    """An answer whose code this version does not know, or that no filestore gave (a proxy)."""

    @property
    def spec(self) -> ErrorSpec:
        """The table's entry, with what the status says about trying again and exit code."""
        base = CATALOG[self.code]
        status = self.members.get("status")
        assert isinstance(status, int)
        exit_code = _EXIT_CODES.get(status, EXIT_FAILED)
        return ErrorSpec(status, base.title, base.detail, status in _RETRYABLE, exit_code)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> FilestoreError:
    """The exception that an error answer stands for; never fails, whatever ``body`` is."""
    retry_after_s = _seconds(headers.get("Retry-After", ""))
    document = _document(headers, body)
    if not body and status in _WITHOUT_BODY:
        return _WITHOUT_BODY[status]()
    if document is None:
        reason = _foreign_reason(status, headers, body)
        return ForeignProblem(status=status, reason=reason, retry_after_s=retry_after_s)
    members = {
        key: value
        for key, value in document.items()
        if key not in _STANDARD and key.isidentifier() and key != "retry_after_s"
    }
    error_class = _classes().get(str(document.get("type", "")).removeprefix(TYPE_PREFIX))
    if error_class is not None:
        return error_class(retry_after_s=retry_after_s, **members)
    reason = str(document.get("detail") or document.get("title") or "")
    members |= {"status": status, "reason": reason.rstrip(".。")}
    return ForeignProblem(retry_after_s=retry_after_s, **members)


def document_of(error: FilestoreError) -> dict[str, Json]:
    """The problem document of an exception, in English, for programs."""
    return {
        "type": TYPE_PREFIX + error.code,
        "title": error.spec.title["en"],
        "status": error.spec.status,
        "detail": error.sentence("en"),
        **error.members,
    }


def _classes() -> dict[str, type[FilestoreError]]:
    found: dict[str, type[FilestoreError]] = {}
    pending = [FilestoreError]
    while pending:
        error_class = pending.pop()
        pending += error_class.__subclasses__()
        if error_class.__module__ == FilestoreError.__module__:
            found.setdefault(error_class.code, error_class)
    return found


def _document(headers: Mapping[str, str], body: bytes) -> dict[str, Json] | None:
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return cast(dict[str, Json], document) if isinstance(document, dict) else None


def _seconds(retry_after: str) -> int | None:
    """Whole seconds; the form with a date is not what filestore sends, and is ignored."""
    return int(retry_after) if re.fullmatch(r"[0-9]{1,6}", retry_after, re.ASCII) else None


def _foreign_reason(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """What there is to say of an answer that no filestore gave, and what to do about it."""
    lines = body[:200].decode("utf-8", "replace").strip().splitlines()
    line = lines[0].rstrip(".") if lines else ""
    said = line if line.isprintable() and not line.startswith("<") else ""
    if elsewhere := headers.get("Location", ""):
        address = elsewhere.partition("/api/v1/")[0]
        return f"it sends elsewhere; try FILESTORE_URL={address}"
    if status in _RETRYABLE or status == 413:  # what proxies say in the name of a server
        return said or "no problem document; maybe a proxy in between says so"
    advice = "this is not what filestore says; is FILESTORE_URL right?"
    return f"{said}; {advice}" if said else advice
