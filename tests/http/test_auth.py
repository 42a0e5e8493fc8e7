"""Whatever is wrong with a token, the answer is the same; headers that come twice are refused."""

import pytest

from filestore.http.auth import bearer_token
from filestore.ids import new_token
from tests.http.api import Api, RawConnection
from tests.http.conftest import Cast

GROUPS = "/api/v1/groups"


async def test_every_wrong_token_gets_the_same_401(admin: Api) -> None:
    token = admin.token or ""
    unknown = new_token()
    headers = [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {token}",
        token,
        f"Bearer {token}x",
        f"Bearer {token[:-1]}",
        f"Bearer {unknown}",
        f"Bearer {token} {token}",
        f"Bearer\t{token}",
        "Bearer fst_\u00e9",
    ]
    answers = []
    for header in headers:
        sent = {} if header is None else {"Authorization": header}
        refused = await admin.by(None).get(GROUPS, headers=sent)
        assert refused.status == 401, header
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="filestore"'
        assert token not in refused.body.decode()
        answers.append({key: value for key, value in refused.json.items() if key != "instance"})
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["type"] == "urn:filestore:problem:unauthenticated"


async def test_the_scheme_is_read_in_any_case(admin: Api) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await admin.get(GROUPS, headers={"Authorization": f"{scheme} {admin.token}"})
        assert answer.status == 200


def test_a_token_is_taken_from_the_header_without_its_blanks() -> None:
    token = new_token()
    assert bearer_token(f"Bearer   {token} ") == token


async def test_who_has_no_token_cannot_tell_which_groups_exist(cast: Cast) -> None:
    anonymous = cast.admin.by(None)
    answers = [await anonymous.get(f"{GROUPS}/{ref}") for ref in ("maths", "nothing", cast.group)]
    assert {answer.status for answer in answers} == {401}


async def test_who_is_no_member_cannot_tell_a_group_from_none(cast: Cast) -> None:
    documents = []
    for ref in (
        "maths",
        cast.group,
        "nothing",
        "grp_" + "0" * 26,
        "%00",
        "a%2Fb",
        "%ff",
        "x" * 300,
    ):
        for method, path in (("GET", ""), ("PATCH", ""), ("GET", "/members"), ("GET", "/quota")):
            refused = await cast.outsider.call(method, f"{GROUPS}/{ref}{path}")
            assert refused.status == 404, (ref, method, path)
            documents.append({**refused.json, "instance": ""})
    assert all(document == documents[0] for document in documents)
    assert documents[0]["what"] == "group"


async def test_a_missing_scope_is_named(cast: Cast) -> None:
    made = await cast.manager.post("/api/v1/tokens", {"scopes": ["read"]})
    reader = cast.manager.by(made.json["token"])
    assert (await reader.get(f"{GROUPS}/maths")).status == 200
    refused = await reader.patch(f"{GROUPS}/maths", {"trash_retention_s": 1})
    assert (refused.status, refused.json["needed"]) == (403, "a token with the scope manage")


async def test_a_missing_role_is_named(cast: Cast) -> None:
    refused = await cast.member.patch(f"{GROUPS}/maths", {"trash_retention_s": 1})
    assert (refused.status, refused.json["needed"]) == (403, "the role manager")


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer x",
        "Content-Type: text/plain",
        "Range: bytes=0-1",
        "If-Match: x",
        "If-Range: x",
        "Upload-Length: 5",
        "Upload-Offset: 5",
        "Tus-Resumable: 1.0.0",
        "X-Request-ID: 12345678",
        "Content-Encoding: identity",
    ],
)
async def test_a_header_that_comes_twice_is_refused_by_name(api: Api, header: str) -> None:
    name = header.partition(":")[0]
    async with RawConnection(api.url) as raw:
        request = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\n{header.lower()}\r\n\r\n"
        await raw.send(request.encode())
        status, headers = await raw.head()
        assert status == 400
        assert name.lower().encode() in (await raw.body(headers)).lower()


async def test_headers_that_are_lists_may_come_twice(api: Api) -> None:
    async with RawConnection(api.url) as raw:
        twice = "Accept: a/b\r\nAccept: c/d\r\nCookie: a=1\r\nCookie: b=2\r\n"
        await raw.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{twice}\r\n".encode())
        assert (await raw.head())[0] == 200
