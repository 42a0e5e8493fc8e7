"""Access tokens over HTTP: shown once, never mightier than the one that asks."""

import asyncio
import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from filestore.acts.access import is_site_admin
from filestore.app import Service
from filestore.ids import is_token, token_hash
from filestore.meta.database import Tx
from filestore.meta.tables import audit_log, tokens
from filestore.model import Principal, Scope
from tests.http.api import Api
from tests.http.conftest import Cast

TOKENS = "/api/v1/tokens"


async def test_a_token_is_shown_once_and_only_its_hash_is_kept(
    cast: Cast, service: Service
) -> None:
    made = await cast.viewer.post(TOKENS, {"name": "laptop"})
    assert made.status == 201
    secret = made.json["token"]
    assert is_token(secret)
    assert made.headers["Location"] == f"{TOKENS}/{made.json['id']}"
    shown = await cast.viewer.get(f"{TOKENS}/{made.json['id']}")
    assert shown.json == {key: made.json[key] for key in made.json if key != "token"}

    async def look(tx: Tx) -> tuple[bytes | None, list[str | None]]:
        stored = sa.select(tokens.c.hash).where(tokens.c.id == made.json["id"])
        return await tx.scalar(stored), list(await tx.scalars(sa.select(audit_log.c.after)))

    stored, log = await service.services.db.read(look)
    assert stored == token_hash(secret)
    assert not any(secret in (line or "") for line in log)


async def test_a_token_has_the_rights_of_the_one_that_asked_but_never_admin_unasked(
    admin: Api,
) -> None:
    usual = (await admin.post(TOKENS, {"name": "usual"})).json
    assert usual["scopes"] == ["read", "write", "manage"]
    assert (usual["user"], usual["groups"], usual["expires_at"]) == ("admin", None, None)
    assert (await admin.by(usual["token"]).get("/api/v1/users")).status == 403
    mighty = (await admin.post(TOKENS, {"scopes": ["admin"]})).json
    assert (await admin.by(mighty["token"]).get("/api/v1/users")).status == 200


async def test_one_can_only_give_what_the_asking_token_has(cast: Cast) -> None:
    weak = await _with(cast.manager, scopes=["read", "write"], expires_in_s=1000)
    inherited = (await weak.post(TOKENS, {"name": "same"})).json
    own = (await weak.get(TOKENS)).json["items"][1]
    assert inherited["scopes"] == ["read", "write"]
    assert inherited["expires_at"] == own["expires_at"]
    assert (await weak.post(TOKENS, {"scopes": ["read"], "expires_in_s": 10})).status == 201
    before = len((await cast.manager.get(TOKENS)).json["items"])
    for wish, needed in (
        ({"scopes": ["read", "manage"]}, "manage"),
        ({"scopes": ["admin"]}, None),
        ({"expires_in_s": 2000}, "expires"),
    ):
        refused = await weak.post(TOKENS, wish)
        assert refused.status == (400 if needed is None else 403), wish
        assert needed is None or needed in refused.json["needed"]
    assert len((await cast.manager.get(TOKENS)).json["items"]) == before


async def test_a_token_limited_to_groups_stays_in_them_and_so_do_its_children(
    cast: Cast,
) -> None:
    await cast.admin.put("/api/v1/groups/other/members/manager-maths", {"role": "manager"})
    assert (await cast.manager.get("/api/v1/groups/other")).status == 200
    limited = await _with(cast.manager, groups=["maths"])
    assert (await limited.get("/api/v1/groups/maths")).status == 200
    hidden = await limited.get("/api/v1/groups/other")
    assert (hidden.status, hidden.json["what"]) == (404, "group")
    assert [g["name"] for g in (await limited.get("/api/v1/groups")).json["items"]] == ["maths"]
    child = (await limited.post(TOKENS, {"name": "child"})).json
    assert child["groups"] == [cast.group]
    refused = await limited.post(TOKENS, {"groups": ["other"]})
    assert (refused.status, refused.json["what"]) == (404, "group")
    elsewhere = await _with(cast.manager, groups=["other"])
    assert (await elsewhere.get("/api/v1/groups/maths")).status == 404
    ended = await limited.delete(f"{TOKENS}/{(await _newest(elsewhere))['id']}")
    assert ended.status == 403


