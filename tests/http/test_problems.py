"""Every error is a problem document in the client's language, whoever made it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from filestore.app import Service
from filestore.errors import (
    CATALOG,
    ChecksumMismatch,
    FilestoreError,
    OffsetMismatch,
    RangeNotSatisfiable,
    StoreUnavailable,
    TusVersion,
)
from filestore.http.call import Call
from filestore.http.problems import choose_language, problem_response
from tests.http.api import PROBLEM, Api, RawConnection
from tests.http.skeleton import serving


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hans-CN", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("en;q=0.5, zh;q=0.7", "zh"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=0", "en"),
        ("de, fr", "en"),
        ("de, zh;q=0.1", "zh"),
        ("*", "en"),
        ("zh, *", "zh"),
        ("zhuang", "en"),
        ("zh;q=2", "en"),
        ("zh;q=NaN, en;q=0.1", "en"),
        ("zh ; Q=0.3 , en ; q=0.2", "zh"),
        (",,;;=,zh", "zh"),
        ("en," * 40 + "zh", "en"),
    ],
)
def test_the_language_is_the_one_that_the_client_likes_better(accepted: str, language: str) -> None:
    assert choose_language(accepted) == language


def test_every_error_of_the_table_makes_a_whole_document_in_both_languages() -> None:
    for code, spec in CATALOG.items():
        kind = type("Some", (FilestoreError,), {"code": code})
        members = {"expected": 5, "supported": "1.0.0", "size": 7}
        for accepted in ("en", "zh"):
            answer = problem_response(kind(**members), request_id="req", accepted=accepted)
            assert answer.status == spec.status
            assert answer.headers["Content-Language"] == accepted
            assert answer.headers["Content-Type"] == PROBLEM
            assert isinstance(answer.body, bytes)


def test_members_never_hide_what_the_standard_names() -> None:
    answer = problem_response(StoreUnavailable(reason="x", status=200, type="y"), request_id="r")
    assert answer.status == 503
    assert isinstance(answer.body, bytes)
    assert b'"status": 503' in answer.body
    assert b"urn:filestore:problem:store-unavailable" in answer.body


def test_errors_carry_the_headers_that_belong_to_them() -> None:
    def headers(error: FilestoreError) -> dict[str, str]:
        return dict(problem_response(error, request_id="r").headers)

    assert headers(OffsetMismatch(expected=7, got=9))["Upload-Offset"] == "7"
    assert headers(TusVersion(supported="1.0.0"))["Tus-Version"] == "1.0.0"
    assert headers(RangeNotSatisfiable(size=10))["Content-Range"] == "bytes */10"
    assert headers(StoreUnavailable(reason="x", retry_after_s=9))["Retry-After"] == "9"
    assert problem_response(ChecksumMismatch(), request_id="r").reason == "Checksum Mismatch"


async def test_an_unknown_address_is_a_document_in_chinese_for_who_reads_it(api: Api) -> None:
    for path in ("/", "/api/v1", "/nothing", "/api/v1/groups/", "//healthz", "/%00", "/%ff"):
        refused = await api.get(path, headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"})
        assert (refused.status, refused.code) == (404, "not-found"), path
        assert refused.headers["Content-Language"] == "zh"
        assert refused.headers["Vary"] == "Accept-Language"
        assert refused.json["title"] == "未找到"


async def test_an_impossible_method_names_the_possible_ones(api: Api) -> None:
    for method in ("PATCH", "HEAD", "OPTIONS", "PROPFIND"):
        refused = await api.call(method, "/api/v1/groups")
        assert refused.status == 405
        assert refused.headers["Allow"] == "GET, POST"


async def test_every_answer_has_a_request_id_and_nosniff(api: Api) -> None:
    for path in ("/healthz", "/nothing", "/api/v1/groups"):
        answer = await api.get(path)
        assert answer.headers["X-Request-ID"].startswith("req_")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "aiohttp" not in answer.headers["Server"]


async def test_a_sane_request_id_is_kept_and_any_other_replaced(api: Api) -> None:
    kept = await api.get("/nothing", headers={"X-Request-ID": "trace-0123456789"})
    assert kept.headers["X-Request-ID"] == "trace-0123456789"
    assert kept.json["instance"] == "urn:filestore:request:trace-0123456789"
    for wrong in ("short", "x" * 41, "with space", "a\u00e9aaaaaaaa", "-dash-first"):
        replaced = await api.get("/nothing", headers={"X-Request-ID": wrong})
        assert replaced.headers["X-Request-ID"].startswith("req_")


async def test_head_gets_no_body(api: Api) -> None:
    async with RawConnection(api.url) as raw:
        await raw.send(b"HEAD /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status, headers = await raw.head()
        assert (status, await raw.reader.read()) == (404, b"")
        assert "content-type" not in headers


async def test_addresses_of_uploads_speak_tus_even_when_nothing_is_there(api: Api) -> None:
    for method in ("HEAD", "PATCH", "DELETE", "PROPFIND"):
        for path in ("/api/v1/uploads/nothing", "/api/v1/groups/g/uploads/x/y"):
            refused = await api.call(method, path)
            assert refused.status in (401, 404, 405, 412)
            assert refused.headers["Tus-Resumable"] == "1.0.0"
    assert "Tus-Resumable" not in (await api.get("/api/v1/groups")).headers


async def test_a_coded_body_is_refused_and_says_what_is_taken(admin: Api) -> None:
    for coding in ("gzip", "br", "gzip, identity"):
        refused = await admin.post(
            "/api/v1/groups", data=b"\x1f\x8b", headers={"Content-Encoding": coding}
        )
        assert (refused.status, refused.code) == (415, "coded-body")
        assert refused.headers["Accept-Encoding"] == "identity"
    assert (await admin.get("/api/v1/groups")).json["items"] == []


async def test_bodies_that_are_not_json_are_refused(admin: Api) -> None:
    path = "/api/v1/groups"
    wrong_type = await admin.post(path, data=b"{}", headers={"Content-Type": "text/plain"})
    assert (wrong_type.status, wrong_type.code) == (415, "bad-media-type")
    json_type = {"Content-Type": "Application/JSON; charset=utf-8"}
    for body in (b"", b"{", b"\xff", b'{"name": "\\ud800"}', b"[" * 60_000):
        refused = await admin.post(path, data=body, headers=json_type)
        assert (refused.status, refused.code) == (400, "bad-request"), body[:20]
    assert (await admin.get(path)).json["items"] == []


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(admin: Api) -> None:
    announced = await admin.post("/api/v1/groups", {"name": "x" * 70_000})
    assert (announced.status, announced.code) == (413, "too-large")
    assert announced.json["limit"] == 65_536

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    async with admin.session.post(
        URL(admin.url + "/api/v1/groups"),
        data=endless(),
        headers={"Authorization": f"Bearer {admin.token}", "Content-Type": "application/json"},
    ) as answer:
        assert answer.status == 413


async def test_the_client_is_told_to_go_on_only_when_the_request_is_accepted(admin: Api) -> None:
    head = (
        "POST /api/v1/groups HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 16\r\nExpect: 100-continue\r\nAuthorization: Bearer {}\r\n\r\n"
    )
    async with RawConnection(admin.url) as raw:
        await raw.send(head.format("wrong").encode())
        assert (await raw.head())[0] == 401
    async with RawConnection(admin.url) as raw:
        await raw.send(head.format(admin.token).encode())
        assert (await raw.head())[0] == 100
        await raw.send(b'{"name":"maths"}')
        assert (await raw.head())[0] == 201


async def test_an_unknown_expectation_is_refused_everywhere(api: Api) -> None:
    for path in ("/healthz", "/nothing"):
        refused = await api.get(path, headers={"Expect": "the-unexpected"})
        assert (refused.status, refused.json["header"]) == (400, "Expect")
        assert refused.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"x" * 140_000 + b": x\r\n\r\n",
            "header-too-large",
        ),
        (b"nonsense\r\n\r\n", "bad-request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\na\x00b: c\r\n\r\n", "bad-request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "bad-request"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "bad-request",
        ),
    ],
    ids=["huge name", "no HTTP", "NUL", "signed length", "two lengths"],
)
async def test_what_the_parser_refuses_is_a_document_too(
    api: Api, request_bytes: bytes, code: str
) -> None:
    async with RawConnection(api.url) as raw:
        await raw.send(request_bytes)
        status, headers = await raw.head()
        body = await raw.body(headers)
        assert status == CATALOG[code].status
        assert headers["content-type"] == PROBLEM
        assert headers["tus-resumable"] == "1.0.0"
        assert headers["x-request-id"].startswith("req_")
        assert code.encode() in body
        assert await raw.reader.read() == b""
    assert (await api.get("/healthz")).status == 200


@pytest.mark.parametrize("pieces", [1, 7], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("line", "status", "members"),
    [
        (b"GET /" + b"x" * 140_000 + b" HTTP/1.1\r\nHost: x", 414, {}),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: /" + b"x" * 140_000, 431, {"header": "X-Long"}),
    ],
    ids=["address", "header"],
)
async def test_what_is_too_long_is_named_with_the_limit(
    api: Api, line: bytes, status: int, members: dict[str, str], pieces: int
) -> None:
    size = -(-len(line) // pieces)
    async with RawConnection(api.url) as raw:
        for at in range(0, len(line), size):
            await raw.send(line[at : at + size])
        got, headers = await raw.head()
        document = json.loads(await raw.body(headers))
    assert got == document["status"] == status
    assert {**members, "limit": 131_072}.items() <= document.items()
    assert "131072 bytes" in document["detail"]


async def test_a_header_within_the_limit_is_taken(api: Api) -> None:
    answer = await api.get("/healthz", headers={"X-Long": "x" * 40_000})
    assert answer.status == 200


async def test_a_crash_says_only_the_request_id(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    async def crash(call: Call) -> web.StreamResponse:
        raise RuntimeError("a detail that nobody may see")

    async with serving(service, crash) as url, aiohttp.ClientSession() as session:
        answer = await Api(session, url).post("/it")
    assert (answer.status, answer.code) == (500, "internal")
    assert answer.headers["X-Request-ID"] == answer.json["request_id"]
    assert b"detail that nobody" not in answer.body
    logged = capsys.readouterr().out
    assert "request.crashed" in logged
    assert answer.json["request_id"] in logged
    assert "a detail that nobody may see" in logged


async def test_an_answer_that_was_begun_is_cut_never_ended_cleanly(service: Service) -> None:
    async def begin_and_fail(call: Call) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(call.request)
        await answer.write(b"some bytes")
        raise StoreUnavailable(reason="it went away")

    async with serving(service, begin_and_fail) as url, aiohttp.ClientSession() as session:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await Api(session, url).post("/it")


async def test_an_early_answer_does_not_make_the_client_send_everything(service: Service) -> None:
    async def refuse(call: Call) -> web.StreamResponse:
        raise StoreUnavailable(reason="not now", retry_after_s=1)

    async with serving(service, refuse) as url, RawConnection(url) as raw:
        await raw.send(b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        status, headers = await raw.head()
        assert (status, headers["connection"]) == (503, "close")
        assert headers["retry-after"] == "1"
        await raw.body(headers)
        assert await asyncio.wait_for(raw.reader.read(), 10) == b""


async def test_a_client_that_is_silent_from_the_start_is_let_go(service: Service) -> None:
    async def never(call: Call) -> web.StreamResponse:
        raise AssertionError

    async with serving(service, never, header_timeout_s=0.1) as url:
        for sent in (b"", b"POST /it HT"):
            async with RawConnection(url) as raw:
                await raw.send(sent)
                assert await asyncio.wait_for(raw.reader.read(), 10) == b""


async def test_a_header_that_never_ends_is_cut_off_however_steadily_it_comes(
    service: Service,
) -> None:
    """The first, and also one behind a request that was answered."""

    async def fine(call: Call) -> web.StreamResponse:
        return web.Response(status=204)

    limits = {"header_timeout_s": 0.5, "keepalive_s": 3600}
    async with serving(service, fine, **limits) as url:
        for asked in (0, 1):
            async with RawConnection(url) as raw:
                for _ in range(asked):
                    await raw.send(b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                    assert (await raw.head())[0] == 204
                await raw.send(b"POST /it HTTP/1.1\r\n")
                ended = asyncio.create_task(raw.reader.read())
                while not ended.done():
                    with contextlib.suppress(ConnectionError):
                        await raw.send(b"X-Slow: loris\r\n")
                    await asyncio.wait((ended,), timeout=0.05)
                with contextlib.suppress(ConnectionError):
                    assert await ended == b""


async def test_a_header_in_time_ends_its_time(service: Service) -> None:
    async def slow(call: Call) -> web.StreamResponse:
        await asyncio.sleep(0.6)
        return web.Response(status=204)

    request = b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    async with serving(service, slow, header_timeout_s=0.5) as url, RawConnection(url) as raw:
        for first, rest in ((request, b""), (b"\r\n" + request[:20], request[20:])):
            await raw.send(first)
            await raw.send(rest)
            assert (await raw.head())[0] == 204


async def test_half_a_second_request_ends_with_the_idle_time(service: Service) -> None:
    async def fine(call: Call) -> web.StreamResponse:
        return web.Response(status=204)

    async with serving(service, fine, keepalive_s=0.2) as url, RawConnection(url) as raw:
        await raw.send(b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert (await raw.head())[0] == 204
        await raw.send(b"POST /it HT")
        assert await asyncio.wait_for(raw.reader.read(), 10) == b""


async def test_a_body_that_does_not_come_is_waited_for_with_an_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filestore.http import call as module
    from filestore.http.groups import NewGroup

    monkeypatch.setattr(module, "JSON_TIMEOUT_S", 0.1)

    async def read(call: Call) -> web.StreamResponse:
        await call.json(NewGroup)
        raise AssertionError

    async with serving(service, read) as url, RawConnection(url) as raw:
        await raw.send(b'POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"na')
        status, headers = await raw.head()
        assert (status, headers["connection"]) == (408, "close")


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    service: Service,
) -> None:
    from filestore.http.groups import NewGroup

    async def read(call: Call) -> web.StreamResponse:
        await call.json(NewGroup)
        raise AssertionError

    async with serving(service, read) as url:
        async with RawConnection(url) as raw:
            await raw.send(b'POST /it HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"na')
        async with aiohttp.ClientSession() as session:
            assert (await Api(session, url).post("/it", {})).status == 400
