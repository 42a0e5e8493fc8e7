"""Behind a real nginx: the configuration that we ship keeps resuming; the doctor sees others."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from filestore.cli.main import execute
from filestore.client import doctor
from filestore.client.doctor import Doctor, Finding
from tests.e2e import backends, tus
from tests.e2e.material import KIB, MIB, Material
from tests.e2e.stage import GROUP, Stage
from tests.http.api import Api
from tests.services.nginx import nginx

pytestmark = pytest.mark.parametrize("backend", [backends.DISK], indirect=True)

SETTINGS = {"server.trusted_proxies": "127.0.0.1/32"}
BAD = {"proxy_request_buffering": "on", "client_max_body_size": "1m"}
behind_nginx = pytest.mark.needs("nginx")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _before(stack: ExitStack, folder: Path, api: Api, changes: dict[str, str]) -> Api:
    """The same service, asked through an nginx."""
    upstream = api.url.removeprefix("http://")
    return replace(api, url=stack.enter_context(nginx(folder / "nginx", upstream, changes)))


async def _examine(api: Api) -> dict[str, Finding]:
    """The doctor's findings by check; nothing of it is left behind."""
    findings = await Doctor(api.url, api.token, group=GROUP, pace_s=0.1).examine()
    listed = await api.get(f"/api/v1/groups/{GROUP}/uploads")
    assert listed.json["items"] == []
    tree = await api.get(f"/api/v1/groups/{GROUP}/tree/")
    assert tree.json["items"] == []
    quota = await api.get(f"/api/v1/groups/{GROUP}/quota")
    assert (quota.json["used_bytes"], quota.json["reserved_bytes"]) == (0, 0)
    return {finding.check: finding for finding in findings}


def _problems(findings: dict[str, Finding]) -> set[str]:
    return {one.check for one in findings.values() if one.level not in (doctor.OK, doctor.SKIPPED)}


@behind_nginx
async def test_an_upload_that_breaks_behind_nginx_goes_on_where_it_stopped(
    stage: Stage, stack: ExitStack
) -> None:
    _, direct = await stage.open(settings=SETTINGS)
    api = _before(stack, stage.folder, direct, {})
    material = Material("proxied", 5 * MIB)
    upload = await tus.begin(api, GROUP, "proxied.bin", material)
    async with tus.SlowPatch(api, upload, 0, material.size) as patch:
        await patch.feed(material, 0, 3 * MIB)
    await tus.wait_for_offset(api, GROUP, upload, MIB)
    offset = await tus.offset_of(api, upload)
    assert (await tus.patch(api, upload, material, offset)).status == 204
    await tus.assert_equal(api, GROUP, "proxied.bin", material)
    long = await tus.create(api, GROUP, 1, "long.bin", metadata={"note": "x" * 9 * KIB})
    assert long.status == 201
    assert long.headers["Location"].startswith(api.url)


@behind_nginx
async def test_a_newcomer_behind_nginx_wins_against_its_own_ghost(
    stage: Stage, stack: ExitStack
) -> None:
    _, direct = await stage.open(settings=SETTINGS)
    api = _before(stack, stage.folder, direct, {})
    material = Material("ghost", 16 * MIB)
    upload = await tus.begin(api, GROUP, "ghost.bin", material)
    async with tus.SlowPatch(api, upload, 0, material.size) as ghost:
        await ghost.feed(material, 0, 12 * MIB)
        await tus.wait_for_offset(api, GROUP, upload, 1)
        offset = await tus.offset_of(api, upload)
        assert (await tus.patch(api, upload, material, offset)).status == 204
    await tus.assert_equal(api, GROUP, "ghost.bin", material)


async def test_the_doctor_finds_nothing_in_front_of_the_service_itself(stage: Stage) -> None:
    _, api = await stage.open()
    findings = await _examine(api)
    assert _problems(findings) == set(), findings
    assert {"reach", "clock", "ready", "location", "buffering", "body-size"} <= findings.keys()


@behind_nginx
async def test_the_doctor_finds_nothing_behind_the_nginx_that_we_ship(
    stage: Stage, stack: ExitStack
) -> None:
    _, direct = await stage.open(settings=SETTINGS)
    findings = await _examine(_before(stack, stage.folder, direct, {}))
    assert _problems(findings) == set(), findings
    assert findings["buffering"].level == findings["body-size"].level == doctor.OK


@behind_nginx
async def test_the_doctor_names_what_a_bad_nginx_does_and_what_to_change(
    stage: Stage, stack: ExitStack
) -> None:
    _, direct = await stage.open(settings=SETTINGS)
    bad = BAD | {"large_client_header_buffers": "4 8k"}
    findings = await _examine(_before(stack, stage.folder, direct, bad))
    assert _problems(findings) == {"buffering", "body-size", "header-size"}, findings
    assert "proxy_request_buffering off;" in findings["buffering"].change["nginx"]
    assert "client_max_body_size 0;" in findings["body-size"].change["nginx"]