async def test_a_limited_token_of_a_site_admin_administers_nothing(cast: Cast) -> None:
    refused = await cast.admin.post(TOKENS, {"groups": ["maths"], "scopes": ["admin"]})
    assert (refused.status, refused.json["field"]) == (400, "scopes")
    limited = await _with(cast.admin, groups=["maths"])
    assert (await limited.get("/api/v1/users")).status == 403
    assert (await limited.get("/api/v1/groups/other")).status == 404
    assert (await limited.post(TOKENS, {"user": "outsider"})).status == 404


def test_no_token_that_is_limited_to_groups_is_a_site_admins() -> None:
    free = Principal("usr", "admin", True, "tok", frozenset({Scope.ADMIN}))
    assert is_site_admin(free)
    assert not is_site_admin(replace(free, groups=frozenset({"grp"})))
    assert not is_site_admin(replace(free, is_admin=False))
    assert not is_site_admin(replace(free, scopes=frozenset(Scope) - {Scope.ADMIN}))


async def test_the_scope_admin_is_for_site_admins(cast: Cast) -> None:
    refused = await cast.admin.post(TOKENS, {"user": "outsider", "scopes": ["admin"]})
    assert (refused.status, refused.json["field"]) == (400, "scopes")
    assert len((await cast.admin.get(f"{TOKENS}?user=outsider")).json["items"]) == 1


async def test_a_token_works_until_it_is_revoked(cast: Cast) -> None:
    made = (await cast.viewer.post(TOKENS, {"name": "phone"})).json
    phone = cast.viewer.by(made["token"])
    assert (await phone.get("/api/v1/groups/maths")).status == 200
    assert (await cast.viewer.delete(f"{TOKENS}/{made['id']}")).status == 204
    assert (await phone.get("/api/v1/groups/maths")).status == 401
    assert (await cast.viewer.get(f"{TOKENS}/{made['id']}")).status == 404
    assert (await cast.viewer.delete(f"{TOKENS}/{made['id']}")).status == 404
    assert [item["name"] for item in (await cast.viewer.get(TOKENS)).json["items"]] == ["own"]


async def test_a_token_may_end_itself_but_none_that_may_more(cast: Cast) -> None:
    strong = (await _newest(cast.manager))["id"]
    weak = await _with(cast.manager, scopes=["read"])
    refused = await weak.delete(f"{TOKENS}/{strong}")
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await cast.manager.get("/api/v1/groups")).status == 200
    assert (await weak.delete(f"{TOKENS}/{(await _newest(weak))['id']}")).status == 204
    assert (await weak.get("/api/v1/groups")).status == 401


async def test_the_last_token_that_administers_cannot_be_ended(
    cast: Cast, service: Service
) -> None:
    first = (await cast.admin.get(TOKENS)).json["items"][0]["id"]
    await cast.admin.post(TOKENS, {"scopes": ["read", "write", "manage"]})
    await cast.admin.post(TOKENS, {"groups": ["maths"]})
    refused = await cast.admin.delete(f"{TOKENS}/{first}")
    assert (refused.status, refused.code) == (409, "last-admin")
    spare = (await cast.admin.post(TOKENS, {"scopes": ["admin"]})).json
    await _set(service, spare["id"], expires_at=1)
    assert (await cast.admin.delete(f"{TOKENS}/{first}")).status == 409
    await _set(service, spare["id"], expires_at=2**52)
    answers = await asyncio.gather(
        cast.admin.delete(f"{TOKENS}/{first}"), cast.admin.delete(f"{TOKENS}/{spare['id']}")
    )
    assert [answer.status for answer in answers].count(204) == 1
    listed = [await cast.admin.get(TOKENS), await cast.admin.by(spare["token"]).get(TOKENS)]
    assert sorted(answer.status for answer in listed) == [200, 401]


