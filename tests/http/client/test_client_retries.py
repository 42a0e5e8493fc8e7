"""The SDK's requests against a server that breaks: what is repeated, and what is not."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from filestore.client import Client, RetryPolicy
from filestore.errors import (
    BadSetting,
    Exists,
    ForeignAnswer,
    NotFound,
    StoreUnavailable,
    Unreachable,
)
from tests.http.client.breaking_server import TOKEN, Fake, Pauses, broken, problem, unavailable


async def test_a_get_is_repeated_until_it_is_answered(
    client: Client, fake: Fake, pauses: Pauses
) -> None:
    fake.fail("GET", unavailable(), broken, unavailable(7))

    assert (await client.groups.show("team"))["name"] == "team"
    assert fake.count("GET") == 4
    assert pauses.seconds[0] <= 0.5 and pauses.seconds[-1] >= 7


async def test_after_the_last_attempt_the_servers_own_error_is_raised(
    client: Client, fake: Fake
) -> None:
    fake.fail("GET", *[unavailable()] * 9)

    with pytest.raises(StoreUnavailable, match="it is away"):
        await client.groups.show("team")
    assert fake.count("GET") == 4


async def test_a_post_whose_answer_is_lost_is_not_repeated(client: Client, fake: Fake) -> None:
    fake.fail("POST", broken)

    with pytest.raises(Unreachable):
        await client.groups.create("team", 1)
    assert fake.count("POST") == 1


async def test_a_post_that_the_server_refused_for_now_is_repeated(
    client: Client, fake: Fake
) -> None:
    fake.fail("POST", unavailable())

    assert (await client.groups.create("team", 1))["id"] == "grp_1"
    assert fake.count("POST") == 2


async def test_a_delete_that_succeeded_unseen_is_a_success(client: Client, fake: Fake) -> None:
    async def done_but_unheard(request: web.Request) -> None:
        del fake.files["a"]
        await broken(request)

    fake.files["a"] = b""
    fake.fail("DELETE", done_but_unheard)
    await client.tree.remove("team", "a")

    with pytest.raises(NotFound):
        await client.tree.remove("team", "a")


async def test_a_problem_becomes_the_exception_that_was_raised(client: Client, fake: Fake) -> None:
    async def exists(request: web.Request) -> web.StreamResponse:
        return problem(409, "exists", what="group", name="team", title="x", detail="y")

    fake.fail("POST", exists)

    with pytest.raises(Exists) as caught:
        await client.groups.create("team", 1)
    assert caught.value.members == {"what": "group", "name": "team"}
    assert caught.value.sentence("zh") == "名为“team”的 group 已存在。"


async def test_an_answer_of_a_proxy_is_told_apart(client: Client, fake: Fake) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(status=413, text="<html>too big</html>", content_type="text/html")

    async def newer(request: web.Request) -> web.StreamResponse:
        return problem(403, "of-a-newer-server", detail="Not on Sundays.")

    fake.fail("GET", page, newer)

    with pytest.raises(ForeignAnswer) as caught:
        await client.groups.show("team")
    assert (caught.value.spec.status, caught.value.spec.exit_code) == (413, 3)
    with pytest.raises(ForeignAnswer, match=r"answered 403: Not on Sundays\."):
        await client.groups.show("team")


async def test_what_is_no_filestore_is_told_with_what_to_do(
    client: Client, fake: Fake, server: TestServer, tmp_path: Path
) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="<html>Not here</html>", content_type="text/html")

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": "https://h/api/v1/groups/team"})

    fake.fail("GET", page, elsewhere)

    with pytest.raises(ForeignAnswer, match=r"404: .*is FILESTORE_URL right\?"):
        await client.groups.show("team")
    with pytest.raises(ForeignAnswer, match=r"try FILESTORE_URL=https://h\."):
        await client.groups.show("team")
    secure = f"https://{server.host}:{server.port}"
    async with Client(secure, TOKEN, state_folder=tmp_path) as confused:
        with pytest.raises(BadSetting, match="speaks no TLS; write http://"):
            await confused.groups.show("team")


async def test_a_server_that_is_not_there_is_named(tmp_path: Path, pauses: Pauses) -> None:
    retry = RetryPolicy(pause=pauses)
    async with Client("http://127.0.0.1:1", TOKEN, state_folder=tmp_path, retry=retry) as client:
        with pytest.raises(Unreachable, match="127.0.0.1:1 does not answer: Connection refused"):
            await client.groups.create("team", 1)
    assert len(pauses.seconds) == 3
