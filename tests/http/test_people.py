"""Users over HTTP."""

import asyncio

import pytest

from tests.http.api import Api
from tests.http.conftest import Cast, make_user

USERS = "/api/v1/users"


async def test_a_user_is_created_shown_and_listed(admin: Api) -> None:
    made = await admin.post(USERS, {"name": "Zoë"})
    assert made.status == 201
    user = made.json
    assert made.headers["Location"] == f"{USERS}/{user['id']}"
    assert (user["name"], user["is_admin"], user["disabled_at"]) == ("Zoë", False, None)
    assert user["created_at"].endswith("Z")
    for ref in (user["id"], "Zo%C3%AB", "ZO%C3%8B"):
        assert (await admin.get(f"{USERS}/{ref}")).json == user
    page = (await admin.get(f"{USERS}?limit=1")).json
    assert [item["name"] for item in page["items"]] == ["admin"]
    rest = (await admin.get(f"{USERS}?limit=1&after={page['next']}")).json
    assert rest == {"items": [user], "next": None}


async def test_a_taken_or_misleading_name_makes_no_user(admin: Api) -> None:
    assert (await admin.post(USERS, {"name": "zoe"})).status == 201
    for name in ("zoe", "ZOE", "ｚｏｅ"):
        refused = await admin.post(USERS, {"name": name})
        assert (refused.status, refused.code) == (409, "exists")
    for name in ("", "usr_" + "0" * 26, "a:b", "\x00"):
        refused = await admin.post(USERS, {"name": name})
        assert (refused.status, refused.code) == (400, "bad-name")
    assert len((await admin.get(USERS)).json["items"]) == 2


async def test_everybody_sees_only_oneself(cast: Cast) -> None:
    assert (await cast.viewer.get(f"{USERS}/viewer-maths")).status == 200
    for ref in ("member-maths", "nobody", "usr_" + "0" * 26, "%00", "a%2Fb", "%ff"):
        refused = await cast.viewer.get(f"{USERS}/{ref}")
        assert (refused.status, refused.json["what"]) == (404, "user"), ref


async def test_a_user_is_renamed_and_keeps_id_and_memberships(cast: Cast) -> None:
    before = (await cast.viewer.get(f"{USERS}/viewer-maths")).json
    changed = await cast.admin.patch(f"{USERS}/viewer-maths", {"name": "vera"})
    assert changed.json == {**before, "name": "vera"}
    assert (await cast.viewer.get("/api/v1/groups/maths/members/vera")).json["role"] == "viewer"
    refused = await cast.admin.patch(f"{USERS}/vera", {"name": "admin"})
    assert (refused.status, refused.code) == (409, "exists")
    assert (await cast.viewer.get(f"{USERS}/vera")).status == 200


async def test_a_disabled_user_gets_in_nowhere_until_enabled_again(cast: Cast) -> None:
    disabled = await cast.admin.patch(f"{USERS}/viewer-maths", {"disabled": True})
    assert disabled.json["disabled_at"] is not None
    assert (await cast.viewer.get("/api/v1/groups")).status == 401
    again = await cast.admin.patch(f"{USERS}/viewer-maths", {"disabled": True})
    assert again.json == disabled.json
    enabled = await cast.admin.patch(f"{USERS}/viewer-maths", {"disabled": False})
    assert enabled.json["disabled_at"] is None
    assert (await cast.viewer.get("/api/v1/groups/maths")).status == 200


async def test_a_removed_user_is_disabled_and_the_tokens_are_ended_for_good(cast: Cast) -> None:
    assert (await cast.admin.delete(f"{USERS}/viewer-maths")).status == 204
    removed = (await cast.admin.get(f"{USERS}/viewer-maths")).json
    assert removed["disabled_at"] is not None
    assert (await cast.admin.delete(f"{USERS}/viewer-maths")).status == 204
    assert (await cast.admin.get(f"{USERS}/viewer-maths")).json == removed
    log = "/api/v1/admin/audit-log?act=user.remove"
    assert len((await cast.admin.get(log)).json["items"]) == 1, "the second did nothing"
    await cast.admin.patch(f"{USERS}/viewer-maths", {"disabled": False})
    assert (await cast.viewer.get("/api/v1/groups")).status == 401
    assert (await cast.admin.get("/api/v1/tokens?user=viewer-maths")).json["items"] == []