async def test_a_site_admins_token_makes_none_that_outlives_it_or_may_more(cast: Cast) -> None:
    short = await _with(cast.admin, scopes=["read", "admin"], expires_in_s=86_400)
    own = (await _newest(short))["expires_at"]
    before = len((await cast.admin.get(TOKENS)).json["items"])
    for wish, needed in (
        ({"scopes": ["admin"], "expires_in_s": 10**6}, "expires"),
        ({"scopes": ["write"]}, "write"),
        ({"user": "outsider", "scopes": ["read"], "expires_in_s": 10**6}, "expires"),
    ):
        refused = await short.post(TOKENS, wish)
        assert refused.status == 403, wish
        assert needed in refused.json["needed"]
    assert len((await cast.admin.get(TOKENS)).json["items"]) == before
    allowed: list[dict[str, object]] = [{"scopes": ["admin"]}, {"user": "outsider"}]
    for one in allowed:
        made = (await short.post(TOKENS, one)).json
        assert made["expires_at"] == own
    assert made["scopes"] == ["read"]


async def test_tokens_of_others_are_for_site_admins(cast: Cast) -> None:
    theirs = (await _newest(cast.member))["id"]
    assert (await cast.viewer.get(f"{TOKENS}?user=member-maths")).json["what"] == "user"
    assert (await cast.viewer.get(f"{TOKENS}/{theirs}")).status == 404
    assert (await cast.viewer.delete(f"{TOKENS}/{theirs}")).status == 404
    assert (await cast.viewer.post(TOKENS, {"user": "member-maths"})).status == 404
    listed = (await cast.admin.get(f"{TOKENS}?user=member-maths")).json["items"]
    assert [item["id"] for item in listed] == [theirs]
    assert (await cast.admin.delete(f"{TOKENS}/{theirs}")).status == 204
    assert (await cast.member.get("/api/v1/groups")).status == 401


async def test_an_expired_token_opens_nothing(cast: Cast, service: Service) -> None:
    made = (await cast.viewer.post(TOKENS, {"expires_in_s": 3600})).json
    left = dt.datetime.fromisoformat(made["expires_at"]) - dt.datetime.fromisoformat(
        made["created_at"]
    )
    assert 3599 < left.total_seconds() < 3601
    short = cast.viewer.by(made["token"])
    assert (await short.get("/api/v1/groups")).status == 200
    await _set(service, made["id"], expires_at=1)
    assert (await short.get("/api/v1/groups")).status == 401


async def test_the_last_use_is_noted_once_a_minute(cast: Cast, service: Service) -> None:
    token = await _newest(cast.viewer)
    first = (await cast.viewer.get(f"{TOKENS}/{token['id']}")).json["last_used_at"]
    assert first is not None
    again = (await cast.viewer.get(f"{TOKENS}/{token['id']}")).json["last_used_at"]
    assert again == first
    await _set(service, token["id"], last_used_at=1)
    await cast.viewer.get("/api/v1/groups")
    moved = (await cast.viewer.get(f"{TOKENS}/{token['id']}")).json["last_used_at"]
    assert moved >= first


async def test_tokens_are_listed_in_pages_oldest_first(cast: Cast) -> None:
    for name in "abc":
        await cast.viewer.post(TOKENS, {"name": name})
    page = (await cast.viewer.get(f"{TOKENS}?limit=2")).json
    rest = (await cast.viewer.get(f"{TOKENS}?limit=2&after={page['next']}")).json
    assert [item["name"] for item in page["items"] + rest["items"]] == ["own", "a", "b", "c"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes.0"),
        ({"groups": []}, "groups"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": 2**63}, "expires_in_s"),
        ({"expires_in_s": 1.5}, "expires_in_s"),
        ({"secret": "mine"}, "secret"),
    ],
)
async def test_a_wrong_wish_makes_no_token(admin: Api, wish: object, field: str) -> None:
    refused = await admin.post(TOKENS, wish)
    assert (refused.status, refused.json["field"]) == (400, field)
    assert len((await admin.get(TOKENS)).json["items"]) == 1


async def _with(caller: Api, **wish: object) -> Api:
    made = await caller.post(TOKENS, wish)
    assert made.status == 201, made.body
    return caller.by(made.json["token"])


async def _newest(caller: Api) -> dict[str, str]:
    items: list[dict[str, str]] = (await caller.get(TOKENS)).json["items"]
    return items[-1]


async def _set(service: Service, token_id: str, **values: int) -> None:
    async def act(tx: Tx) -> None:
        await tx.execute(tokens.update().where(tokens.c.id == token_id).values(**values))

    await service.services.db.transact(act)
