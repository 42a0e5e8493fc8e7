"""The OpenAPI document is whole, valid, and says of every route what the service does."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import jsonschema
from aiohttp import web

from filestore import http
from filestore.app import Service
from filestore.http.application import all_routes
from filestore.http.described import HEADERS
from filestore.http.openapi import operation_id
from filestore.settings import Settings
from tests.http.api import Api
from tests.http.conftest import Cast

_SCHEMA: Final = {"type": ["object", "boolean"]}
_CONTENT: Final = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["schema"],
        "properties": {"schema": _SCHEMA},
        "additionalProperties": False,
    },
}
_RESPONSE: Final = {
    "oneOf": [
        {"required": ["$ref"], "properties": {"$ref": {"type": "string"}}, "maxProperties": 1},
        {
            "required": ["description"],
            "properties": {
                "description": {"type": "string"},
                "content": _CONTENT,
                "headers": {"type": "object", "additionalProperties": {"required": ["schema"]}},
            },
            "additionalProperties": False,
        },
    ]
}
_PARAMETER: Final = {
    "type": "object",
    "required": ["name", "in", "required", "schema"],
    "properties": {"in": {"enum": ["path", "query", "header"]}, "required": {"type": "boolean"}},
}
_OPERATION: Final = {
    "type": "object",
    "required": ["summary", "operationId", "tags", "security", "parameters", "responses"],
    "properties": {
        "summary": {"type": "string", "minLength": 5},
        "operationId": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "parameters": {"type": "array", "items": _PARAMETER},
        "requestBody": {
            "type": "object",
            "required": ["content"],
            "properties": {"content": _CONTENT, "required": {"type": "boolean"}},
            "additionalProperties": False,
        },
        "responses": {
            "type": "object",
            "minProperties": 2,
            "propertyNames": {"pattern": "^([1-5][0-9][0-9]|default)$"},
            "additionalProperties": _RESPONSE,
        },
    },
    "patternProperties": {"^x-": {}},
}
META_SHAPE: Final = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "type": "object",
                "propertyNames": {
                    "enum": ["get", "head", "post", "put", "patch", "delete", "options"]
                },
                "additionalProperties": _OPERATION,
            },
        },
        "components": {
            "type": "object",
            "required": ["schemas", "securitySchemes"],
            "additionalProperties": {"type": "object"},
        },
    },
    "additionalProperties": False,
}
"""The parts of the OpenAPI 3.1 schema that this document uses."""


async def _document(api: Api) -> dict[str, Any]:
    answer = await api.get("/api/v1/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    document: dict[str, Any] = answer.json
    return document


async def test_the_document_has_the_shape_of_openapi_and_its_references_lead_somewhere(
    api: Api,
) -> None:
    document = await _document(api)
    jsonschema.validate(document, META_SHAPE)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', str(document).replace("'", '"'))):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


async def test_every_route_of_the_running_application_is_in_it_and_nothing_else(
    api: Api, service: Service
) -> None:
    document = await _document(api)
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    running = {
        (route.method, route.resource.canonical.removesuffix("{slash}"))
        for route in service.web.router.routes()
        if isinstance(route.resource, web.Resource)
    }
    assert described == running


async def test_every_route_says_its_parameters_and_answers(api: Api, settings: Settings) -> None:
    document = await _document(api)
    for route in all_routes(settings):
        operation = document["paths"][route.path][route.method.lower()]
        named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert named == set(route.parameters), route.path
        assert {str(status) for status in route.responses} <= set(operation["responses"])
        assert ("requestBody" in operation) == (route.request is not None)
        assert (operation["security"] == []) == (route.access == "public")


async def test_headers_and_refusals_are_named(api: Api) -> None:
    document = await _document(api)
    create = document["paths"]["/api/v1/groups/{g}/uploads"]["post"]
    headers = {one["name"]: one for one in create["parameters"] if one["in"] == "header"}
    assert {"Tus-Resumable", "Upload-Length", "Upload-Complete"} <= headers.keys()
    assert not any(header["required"] for header in headers.values()), "one protocol or the other"
    for key in ("filename", "path", "filetype", "blake3", "sha256"):
        assert f"`{key}`" in headers["Upload-Metadata"]["description"]
    assert "Location" in create["responses"]["201"]["headers"]
    assert not create["requestBody"]["required"]
    assert document["paths"]["/api/v1/groups"]["post"]["requestBody"]["required"]
    file = document["paths"]["/api/v1/groups/{g}/files/{path}"]
    read = {one["name"] for one in file["get"]["parameters"]}
    assert {"Range", "If-Match", "If-None-Match"} <= read
    assert "Repr-Digest" in {one["name"] for one in file["put"]["parameters"]}
    for method, statuses in (("get", "400 412 416"), ("put", "400 409 412 413")):
        for status in statuses.split():
            name = file[method]["responses"][status]["$ref"].rpartition("/")[2]
            assert document["components"]["responses"][name]["content"]
    conflict = document["components"]["responses"]["Conflict"]["description"]
    assert "last-admin" in conflict and "exists" in conflict


def test_operations_have_names_of_their_own() -> None:
    names = [operation_id(route) for route in all_routes(Settings())]
    assert len(names) == len(set(names))


async def test_what_the_service_answers_is_what_it_describes(cast: Cast) -> None:
    document = await _document(cast.admin)
    asked = {
        "/api/v1/groups": "/api/v1/groups",
        "/api/v1/groups/{g}": "/api/v1/groups/maths",
        "/api/v1/groups/{g}/quota": "/api/v1/groups/maths/quota",
        "/api/v1/groups/{g}/quota/sheet": "/api/v1/groups/maths/quota/sheet",
        "/api/v1/groups/{g}/quota/sheet/{line}": "/api/v1/groups/maths/quota/sheet/live",
        "/api/v1/groups/{g}/audit-log": "/api/v1/groups/maths/audit-log",
        "/api/v1/admin/audit-log": "/api/v1/admin/audit-log?limit=5",
        "/api/v1/admin/groups": "/api/v1/admin/groups?sort=waste",
        "/api/v1/admin/pool": "/api/v1/admin/pool",
        "/api/v1/admin/quotas": "/api/v1/admin/quotas",
        "/api/v1/admin/sheet": "/api/v1/admin/sheet",
        "/api/v1/groups/{g}/members": "/api/v1/groups/maths/members",
        "/api/v1/groups/{g}/members/{user}": "/api/v1/groups/maths/members/viewer-maths",
        "/api/v1/users": "/api/v1/users",
        "/api/v1/users/{user}": "/api/v1/users/admin",
        "/api/v1/tokens": "/api/v1/tokens",
    }
    for path, address in asked.items():
        answer = await cast.admin.get(address)
        described = document["paths"][path]["get"]["responses"]["200"]["content"]
        _validate(document, described["application/json"]["schema"], answer.json)
    refused = await cast.admin.get("/api/v1/groups/nothing")
    _validate(document, {"$ref": "#/components/schemas/Problem"}, refused.json)


def _validate(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Holds ``value`` to ``schema`` of ``document``; members that it does not name fail."""
    closed = _closed(document["components"]["schemas"])
    components = {"schemas": {**closed, "Problem": document["components"]["schemas"]["Problem"]}}
    jsonschema.validate(value, {**schema, "components": components})