async def test_the_last_site_admin_cannot_be_lost(admin: Api) -> None:
    for refused in (
        await admin.patch(f"{USERS}/admin", {"is_admin": False}),
        await admin.patch(f"{USERS}/admin", {"disabled": True}),
        await admin.delete(f"{USERS}/admin"),
    ):
        assert (refused.status, refused.code) == (409, "last-admin")
    user = (await admin.get(f"{USERS}/admin")).json
    assert (user["is_admin"], user["disabled_at"]) == (True, None)
    await admin.post(USERS, {"name": "second", "is_admin": True})
    await admin.post("/api/v1/tokens", {"user": "second", "scopes": ["admin"]})
    assert (await admin.patch(f"{USERS}/admin", {"is_admin": False})).status == 200
    assert (await admin.get(USERS)).status == 403


@pytest.mark.parametrize("wish", [None, {"scopes": ["read"]}, {"groups": ["maths"]}])
async def test_a_site_admin_without_a_token_that_administers_keeps_nobody_in(
    cast: Cast, wish: dict[str, object] | None
) -> None:
    await cast.admin.post(USERS, {"name": "second", "is_admin": True})
    if wish is not None:
        made = await cast.admin.post("/api/v1/tokens", {"user": "second", **wish})
        assert made.status == 201
    for refused in (
        await cast.admin.patch(f"{USERS}/admin", {"is_admin": False}),
        await cast.admin.patch(f"{USERS}/admin", {"disabled": True}),
        await cast.admin.delete(f"{USERS}/admin"),
    ):
        assert (refused.status, refused.code) == (409, "last-admin")
    assert (await cast.admin.get(USERS)).status == 200


async def test_two_site_admins_cannot_demote_each_other_at_once(admin: Api) -> None:
    await admin.post(USERS, {"name": "second", "is_admin": True})
    token = await admin.post("/api/v1/tokens", {"user": "second", "scopes": ["admin"]})
    second = admin.by(token.json["token"])
    answers = await asyncio.gather(
        admin.patch(f"{USERS}/second", {"is_admin": False}),
        second.patch(f"{USERS}/admin", {"is_admin": False}),
    )
    assert 200 in [answer.status for answer in answers]
    listed = await asyncio.gather(admin.get(USERS), second.get(USERS))
    assert [answer.status for answer in listed].count(200) == 1


async def test_a_user_who_becomes_no_site_admin_loses_it_at_once(admin: Api) -> None:
    await admin.post(USERS, {"name": "second", "is_admin": True})
    token = await admin.post("/api/v1/tokens", {"user": "second", "scopes": ["admin"]})
    second = admin.by(token.json["token"])
    assert (await second.get(USERS)).status == 200
    await admin.patch(f"{USERS}/second", {"is_admin": False})
    assert (await second.get(USERS)).status == 403


async def test_wrong_bodies_are_refused_and_name_the_field(admin: Api) -> None:
    cases: list[tuple[object, str]] = [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x", "is_admin": "yes"}, "is_admin"),
        ({"name": "x", "admin": True}, "admin"),
        ([], "body"),
    ]
    for body, field in cases:
        refused = await admin.post(USERS, body)
        assert (refused.status, refused.code, refused.json["field"]) == (400, "bad-request", field)
    everything = await admin.post(USERS, {"name": 5, "is_admin": 5, "x": 5})
    assert [item["field"] for item in everything.json["errors"]] == ["name", "is_admin", "x"]
    assert len((await admin.get(USERS)).json["items"]) == 1


async def test_a_new_user_without_groups_sees_no_group(admin: Api) -> None:
    await admin.post("/api/v1/groups", {"name": "maths"})
    zoe = await make_user(admin, "zoe")
    assert (await zoe.get("/api/v1/groups")).json == {"items": [], "next": None}