@behind_nginx
async def test_the_doctor_sees_where_location_leads(stage: Stage, stack: ExitStack) -> None:
    _, direct = await stage.open(settings=SETTINGS)
    api = _before(stack, stage.folder, direct, {"proxy_set_header X-Forwarded-Proto": "https"})
    findings = await _examine(api)
    assert _problems(findings) == {"location"}, findings
    assert "https://" in findings["location"].says


async def _seen_through(api: Api, spoil: Any) -> dict[str, Finding]:
    """The findings through a proxy that gives the answers of ``api`` as ``spoil`` leaves them."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key != "Host"}
        url = api.url + str(request.rel_url)
        body = request.content if request.body_exists else None
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            async with session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                told = web.Response(status=answer.status, headers=dict(answer.headers))
                told.headers.pop("Transfer-Encoding", None)
                if request.method != "HEAD":
                    told.headers.pop("Content-Length", None)
                    told.body = await answer.read()
                spoil(request, told)
                return told

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        found = await Doctor(url, api.token, group=GROUP, pace_s=0.02).examine()
    finally:
        await runner.cleanup()
    return {finding.check: finding for finding in found}


async def test_the_doctor_sees_lost_headers_and_a_clock_that_is_off(stage: Stage) -> None:
    _, api = await stage.open()

    def lose(request: web.Request, told: web.Response) -> None:
        told.headers.pop("Upload-Offset", None)
        told.headers["Date"] = "Mon, 05 Jan 2015 10:00:00 GMT"

    findings = await _seen_through(api, lose)
    assert findings["clock"].level == findings["answer-headers"].level == doctor.PROBLEM
    assert "Upload-Offset" in findings["answer-headers"].says
    assert "behind" in findings["clock"].says

    def refuse(request: web.Request, told: web.Response) -> None:
        if request.method == "PATCH":
            told.set_status(405)
            told.headers.pop("X-Request-ID", None)

    assert (await _seen_through(api, refuse))["methods"].level == doctor.PROBLEM


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
async def test_the_doctor_tells_what_it_found_when_a_proxy_cuts_connections(
    stage: Stage, method: str
) -> None:
    _, api = await stage.open()

    def cut(request: web.Request, told: web.Response) -> None:
        if request.method == method and request.transport is not None:
            request.transport.abort()

    findings = await _seen_through(api, cut)
    assert findings["cut"].level == doctor.PROBLEM, findings
    assert findings["ready"].level == findings["reach"].level == doctor.OK
    listed = await api.get(f"/api/v1/groups/{GROUP}/uploads")
    assert listed.json["items"] == []


async def test_the_doctor_survives_answers_that_are_none(stage: Stage) -> None:
    _, api = await stage.open()

    def spoil(request: web.Request, told: web.Response) -> None:
        told.headers["Date"] = "yesterday"
        if request.method == "HEAD":
            told.headers["Upload-Offset"] = "a few"

    findings = await _seen_through(api, spoil)
    assert findings["clock"].level == findings["answer-headers"].level == doctor.PROBLEM, findings


async def test_the_doctor_asks_nobody_else_wherever_location_leads(stage: Stage) -> None:
    _, api = await stage.open()
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    other = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        for location in (f"@{other}/a", f"//{other}/b", f"http://{other}/c", f".{other}/d"):

            def lead_away(request: web.Request, told: web.Response, to: str = location) -> None:
                if request.method == "POST":
                    told.headers["Location"] = to

            await _seen_through(api, lead_away)
    finally:
        await runner.cleanup()
    assert asked == []


async def test_the_doctor_says_who_does_not_answer_and_who_is_no_filestore(stage: Stage) -> None:
    (nobody,) = await Doctor("http://127.0.0.1:1", None).examine()
    assert (nobody.check, nobody.level) == ("reach", doctor.PROBLEM)

    told: list[str] = []

    async def note(request: web.Request) -> web.Response:
        told.extend(request.headers.getall("Authorization", []))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (other,) = await Doctor(url, "a token").examine()
    await runner.cleanup()
    assert "no filestore" in other.says
    assert told == []


async def test_the_command_gives_json_and_an_exit_code(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, api = await stage.open()
    monkeypatch.setenv("FILESTORE_TOKEN", api.token or "")
    code = await asyncio.to_thread(execute, ["doctor", api.url, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["well"]) == (0, True), told
    assert {"check", "level", "says", "change"} == told["findings"][0].keys()
    assert await asyncio.to_thread(execute, ["doctor", "http://127.0.0.1:1"]) == 1
    assert "PROBLEM  reach" in capsys.readouterr().out
    assert await asyncio.to_thread(execute, ["doctor", api.url, "--token", "wrong"]) == 1
