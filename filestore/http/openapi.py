"""The OpenAPI document, made from the routes themselves, so it cannot say anything else.

Source: OpenAPI 3.1.0; its schemas are JSON Schema 2020-12, which pydantic writes.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from filestore import __version__
from filestore.http.call import Call
from filestore.http.described import HEADERS, REFUSALS, describe_refusal
from filestore.http.problems import CONTENT_TYPE
from filestore.http.routing import SCOPES, Access, Route

PATH: Final = "/api/v1/openapi.json"
DOCUMENT: Final = web.AppKey("openapi", bytes)

_SCHEMAS: Final = "#/components/schemas/"
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What went wrong (RFC 9457); further members belong to the type.",
    "required": ["type", "title", "status", "detail", "instance", "retryable"],
    "properties": {
        "type": {"type": "string", "description": "Stable; urn:filestore:problem: and a code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "Names the request, for the logs."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed."},
    },
}
_RESPONSES: Final = "#/components/responses/"


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document for these routes."""
    schemas = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "filestore",
            "version": __version__,
            "description": "Large-file group storage: resumable uploads, deduplication, quotas.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.definitions, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": _problem("An error"), **_refusals()},
        },
    }


class _schemas:
    """Every model of the routes as a schema, once, under its name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        wanted: set[tuple[type[BaseModel], str]] = set()
        for route in routes:
            if isinstance(route.request, type):
                wanted.add((route.request, "validation"))
            if route.query is not None:
                wanted.add((route.query, "validation"))
            wanted |= {
                (answer, "serialization")
                for answer in route.responses.values()
                if isinstance(answer, type)
            }
        ordered: Any = sorted(wanted, key=lambda pair: (pair[0].__name__, pair[1]))
        self._refs, made = models_json_schema(ordered, ref_template=_SCHEMAS + "{model}")
        self.definitions: dict[str, Any] = made.get("$defs", {})

    def ref(self, model: type[BaseModel], mode: Any) -> dict[str, Any]:
        return dict(self._refs[(model, mode)])

    def properties(self, query: type[BaseModel]) -> dict[str, Any]:
        name = self.ref(query, "validation")["$ref"].removeprefix(_SCHEMAS)
        found: dict[str, Any] = self.definitions[name]["properties"]
        return found


def _operation(route: Route, schemas: _schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": operation_id(route),
        "tags": [_tag(route)],
        "security": [] if route.access is Access.PUBLIC else [{"token": []}],
        "x-filestore-access": _access(route),
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route, schemas),
            *_header_parameters(route),
        ],
        "responses": _responses(route, schemas),
    }
    if route.request is not None:
        operation["requestBody"] = {
            "required": isinstance(route.request, type),  # no bytes at all are bytes, too
            **_body(route.request, schemas, "validation"),
        }
    return operation


def operation_id(route: Route) -> str:
    """A name for the operation that stays: method and path in one word."""
    parts = route.path.replace("{", "").replace("}", "").replace(".", "-").split("/")
    words = [part for part in parts if part not in ("", "api", "v1")]
    return "-".join([route.method.lower(), *words])


def _tag(route: Route) -> str:
    parts = route.path.removeprefix("/api/v1").strip("/").split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "{g}" else parts[0]


def _access(route: Route) -> dict[str, Any]:
    scope = SCOPES.get(route.access)
    return {
        "who": route.access.value,
        "scope": None if scope is None else scope.value,
        "site_admin": route.site_admin or route.access is Access.ADMIN,
    }


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    meaning = {
        "g": "A group's name or id.",
        "user": "A user's name or id.",
        "path": "Names from the group's root folder on, percent-encoded, with slashes between.",
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": meaning.get(name, "An id."),
            "schema": {"type": "string"},
        }
        for name in route.parameters
    ]


def _query_parameters(route: Route, schemas: _schemas) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in schemas.properties(route.query).items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        HEADERS[name].as_parameter(name, required=name in route.required_headers)
        for name in (*route.required_headers, *route.headers)
    ]


def _responses(route: Route, schemas: _schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in sorted(route.responses.items()):
        content = {} if answer is None else _body(answer, schemas, "serialization")
        responses[str(status)] = {"description": "Done", **content}
        if route.answer_headers:
            named = {name: HEADERS[name].as_answer() for name in route.answer_headers}
            responses[str(status)]["headers"] = named
    for status in _refused(route):
        responses[str(status)] = {"$ref": _RESPONSES + REFUSALS[status]}
    responses["default"] = {"$ref": _RESPONSES + "Problem"}
    return responses


def _refused(route: Route) -> list[int]:
    """The statuses that the route refuses with: by what it reads, and what it says itself."""
    found = set(route.refuses)
    if route.access is not Access.PUBLIC:
        found |= {401, 403, 404, 503}
    if route.query or route.request or route.is_tail or route.headers or route.required_headers:
        found.add(400)
    if isinstance(route.request, type):
        found |= {413, 415}
    return sorted(found)


def _refusals() -> dict[str, Any]:
    """The answers that refuse, each with the codes of its problem documents."""
    made = {name: _problem(describe_refusal(status)) for status, name in REFUSALS.items()}
    for name in ("TooMany", "Unavailable"):
        made[name]["headers"] = {"Retry-After": HEADERS["Retry-After"].as_answer()}
    return made


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, **_content(CONTENT_TYPE)}


def _body(what: type[BaseModel] | str, schemas: _schemas, mode: str) -> dict[str, Any]:
    if isinstance(what, str):
        return {"content": {what: {"schema": {}}}}
    return {"content": {"application/json": {"schema": schemas.ref(what, mode)}}}


def _content(media_type: str) -> dict[str, Any]:
    return {"content": {media_type: {"schema": {"$ref": _SCHEMAS + "Problem"}}}}


def encode(routes: Sequence[Route]) -> bytes:
    """The document as it is sent; made once, when the application is built."""
    return json.dumps(document(routes), ensure_ascii=False, indent=1).encode()


async def _show(call: Call) -> web.Response:
    return web.Response(body=call.request.app[DOCUMENT], content_type="application/json")


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=_show,
        access=Access.PUBLIC,
        summary="This document",
        responses={200: "application/json"},
    ),
)
