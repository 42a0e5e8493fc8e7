"""Pages of other origins: nobody by default, everybody by ``*``, and lists that are complete."""

import re
from collections.abc import Mapping
from pathlib import Path

from filestore.http.application import all_routes
from filestore.http.cors import Cors
from filestore.settings import Settings
from tests.http.api import Api

ORIGIN = {"Origin": "https://app.example.org"}
ASKS = {**ORIGIN, "Access-Control-Request-Method": "PATCH"}

READ = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type,"
    " Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length,"
    " Upload-Concat, Upload-Checksum, Upload-Complete, Upload-Incomplete,"
    " Upload-Draft-Interop-Version"
)
SHOWN = (
    "Location, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Defer-Length, Upload-Concat,"
    " Upload-Expires, Tus-Version, Tus-Resumable, Tus-Max-Size, Tus-Extension,"
    " Tus-Checksum-Algorithm, Upload-Complete, Upload-Draft-Interop-Version, Upload-Limit"
)
"""What tusd and @tus/server list together."""


def _cors(headers: Mapping[str, str]) -> set[str]:
    return {name for name in headers if name.lower().startswith("access-control-")}


async def test_by_default_no_page_of_another_origin_is_told_anything(admin: Api) -> None:
    for method, path, headers in (
        ("GET", "/api/v1/groups", ORIGIN),
        ("GET", "/api/v1/nothing", ORIGIN),
        ("OPTIONS", "/api/v1/groups/x/uploads", ASKS),
        ("OPTIONS", "/api/v1/groups", ASKS),
    ):
        answer = await admin.call(method, path, headers=headers)
        assert not _cors(answer.headers), (method, path)
        assert "Origin" not in answer.headers.get("Vary", "")
    assert answer.status == 405


def test_with_a_star_every_page_may_and_none_has_credentials() -> None:
    cors = Cors(["*"], all_routes(Settings()))
    headers = cors.headers("https://anything.example")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Vary" not in headers
    assert not _cors(cors.headers(None))


def test_the_lists_have_all_that_clients_send_and_all_that_routes_read_and_answer() -> None:
    routes = all_routes(Settings())
    cors = Cors(["*"], routes)
    read = set(cors._preflight["Access-Control-Allow-Headers"].split(", "))
    shown = set(cors._shown["Access-Control-Expose-Headers"].split(", "))
    methods = set(cors._preflight["Access-Control-Allow-Methods"].split(", "))
    assert set(READ.split(", ")) <= read
    assert set(SHOWN.split(", ")) <= shown
    assert {"POST", "HEAD", "PATCH", "OPTIONS", "GET", "DELETE", "PUT"} == methods
    for route in routes:
        assert {*route.headers, *route.required_headers} <= read, route.path
        assert set(route.answer_headers) <= shown, route.path


def test_every_header_that_errors_answer_with_is_shown_to_pages() -> None:
    source = Path(__file__).parents[2].joinpath("filestore/http/problems.py").read_text()
    named = set(re.findall(r'\{?"([A-Z][A-Za-z]+(?:-[A-Z][a-z]+)*)": ', source))
    always = {"Content-Language", "Cache-Control", "Vary", "Accept-Encoding", "WWW-Authenticate"}
    shown = Cors(["*"], all_routes(Settings()))._shown["Access-Control-Expose-Headers"]
    assert "Allow" in named
    assert named - always <= set(shown.split(", "))
