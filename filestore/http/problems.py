"""Errors as problem documents, in the language that the client reads.

Source: RFC 9457 (application/problem+json); RFC 9110, sections 12.4.2 (q-values), 12.5.4
(Accept-Language) and 15.5 (which headers an error answer carries).
"""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from filestore.errors import (
    TYPE_PREFIX,
    BadHeader,
    BadRequest,
    FilestoreError,
    Internal,
    Json,
    Language,
    MethodNotAllowed,
    NotFound,
    TooLarge,
)
from filestore.ids import hide_tokens

CONTENT_TYPE: Final = "application/problem+json"

_CLIENT_GONE: Final = 499
"""In logs and metrics only, for a client that left; nginx uses this number. Nobody reads it."""

_WAIT_S: Final = 5
"""What a 503 asks its client to wait when nothing behind it knows better: a restart's time."""

_REASONS: Final = {460: "Checksum Mismatch", _CLIENT_GONE: "Client Closed Request"}
_RANGE: Final = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*|\*", re.ASCII)
_QVALUE: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)
_MAX_RANGES: Final = 32
"""Ranges of Accept-Language that are read; browsers send fewer than ten."""

_HEADERS: Final[dict[str, Callable[[dict[str, Json]], dict[str, str]]]] = {
    "unauthenticated": lambda _: {"WWW-Authenticate": 'Bearer realm="filestore"'},
    "method-not-allowed": lambda members: {"Allow": str(members.get("allowed", ""))},
    "offset-mismatch": lambda members: {"Upload-Offset": str(members["expected"])},
    "tus-version": lambda members: {"Tus-Version": str(members["supported"])},
    "range-not-satisfiable": lambda members: {"Content-Range": f"bytes */{members['size']}"},
    "coded-body": lambda _: {"Accept-Encoding": "identity"},
}
"""Headers that belong to one kind of error, made from its members."""


def choose_language(accepted: str) -> Language:
    """English or Chinese, whichever ``Accept-Language`` likes better; English when it is silent.

    The first of equals wins. What is not understood is ignored: a wrong header must not turn
    an answer into another error.
    """
    best: tuple[float, Language] = (0.0, "en")
    for part in accepted.split(",")[:_MAX_RANGES]:
        name, _, rest = part.partition(";")
        found = _RANGE.fullmatch(name.strip())
        if found is None:
            continue
        language = _spoken(found)
        quality = _quality(rest)
        if language is not None and quality > best[0]:
            best = (quality, language)
    return best[1]


def _spoken(found: re.Match[str]) -> Language | None:
    primary = (found[1] or "*").lower()
    if primary == "zh":
        return "zh"
    return "en" if primary in ("en", "*") else None


def _quality(parameters: str) -> float:
    key, _, value = parameters.partition("=")
    if key.strip().lower() != "q":
        return 1.0
    value = value.strip()
    return float(value) if _QVALUE.fullmatch(value) else 0.0


def problem(error: FilestoreError, request_id: str, language: Language) -> dict[str, Json]:
    """The document: what RFC 9457 names, ``retryable``, and the error's own members."""
    spec = error.spec
    return {
        **error.members,
        "type": spec.type or TYPE_PREFIX + error.code,
        "title": spec.title[language],
        "status": spec.status,
        "detail": error.sentence(language),
        "instance": f"urn:filestore:request:{request_id}",
        "retryable": spec.retryable,
    }


def problem_response(
    error: FilestoreError, *, request_id: str, accepted: str = "", method: str = "GET"
) -> web.Response:
    """The answer to a request that failed. To HEAD there is no body."""
    language = choose_language(accepted)
    document = problem(error, request_id, language)
    response = web.Response(
        status=error.spec.status,
        reason=_REASONS.get(error.spec.status),
        headers={
            "Content-Language": language,
            "Vary": "Accept-Language",
            "Cache-Control": "no-store",
            **_special_headers(error),
        },
    )
    if method != "HEAD":
        response.content_type = CONTENT_TYPE
        # A token in the wrong place would come back in the words that name the place.
        text = hide_tokens(json.dumps(document, ensure_ascii=False))
        response.body = text.encode("utf-8", "replace")
    return response


def _special_headers(error: FilestoreError) -> dict[str, str]:
    make = _HEADERS.get(error.code)
    headers = make(error.members) if make is not None else {}
    wait_s = error.retry_after_s
    if wait_s is None and error.spec.status == HTTPStatus.SERVICE_UNAVAILABLE:
        wait_s = _WAIT_S
    if wait_s is not None:
        headers["Retry-After"] = str(wait_s)
    return headers


def from_aiohttp(error: web.HTTPException, request: web.BaseRequest) -> FilestoreError:
    """What the router or the parser of aiohttp refused, in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(method=request.method, allowed=allowed)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge(what="the body", got="more", limit="allowed")
    if isinstance(error, web.HTTPExpectationFailed):
        return BadHeader(header="Expect", reason="only 100-continue can be expected")
    if error.status == HTTPStatus.NOT_FOUND:
        return NotFound(what="address")
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(field="request", reason=error.reason)
    return Internal()


def client_gone() -> web.Response:
    """What a request ends with whose client is gone; it cannot be sent."""
    return web.Response(status=_CLIENT_GONE, reason=_REASONS[_CLIENT_GONE])