def _closed(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }


EVERYWHERE: Final = {
    "Authorization": "the security scheme says it",
    "Content-Type": "the body's media type says it",
    "Accept": "the answers' media types say it",
    "Accept-Language": "refusals come in the language that is asked for",
    **dict.fromkeys(("Host", "Origin", "Expect", "Trailer", "Content-Encoding"), "plain HTTP"),
    "Access-Control-Request-Method": "browsers send it by themselves",
    "Forwarded": "proxies send it",
    "Content-Range": "it is refused",
    "X-Request-ID": "any request may have it",
    "X-HTTP-Method-Override": "it is another method's request",
}
"""Headers that are read of whatever request, so that no operation has them as parameters."""


def test_every_header_that_is_read_is_described_and_named_by_a_route() -> None:
    """Found in the source: what is asked of the headers of a request, by ``get``, ``getall`` or
    ``in``, or handed on with them."""
    read = {name: path.name for path in _sources() for name in _read_in(path)}
    assert {"Range", "If-Match", "Upload-Concat", "Want-Repr-Digest", "Content-Digest"} <= set(read)
    routes = all_routes(Settings())
    named = {name for route in routes for name in (*route.required_headers, *route.headers)}
    unnamed = {name: where for name, where in read.items() if name not in {*named, *EVERYWHERE}}
    assert not unnamed, "no route names these headers"
    assert named <= set(HEADERS)


def _sources() -> list[Path]:
    return sorted(Path(http.__file__).parent.glob("*.py"))


def _read_in(path: Path) -> set[str]:
    module = import_module(f"filestore.http.{path.stem}") if path.stem != "__init__" else http
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call):
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if method in ("get", "getall") and _is_headers(node.func.value):  # type: ignore[attr-defined]
                asked = node.args[:1]
            elif any(map(_is_headers, node.args)) or ast.unparse(node.func) == "_joined":
                asked = node.args
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            asked = [node.left] if _is_headers(node.comparators[0]) else []
        values = (_value(part, module) for part in asked)
        found |= {value for value in values if isinstance(value, str) and _NAME.fullmatch(value)}
    return found


_NAME: Final = re.compile(r"[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)*")


def _is_headers(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return text.endswith("headers") and not text.startswith("response")


def _value(node: ast.expr, module: object) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    found: object = module
    for part in ast.unparse(node).split("."):
        found = getattr(found, part, None)
    return found
